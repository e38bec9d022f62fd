//! Everything that can go wrong behind the traits of this crate.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::tool_call::Fault;

/// What an implementation of a trait of this crate met, kept as it was.
pub type Source = Arc<dyn std::error::Error + Send + Sync>;

/// An error of this crate or of an implementation of its traits.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A GGUF file is cut, corrupt or of an unknown kind.
    #[error("{}: at byte {offset}: {what}", file.display())]
    Gguf {
        /// The file.
        file: PathBuf,
        /// Where reading stood.
        offset: u64,
        /// What was expected and what was found.
        what: String,
    },
    /// A request asks for something impossible.
    #[error("`{field}`: {what}")]
    Request {
        /// The field of the request.
        field: &'static str,
        /// What is wrong with it and what was expected.
        what: String,
    },
    /// A prompt does not fit the model's context.
    #[error("the prompt has {prompt_tokens} tokens, the context holds {context_length}")]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most tokens of prompt and answer together.
        context_length: usize,
    },
    /// A tool call in a model's text is malformed.
    #[error("malformed tool call: {what}")]
    ToolCall {
        /// What is wrong.
        what: Fault,
        /// The text that was to be a call.
        payload: String,
    },
    /// A server refused or failed a request, or broke off its answer.
    #[error("{url}: status {status}: {message}")]
    Http {
        /// What was asked for.
        url: String,
        /// The HTTP status; 200 if the answer had begun and an error came in its stream.
        status: u16,
        /// The server's own text, at most 2,000 characters of it, without control characters.
        message: String,
    },
    /// A server could not be reached, or the connection broke.
    #[error("{url}: {source}")]
    Connection {
        /// What was asked for.
        url: String,
        /// What the system or the TLS library said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A server did not answer in time.
    #[error("{url}: {limit}")]
    Timeout {
        /// What was asked for.
        url: String,
        /// Which limit was passed.
        limit: TimeLimit,
    },
    /// A server's answer is not what its interface promises.
    #[error("{url}: {what}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What was expected and what came.
        what: String,
    },
    /// A server's answer is longer than allowed.
    #[error("{url}: the answer has more than {limit} bytes")]
    ResponseTooLarge {
        /// What was asked for.
        url: String,
        /// Most bytes allowed.
        limit: u64,
    },
    /// A server has no way to do this.
    #[error("{url}: the server does not offer {what}")]
    NotOffered {
        /// What was asked for.
        url: String,
        /// What is missing.
        what: &'static str,
    },
    /// The implementation failed; its own error is the source.
    #[error("{what}: {source}")]
    Backend {
        /// What was being done.
        what: &'static str,
        /// The implementation's error.
        source: Source,
    },
}

impl Error {
    /// Wraps the error of an implementation.
    pub fn backend(
        what: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error::Backend {
            what,
            source: Arc::new(source),
        }
    }
}

/// A limit of time that a request to a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeLimit {
    /// Until there is a connection.
    Connect,
    /// Between two pieces of a request or an answer.
    Read,
    /// For the request as a whole.
    Deadline,
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeLimit::Connect => "no connection in time",
            TimeLimit::Read => "nothing came for too long",
            TimeLimit::Deadline => "the deadline passed",
        })
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_source_is_kept() {
        let error = Error::backend("reading", std::io::Error::other("no disk"));
        let source = error.source().unwrap();
        let source = source
            .downcast_ref::<Source>()
            .map_or(source, |s| &**s as _);
        assert_eq!(source.to_string(), "no disk");
        assert_eq!(error.to_string(), "reading: no disk");
        assert_eq!(error.clone().to_string(), error.to_string());
    }

    #[test]
    fn errors_cross_threads() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Error>();
    }
}
