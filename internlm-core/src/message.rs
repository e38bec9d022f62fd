//! Messages of a conversation and the parts that their content is made of.

pub(crate) mod bracketed;

use serde::{Deserialize, Deserializer, Serialize};

pub use bracketed::bracketed;

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
    /// Results of tools and of the code interpreter. OpenAI's `tool` and its older `function` are
    /// read as this.
    #[serde(alias = "tool", alias = "function")]
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
/// Reads OpenAI's JSON: `content` may be a string, `null` or an array of parts. Writes a string
/// where there is only text (several texts are joined), else an array.
///
/// A message that was read may hold markers, `{"type": "marker", …}`; it is as trusted as where it
/// came from. Call [`without_markers`](Message::without_markers) on what a stranger sent.
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
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
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

    /// Names the call that this message answers.
    #[must_use]
    pub fn with_tool_call_id(mut self, id: impl Into<String>) -> Self {
        self.tool_call_id = Some(id.into());
        self
    }

    /// Turns markers into text of the same spelling, so that none of them can become a special
    /// token.
    #[must_use]
    pub fn without_markers(mut self) -> Self {
        for part in &mut self.content {
            if let Part::Marker { text } = part {
                *part = Part::text(std::mem::take(text));
            }
        }
        self
    }

    /// The content as one string, markers spelled out.
    pub fn text(&self) -> String {
        join(&self.content)
    }
}

/// `null` where OpenAI's clients mean nothing.
fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// `content` as OpenAI spells it: a string where there is only text, else an array.
mod content {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    use super::Part;

    pub(super) fn serialize<S: Serializer>(parts: &[Part], s: S) -> Result<S::Ok, S::Error> {
        if parts.iter().all(|p| matches!(p, Part::Text { .. })) {
            super::join(parts).serialize(s)
        } else {
            parts.serialize(s)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Part>, D::Error> {
        match Value::deserialize(d)? {
            Value::Null => Ok(Vec::new()),
            Value::String(text) if text.is_empty() => Ok(Vec::new()),
            Value::String(text) => Ok(vec![Part::Text { text }]),
            parts @ Value::Array(_) => Vec::deserialize(parts).map_err(D::Error::custom),
            _ => Err(D::Error::custom(
                "`content` must be a string, null or an array of parts",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn message(value: Value) -> Message {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn round(message: &Message, want: Value) {
        let written = serde_json::to_value(message).unwrap();
        assert_eq!(written, want);
        assert_eq!(
            &serde_json::from_value::<Message>(written).unwrap(),
            message
        );
    }

    #[test]
    fn messages_have_a_stable_form() {
        round(
            &Message::user("Hi"),
            json!({"role": "user", "content": "Hi"}),
        );
        round(
            &Message::system(""),
            json!({"role": "system", "content": ""}),
        );
        let call = ToolCall::new("f", json!({"a": 1})).with_id("1");
        round(
            &Message::assistant("Hm").with_tool_calls(vec![call]),
            json!({"role": "assistant", "content": "Hm",
                "tool_calls": [{"name": "f", "arguments": {"a": 1}, "id": "1"}]}),
        );
        round(
            &Message::environment("2")
                .with_name("plugin")
                .with_tool_call_id("1"),
            json!({"role": "environment", "name": "plugin", "content": "2", "tool_call_id": "1"}),
        );
        let parts = vec![Part::text("a"), Part::marker("<|im_end|>")];
        round(
            &Message::user("").with_content(parts),
            json!({"role": "user", "content": [
                {"type": "text", "text": "a"}, {"type": "marker", "text": "<|im_end|>"}]}),
        );
        let texts = Message::user("").with_content(vec![Part::text("a"), Part::text("b")]);
        assert_eq!(serde_json::to_value(texts).unwrap()["content"], "ab");
    }

    #[test]
    fn messages_of_open_ai_are_read() {
        let call = json!({"id": "call_1", "type": "function",
            "function": {"name": "f", "arguments": "{\"a\": 1}"}});
        let assistant =
            message(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        let want = ToolCall::new("f", json!({"a": 1})).with_id("call_1");
        assert_eq!(
            assistant,
            Message::assistant("").with_tool_calls(vec![want])
        );
        let tool = message(json!({"role": "tool", "tool_call_id": "call_1", "content": "2"}));
        assert_eq!(tool, Message::environment("2").with_tool_call_id("call_1"));
        let function = message(json!({"role": "function", "name": "f", "content": "2"}));
        assert_eq!(function, Message::environment("2").with_name("f"));
        let developer = message(json!({"role": "developer", "content": "Be brief."}));
        assert_eq!(developer, Message::system("Be brief."));
        let user = message(json!({"role": "user", "refusal": null,
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}));
        assert_eq!(user.text(), "ab");
        let nulls = json!({"role": "assistant", "content": "x", "tool_calls": null, "name": null});
        assert_eq!(message(nulls), Message::assistant("x"));
        assert_eq!(
            message(json!({"role": "assistant"})),
            Message::assistant("")
        );
    }

    #[test]
    fn malformed_messages_are_errors() {
        for value in [
            json!({"content": "x"}),
            json!({"role": "robot", "content": "x"}),
            json!({"role": "user", "content": 1}),
            json!({"role": "user", "content": {"type": "text", "text": "x"}}),
            json!({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            json!({"role": "user", "content": [{"type": "text"}]}),
            json!({"role": "assistant", "content": "", "tool_calls": [{}]}),
        ] {
            assert!(
                serde_json::from_value::<Message>(value.clone()).is_err(),
                "{value}"
            );
        }
    }

    #[test]
    fn markers_can_be_taken_away() {
        let parts = vec![Part::text("a"), Part::marker("<|im_end|>")];
        let plain = Message::user("").with_content(parts).without_markers();
        assert_eq!(plain.content, [Part::text("a"), Part::text("<|im_end|>")]);
    }
}
