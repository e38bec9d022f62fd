//! `/v1/chat/completions`.

mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request as HttpRequest;
use internlm_core::chat_model::Completion;
use internlm_core::tool::ToolChoice;
use internlm_core::{ChatRequest, Message, ToolCall, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answers::Answers;
use super::error::ApiError;
use super::fields::{self, Common};
use super::logprobs::ChatLogprobs;
use super::state::Server;
use super::wire::{Reply, UsageBody, now, ok};
use super::{blocking, body};
use crate::request::Request;
use stream::ChatChunks;

/// The field of the prompt, for errors.
const PROMPT: &str = "messages";

/// What only this route has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ChatBody {
    messages: Option<Vec<Message>>,
    tools: Option<Vec<ToolSpec>>,
    tool_choice: Option<ToolChoice>,
    parallel_tool_calls: Option<bool>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
}

/// What the answer is made with.
struct Plan {
    request: Request,
    shape: Shape,
    streams: bool,
    includes_usage: bool,
}

/// What all pieces of an answer need to know.
#[derive(Clone)]
struct Shape {
    id: String,
    created: u64,
    model: String,
    n: usize,
    /// Whether log-probabilities were asked for.
    logprobs: bool,
    tokens_as_ids: bool,
    returns_ids: bool,
    /// Most calls of tools in an answer.
    most_calls: usize,
}

/// Answers a conversation.
pub(super) async fn complete(
    State(server): State<Arc<Server>>,
    request: HttpRequest<Body>,
) -> Reply {
    let bytes = body::read(&server.config, request).await?;
    let (plan, response) = blocking::run(&server, move |server| {
        let plan = plan(server, &bytes)?;
        let response = server.engine.submit(plan.request.clone());
        let response = response.map_err(|error| ApiError::of(error, PROMPT))?;
        Ok::<_, ApiError>((plan, response))
    })
    .await??;
    let mut answers = Answers::new(&server, vec![response], plan.shape.n);
    if plan.streams {
        let chunks = ChatChunks::new(server.clone(), plan.shape, plan.includes_usage);
        return super::stream::respond(answers, chunks).await;
    }
    let mut completions = vec![Completion::default(); plan.shape.n];
    while let Some(item) = answers.next().await {
        let (index, event) = item.map_err(|error| ApiError::of(error, PROMPT))?;
        if let Some(completion) = completions.get_mut(index) {
            completion.push(event);
        }
    }
    ok(&whole(&server, &plan.shape, completions))
}

/// Reads and checks a request.
fn plan(server: &Server, bytes: &[u8]) -> Result<Plan, ApiError> {
    let common = Common::parse(bytes)?;
    let chat: ChatBody = body::parse(bytes)?;
    let n = common.n(server, 1)?;
    let mut sampling = common.sampling(server)?;
    for (field, value) in [
        ("max_tokens", common.max_tokens),
        ("max_completion_tokens", common.max_completion_tokens),
    ] {
        if value == Some(0) {
            let message = format!("`{field}` is 0, expected at least 1.");
            return Err(ApiError::field(field, message));
        }
    }
    let top = chat.top_logprobs.unwrap_or(0);
    fields::check("top_logprobs", top as f64)?;
    let logprobs = chat.logprobs == Some(true);
    if top > 0 && !logprobs {
        let message = "`top_logprobs` needs `logprobs` to be true.";
        return Err(ApiError::field("top_logprobs", message));
    }
    sampling.logprobs = logprobs.then_some(top as usize);
    let messages = messages(chat.messages)?;
    let tools = chat.tools.unwrap_or_default();
    check_tools(&tools)?;
    let choice = chat.tool_choice.unwrap_or_default();
    check_choice(&choice, &tools)?;
    let request = ChatRequest::messages(messages)
        .with_sampling(sampling)
        .with_tools(tools)
        .with_tool_choice(choice);
    Ok(Plan {
        request: common.request(server, request, n)?,
        streams: common.streams(),
        includes_usage: common.includes_usage(),
        shape: Shape {
            id: server.ids.next("chatcmpl-"),
            created: now(),
            tokens_as_ids: common.tokens_as_ids(),
            returns_ids: common.returns_ids(),
            model: common.model.unwrap_or_else(|| server.model.clone()),
            n,
            logprobs,
            most_calls: match chat.parallel_tool_calls {
                Some(false) => 1,
                _ => usize::MAX,
            },
        },
    })
}

/// Messages from a stranger: none of their text becomes a special token.
///
/// # Errors
/// There are none, or too many.
pub(super) fn messages(messages: Option<Vec<Message>>) -> Result<Vec<Message>, ApiError> {
    let messages = messages.unwrap_or_default();
    fields::check_len(PROMPT, messages.len())?;
    Ok(messages.into_iter().map(Message::without_markers).collect())
}

/// OpenAI's rule for names of functions.
fn check_tools(tools: &[ToolSpec]) -> Result<(), ApiError> {
    fields::check_len("tools", tools.len())?;
    for (i, tool) in tools.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !(1..=64).contains(&tool.name.len()) || !tool.name.chars().all(good) {
            let message = format!(
                "`tools[{i}]` has the name `{}`, expected 1 to 64 letters, digits, `_`, `-` or `.`.",
                tool.name
            );
            return Err(ApiError::field(
                format!("tools[{i}].function.name"),
                message,
            ));
        }
        if !(tool.parameters.is_null() || tool.parameters.is_object()) {
            let message = format!("The parameters of `tools[{i}]` are no JSON Schema object.");
            let param = format!("tools[{i}].function.parameters");
            return Err(ApiError::field(param, message));
        }
    }
    Ok(())
}

fn check_choice(choice: &ToolChoice, tools: &[ToolSpec]) -> Result<(), ApiError> {
    let message = match choice {
        ToolChoice::Required if tools.is_empty() => {
            "`tool_choice` wants a call and there are no `tools`.".to_owned()
        }
        ToolChoice::Tool(name) if tools.iter().all(|tool| tool.name != *name) => {
            format!("`tool_choice` names `{name}`, which is not among the `tools`.")
        }
        _ => return Ok(()),
    };
    Err(ApiError::field("tool_choice", message))
}

#[derive(Serialize)]
struct ChatCompletion<'s> {
    id: &'s str,
    object: &'static str,
    created: u64,
    model: &'s str,
    choices: Vec<Choice>,
    usage: UsageBody,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: Answer,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct Answer {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Serialize)]
struct Call {
    /// Its place among the calls; only in a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    name: String,
    arguments: String,
}

impl Call {
    fn new(server: &Server, call: ToolCall, index: Option<usize>) -> Self {
        Self {
            index,
            id: call.id.unwrap_or_else(|| server.ids.next("call_")),
            kind: "function",
            function: Function {
                name: call.name,
                arguments: match call.arguments {
                    // What a model wrote that is no JSON is handed on as it is.
                    Value::String(text) => text,
                    arguments => arguments.to_string(),
                },
            },
        }
    }
}

/// An answer in one piece.
fn whole<'s>(
    server: &Server,
    shape: &'s Shape,
    completions: Vec<Completion>,
) -> ChatCompletion<'s> {
    let usages: Vec<_> = completions.iter().map(|c| c.usage).collect();
    let choice = |(index, completion): (usize, Completion)| {
        let calls = completion.tool_calls.into_iter().take(shape.most_calls);
        let tool_calls: Vec<_> = calls.map(|call| Call::new(server, call, None)).collect();
        // What a model writes between calls is no answer.
        let silent = completion.text.trim().is_empty() && !tool_calls.is_empty();
        let logprobs = &completion.logprobs;
        Choice {
            index,
            token_ids: shape.returns_ids.then_some(completion.ids),
            logprobs: shape
                .logprobs
                .then(|| ChatLogprobs::new(&server.texts, logprobs, shape.tokens_as_ids)),
            message: Answer {
                role: "assistant",
                content: (!silent).then_some(completion.text),
                refusal: None,
                tool_calls,
            },
            finish_reason: completion.finish_reason.map(|reason| reason.as_str()),
        }
    };
    ChatCompletion {
        id: &shape.id,
        object: "chat.completion",
        created: shape.created,
        model: &shape.model,
        choices: completions.into_iter().enumerate().map(choice).collect(),
        usage: UsageBody::of(&usages, shape.n),
    }
}
