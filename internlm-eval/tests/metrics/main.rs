//! Metrics, post-processors, math equivalence and IFEval against what the original packages say
//! (`../shared/goldens/eval`), and properties that need no golden.

mod figures;
mod hostile;
mod ifeval;
mod postprocess;
mod shared;
