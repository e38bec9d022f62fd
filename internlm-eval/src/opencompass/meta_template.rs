//! What a model wants around the turns of a dialogue.

use std::collections::BTreeMap;

use internlm_core::message::{Part, bracketed, join};
use serde::{Deserialize, Serialize};

use super::prompt::{Entry, Piece, Prompt, Section, Turn};
use crate::error::{Error, Result};

/// What a prompt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The whole prompt is scored.
    Ppl,
    /// The model goes on where its own turn begins.
    Gen,
}

/// A model's template of dialogues, as OpenCompass's model configurations have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaTemplate {
    /// Put before everything.
    #[serde(default)]
    pub begin: String,
    /// One round: a turn of each role, in order.
    pub round: Vec<Entry>,
    /// Roles that are not part of every round, such as `SYSTEM`.
    #[serde(default)]
    pub reserved_roles: Vec<Entry>,
    /// Put after everything, unless the model is to go on.
    #[serde(default)]
    pub end: String,
    /// The token that ends the model's answer.
    #[serde(default)]
    pub eos_token_id: Option<u32>,
}

/// The roles of a meta template by name.
pub(crate) type Roles = BTreeMap<String, Turn>;

impl MetaTemplate {
    pub(crate) fn roles(&self) -> Result<Roles> {
        let mut roles = Roles::new();
        for turn in self.turns() {
            if roles.insert(turn.role.clone(), turn.clone()).is_some() {
                return Err(Error::Prompt(format!(
                    "the meta template has the role {:?} twice",
                    turn.role
                )));
            }
        }
        Ok(roles)
    }

    fn turns(&self) -> impl Iterator<Item = &Turn> {
        let entries = self.round.iter().chain(&self.reserved_roles);
        entries.filter_map(|entry| match entry {
            Entry::Turn(turn) => Some(turn),
            Entry::Text(_) => None,
        })
    }

    /// A role by its name.
    pub fn role(&self, name: &str) -> Option<&Turn> {
        self.turns().find(|turn| turn.role == name)
    }

    /// The text of a prompt for this model. String templates stay as they are.
    ///
    /// # Errors
    /// A role that neither the round nor the reserved roles have, and no fallback.
    pub fn render(&self, prompt: &Prompt, mode: Mode) -> Result<String> {
        Ok(join(&self.render_parts(prompt, mode)?))
    }

    /// The same in parts: what this template puts in may become special tokens, what the prompt says may not.
    ///
    /// # Errors
    /// As [`render`](MetaTemplate::render).
    pub fn render_parts(&self, prompt: &Prompt, mode: Mode) -> Result<Vec<Part>> {
        let pieces = match prompt {
            Prompt::Text(text) => return Ok(vec![Part::text(text)]),
            Prompt::Dialogue(pieces) => pieces,
        };
        let roles = self.roles()?;
        let mut parts = bracketed(&self.begin);
        let mut sections: Vec<(Section, usize)> = Vec::new();
        let mut goes_on = true;
        for (at, piece) in pieces.iter().enumerate() {
            if !goes_on {
                break;
            }
            match piece {
                Piece::Open(section) => sections.push((*section, at + 1)),
                Piece::Entry(Entry::Text(text)) => parts.push(Part::text(text)),
                Piece::Entry(Entry::Turn(turn)) => {
                    if let Some((Section::Begin | Section::End, _)) = sections.last() {
                        let said = with_turns(&roles, [turn])?;
                        parts.extend(spoken(find(turn, &said)?));
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
                    let rounds = self.split_rounds(&turns, false)?;
                    for (i, round) in rounds.iter().enumerate() {
                        let last = section == Section::Round && i + 1 == rounds.len();
                        let said = with_turns(&roles, round.iter().copied())?;
                        goes_on = self.push_round(&mut parts, &said, mode == Mode::Gen && last)?;
                    }
                }
            }
        }
        if goes_on {
            parts.extend(bracketed(&self.end));
        }
        parts.retain(|part| !part.as_str().is_empty());
        Ok(parts)
    }

    /// Appends one round; false when it stopped where the model is to speak.
    fn push_round(&self, parts: &mut Vec<Part>, said: &Roles, for_gen: bool) -> Result<bool> {
        for entry in &self.round {
            let turn = match entry {
                Entry::Text(text) => {
                    parts.extend(bracketed(text));
                    continue;
                }
                Entry::Turn(turn) => find(turn, said)?,
            };
            if for_gen && turn.generate == Some(true) {
                parts.extend(bracketed(turn.begin.as_deref().unwrap_or_default()));
                return Ok(false);
            }
            parts.extend(spoken(turn));
        }
        Ok(true)
    }

    /// Turns cut into rounds: a new one starts where a role does not come later in the round than the one before.
    /// `fallback` lets roles that are not in the round take the place of their fallback (lists of messages only).
    pub(crate) fn split_rounds<'a>(
        &self,
        turns: &[&'a Turn],
        fallback: bool,
    ) -> Result<Vec<Vec<&'a Turn>>> {
        let place = |role: &str| {
            self.round
                .iter()
                .position(|entry| matches!(entry, Entry::Turn(turn) if turn.role == role))
        };
        let mut rounds = vec![Vec::new()];
        let mut before = None;
        for turn in turns {
            let at = place(&turn.role)
                .or_else(|| {
                    let role = turn.fallback_role.as_deref().filter(|_| fallback)?;
                    place(role)
                })
                .ok_or_else(|| unknown(turn))?;
            if before.is_some_and(|before| at <= before) {
                rounds.push(Vec::new());
            }
            before = Some(at);
            if let Some(round) = rounds.last_mut() {
                round.push(*turn);
            }
        }
        Ok(rounds)
    }
}

/// The turns among pieces.
pub(crate) fn turns_of(pieces: &[Piece]) -> Vec<&Turn> {
    pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Entry(Entry::Turn(turn)) => Some(turn),
            _ => None,
        })
        .collect()
}

/// The roles, with what these turns say.
pub(crate) fn with_turns<'a>(
    roles: &Roles,
    turns: impl IntoIterator<Item = &'a Turn>,
) -> Result<Roles> {
    let mut said = roles.clone();
    for turn in turns {
        let role = if roles.contains_key(&turn.role) {
            Some(&turn.role)
        } else {
            turn.fallback_role.as_ref()
        };
        role.and_then(|role| said.get_mut(role))
            .ok_or_else(|| unknown(turn))?
            .update(turn);
    }
    Ok(said)
}

/// What is said in a turn's role, or in that of its fallback.
pub(crate) fn find<'a>(turn: &Turn, said: &'a Roles) -> Result<&'a Turn> {
    said.get(&turn.role)
        .or_else(|| said.get(turn.fallback_role.as_ref()?))
        .ok_or_else(|| unknown(turn))
}

/// What a turn says, with what is put around it.
pub(crate) fn spoken(turn: &Turn) -> Vec<Part> {
    let mut parts = bracketed(turn.begin.as_deref().unwrap_or_default());
    parts.extend(turn.prompt.as_deref().map(Part::text));
    parts.extend(bracketed(turn.end.as_deref().unwrap_or_default()));
    parts
}

fn unknown(turn: &Turn) -> Error {
    Error::Prompt(format!(
        "the meta template has neither the role {:?} nor a fallback for it",
        turn.role
    ))
}

/// The part of an answer that belongs to the model's role, for models with a meta template: from the first `begin`
/// on, up to the next `end`.
pub fn role_part<'a>(answer: &'a str, begin: Option<&str>, end: Option<&str>) -> &'a str {
    let mut part = answer;
    if let Some(begin) = begin.filter(|begin| !begin.is_empty()) {
        part = part.split_once(begin).map_or(part, |(_, rest)| rest);
    }
    if let Some(end) = end.filter(|end| !end.is_empty()) {
        part = part.split_once(end).map_or(part, |(part, _)| part);
    }
    part
}
