//! Products of activations and weights of 4 or 8 bits, packed.
//!
//! | activations | scalar | NEON | AVX2 | AVX-512 | AMX, 16 rows or more |
//! | --- | --- | --- | --- | --- | --- |
//! | f32 | [`scalar`] | [`wide`] | [`wide`] | [`wide`] | [`wide`] |
//! | bf16 | as f32 | as f32 | [`dot`] of 16-bit integers | [`dot`] of 4-bit codes where `vdpbf16ps` is quick, else as f32 | [`amx`] |
//! | 8 bits | [`scalar`] | [`dot`] | [`dot`] | [`dot`], with `vpdpbusd` where it is there | [`amx`] |
//!
//! [`wide`] is written once for all vectors. What is for NEON was run under an emulator only.

mod activations;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dot;
mod layout;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
mod product;
mod reading;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod staged;
#[cfg(test)]
mod tests;
mod wide;
mod widening;

pub use layout::{PackedShape, ScaleType, ZeroType};
pub use matrix::{PackedMatrix, PackedRows, PackedTile, PackedZeros};
pub use product::packed_matmul;
