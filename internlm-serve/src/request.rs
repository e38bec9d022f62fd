//! What an engine is asked.

use std::time::Duration;

use internlm_core::ChatRequest;

/// A request to an [`Engine`](crate::Engine): what is to be answered, and how it is to be run.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// What to answer.
    pub chat: ChatRequest,
    /// Answers to make of the one prompt, whose blocks they share. Answer `i` draws with `seed + i`.
    pub n: usize,
    /// Requests of a higher one go first; equals in the order of their arrival.
    pub priority: i32,
    /// Time from now after which the request fails with [`Error::Deadline`](crate::Error::Deadline);
    /// the engine's default without.
    pub deadline: Option<Duration>,
    /// The LoRA adapter to answer with, by the name under which the engine has it.
    pub adapter: Option<String>,
}

impl Request {
    /// A request with one answer.
    pub fn new(chat: ChatRequest) -> Self {
        Self {
            chat,
            n: 1,
            priority: 0,
            deadline: None,
            adapter: None,
        }
    }

    /// Sets the number of answers.
    #[must_use]
    pub fn with_n(mut self, n: usize) -> Self {
        self.n = n;
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the adapter.
    #[must_use]
    pub fn with_adapter(mut self, adapter: impl Into<String>) -> Self {
        self.adapter = Some(adapter.into());
        self
    }
}

impl From<ChatRequest> for Request {
    fn from(chat: ChatRequest) -> Self {
        Self::new(chat)
    }
}
