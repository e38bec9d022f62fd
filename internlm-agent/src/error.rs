//! Everything that can go wrong in an agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::protocol::planner::GraphError;
use crate::python::PythonError;

/// An error of this crate.
///
/// What a model did wrong is none: it is told so and goes on. These are failures of the surroundings, misuse,
/// and in compatibility modes what the original code would have raised.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The model or the server behind it failed.
    #[error(transparent)]
    Model(#[from] internlm_core::Error),
    /// A page could not be fetched.
    #[cfg(feature = "fetch")]
    #[error("fetch: {0}")]
    Fetch(#[from] crate::fetch::FetchFault),
    /// An MCP server could not be used, or served.
    #[cfg(feature = "mcp")]
    #[error(transparent)]
    Mcp(#[from] crate::mcp::McpFault),
    /// Code could not be run behind walls.
    #[cfg(feature = "sandbox")]
    #[error("sandbox: {0}")]
    Sandbox(#[from] crate::sandbox::Fault),
    /// A text is not the Python value that it should be.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// A planner's program is none.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Two tools or agents have one name.
    #[error("there are two tools or agents named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A name is not allowed where it stands.
    #[error("`{name}` is no valid name: {expected}")]
    Name {
        /// The name.
        name: String,
        /// What names are like.
        expected: &'static str,
    },
    /// A container of agents has nobody of this name.
    #[error("there is no agent `{name}`")]
    UnknownAgent {
        /// The name that was asked for.
        name: String,
    },
    /// A state machine was given an answer that it did not ask for.
    #[error("{given} came while the run waits for {waiting}")]
    OutOfTurn {
        /// What came.
        given: &'static str,
        /// What the machine waits for.
        waiting: &'static str,
    },
    /// The saved state of a run is not one of this version or of this agent.
    #[error("a saved run can't be read: {what}")]
    State {
        /// What is wrong with it.
        what: String,
    },
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// Only in compatibility modes: the original code ends here with an exception.
    #[error("Lagent raises {exception}: {what}")]
    Upstream {
        /// Python's class of the exception.
        exception: &'static str,
        /// What happened.
        what: String,
    },
}

impl Error {
    pub(crate) fn upstream(exception: &'static str, what: impl Into<String>) -> Self {
        Self::Upstream {
            exception,
            what: what.into(),
        }
    }

    /// An error of a file.
    pub(crate) fn io(file: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            file: file.into(),
            source: Arc::new(source),
        }
    }
}

/// A limit that ended a run. That of turns is [`Ending::OutOfTurns`](crate::agent::Ending::OutOfTurns).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Wall-clock time.
    Time(Duration),
    /// Tokens of all requests, prompts included.
    Tokens(usize),
    /// Calls of tools.
    Calls(usize),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(t) => write!(f, "{t:?}"),
            Self::Tokens(n) => write!(f, "{n} tokens"),
            Self::Calls(n) => write!(f, "{n} calls"),
        }
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
