//! Everything that can go wrong in the engine and between it and its clients.

use internlm_core::Error as CoreError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model could not be loaded, or a pass failed.
    #[error(transparent)]
    Model(#[from] internlm_model::Error),
    /// The tokenizer or the chat template refused a text.
    #[error(transparent)]
    Tokenize(#[from] internlm_tokenize::Error),
    /// A request asks for something impossible.
    #[error("`{field}`: {what}")]
    Request {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it and what was expected.
        what: String,
    },
    /// A prompt does not fit the context.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context_length}")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens of prompt and answer together: the model's, or what the cache has room for.
        context_length: usize,
    },
    /// As many requests wait as may; the client should come back later.
    #[error("{waiting} requests wait already, {limit} may")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// [`EngineConfig::max_waiting`](crate::EngineConfig::max_waiting).
        limit: usize,
    },
    /// Grammars of other requests are compiled for so long that this one's was not begun; the client should come back
    /// later.
    #[error("{limit} grammars of other requests are being compiled, and no more may")]
    TooManyGrammars {
        /// Most that are compiled at once.
        limit: usize,
    },
    /// The machine has not the memory that a request takes; the client should come back later, or ask for less.
    #[error("the request takes {needed} bytes of memory, and {available} are to be had")]
    OutOfMemory {
        /// What it takes, in bytes.
        needed: usize,
        /// What there is, in bytes.
        available: usize,
    },
    /// A request was not done by its deadline.
    #[error("the deadline of the request passed")]
    Deadline,
    /// Work on a request panicked; the others go on.
    #[error("a defect ended the request: {what}")]
    Panicked {
        /// What the panic said.
        what: String,
    },
    /// The engine's thread could not be started.
    #[error("the engine's thread: {source}")]
    Thread {
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The engine is shut down.
    #[error("the engine is shut down")]
    Closed,
    /// A server without a key would listen where other machines reach it.
    #[cfg(feature = "http")]
    #[error(
        "{address} can be reached from other machines; set an API key, or allow it explicitly \
         (`allow_public_without_key`)"
    )]
    PublicWithoutKey {
        /// Where it was to listen.
        address: std::net::SocketAddr,
    },
    /// A server could not listen.
    #[cfg(feature = "http")]
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A value of the engine's configuration is out of range.
    #[error("`{field}`: {what}")]
    Config {
        /// The field of [`EngineConfig`](crate::EngineConfig).
        field: &'static str,
        /// What is wrong and what was expected.
        what: String,
    },
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A field of a request with what is wrong with it.
    pub(crate) fn request(field: &'static str, what: impl Into<String>) -> Self {
        Error::Request {
            field,
            what: what.into(),
        }
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        match error {
            CoreError::Request { field, what } => Error::Request { field, what },
            CoreError::PromptTooLong {
                prompt_tokens,
                context_length,
            } => Error::PromptTooLong {
                prompt_tokens,
                context_length,
            },
            error => Error::Model(internlm_model::Error::Request(error)),
        }
    }
}

impl From<Error> for CoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Request { field, what } => CoreError::Request { field, what },
            Error::PromptTooLong {
                prompt_tokens,
                context_length,
            } => CoreError::PromptTooLong {
                prompt_tokens,
                context_length,
            },
            error => CoreError::backend("the engine", error),
        }
    }
}
