//! CPU kernels on plain slices: matrix products, attention, norms, and the worker pool they run on.
//!
//! Nothing here knows a tensor or a network. A [`Compute`] holds the instruction set, chosen at run
//! time, and its own parked workers; every kernel takes one. All SIMD instructions and nearly all
//! `unsafe` of the project live in this crate, each next to a scalar twin that it is tested against.
//!
//! Two promises hold for every kernel on the f32 path:
//! - a row of the result doesn't depend on the other rows, on their number, or on the number of
//!   threads: sums run in one fixed order, so results agree bit for bit;
//! - weights are read where they lie, row-major as in a checkpoint, in f32, f16 or bf16. They are
//!   widened in registers, which is exact. There is no second copy. Weights of 4 or 8 bits have a
//!   layout of their own, [`PackedMatrix`], which is then their only copy.
//!
//! ```
//! use internlm_kernels::{Activation, Compute, Elements, matmul};
//!
//! # fn main() -> Result<(), internlm_kernels::Error> {
//! let compute = Compute::new(Some(2))?;
//! let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // (2, 3)
//! let w = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]; // (2, 3): two output features
//! let mut out = [0.0; 4];
//! matmul(&compute, &x, Elements::F32(&w), None, Activation::F32, &mut out, 2, 2, 3)?;
//! assert_eq!(out, [1.0, 5.0, 4.0, 11.0]);
//! # Ok(())
//! # }
//! ```

#![allow(
    clippy::needless_range_loop,
    reason = "tiles are indexed alike in several arrays"
)]
#![allow(
    clippy::missing_transmute_annotations,
    reason = "both types stand in the signatures"
)]

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
mod attention;
mod compute;
mod elements;
mod error;
mod feed_forward;
mod isa;
mod matmul;
mod memory;
mod norm;
mod output;
mod packed;
mod parts;
mod pool;
mod rope;
mod simd;

pub use attention::{AttentionSequence, AttentionShape, KvBlocks, KvElements, attention};
pub use compute::Compute;
pub use elements::{Elements, to_bf16, to_f16, to_f32};
pub use error::{Error, Result};
pub use feed_forward::silu_mul;
pub use half;
pub use isa::Isa;
pub use matmul::{Activation, matmul};
pub use memory::{gather_pages, huge_pages};
pub use norm::{add_rms_norm, rms_norm};
pub use packed::{
    PackedMatrix, PackedRows, PackedShape, PackedTile, PackedZeros, ScaleType, ZeroType,
    packed_matmul,
};
pub use rope::rope;
