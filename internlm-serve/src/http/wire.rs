//! What both kinds of answers are made of on the wire.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use internlm_core::chat_model::Usage;
use serde::Serialize;

use super::error::ApiError;

/// A response of JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, json)], bytes).into_response()
        }
        // Only maps with keys that are no strings can't be written.
        Err(error) => {
            tracing::error!(%error, "a response can't be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// What a handler gives.
pub(super) type Reply = Result<Response, ApiError>;

/// A response of JSON with status 200.
pub(super) fn ok(value: &impl Serialize) -> Reply {
    Ok(json(StatusCode::OK, value))
}

/// JSON as a line of a stream.
pub(super) fn data(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Makes ids that don't repeat.
pub(super) struct Ids {
    /// Random per server; the standard library seeds it from the system.
    state: RandomState,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            state: RandomState::new(),
            next: AtomicU64::new(0),
        }
    }

    /// `prefix` and 32 hexadecimal digits.
    pub(super) fn next(&self, prefix: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let high = self.state.hash_one((number, true));
        let low = self.state.hash_one((number, false));
        format!("{prefix}{high:016x}{low:016x}")
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// OpenAI's `usage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

/// Of the prompt's tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl UsageBody {
    /// Of `answers` answers to each prompt, in the order of their indices: a prompt counts once.
    pub(super) fn of(usages: &[Usage], answers: usize) -> Self {
        let prompts = || usages.iter().step_by(answers.max(1));
        let prompt_tokens = prompts().map(|usage| usage.prompt_tokens).sum();
        let cached_tokens = prompts().map(|usage| usage.cached_tokens).sum();
        let completion_tokens = usages.iter().map(|usage| usage.completion_tokens).sum();
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once() {
        let usage = |prompt_tokens, completion_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens: 1,
        };
        let usages = [usage(3, 1), usage(3, 2), usage(5, 4), usage(5, 8)];
        let body = UsageBody::of(&usages, 2);
        assert_eq!((body.prompt_tokens, body.completion_tokens), (8, 15));
        assert_eq!(body.total_tokens, 23);
        assert_eq!(body.prompt_tokens_details.cached_tokens, 2);
    }

    #[test]
    fn ids_differ() {
        let ids = Ids::new();
        let (a, b) = (ids.next("x-"), ids.next("x-"));
        assert_ne!(a, b);
        assert_eq!(a.len(), 34);
    }
}
