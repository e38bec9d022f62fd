//! Prompts as lists of messages, for models that are asked through a chat template or an API.

use internlm_core::message::{Message, join};

use super::meta_template::{MetaTemplate, Mode, find, spoken, turns_of, with_turns};
use super::prompt::{Entry, Piece, Prompt, Section, Turn};
use crate::error::{Error, Result};

/// The meta template that OpenCompass gives a chat model without one of its own: what the system says is said by the
/// user. As each round has all roles, an unused `SYSTEM` leaves an empty line after the user's text; upstream's
/// prompts have it too.
pub fn default_chat_template() -> MetaTemplate {
    let role = |role: &str, api_role: &str, generate| {
        Entry::Turn(Turn {
            role: role.into(),
            api_role: Some(api_role.into()),
            generate,
            ..Turn::default()
        })
    };
    MetaTemplate {
        round: vec![
            role("HUMAN", "HUMAN", None),
            role("SYSTEM", "HUMAN", None),
            role("BOT", "BOT", Some(true)),
        ],
        ..MetaTemplate::default()
    }
}

/// A message before roles get their names in chat templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiMessage {
    /// The meta template's `api_role`: `HUMAN`, `BOT` or `SYSTEM`.
    pub role: String,
    /// What is said.
    pub prompt: String,
}

impl MetaTemplate {
    /// A dialogue as a list of messages: neighbours of the same role become one, joined by a line break; for
    /// generation the list ends before the role that generates. Bare text is dropped, as upstream. None for a
    /// string template, which stays a string.
    ///
    /// # Errors
    /// Unknown roles, roles without `api_role`, a dialogue that says nothing.
    pub fn messages(&self, prompt: &Prompt, mode: Mode) -> Result<Option<Vec<ApiMessage>>> {
        let pieces = match prompt {
            Prompt::Text(_) => return Ok(None),
            Prompt::Dialogue(pieces) => pieces,
        };
        let roles = self.roles()?;
        let mut messages = Vec::new();
        let mut sections: Vec<(Section, usize)> = Vec::new();
        let mut goes_on = true;
        for (at, piece) in pieces.iter().enumerate() {
            if !goes_on {
                break;
            }
            match piece {
                Piece::Open(section) => sections.push((*section, at + 1)),
                Piece::Entry(Entry::Text(_)) => {}
                Piece::Entry(Entry::Turn(turn)) => {
                    if let Some((Section::Begin | Section::End, _)) = sections.last() {
                        let said = with_turns(&roles, [turn])?;
                        let turn = find(turn, &said)?;
                        goes_on = push(&mut messages, turn, mode == Mode::Gen)?;
                    }
                }
                Piece::Close(_) => {
                    let Some((section, start)) = sections.pop() else {
                        continue;
                    };
                    if !matches!(section, Section::Round | Section::Example) {
                        continue;
                    }
                    let turns = turns_of(&pieces[start..at]);
                    let rounds = self.split_rounds(&turns, true)?;
                    for (i, round) in rounds.iter().enumerate() {
                        let last = section == Section::Round && i + 1 == rounds.len();
                        let said = with_turns(&roles, round.iter().copied())?;
                        for entry in &self.round {
                            let Entry::Turn(turn) = entry else {
                                return Err(Error::Prompt(
                                    "a round of messages can't have bare text".into(),
                                ));
                            };
                            let turn = find(turn, &said)?;
                            goes_on = push(&mut messages, turn, mode == Mode::Gen && last)?;
                            if !goes_on {
                                break;
                            }
                        }
                    }
                }
            }
        }
        let mut merged = merge(messages);
        if merged.is_empty() {
            return Err(Error::Prompt("the dialogue says nothing".into()));
        }
        if !self.begin.is_empty() {
            merged.insert(
                0,
                ApiMessage {
                    role: "SYSTEM".into(),
                    prompt: self.begin.clone(),
                },
            );
        }
        Ok(Some(merged))
    }
}

/// Adds what a turn says; false where the model is to speak.
fn push(messages: &mut Vec<ApiMessage>, turn: &Turn, for_gen: bool) -> Result<bool> {
    if for_gen && turn.generate == Some(true) {
        return Ok(false);
    }
    let role = turn
        .api_role
        .clone()
        .ok_or_else(|| Error::Prompt(format!("the role {:?} has no `api_role`", turn.role)))?;
    messages.push(ApiMessage {
        role,
        prompt: join(&spoken(turn)),
    });
    Ok(true)
}

fn merge(messages: Vec<ApiMessage>) -> Vec<ApiMessage> {
    let mut merged: Vec<ApiMessage> = Vec::new();
    for message in messages {
        match merged.last_mut() {
            Some(last) if last.role == message.role => {
                last.prompt.push('\n');
                last.prompt.push_str(&message.prompt);
            }
            _ => merged.push(message),
        }
    }
    merged
}

/// The messages that a chat template sees (`HuggingFacewithChatTemplate`): a string is said by the user, empty
/// messages are left out, what then stands side by side in one role becomes one message.
///
/// # Errors
/// A role other than `HUMAN`, `BOT` and `SYSTEM`.
pub fn chat_messages(template: &MetaTemplate, prompt: &Prompt, mode: Mode) -> Result<Vec<Message>> {
    let messages = match template.messages(prompt, mode)? {
        Some(messages) => messages,
        None => return Ok(vec![Message::user(prompt.plain())]),
    };
    let said = messages.into_iter().filter(|m| !m.prompt.is_empty());
    merge(said.collect())
        .into_iter()
        .map(|message| match message.role.as_str() {
            "HUMAN" => Ok(Message::user(message.prompt)),
            "BOT" => Ok(Message::assistant(message.prompt)),
            "SYSTEM" => Ok(Message::system(message.prompt)),
            role => Err(Error::Prompt(format!("chat models know no role {role:?}"))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opencompass::template::PromptTemplate;

    fn prompt(toml: serde_json::Value) -> Prompt {
        let template: PromptTemplate = serde_json::from_value(toml).unwrap();
        template
            .open(&crate::Row::new(), &Prompt::Text(String::new()), None, "")
            .unwrap()
    }

    #[test]
    fn the_last_turn_of_the_model_is_left_to_it() {
        let prompt = prompt(serde_json::json!({
            "begin": [{"role": "SYSTEM", "fallback_role": "HUMAN", "prompt": "s"}],
            "round": [
                {"role": "HUMAN", "prompt": "a"}, {"role": "BOT", "prompt": "b"},
                {"role": "HUMAN", "prompt": "c"}, {"role": "BOT", "prompt": "d"},
            ],
        }));
        let messages = chat_messages(&default_chat_template(), &prompt, Mode::Gen).unwrap();
        let texts: Vec<_> = messages.iter().map(Message::text).collect();
        assert_eq!(texts, ["s\na\n", "b", "c\n"]);
        let messages = chat_messages(&default_chat_template(), &prompt, Mode::Ppl).unwrap();
        assert_eq!(messages.len(), 4);
    }
}
