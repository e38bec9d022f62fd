//! The pieces of a prompt before they are one text or a conversation (`Message`, `maybe_delimit` and
//! `multiturn_to_singleturn` of lm-evaluation-harness 0.4.13).

use internlm_core::{Message, Role};

/// A piece of a prompt: who says it, what, and what stands after it in a prompt without roles.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) content: String,
    pub(super) after: String,
}

impl Turn {
    pub(super) fn new(role: Role, content: impl Into<String>, after: impl Into<String>) -> Self {
        Turn {
            role,
            content: content.into(),
            after: after.into(),
        }
    }
}

/// One message of the user in place of many turns; a system message and the beginning of an answer stay.
pub(super) fn folded(mut turns: Vec<Turn>) -> Vec<Turn> {
    let mut folded = Vec::new();
    if turns.first().is_some_and(|turn| turn.role == Role::System) {
        folded.push(turns.remove(0));
    }
    let begun = turns.pop_if(|turn| turn.role == Role::Assistant);
    if let Some(last) = turns.last_mut() {
        last.after.clear();
    }
    folded.push(Turn::new(Role::User, joined(&turns), ""));
    folded.extend(begun);
    folded
}

pub(super) fn joined(turns: &[Turn]) -> String {
    let mut text = String::new();
    for turn in turns {
        text.push_str(&turn.content);
        text.push_str(&turn.after);
    }
    text
}

pub(super) fn messages(turns: Vec<Turn>) -> Vec<Message> {
    turns
        .into_iter()
        .map(|turn| match turn.role {
            Role::System => Message::system(turn.content),
            Role::Assistant => Message::assistant(turn.content),
            _ => Message::user(turn.content),
        })
        .collect()
}

/// Joins two texts; the delimiter stands between them where neither has white space there.
pub(super) fn delimit(front: &str, back: &str, delimiter: &str) -> String {
    if front.is_empty() || back.is_empty() || !needs_delimiter(front, back) {
        return format!("{front}{back}");
    }
    format!("{front}{delimiter}{back}")
}

pub(super) fn needs_delimiter(front: &str, back: &str) -> bool {
    !front.is_empty()
        && !front.ends_with(char::is_whitespace)
        && !back.starts_with(char::is_whitespace)
}
