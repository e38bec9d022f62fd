//! The model's own interface for tools: `tools` in the request, calls beside the text of the answer.
//!
//! This is what local engines and OpenAI-compatible servers speak. Several calls may come at once; all are
//! answered before the model is asked again.

use std::collections::HashSet;

use internlm_core::tool::ToolChoice;
use internlm_core::tool_call::ACTION_START;
use internlm_core::{ChatRequest, Message, ToolCall, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dialect::{Dialect, Turn, call_id};
use super::{CUT_CALL, Call, Channel, Observed, Reply};

/// Configuration of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Tools {
    /// Whether the first turn must be a call. Engines with guided decoding then can't write an invalid one.
    pub require_call: bool,
}

impl Tools {
    /// Sets whether the first turn must be a call.
    #[must_use]
    pub fn with_require_call(mut self, require_call: bool) -> Self {
        self.require_call = require_call;
        self
    }
}

impl Dialect for Tools {
    fn system(&self, system: Option<&str>, _: &[ToolSpec]) -> Vec<Message> {
        system.map(Message::system).into_iter().collect()
    }

    fn request(&self, messages: Vec<Message>, tools: &[ToolSpec], last: bool) -> ChatRequest {
        let asked = messages
            .last()
            .is_some_and(|m| m.role == internlm_core::Role::User);
        let choice = match (last, self.require_call && asked && !tools.is_empty()) {
            (true, _) => ToolChoice::None,
            (false, true) => ToolChoice::Required,
            (false, false) => ToolChoice::Auto,
        };
        let wired = tools.iter().map(|tool| ToolSpec {
            name: wire_name(&tool.name),
            ..tool.clone()
        });
        ChatRequest::messages(messages)
            .with_tools(wired.collect())
            .with_tool_choice(choice)
    }

    fn read(&self, reply: &Reply, tools: &[ToolSpec], first_id: usize) -> Turn {
        if is_cut_call(reply) {
            return Turn::Fault(CUT_CALL.to_owned());
        }
        if reply.tool_calls.is_empty() {
            return Turn::Answer(reply.text.clone());
        }
        let mut ids = HashSet::new();
        let calls = reply.tool_calls.iter().enumerate().map(|(i, call)| {
            // Servers leave ids out, or give all calls the same.
            let given = call
                .id
                .clone()
                .filter(|id| !id.is_empty() && ids.insert(id.clone()));
            let mut read = Call {
                id: given.unwrap_or_else(|| call_id(first_id + i)),
                name: own_name(&call.name, tools),
                arguments: call.arguments.clone(),
                channel: Channel::Tool,
                thought: reply.text.clone(),
            };
            if call.arguments.is_null() {
                read.arguments = json!({});
            }
            let fault = match &call.arguments {
                // Nothing says whether there would have been some.
                _ if reply.is_cut() && i + 1 == reply.tool_calls.len() && is_bare(call) => {
                    Some(CUT_CALL.to_owned())
                }
                Value::String(text) => Some(format!("the arguments are not JSON: {}", cut(text))),
                _ => None,
            };
            (read, fault)
        });
        Turn::Calls(calls.collect())
    }

    fn said(&self, reply: &Reply, turn: &Turn) -> Message {
        let mut calls = reply.tool_calls.clone();
        if let Turn::Calls(read) = turn {
            for (call, (read, _)) in calls.iter_mut().zip(read) {
                call.id = Some(read.id.clone());
                if call.arguments.is_null() {
                    call.arguments = read.arguments.clone();
                }
            }
        }
        Message::assistant(&reply.text).with_tool_calls(calls)
    }

    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message> {
        let told = results.iter().map(|(call, observed)| {
            Message::environment(observed.text())
                .with_name(wire_name(&call.name))
                .with_tool_call_id(&call.id)
        });
        told.collect()
    }

    fn fault(&self, what: &str) -> Message {
        Message::user(format!("Error: {what}"))
    }
}

/// Whether a reply ended at its limit of tokens within a call, which engines of InternLM2 give as text.
fn is_cut_call(reply: &Reply) -> bool {
    reply.is_cut() && reply.tool_calls.is_empty() && reply.text.contains(ACTION_START)
}

/// Whether a call has no arguments at all.
fn is_bare(call: &ToolCall) -> bool {
    let object = call.arguments.as_object();
    call.arguments.is_null() || object.is_some_and(serde_json::Map::is_empty)
}

/// A name as the wire allows it: `[a-zA-Z0-9_-]{1,64}`. The dot of a toolkit becomes `__`.
fn wire_name(name: &str) -> String {
    let name = name.replace('.', "__");
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(64)
        .collect()
}

/// The tool that a name on the wire stands for.
fn own_name(name: &str, tools: &[ToolSpec]) -> String {
    let exact = tools.iter().find(|tool| tool.name == name);
    let wired = || tools.iter().find(|tool| wire_name(&tool.name) == name);
    exact
        .or_else(wired)
        .map_or_else(|| name.to_owned(), |tool| tool.name.clone())
}

/// The beginning of a text, for messages about it.
pub(crate) fn cut(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
