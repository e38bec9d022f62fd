//! The writer.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::{ACTION_END, ACTION_START, Action, INTERPRETER_TOOL, PLUGIN};
use crate::message::{Message, Part, Role};
use crate::tool::{ToolCall, ToolSpec};

/// The blocks of calls, one after the other: [`interpreter`] for a call of [`INTERPRETER_TOOL`]
/// whose one argument is the string `code`, else [`plugin`]. The models were trained on one block
/// per message.
pub fn calls(calls: &[ToolCall]) -> Vec<Part> {
    calls.iter().flat_map(call).collect()
}

fn call(call: &ToolCall) -> Vec<Part> {
    let code = match call.arguments.as_object() {
        Some(arguments) if call.name == INTERPRETER_TOOL && arguments.len() == 1 => {
            arguments.get("code").and_then(|code| code.as_str())
        }
        _ => None,
    };
    match code {
        Some(code) => interpreter(code),
        None => plugin(call),
    }
}

/// The block of a tool call. Markers that the arguments spell are escaped as JSON (`\u003c|…`),
/// so that the block's text can be parsed again.
pub fn plugin(call: &ToolCall) -> Vec<Part> {
    #[derive(Serialize)]
    struct Call<'a> {
        name: &'a str,
        parameters: &'a serde_json::Value,
    }
    let mut text = json(
        &Call {
            name: &call.name,
            parameters: &call.arguments,
        },
        PythonFormatter,
    );
    // In JSON they can only be inside of strings.
    for marker in [ACTION_START, ACTION_END] {
        if text.contains(marker) {
            text = text.replace(marker, &format!("\\u003c{}", &marker[1..]));
        }
    }
    block(Action::Plugin, format!("\n{text}"))
}

/// The block of code, fenced as Python. Code that spells [`ACTION_END`] is cut there when the
/// block's text is parsed; the protocol has no escape for it.
pub fn interpreter(code: &str) -> Vec<Part> {
    block(Action::Interpreter, format!("\n```python\n{code}\n```"))
}

fn block(action: Action, payload: String) -> Vec<Part> {
    vec![
        Part::marker(ACTION_START),
        Part::marker(action.marker()),
        Part::text(payload),
        Part::marker(ACTION_END),
    ]
}

/// A conversation in words alone, for chat templates that know no tools: the first system message ends with the tools
/// and how to call one, and calls stand in the text of the assistant's messages.
pub fn in_words(messages: &[Message], tools: &[ToolSpec]) -> Vec<Message> {
    let told = format!(
        "You may call these tools:\n{}\nTo call one, write\n{ACTION_START}{PLUGIN}\n{{\"name\": \"…\", \
         \"parameters\": {{…}}}}{ACTION_END}\nThe result comes next. Without need of a tool, answer in words.",
        spec_json(tools)
    );
    let mut messages = messages.to_vec();
    match messages.first_mut() {
        Some(first) if first.role == Role::System => {
            first.content.push(Part::text(format!("\n\n{told}")));
        }
        _ => messages.insert(0, Message::system(told)),
    }
    for message in &mut messages {
        let made = std::mem::take(&mut message.tool_calls);
        message.content.extend(calls(&made));
    }
    messages
}

/// The tools as the JSON list that InternLM2 was trained on: indented by four spaces, keys in
/// their order, characters unescaped. Parameters that are null are left out.
pub fn spec_json(tools: &[ToolSpec]) -> String {
    #[derive(Serialize)]
    struct Tool<'a> {
        name: &'a str,
        description: &'a str,
        #[serde(skip_serializing_if = "serde_json::Value::is_null")]
        parameters: &'a serde_json::Value,
    }
    let tools: Vec<_> = tools
        .iter()
        .map(|tool| Tool {
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.parameters,
        })
        .collect();
    json(&tools, PrettyFormatter::with_indent(b"    "))
}

fn json(value: &impl Serialize, formatter: impl Formatter) -> String {
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, formatter))
        .expect("JSON values with string keys serialize into memory");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// `", "` and `": "`, as Python's `json.dumps` separates.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}
