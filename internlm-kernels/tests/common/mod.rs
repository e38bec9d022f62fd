//! Numbers and comparisons shared by the tests.
#![allow(dead_code, reason = "each test file uses a part")]

use internlm_kernels::half::{bf16, f16};
use internlm_kernels::{Compute, Elements, Isa};

/// One `Compute` with two threads for each instruction set of this processor.
pub(crate) fn every_isa() -> Vec<Compute> {
    Isa::available()
        .into_iter()
        .map(|isa| Compute::with_isa(isa, Some(2)).unwrap())
        .collect()
}

/// Reproducible numbers between -1 and 1.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// A stored type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
}

pub(crate) const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::Bf16];

/// Numbers in a stored type.
pub(crate) enum Stored {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
}

impl Stored {
    pub(crate) fn new(dtype: Dtype, x: &[f32]) -> Stored {
        match dtype {
            Dtype::F32 => Stored::F32(x.to_vec()),
            Dtype::F16 => Stored::F16(x.iter().map(|&x| f16::from_f32(x)).collect()),
            Dtype::Bf16 => Stored::Bf16(x.iter().map(|&x| bf16::from_f32(x)).collect()),
        }
    }

    pub(crate) fn elements(&self) -> Elements<'_> {
        match self {
            Stored::F32(v) => Elements::F32(v),
            Stored::F16(v) => Elements::F16(v),
            Stored::Bf16(v) => Elements::Bf16(v),
        }
    }

    pub(crate) fn wide(&self) -> Vec<f32> {
        match self {
            Stored::F32(v) => v.clone(),
            Stored::F16(v) => v.iter().map(|x| x.to_f32()).collect(),
            Stored::Bf16(v) => v.iter().map(|x| x.to_f32()).collect(),
        }
    }
}

pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
