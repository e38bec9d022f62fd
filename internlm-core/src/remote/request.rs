//! Requests as servers want them.
//!
//! What a server can't keep is refused here rather than left out: an answer that was drawn
//! otherwise than asked would look like any other.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::config::Dialect;
use super::sampling::{self, refuse};
use crate::chat_model::{ChatRequest, Input, ResponseFormat};
use crate::error::Result;
use crate::message::{self, Message, Part, Role};
use crate::tool::{ToolCall, ToolChoice, ToolSpec};

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Chat,
    Completions,
}

impl Route {
    pub(super) fn path(self) -> &'static str {
        match self {
            Route::Chat => "/chat/completions",
            Route::Completions => "/completions",
        }
    }
}

/// The body of a request for a streamed answer. `context_length` is 0 if it is not known.
pub(super) fn body(
    request: &ChatRequest,
    model: &str,
    dialect: Dialect,
    context_length: usize,
) -> Result<(Route, Value)> {
    let sampling = &request.sampling;
    sampling.validate()?;
    let mut body = Map::new();
    body.insert("model".into(), model.into());
    let route = match &request.input {
        Input::Messages(messages) if messages.is_empty() => {
            return refuse("messages", "there are none");
        }
        Input::Messages(messages) => {
            body.insert("messages".into(), messages_json(messages)?.into());
            tools(request, dialect, &mut body)?;
            Route::Chat
        }
        Input::Prompt(parts) => {
            body.insert("prompt".into(), message::join(parts).into());
            Route::Completions
        }
        Input::Ids(ids) if ids.is_empty() => return refuse("ids", "there are none"),
        Input::Ids(_) if dialect == Dialect::LmDeploy => {
            return refuse("ids", "LMDeploy's completions take texts only");
        }
        Input::Ids(ids) => {
            body.insert("prompt".into(), ids.clone().into());
            Route::Completions
        }
    };
    if route == Route::Completions && !request.tools.is_empty() {
        return refuse("tools", "need messages, not a prompt");
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({"include_usage": true}));
    match sampling.max_new_tokens {
        Some(limit) => body.insert("max_tokens".into(), limit.into()),
        None if route == Route::Chat => None,
        None => body.insert(
            "max_tokens".into(),
            unlimited(request, dialect, context_length)?,
        ),
    };
    sampling::fields(sampling, dialect, route, context_length, &mut body)?;
    if let Some((field, format)) = response_format(&request.response_format, dialect)? {
        if route == Route::Completions && dialect != Dialect::Vllm {
            return refuse("response_format", "the server has it for messages only");
        }
        body.insert(field.into(), format);
    }
    if request.keep_special_tokens {
        if body.contains_key("tools") {
            let what = "the server parses calls of tools, so that their tokens can't stay";
            return refuse("keep_special_tokens", what);
        }
        if dialect == Dialect::LlamaCpp {
            return refuse(
                "keep_special_tokens",
                "llama.cpp has it for all requests or none",
            );
        }
        body.insert("skip_special_tokens".into(), false.into());
    }
    if matches!(dialect, Dialect::Vllm | Dialect::LmDeploy) {
        body.insert("return_token_ids".into(), true.into());
    }
    Ok((route, body.into()))
}

/// The form of the answer, and the field that the server has for it.
fn response_format(
    format: &ResponseFormat,
    dialect: Dialect,
) -> Result<Option<(&'static str, Value)>> {
    let json = |format| Ok(Some(("response_format", format)));
    let structured = |form| Ok(Some(("structured_outputs", form)));
    match (format, dialect) {
        (ResponseFormat::Text, _) => Ok(None),
        (ResponseFormat::JsonObject, _) => json(json!({"type": "json_object"})),
        (ResponseFormat::JsonSchema(schema), _) => {
            let schema = json!({"name": "answer", "schema": schema, "strict": true});
            json(json!({"type": "json_schema", "json_schema": schema}))
        }
        (ResponseFormat::Regex(regex), Dialect::Vllm) => structured(json!({"regex": regex})),
        (ResponseFormat::Lark(grammar), Dialect::Vllm) => structured(json!({"grammar": grammar})),
        (ResponseFormat::Regex(regex), Dialect::LmDeploy) => {
            json(json!({"type": "regex_schema", "regex_schema": regex}))
        }
        (ResponseFormat::Regex(_) | ResponseFormat::Lark(_), _) => refuse(
            "response_format",
            "the server has no word for it; use a JSON schema",
        ),
    }
}

/// `max_tokens` of a completion without a limit: left out, it is 16. Null is none to vLLM and
/// llama.cpp, but 512 to LMDeploy.
fn unlimited(request: &ChatRequest, dialect: Dialect, context_length: usize) -> Result<Value> {
    match &request.input {
        _ if matches!(dialect, Dialect::Vllm | Dialect::LlamaCpp) => Ok(Value::Null),
        Input::Ids(ids) if context_length > ids.len() => Ok((context_length - ids.len()).into()),
        _ => refuse(
            "max_new_tokens",
            "is needed: this server's completions have a limit of their own",
        ),
    }
}

fn tools(request: &ChatRequest, dialect: Dialect, body: &mut Map<String, Value>) -> Result<()> {
    let mut tools = request.tools.clone();
    let choice = match &request.tool_choice {
        // The tools are left out.
        ToolChoice::None => return Ok(()),
        ToolChoice::Auto if tools.is_empty() => return Ok(()),
        ToolChoice::Auto => None,
        _ if tools.is_empty() => {
            return refuse("tool_choice", "asks for a call, but there are no tools");
        }
        _ if dialect == Dialect::LmDeploy => {
            return refuse("tool_choice", "LMDeploy does not force calls");
        }
        ToolChoice::Required => Some(json!("required")),
        ToolChoice::Tool(name) if tools.iter().all(|tool| tool.name != *name) => {
            return refuse("tool_choice", format!("there is no tool `{name}`"));
        }
        ToolChoice::Tool(name) if dialect == Dialect::LlamaCpp => {
            // It takes no name, but if there is just one tool it needs none.
            tools.retain(|tool| tool.name == *name);
            Some(json!("required"))
        }
        ToolChoice::Tool(name) => Some(json!({"type": "function", "function": {"name": name}})),
    };
    body.insert("tools".into(), tools_json(&tools));
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
    Ok(())
}

pub(super) fn tools_json(tools: &[ToolSpec]) -> Value {
    let tools = tools.iter().map(|tool| {
        let mut function = json!({"name": tool.name, "description": tool.description});
        if !tool.parameters.is_null() {
            function["parameters"] = tool.parameters.clone();
        }
        json!({"type": "function", "function": function})
    });
    tools.collect::<Vec<_>>().into()
}

/// Messages in OpenAI's form. There each call has an id, and each result names its call: where
/// they have none, calls are numbered, and results belong to the calls in order.
pub(super) fn messages_json(messages: &[Message]) -> Result<Vec<Value>> {
    let mut open: VecDeque<String> = VecDeque::new();
    let mut calls = 0;
    messages
        .iter()
        .map(|message| {
            if message
                .content
                .iter()
                .any(|part| matches!(part, Part::Marker { .. }))
            {
                let what = "hold a marker, which can't be told from text in a request";
                return refuse("messages", what);
            }
            let mut json = json!({"content": message.text()});
            if let Some(name) = &message.name {
                json["name"] = name.as_str().into();
            }
            if message.role == Role::Environment {
                json["role"] = "tool".into();
                let id = match &message.tool_call_id {
                    Some(id) => {
                        open.retain(|other| other != id);
                        Some(id.clone())
                    }
                    None => open.pop_front(),
                };
                if let Some(id) = id {
                    json["tool_call_id"] = id.into();
                }
                return Ok(json);
            }
            json["role"] = message.role.as_str().into();
            open.clear();
            if !message.tool_calls.is_empty() {
                let mut list = Vec::new();
                for call in &message.tool_calls {
                    let id = call.id.clone().unwrap_or_else(|| format!("call_{calls}"));
                    calls += 1;
                    list.push(call_json(call, &id));
                    open.push_back(id);
                }
                json["tool_calls"] = list.into();
                if message.content.is_empty() {
                    json["content"] = Value::Null;
                }
            }
            Ok(json)
        })
        .collect()
}

fn call_json(call: &ToolCall, id: &str) -> Value {
    let arguments = match &call.arguments {
        // What a model wrote that is not JSON goes back as it was.
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
