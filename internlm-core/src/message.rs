//! Messages of a conversation and the parts that their content is made of.

use serde::{Deserialize, Serialize};

use crate::tool::ToolCall;

/// Who speaks. The four roles of InternLM2's chat format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions of the application, tool lists among them. OpenAI's `developer` is read as this.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Results of tools and of the code interpreter. OpenAI's `tool` is read as this.
    #[serde(alias = "tool")]
    Environment,
}

impl Role {
    /// The name as chat templates write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Environment => "environment",
        }
    }
}

/// A piece of prompt text, with its trust.
///
/// The whole path from message to token ids keeps the two apart: what a person typed can never
/// turn into a control token, whatever it spells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// Plain text. Never becomes a special token, even if it spells one.
    Text {
        /// The text.
        text: String,
    },
    /// Trusted text that is a special token of the tokenizer, such as `<|im_end|>`.
    /// Where the tokenizer has no such token it is encoded as text.
    Marker {
        /// The spelling of the token.
        text: String,
    },
}

impl Part {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into() }
    }

    /// A special token by its spelling.
    pub fn marker(text: impl Into<String>) -> Self {
        Part::Marker { text: text.into() }
    }

    /// The spelling, whatever the kind.
    pub fn as_str(&self) -> &str {
        match self {
            Part::Text { text } | Part::Marker { text } => text,
        }
    }
}

/// Joins the spellings of all parts.
pub fn join(parts: &[Part]) -> String {
    parts.iter().map(Part::as_str).collect()
}

/// One message of a conversation.
///
/// Reads OpenAI's JSON: `content` may be a string, `null` or an array of parts.
///
/// ```
/// use internlm_core::{Message, Role};
/// let message: Message = serde_json::from_str(r#"{"role": "user", "content": "Hi"}"#)?;
/// assert_eq!(message, Message::user("Hi"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// A speaker's or channel's name; `plugin` and `interpreter` are written as their special
    /// tokens by InternLM2's template, others verbatim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The content, in order.
    #[serde(default, with = "content")]
    pub content: Vec<Part>,
    /// Tool calls that an assistant message made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// For results of tools: the call that is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        let text = text.into();
        let content = if text.is_empty() {
            Vec::new()
        } else {
            vec![Part::Text { text }]
        };
        Self {
            role,
            name: None,
            content,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }

    /// A system message.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// A user's message.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// An assistant's message.
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// A result from a tool or the interpreter.
    pub fn environment(text: impl Into<String>) -> Self {
        Self::new(Role::Environment, text)
    }

    /// Sets the name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Replaces the content by parts, markers among them.
    #[must_use]
    pub fn with_content(mut self, content: Vec<Part>) -> Self {
        self.content = content;
        self
    }

    /// Adds tool calls.
    #[must_use]
    pub fn with_tool_calls(mut self, tool_calls: Vec<ToolCall>) -> Self {
        self.tool_calls = tool_calls;
        self
    }

    /// The content as one string, markers spelled out.
    pub fn text(&self) -> String {
        join(&self.content)
    }
}

/// `content` as OpenAI spells it: a string where there is only text, else an array.
mod content {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Part;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Parts(Vec<Part>),
    }

    pub(super) fn serialize<S: Serializer>(parts: &[Part], s: S) -> Result<S::Ok, S::Error> {
        if parts.iter().all(|p| matches!(p, Part::Text { .. })) {
            super::join(parts).serialize(s)
        } else {
            parts.serialize(s)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Part>, D::Error> {
        Ok(match Option::<Content>::deserialize(d)? {
            None => Vec::new(),
            Some(Content::Text(text)) if text.is_empty() => Vec::new(),
            Some(Content::Text(text)) => vec![Part::Text { text }],
            Some(Content::Parts(parts)) => parts,
        })
    }
}
