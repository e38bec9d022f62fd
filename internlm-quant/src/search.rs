//! The pieces that calibrated quantization is made of, on plain slices.
//!
//! - [`statistics`]: what is kept of a layer's inputs, streamed: mean and maximum of absolute values,
//!   second moments.
//! - [`scale`]: factors per input channel that move error away from the channels that matter (AWQ,
//!   arXiv 2306.00978; SmoothQuant, arXiv 2211.10438).
//! - [`clip`]: how far the range of each group shrinks, by the exact expected error.
//! - [`cholesky`] and [`compensate`]: rounding in which later inputs make up for the error of earlier
//!   ones (GPTQ, arXiv 2210.17323).
//!
//! All of it is deterministic, whatever the number of threads. [`quantize`](crate::quantize) puts the
//! pieces together over a [`Calibrate`](crate::calibrate::Calibrate).

pub mod cholesky;
pub mod clip;
pub mod compensate;
pub mod scale;
pub mod statistics;
