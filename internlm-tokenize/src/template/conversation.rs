//! Messages and tools as the variables that Hugging Face's templates expect.

use internlm_core::{Message, Part, ToolCall, ToolSpec};
use minijinja::Value;
use serde_json::Value as Json;

use super::SpecialTokens;
use crate::error::{Error, Result};

/// Deepest JSON in tools and arguments.
const MAX_JSON_DEPTH: usize = 128;

/// How the strings of a conversation are written for one rendering.
pub(super) struct Spelling<'a> {
    /// Of everything that somebody else wrote.
    pub(super) untrusted: &'a dyn Fn(&str) -> String,
    /// Of special tokens.
    pub(super) marker: &'a dyn Fn(&str) -> String,
}

/// What a template is given.
pub(super) struct Conversation<'a> {
    pub(super) messages: &'a [Message],
    pub(super) tools: &'a [ToolSpec],
    pub(super) add_generation_prompt: bool,
    pub(super) special: &'a SpecialTokens,
    /// What the template calls the role of a message.
    pub(super) role: &'a dyn Fn(&Message) -> &'static str,
}

impl Conversation<'_> {
    /// Calls `see` with every string, and checks names and the depth of JSON.
    pub(super) fn visit(&self, see: &mut dyn FnMut(&str)) -> Result<()> {
        for (index, message) in self.messages.iter().enumerate() {
            let wrong = |what: String| Error::Message { index, what };
            if let Some(name) = &message.name {
                if name.contains(['\n', '\r']) {
                    return Err(wrong(format!("the name {name:?} contains a line break")));
                }
                see(name);
            }
            see("");
            message.content.iter().for_each(|part| see(part.as_str()));
            for call in &message.tool_calls {
                see(&call.name);
                see(call.id.as_deref().unwrap_or_default());
                if !visit_json(&call.arguments, 0, see) {
                    return Err(wrong("has arguments that are nested too deeply".to_owned()));
                }
            }
            message.tool_call_id.iter().for_each(|id| see(id));
        }
        for tool in self.tools {
            see(&tool.name);
            see(&tool.description);
            if !visit_json(&tool.parameters, 0, see) {
                return Err(Error::Template {
                    what: format!(
                        "the parameters of tool `{}` are nested too deeply",
                        tool.name
                    ),
                    line: None,
                });
            }
        }
        Ok(())
    }

    /// The variables.
    pub(super) fn context(&self, spelling: &Spelling<'_>) -> Result<Value> {
        let special = self.special;
        let messages: Vec<Value> = self
            .messages
            .iter()
            .map(|message| self.message(message, spelling))
            .collect();
        let tools = match self.tools {
            [] => Value::from(()),
            tools => tools
                .iter()
                .map(|tool| tool_value(tool, spelling))
                .collect(),
        };
        let mut variables = vec![
            ("messages", Value::from(messages)),
            ("tools", tools),
            ("documents", Value::from(())),
            (
                "add_generation_prompt",
                Value::from(self.add_generation_prompt),
            ),
        ];
        for (name, token) in [
            ("bos_token", &special.bos_token),
            ("eos_token", &special.eos_token),
            ("pad_token", &special.pad_token),
            ("unk_token", &special.unk_token),
        ] {
            if let Some(token) = token {
                variables.push((name, Value::from((spelling.marker)(token))));
            }
        }
        Ok(Value::from_pairs(variables))
    }

    fn message(&self, message: &Message, spelling: &Spelling<'_>) -> Value {
        let content: String = message
            .content
            .iter()
            .map(|part| match part {
                Part::Text { text } => (spelling.untrusted)(text),
                Part::Marker { text } => (spelling.marker)(text),
            })
            .collect();
        let mut fields = vec![
            ("role", Value::from((self.role)(message))),
            ("content", Value::from(content)),
        ];
        if let Some(name) = &message.name {
            fields.push(("name", Value::from((spelling.untrusted)(name))));
        }
        if !message.tool_calls.is_empty() {
            let calls = message.tool_calls.iter();
            let calls = calls.map(|call| call_value(call, spelling)).collect();
            fields.push(("tool_calls", calls));
        }
        if let Some(id) = &message.tool_call_id {
            fields.push(("tool_call_id", Value::from((spelling.untrusted)(id))));
        }
        Value::from_pairs(fields)
    }
}

/// A call as transformers passes it: `{"type": "function", "id"?, "function": {…}}`.
fn call_value(call: &ToolCall, spelling: &Spelling<'_>) -> Value {
    let function = Value::from_pairs([
        ("name", Value::from((spelling.untrusted)(&call.name))),
        ("arguments", json_value(&call.arguments, spelling)),
    ]);
    let mut fields = vec![("type", Value::from("function"))];
    if let Some(id) = &call.id {
        fields.push(("id", Value::from((spelling.untrusted)(id))));
    }
    fields.push(("function", function));
    Value::from_pairs(fields)
}

/// A tool as transformers passes it: `{"type": "function", "function": {…}}`.
fn tool_value(tool: &ToolSpec, spelling: &Spelling<'_>) -> Value {
    let mut function = vec![
        ("name", Value::from((spelling.untrusted)(&tool.name))),
        (
            "description",
            Value::from((spelling.untrusted)(&tool.description)),
        ),
    ];
    if !tool.parameters.is_null() {
        function.push(("parameters", json_value(&tool.parameters, spelling)));
    }
    Value::from_pairs([
        ("type", Value::from("function")),
        ("function", Value::from_pairs(function)),
    ])
}

/// The caller has checked the depth.
fn json_value(json: &Json, spelling: &Spelling<'_>) -> Value {
    match json {
        Json::String(text) => Value::from((spelling.untrusted)(text)),
        Json::Array(items) => items
            .iter()
            .map(|item| json_value(item, spelling))
            .collect(),
        Json::Object(fields) => Value::from_pairs(fields.iter().map(|(key, value)| {
            // Templates look fields up by names such as `type`; a plain word is no marker.
            let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let key = if plain {
                key.clone()
            } else {
                (spelling.untrusted)(key)
            };
            (key, json_value(value, spelling))
        })),
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => Value::from(value),
            (_, Some(value), _) => Value::from(value),
            (_, _, value) => Value::from(value),
        },
    }
}

/// `false` where the JSON is nested too deeply.
fn visit_json(json: &Json, depth: usize, see: &mut dyn FnMut(&str)) -> bool {
    if depth > MAX_JSON_DEPTH {
        return false;
    }
    match json {
        Json::String(text) => see(text),
        Json::Array(items) => {
            see("");
            return items.iter().all(|item| visit_json(item, depth + 1, see));
        }
        Json::Object(fields) => {
            see("");
            return fields.iter().all(|(key, value)| {
                see(key);
                visit_json(value, depth + 1, see)
            });
        }
        _ => see(""),
    }
    true
}
