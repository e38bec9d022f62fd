//! What a run may use up.

use std::time::Duration;

use internlm_core::chat_model::ResponseFormat;
use internlm_core::tool::ToolChoice;
use internlm_core::{ChatRequest, Error};
use serde::{Deserialize, Serialize};

/// Limits of a run. Passing one ends it with [`Ending::Limit`](super::Ending::Limit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Limits {
    /// Most requests to the model for a task; the protocol's own number if not set.
    pub max_turns: Option<usize>,
    /// Most wall-clock time. Tools see it as their deadline; one that does not look can't be stopped. An answer is left
    /// between two of its pieces.
    pub max_time: Option<Duration>,
    /// Most tokens of all requests together, prompts included.
    pub max_tokens: Option<usize>,
    /// Most calls of tools.
    pub max_calls: usize,
    /// Most bytes of a result that the model is told.
    pub max_tool_output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_turns: None,
            max_time: None,
            max_tokens: None,
            max_calls: 64,
            max_tool_output: 16 << 10,
        }
    }
}

impl Limits {
    /// Sets the most requests.
    #[must_use]
    pub fn with_max_turns(mut self, max_turns: usize) -> Self {
        self.max_turns = Some(max_turns);
        self
    }

    /// Sets the most time.
    #[must_use]
    pub fn with_max_time(mut self, max_time: Duration) -> Self {
        self.max_time = Some(max_time);
        self
    }

    /// Sets the most tokens.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the most calls.
    #[must_use]
    pub fn with_max_calls(mut self, max_calls: usize) -> Self {
        self.max_calls = max_calls;
        self
    }

    /// Sets the most bytes of a result.
    #[must_use]
    pub fn with_max_tool_output(mut self, max_tool_output: usize) -> Self {
        self.max_tool_output = max_tool_output;
        self
    }
}

/// What happens when the model fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Retry {
    /// Further tries of a request.
    pub attempts: usize,
    /// Time before the first of them; it doubles with each.
    pub wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 2,
            wait: Duration::from_millis(200),
        }
    }
}

impl Retry {
    /// Sets the further tries.
    #[must_use]
    pub fn with_attempts(mut self, attempts: usize) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets the time before the first of them.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// Whether the same request may work later.
pub(super) fn may_pass(error: &Error) -> bool {
    match error {
        Error::Connection { .. } | Error::Timeout { .. } | Error::Backend { .. } => true,
        Error::Http { status, .. } => matches!(status, 200 | 408 | 429 | 500..),
        _ => false,
    }
}

/// Whether the model can't be bound to a form; the request is then made without it.
pub(super) fn is_form_refused(error: &Error) -> bool {
    match error {
        Error::NotOffered { .. } => true,
        Error::Request { field, .. } => matches!(*field, "response_format" | "tool_choice"),
        _ => false,
    }
}

/// Whether a request binds the model to a form.
pub(super) fn is_bound(request: &ChatRequest) -> bool {
    request.response_format != ResponseFormat::Text
        || matches!(
            request.tool_choice,
            ToolChoice::Required | ToolChoice::Tool(_)
        )
}
