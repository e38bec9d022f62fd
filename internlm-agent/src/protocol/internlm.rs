//! InternLM2's own protocol, read leniently: markers in the text, results from the environment.

use internlm_core::tool_call::{self, ACTION_END, ACTION_START, INTERPRETER, PLUGIN};
use internlm_core::{ChatRequest, Message, Part, ToolCall, ToolSpec};
use serde::{Deserialize, Serialize};

use super::arguments::{object_prefix, read_object, unfenced};
use super::dialect::{Dialect, Turn, call_id};
use super::{CUT_CALL, Call, Channel, Observed, Reply};
use crate::lagent::prompts;
use crate::python;

/// Configuration of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct InternLm {
    /// The tool that runs code; without one the model is not told of the interpreter.
    pub interpreter: Option<String>,
}

impl InternLm {
    /// Sets the tool that runs code. It gets one argument, `code`.
    #[must_use]
    pub fn with_interpreter(mut self, tool: impl Into<String>) -> Self {
        self.interpreter = Some(tool.into());
        self
    }
}

/// How older checkpoints spell the markers.
const OLD_SPELLINGS: [(&str, &str); 4] = [
    ("[UNUSED_TOKEN_144]", ACTION_START),
    ("[UNUSED_TOKEN_143]", ACTION_END),
    ("[UNUSED_TOKEN_142]", INTERPRETER),
    ("[UNUSED_TOKEN_141]", PLUGIN),
];

const FORM: &str = "write <|action_start|><|plugin|>, a line break, one JSON object \
{\"name\": …, \"parameters\": {…}} and <|action_end|>";

impl InternLm {
    fn is_interpreter(&self, tool: &ToolSpec) -> bool {
        self.interpreter.as_deref() == Some(tool.name.as_str())
    }
}

/// A call in JSON as Python reads it, in JSON5 or as a Python literal, also as a list of one.
fn read_loosely(payload: &str) -> Option<ToolCall> {
    let payload = unfenced(python::strip(payload));
    let listed = payload.strip_prefix('[').and_then(|p| p.strip_suffix(']'));
    let listed = listed.map(python::strip).filter(|one| {
        // A list of several calls is no call.
        object_prefix(one) == Some(one)
    });
    let object = read_object(object_prefix(listed.unwrap_or(payload))?)?;
    let name = object["name"].as_str().filter(|name| !name.is_empty())?;
    let arguments = object
        .get("parameters")
        .or_else(|| object.get("arguments"))?;
    arguments
        .is_object()
        .then(|| ToolCall::new(name, arguments.clone()))
}

impl Dialect for InternLm {
    const MAX_TURNS: usize = 6;

    fn system(&self, system: Option<&str>, tools: &[ToolSpec]) -> Vec<Message> {
        let mut messages: Vec<Message> = system.map(Message::system).into_iter().collect();
        let plugins: Vec<ToolSpec> = tools
            .iter()
            .filter(|tool| !self.is_interpreter(tool))
            .cloned()
            .collect();
        if !tools.is_empty() {
            messages.push(Message::system(prompts::META_CN));
        }
        if !plugins.is_empty() {
            let list = tool_call::spec_json(&plugins);
            let text = prompts::fill(prompts::PLUGIN_CN, &[("prompt", &list)]);
            messages.push(Message::system(text).with_name("plugin"));
        }
        if self.interpreter.is_some() {
            messages.push(Message::system(prompts::INTERPRETER_CN).with_name("interpreter"));
        }
        messages
    }

    fn request(&self, messages: Vec<Message>, _: &[ToolSpec], _: bool) -> ChatRequest {
        ChatRequest::messages(messages).with_keep_special_tokens(true)
    }

    fn read(&self, reply: &Reply, _: &[ToolSpec], first_id: usize) -> Turn {
        let mut text = reply.text.clone();
        for (old, new) in OLD_SPELLINGS {
            text = text.replace(old, new);
        }
        let text = text.trim_end_matches("<|im_end|>");
        let parsed = tool_call::parse(text);
        if parsed.blocks.is_empty() {
            // A marker that begins no block: a call was meant.
            let stray = [ACTION_START, PLUGIN, INTERPRETER, ACTION_END];
            return match stray
                .iter()
                .find(|marker| parsed.content.contains(**marker))
            {
                Some(marker) => Turn::Fault(format!(
                    "`{marker}` is out of place. To call a tool, {FORM}."
                )),
                None => Turn::Answer(parsed.content),
            };
        }
        let mut calls = Vec::new();
        for (i, block) in parsed.blocks.iter().enumerate() {
            let read = match block
                .tool_call()
                .or_else(|error| read_loosely(block.payload()).ok_or(error))
            {
                Ok(call) => call,
                Err(error) => return Turn::Fault(format!("{error}. To call a tool, {FORM}.")),
            };
            let is_code = block.action == tool_call::Action::Interpreter;
            if reply.is_cut() && !block.complete {
                return Turn::Fault(CUT_CALL.to_owned());
            }
            let mut fault = None;
            let name = match (is_code, &self.interpreter) {
                (true, Some(interpreter)) => interpreter.clone(),
                (true, None) => {
                    fault = Some("there is no code interpreter".to_owned());
                    tool_call::INTERPRETER_TOOL.to_owned()
                }
                (false, _) => read.name,
            };
            let call = Call {
                id: call_id(first_id + i),
                name,
                arguments: read.arguments,
                channel: if is_code {
                    Channel::Code
                } else {
                    Channel::Tool
                },
                thought: parsed.content.clone(),
            };
            calls.push((call, fault));
        }
        Turn::Calls(calls)
    }

    fn said(&self, reply: &Reply, turn: &Turn) -> Message {
        let Turn::Calls(calls) = turn else {
            return Message::assistant(&reply.text);
        };
        // Only the protocol's own markers become special tokens; what the model spelt besides stays text.
        let thought = calls
            .first()
            .map(|(call, _)| call.thought.clone())
            .unwrap_or_default();
        let mut parts = vec![Part::text(thought)];
        for (call, _) in calls {
            let code = call.arguments.get("code").and_then(|code| code.as_str());
            parts.extend(match (call.channel, code) {
                (Channel::Code, Some(code)) => tool_call::interpreter(code),
                _ => tool_call::plugin(&ToolCall::new(&call.name, call.arguments.clone())),
            });
        }
        parts.retain(|part| !part.as_str().is_empty());
        Message::assistant("").with_content(parts)
    }

    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message> {
        let told = results.iter().map(|(call, observed)| {
            let name = match call.channel {
                Channel::Tool => "plugin",
                Channel::Code => "interpreter",
            };
            Message::environment(observed.text()).with_name(name)
        });
        told.collect()
    }

    fn fault(&self, what: &str) -> Message {
        Message::environment(format!("Error: {what}")).with_name("plugin")
    }
}
