//! Tools: what a model may call, and what they give back.
//!
//! A tool is a function over a type. Its description is the type's doc comment, its schema the type's, and
//! arguments that do not fit never reach it:
//!
//! ```
//! use internlm_agent::tool::{self, ToolContext, ToolSet};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// Current weather in a city.
//! #[derive(Deserialize, JsonSchema)]
//! struct Weather {
//!     /// The city's name.
//!     city: String,
//! }
//!
//! let tools = ToolSet::new().with(tool::tool("weather", |w: Weather| Ok(format!("21 C in {}", w.city))))?;
//! assert_eq!(tools.specs()[0].description, "Current weather in a city.");
//!
//! let context = ToolContext::default();
//! let output = tools.call("weather", &serde_json::json!({"city": "Shanghai"}), &context)?;
//! assert_eq!(output.to_text(), "21 C in Shanghai");
//! let error = tools.call("weather", &serde_json::json!({"town": "Shanghai"}), &context).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "wrong arguments for `weather`: `city` is missing; `town` is unknown (known are: city)"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod output;
mod set;
mod typed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use internlm_core::ToolSpec;
use serde_json::Value;

pub use check::check_arguments;
pub(crate) use output::limited_text;
pub use output::{Media, MediaSource, OutputPart, ToolOutput};
pub use set::ToolSet;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
pub(crate) use typed::read as read_arguments;
#[cfg(feature = "async")]
pub use typed::tool_async;
pub use typed::{TypedTool, spec_of, tool};

/// Something that a model may call.
pub trait Tool: Send + Sync {
    /// What the model is told of it.
    fn spec(&self) -> &ToolSpec;

    /// Runs it. Whether the arguments are an object of the schema is the tool's own matter; see
    /// [`check_arguments`].
    ///
    /// # Errors
    /// What the model is told that went wrong.
    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError>;

    /// Whether a person should be asked before each call.
    fn needs_approval(&self) -> bool {
        false
    }
}

/// Why a call gave nothing. The model is told the text.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// There is no such tool, or it is not allowed here.
    #[error("there is no tool `{name}`{}", others(.known))]
    Unknown {
        /// The name in the call.
        name: String,
        /// The names that there are, with commas between them.
        known: String,
    },
    /// The arguments do not fit.
    #[error("wrong arguments for `{tool}`: {what}")]
    Arguments {
        /// The tool.
        tool: String,
        /// What does not fit, and what would.
        what: String,
    },
    /// The tool could not do it.
    #[error("{what}")]
    Failed {
        /// Why.
        what: String,
    },
    /// A person or a rule did not allow it.
    #[error("the call was not allowed: {why}")]
    Denied {
        /// Why not.
        why: String,
    },
    /// A limit was passed.
    #[error("{what}")]
    Limit {
        /// Which.
        what: String,
    },
    /// The run was cancelled.
    #[error("the call was cancelled")]
    Cancelled,
    /// The tool itself is broken: it panicked.
    #[error("the tool `{tool}` failed unexpectedly")]
    Panicked {
        /// The tool.
        tool: String,
    },
}

/// What there is instead of a tool that is not there.
fn others(known: &str) -> String {
    match known {
        "" => ", and no other tool either".to_owned(),
        known => format!("; the tools are: {known}"),
    }
}

impl ToolError {
    /// A call of a tool that is not among these.
    pub(crate) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::Unknown {
            name: name.to_owned(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }

    /// A failure that is only a text.
    pub fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed {
            what: what.to_string(),
        }
    }
}

impl From<String> for ToolError {
    fn from(what: String) -> Self {
        Self::Failed { what }
    }
}

impl From<&str> for ToolError {
    fn from(what: &str) -> Self {
        Self::failed(what)
    }
}

impl From<std::io::Error> for ToolError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}

impl From<serde_json::Error> for ToolError {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(error)
    }
}

/// Ends a run from outside. Clones are one and the same.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    /// Those that cancel this one too.
    above: Arc<[CancelToken]>,
}

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled with this one, but does not cancel it.
    pub fn child(&self) -> Self {
        Self::below([self])
    }

    /// A token that is cancelled with any of these.
    pub(crate) fn below<const N: usize>(above: [&Self; N]) -> Self {
        Self {
            flag: Arc::default(),
            above: above.map(Clone::clone).into(),
        }
    }

    /// Cancels.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire) || self.above.iter().any(Self::is_cancelled)
    }
}

/// What a call may use up, and how it learns that it should stop. Long tools look at it now and then.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ToolContext {
    /// When the run must be over.
    pub deadline: Option<Instant>,
    /// Whether it was cancelled.
    pub cancel: CancelToken,
}

impl ToolContext {
    /// The time that is left; `None` is no limit.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether the call may go on.
    ///
    /// # Errors
    /// [`ToolError::Cancelled`] if the run was cancelled, [`ToolError::Limit`] if its time is up.
    pub fn check(&self) -> Result<(), ToolError> {
        if self.cancel.is_cancelled() {
            return Err(ToolError::Cancelled);
        }
        if self.remaining().is_some_and(|left| left.is_zero()) {
            return Err(ToolError::Limit {
                what: "the time is up".to_owned(),
            });
        }
        Ok(())
    }
}
