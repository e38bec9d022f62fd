//! A prompt between template and model: texts and turns, with marks of the sections that they stand in.

use serde::{Deserialize, Serialize};

use super::field::fill;
use crate::error::{Error, Result};
use crate::item::Row;

/// A turn of a dialogue, in a task's template, or what a meta template puts around a role's turns.
///
/// A field that is absent is taken from the meta template's role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who speaks: `HUMAN`, `BOT`, `SYSTEM`, or a name that the meta template defines.
    pub role: String,
    /// The role to use where the meta template has no such role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_role: Option<String>,
    /// What is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What is put before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// What is put after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// Whether the model speaks in this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<bool>,
    /// The role's name in a list of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_role: Option<String>,
}

impl Turn {
    /// A turn that only says something.
    pub fn new(role: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            prompt: Some(prompt.into()),
            ..Self::default()
        }
    }

    /// Takes over every field that `other` has.
    pub(crate) fn update(&mut self, other: &Turn) {
        self.role.clone_from(&other.role);
        let fields = [
            (&mut self.fallback_role, &other.fallback_role),
            (&mut self.prompt, &other.prompt),
            (&mut self.begin, &other.begin),
            (&mut self.end, &other.end),
            (&mut self.api_role, &other.api_role),
        ];
        for (mine, theirs) in fields {
            if theirs.is_some() {
                mine.clone_from(theirs);
            }
        }
        self.generate = other.generate.or(self.generate);
    }
}

/// An entry of a template: bare text, or a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// Text that belongs to nobody, such as the place of the in-context examples.
    Text(String),
    /// A turn.
    Turn(Turn),
}

/// A part of a dialogue template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Before the rounds.
    Begin,
    /// The item's own rounds.
    Round,
    /// After the rounds.
    End,
    /// The rounds of an in-context example.
    Example,
}

/// One piece of a dialogue prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A section starts.
    Open(Section),
    /// A section ends.
    Close(Section),
    /// Bare text or a turn.
    Entry(Entry),
}

impl Piece {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Piece::Entry(Entry::Text(text.into()))
    }
}

/// A prompt that no model's template has been applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// From a string template: goes to every model as it is.
    Text(String),
    /// From a dialogue template.
    Dialogue(Vec<Piece>),
}

impl Prompt {
    /// Puts the row's fields into every text.
    #[must_use]
    pub fn fill(&self, row: &Row) -> Prompt {
        self.map(|text| fill(text, row))
    }

    /// Removes a token.
    #[must_use]
    pub fn without(&self, token: &str) -> Prompt {
        self.map(|text| text.replace(token, ""))
    }

    /// Replaces a token by a prompt. In a dialogue a whole dialogue can stand for a token in bare text only.
    ///
    /// # Errors
    /// A dialogue for a token in a string template or in a turn.
    pub fn replace(&self, token: &str, by: &Prompt) -> Result<Prompt> {
        let (pieces, by) = match (self, by) {
            (_, Prompt::Text(by)) => return Ok(self.map(|text| text.replace(token, by))),
            (Prompt::Text(text), Prompt::Dialogue(_)) if text.contains(token) => {
                return Err(misplaced(token));
            }
            (Prompt::Text(_), Prompt::Dialogue(_)) => return Ok(self.clone()),
            (Prompt::Dialogue(pieces), Prompt::Dialogue(by)) => (pieces, by),
        };
        let mut replaced = Vec::with_capacity(pieces.len() + by.len());
        for piece in pieces {
            match piece {
                Piece::Entry(Entry::Text(text)) => {
                    for (i, part) in text.split(token).enumerate() {
                        if i > 0 {
                            replaced.extend(by.iter().cloned());
                        }
                        if !part.is_empty() {
                            replaced.push(Piece::text(part));
                        }
                    }
                }
                Piece::Entry(Entry::Turn(turn))
                    if turn.prompt.as_ref().is_some_and(|p| p.contains(token)) =>
                {
                    return Err(misplaced(token));
                }
                other => replaced.push(other.clone()),
            }
        }
        Ok(Prompt::Dialogue(replaced))
    }

    /// The prompt for a model that knows of no roles: a string template as it is, the pieces of a dialogue with a
    /// line break before each but the first. Empty pieces add nothing, but the one after them is no longer the first.
    pub fn plain(&self) -> String {
        let pieces = match self {
            Prompt::Text(text) => return text.clone(),
            Prompt::Dialogue(pieces) => pieces,
        };
        let mut text = String::new();
        let mut separator = "";
        for piece in pieces {
            let part = match piece {
                Piece::Open(_) | Piece::Close(_) => continue,
                Piece::Entry(Entry::Text(part)) => part.as_str(),
                Piece::Entry(Entry::Turn(turn)) => turn.prompt.as_deref().unwrap_or_default(),
            };
            if !part.is_empty() {
                text.push_str(separator);
                text.push_str(part);
            }
            separator = "\n";
        }
        text
    }

    fn map(&self, map: impl Fn(&str) -> String) -> Prompt {
        match self {
            Prompt::Text(text) => Prompt::Text(map(text)),
            Prompt::Dialogue(pieces) => Prompt::Dialogue(
                pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Entry(Entry::Text(text)) => Piece::text(map(text)),
                        Piece::Entry(Entry::Turn(turn)) => Piece::Entry(Entry::Turn(Turn {
                            prompt: turn.prompt.as_deref().map(&map),
                            ..turn.clone()
                        })),
                        mark => mark.clone(),
                    })
                    .collect(),
            ),
        }
    }
}

fn misplaced(token: &str) -> Error {
    Error::Prompt(format!(
        "examples that are dialogues can't stand for {token:?} inside of a text"
    ))
}
