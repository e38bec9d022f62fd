//! `/tokenize` and `/detokenize`, in vLLM's form.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use internlm_core::{Message, Part, ToolSpec};
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::fields::check_token;
use super::state::Server;
use super::wire::{Reply, ok};
use super::{blocking, body, chat};
use crate::error::{Error, Result};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizeBody {
    model: Option<String>,
    prompt: Option<String>,
    messages: Option<Vec<Message>>,
    tools: Option<Vec<ToolSpec>>,
    add_special_tokens: Option<bool>,
    add_generation_prompt: Option<bool>,
    /// As in completions.
    parse_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Option<Vec<u32>>,
}

/// Token ids of a prompt or of a conversation: those that a request with it would be answered from.
pub(super) async fn tokenize(State(server): State<Arc<Server>>, request: Request<Body>) -> Reply {
    let bytes = body::read(&server.config, request).await?;
    blocking::run(&server, move |server| encode(server, &bytes)).await?
}

fn encode(server: &Server, bytes: &[u8]) -> Reply {
    let mut fields: TokenizeBody = body::parse(bytes)?;
    server.adapter(fields.model.as_deref())?;
    let (prompt, messages) = (fields.prompt.take(), fields.messages.take());
    let (parts, field) = match (prompt, messages) {
        (Some(prompt), None) => {
            let parts = match fields.parse_special_tokens {
                Some(true) => server.engine.tokenizer().parse_markers(&prompt),
                _ => vec![Part::text(prompt)],
            };
            (parts, "prompt")
        }
        (None, Some(messages)) => {
            let messages = chat::messages(Some(messages))?;
            let parts = render(server, &messages, &fields);
            let parts = parts.map_err(|error| ApiError::of(error, "messages"))?;
            (parts, "messages")
        }
        _ => {
            let message = "Either `prompt` or `messages` is needed.";
            return Err(ApiError::field("prompt", message));
        }
    };
    let tokenizer = server.engine.tokenizer();
    let add_bos = tokenizer.adds_bos() && fields.add_special_tokens != Some(false);
    let tokens = tokenizer.encode_parts(&parts, add_bos);
    let tokens = tokens.map_err(|error| ApiError::of(error.into(), field))?;
    let mut reply = json!({
        "count": tokens.len(),
        "max_model_len": server.engine.context_length(),
    });
    if fields.return_token_strs == Some(true) {
        let texts = tokens.iter().map(|&id| tokenizer.id_to_token(id));
        reply["token_strs"] = texts.collect();
    }
    reply["tokens"] = tokens.into();
    ok(&reply)
}

fn render(server: &Server, messages: &[Message], fields: &TokenizeBody) -> Result<Vec<Part>> {
    let template = server.engine.template();
    let template = template.ok_or(internlm_tokenize::Error::NoTemplate)?;
    let tools = fields.tools.as_deref().unwrap_or_default();
    let add_generation_prompt = fields.add_generation_prompt != Some(false);
    template
        .render(messages, tools, add_generation_prompt)
        .map_err(Error::from)
}

/// The text of token ids, special ones spelled out.
pub(super) async fn detokenize(State(server): State<Arc<Server>>, request: Request<Body>) -> Reply {
    let bytes = body::read(&server.config, request).await?;
    blocking::run(&server, move |server| {
        let fields: DetokenizeBody = body::parse(&bytes)?;
        server.adapter(fields.model.as_deref())?;
        let tokens = fields
            .tokens
            .ok_or_else(|| ApiError::field("tokens", "`tokens` is missing."))?;
        tokens
            .iter()
            .try_for_each(|&id| check_token(id, "tokens", server))?;
        let text = server.engine.tokenizer().decode(&tokens, false);
        let text = text.map_err(|error| ApiError::of(error.into(), "tokens"))?;
        ok(&json!({"prompt": text}))
    })
    .await?
}
