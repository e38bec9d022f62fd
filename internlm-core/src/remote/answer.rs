//! The pieces of a streamed answer, put together into events.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::client;
use crate::chat_model::{Event, FinishReason, TokenLogprob, Usage};
use crate::tool::ToolCall;

/// What is wrong with a piece.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// It is not what the interface promises.
    Protocol(String),
    /// It is an error of the server, with the server's text.
    Server(String),
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<ApiUsage>,
}

#[derive(Deserialize)]
struct ApiUsage {
    #[serde(default)]
    prompt_tokens: Option<usize>,
    #[serde(default)]
    completion_tokens: Option<usize>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    /// Of a completion.
    #[serde(default)]
    text: Option<String>,
    /// Of a chat completion.
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    logprobs: Option<ApiLogprobs>,
    /// vLLM's name, then LMDeploy's.
    #[serde(default, alias = "gen_tokens")]
    token_ids: Option<Vec<u32>>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
    #[serde(default)]
    gen_tokens: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct CallDelta {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: Option<FunctionDelta>,
}

#[derive(Default, Deserialize)]
struct FunctionDelta {
    #[serde(default)]
    name: Option<String>,
    /// A string that holds a piece of JSON; some servers send the object itself.
    #[serde(default)]
    arguments: Option<Value>,
}

/// Both forms: `content` is that of chats, the others that of completions.
#[derive(Deserialize)]
struct ApiLogprobs {
    #[serde(default)]
    content: Option<Vec<ApiToken>>,
    #[serde(default)]
    tokens: Option<Vec<String>>,
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f32>>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Option<BTreeMap<String, f32>>>>,
}

#[derive(Deserialize)]
struct ApiToken {
    #[serde(default)]
    token: String,
    /// llama.cpp's.
    #[serde(default)]
    id: Option<u32>,
    logprob: f32,
    #[serde(default)]
    top_logprobs: Option<Vec<ApiToken>>,
}

/// A call that is not complete.
#[derive(Debug, Default)]
struct PartialCall {
    id: Option<String>,
    name: String,
    arguments: String,
}

/// Collects what has to wait for the end.
#[derive(Debug)]
pub(super) struct Assembler {
    /// How many of the most likely tokens were asked for.
    top: Option<usize>,
    calls: Vec<PartialCall>,
    /// Where the call of an index is in `calls`.
    places: BTreeMap<u64, usize>,
    reason: Option<FinishReason>,
    usage: Usage,
    has_text: bool,
    has_logprobs: bool,
}

impl Assembler {
    pub(super) fn new(top: Option<usize>) -> Self {
        Self {
            top,
            calls: Vec::new(),
            places: BTreeMap::new(),
            reason: None,
            usage: Usage::default(),
            has_text: false,
            has_logprobs: false,
        }
    }

    /// Whether the server said why the answer ended.
    pub(super) fn is_finished(&self) -> bool {
        self.reason.is_some()
    }

    /// Takes one piece; new text comes back at once.
    pub(super) fn push(&mut self, data: &str) -> Result<Option<Event>, Fault> {
        let value: Value = serde_json::from_str(data)
            .map_err(|e| Fault::Protocol(format!("a piece of the stream is not JSON: {e}")))?;
        if let Some(message) = client::message(&value) {
            return Err(Fault::Server(message));
        }
        let chunk = Chunk::deserialize(value)
            .map_err(|e| Fault::Protocol(format!("a piece of the stream is malformed: {e}")))?;
        if let Some(usage) = chunk.usage {
            self.usage = Usage {
                prompt_tokens: usage.prompt_tokens.unwrap_or_default(),
                completion_tokens: usage.completion_tokens.unwrap_or_default(),
            };
        }
        let choices = chunk.choices.unwrap_or_default();
        match choices.into_iter().find(|choice| choice.index == 0) {
            Some(choice) => self.choice(choice),
            None => Ok(None),
        }
    }

    fn choice(&mut self, choice: Choice) -> Result<Option<Event>, Fault> {
        if let Some(reason) = choice.finish_reason.as_deref().filter(|r| !r.is_empty()) {
            self.reason = Some(match reason {
                "stop" => FinishReason::Stop,
                "length" => FinishReason::Length,
                "tool_calls" | "function_call" => FinishReason::ToolCalls,
                other => {
                    let what = format!("the answer ended for an unknown reason, `{other}`");
                    return Err(Fault::Protocol(what));
                }
            });
        }
        let delta = choice.delta.unwrap_or_default();
        for call in delta.tool_calls.unwrap_or_default() {
            self.call(call);
        }
        let text = choice.text.or(delta.content).unwrap_or_default();
        let mut ids = choice.token_ids.or(delta.gen_tokens).unwrap_or_default();
        let logprobs = match (choice.logprobs, self.top) {
            (Some(logprobs), Some(top)) => token_logprobs(logprobs, top)?,
            _ => Vec::new(),
        };
        if ids.is_empty() {
            ids = logprobs.iter().map(|token| token.id).collect();
        }
        self.has_text |= !text.is_empty();
        self.has_logprobs |= !logprobs.is_empty();
        let empty = text.is_empty() && ids.is_empty() && logprobs.is_empty();
        Ok((!empty).then_some(Event::Delta {
            text,
            ids,
            logprobs,
        }))
    }

    /// A piece belongs to the call of its index, else of its id, else to the last one. Another id
    /// at a known index begins a new call: some servers number all calls 0.
    fn call(&mut self, delta: CallDelta) {
        let id = delta.id.filter(|id| !id.is_empty());
        let same = |call: &PartialCall| id.is_none() || call.id.is_none() || call.id == id;
        let place = match delta.index {
            Some(index) => self.places.get(&index).copied(),
            None => match &id {
                Some(_) => self.calls.iter().position(|call| call.id == id),
                None => self.calls.len().checked_sub(1),
            },
        };
        let place = place.filter(|&place| same(&self.calls[place]));
        let place = place.unwrap_or_else(|| {
            self.calls.push(PartialCall::default());
            self.calls.len() - 1
        });
        if let Some(index) = delta.index {
            self.places.insert(index, place);
        }
        let call = &mut self.calls[place];
        if id.is_some() {
            call.id = id;
        }
        let function = delta.function.unwrap_or_default();
        if let Some(name) = function.name.filter(|name| call.name != *name) {
            call.name.push_str(&name);
        }
        match function.arguments {
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            Some(Value::Null) | None => {}
            Some(whole) => call.arguments.push_str(&whole.to_string()),
        }
    }

    /// The events after the last piece: the calls and the end.
    ///
    /// A call that was cut by the limit of tokens is none: its arguments are not complete.
    pub(super) fn finish(&mut self) -> Result<Vec<Event>, Fault> {
        let Some(mut reason) = self.reason else {
            let what = "the stream ended before the answer did";
            return Err(Fault::Protocol(what.to_owned()));
        };
        if self.top.is_some() && self.has_text && !self.has_logprobs {
            let what = "the answer has no log-probabilities, which were asked for";
            return Err(Fault::Protocol(what.to_owned()));
        }
        let mut events = Vec::new();
        for call in std::mem::take(&mut self.calls) {
            if call.name.is_empty() {
                return Err(Fault::Protocol("a call of a tool has no name".to_owned()));
            }
            let whole = call.arguments.trim().is_empty()
                || serde_json::from_str::<Value>(&call.arguments).is_ok();
            if reason == FinishReason::Length && !whole {
                continue;
            }
            let function = json!({"name": call.name, "arguments": call.arguments});
            let call = ToolCall::deserialize(json!({"function": function, "id": call.id}))
                .map_err(|e| Fault::Protocol(format!("a call of a tool is malformed: {e}")))?;
            events.push(Event::ToolCall { call });
        }
        // vLLM says "stop" after a call that was forced.
        if !events.is_empty() && reason == FinishReason::Stop {
            reason = FinishReason::ToolCalls;
        }
        let usage = self.usage;
        events.push(Event::Finish { reason, usage });
        Ok(events)
    }
}

/// The id that a token is named by, as vLLM's `return_tokens_as_token_ids` has it.
pub(super) fn token_id(token: &str) -> Option<u32> {
    token.strip_prefix("token_id:")?.parse().ok()
}

fn no_id() -> Fault {
    Fault::Protocol("a log-probability without the id of its token".to_owned())
}

fn token_logprobs(logprobs: ApiLogprobs, top: usize) -> Result<Vec<TokenLogprob>, Fault> {
    let sorted = |mut list: Vec<(u32, f32)>| {
        list.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        list.truncate(top);
        list
    };
    if let Some(content) = logprobs.content {
        let id = |token: &ApiToken| {
            token
                .id
                .or_else(|| token_id(&token.token))
                .ok_or_else(no_id)
        };
        let read = |token: ApiToken| {
            let rest = token.top_logprobs.iter().flatten();
            let list = rest.map(|other| Ok((id(other)?, other.logprob)));
            Ok(TokenLogprob {
                id: id(&token)?,
                logprob: token.logprob,
                top: sorted(list.collect::<Result<_, Fault>>()?),
            })
        };
        return content.into_iter().map(read).collect();
    }
    let tokens = logprobs.tokens.unwrap_or_default();
    let values = logprobs.token_logprobs.unwrap_or_default();
    let tops = logprobs.top_logprobs.unwrap_or_default();
    if tokens.len() != values.len() {
        let what = format!(
            "{} tokens, {} log-probabilities",
            tokens.len(),
            values.len()
        );
        return Err(Fault::Protocol(what));
    }
    let mut tops = tops.into_iter();
    let read = |(token, value): (String, Option<f32>)| {
        let list = tops.next().flatten().unwrap_or_default().into_iter();
        let list = list.map(|(token, value)| Ok((token_id(&token).ok_or_else(no_id)?, value)));
        Ok(TokenLogprob {
            id: token_id(&token).ok_or_else(no_id)?,
            logprob: value
                .ok_or_else(|| Fault::Protocol("a token without a log-probability".to_owned()))?,
            top: sorted(list.collect::<Result<_, Fault>>()?),
        })
    };
    tokens.into_iter().zip(values).map(read).collect()
}
