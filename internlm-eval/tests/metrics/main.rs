//! Metrics, post-processors, math equivalence and IFEval against what the original packages say
//! (`../shared/goldens/eval`), and properties that need no golden.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic")]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod figures;
mod goldens;
mod hostile;
#[cfg(feature = "langdetect")]
mod ifeval;
mod postprocess;
