//! Metrics, post-processors, math equivalence and IFEval against what the original packages say
//! (`../shared/goldens/eval`), and properties that need no golden.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests panic, and a skipped test says so"
)]

mod figures;
mod hostile;
#[cfg(feature = "langdetect")]
mod ifeval;
mod postprocess;
mod shared;
