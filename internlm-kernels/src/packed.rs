//! Products of activations and weights of 4 or 8 bits, packed.

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dot;
mod layout;
mod matrix;
mod product;
mod scalar;
#[cfg(test)]
mod tests;
mod wide;
mod widening;

pub use layout::{PackedShape, ScaleType, ZeroType};
pub use matrix::{PackedMatrix, PackedRows, PackedTile, PackedZeros};
pub use product::packed_matmul;
