//! Everything that can go wrong in an evaluation.

use std::path::PathBuf;
use std::sync::Arc;

/// An error of this crate.
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
    /// A metric was asked for what it is not defined for.
    #[error("metric `{metric}`: {reason}")]
    Metric {
        /// The metric.
        metric: &'static str,
        /// Why it has no value.
        reason: &'static str,
    },
    /// A regular expression that Python's `re` would refuse too, or a program too large.
    #[error("pattern `{pattern}`: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern with look-around or a back reference took too many steps on a text.
    #[error("pattern `{pattern}` takes too many steps on this text")]
    PatternLimit {
        /// The pattern.
        pattern: String,
    },
    /// No post-processor, filter or comparison has this name.
    #[error("there is no {kind} `{name}`")]
    UnknownName {
        /// What was looked for.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A post-processor cannot answer for a text; upstream raises an exception there.
    #[error("`{extractor}` finds no {expected} in the text")]
    Extract {
        /// The post-processor.
        extractor: &'static str,
        /// What it looks for.
        expected: &'static str,
    },
    /// An instruction of IFEval is not known or lacks an argument.
    #[error("instruction `{id}`: {reason}")]
    Instruction {
        /// The instruction's id, such as `keywords:existence`.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A feature of this crate is off that is needed here.
    #[error("{what} needs the feature `{feature}` of internlm-eval")]
    Feature {
        /// What was asked for.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// The model or the server behind it failed.
    #[error(transparent)]
    Model(#[from] internlm_core::Error),
}

impl Error {
    pub(crate) fn metric(metric: &'static str, reason: &'static str) -> Self {
        Self::Metric { metric, reason }
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
