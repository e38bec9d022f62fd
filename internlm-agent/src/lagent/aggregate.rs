//! From what agents said to each other to what a model is sent.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::python::PyValue;

/// A message between agents, by its sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentMessage {
    /// A text, but for the odd answers of an [`Executor`](super::Executor).
    pub content: PyValue,
    /// Who said it: `user`, the agent's name or `ActionExecutor`.
    pub sender: String,
    /// What a parser made of it.
    #[serde(default = "none")]
    pub formatted: PyValue,
}

fn none() -> PyValue {
    PyValue::None
}

impl AgentMessage {
    /// A message that nothing was made of.
    pub fn new(sender: impl Into<String>, content: PyValue) -> Self {
        Self {
            content,
            sender: sender.into(),
            formatted: PyValue::None,
        }
    }
}

/// A message as models are sent it, with any role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant`, `environment` or what a template knows else.
    pub role: String,
    /// The content, a text but for the odd ones.
    pub content: PyValue,
    /// A channel or a speaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message without a name.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: PyValue::Str(content.into()),
            name: None,
        }
    }
}

/// Lagent's `DefaultAggregator`: what the agent itself said is the assistant's, everybody else is the user, and
/// neighbouring users are joined without a separator.
///
/// # Errors
/// A text can't be joined with something that is none.
pub fn default_aggregate(
    memory: &[AgentMessage],
    name: &str,
    system: &[ChatMessage],
) -> Result<Vec<ChatMessage>> {
    let mut out: Vec<ChatMessage> = system.to_vec();
    for message in memory {
        if message.sender == name {
            out.push(ChatMessage::new("assistant", message.content.display()));
            continue;
        }
        match out.last_mut() {
            Some(last) if last.role == "user" => match (&mut last.content, &message.content) {
                (PyValue::Str(text), PyValue::Str(more)) => text.push_str(more),
                _ => {
                    let what = "can only concatenate str (not \"dict\") to str";
                    return Err(Error::upstream("TypeError", what));
                }
            },
            _ => out.push(ChatMessage {
                role: "user".to_owned(),
                content: message.content.clone(),
                name: None,
            }),
        }
    }
    Ok(out)
}
