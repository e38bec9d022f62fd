//! The dtypes that weights are held in, and their conversion from stored bytes.

use candle_core::{DType, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use internlm_quant::ggml::GgmlType;

use crate::error::{Error, Result};

/// An element of a tensor in memory.
pub(super) trait Element: bytemuck::Pod + Send + Sync + candle_core::WithDType {
    /// The stored type with the same bits.
    const STORED: GgmlType;

    /// Zeros, of which a large allocation is not touched yet.
    fn zeros(len: usize) -> Vec<Self>;

    /// Rounds, to nearest and ties to even. Slices of one length.
    fn narrow(from: &[f32], to: &mut [Self]);

    /// How many are NaN or infinite.
    fn non_finite(values: &[Self]) -> usize;
}

impl Element for f32 {
    const STORED: GgmlType = GgmlType::F32;

    fn zeros(len: usize) -> Vec<Self> {
        vec![0.0; len]
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }

    fn non_finite(values: &[Self]) -> usize {
        const EXPONENT: u32 = 0x7f80_0000;
        let bad = |v: &f32| u32::from(v.to_bits() & EXPONENT == EXPONENT);
        values.iter().map(bad).sum::<u32>() as usize
    }
}

impl Element for bf16 {
    const STORED: GgmlType = GgmlType::Bf16;

    fn zeros(len: usize) -> Vec<Self> {
        vec![0u16; len].reinterpret_into()
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        internlm_kernels::to_bf16(from, to).expect("slices of one length");
    }

    fn non_finite(values: &[Self]) -> usize {
        const EXPONENT: u16 = 0x7f80;
        let bad = |v: &bf16| u32::from(v.to_bits() & EXPONENT == EXPONENT);
        values.iter().map(bad).sum::<u32>() as usize
    }
}

impl Element for f16 {
    const STORED: GgmlType = GgmlType::F16;

    fn zeros(len: usize) -> Vec<Self> {
        vec![0u16; len].reinterpret_into()
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        internlm_kernels::to_f16(from, to).expect("slices of one length");
    }

    fn non_finite(values: &[Self]) -> usize {
        const EXPONENT: u16 = 0x7c00;
        let bad = |v: &f16| u32::from(v.to_bits() & EXPONENT == EXPONENT);
        values.iter().map(bad).sum::<u32>() as usize
    }
}

/// Converts stored bytes, whole blocks of exactly `to.len()` elements.
pub(super) fn convert<T: Element>(
    stored: GgmlType,
    bytes: &[u8],
    to: &mut [T],
    scratch: &mut Vec<f32>,
) -> Result<(), internlm_quant::Error> {
    if stored == T::STORED {
        let to = bytemuck::cast_slice_mut::<T, u8>(to);
        if to.len() == bytes.len() {
            to.copy_from_slice(bytes);
            return Ok(());
        }
    }
    scratch.resize(to.len(), 0.0);
    stored.dequantize(bytes, scratch)?;
    T::narrow(scratch, to);
    Ok(())
}

/// The dtype of a stored tensor in memory; see `LoadConfig::dtype`.
pub(super) fn held_dtype(
    stored: GgmlType,
    is_matrix: bool,
    wanted: Option<DType>,
    on_cpu: bool,
) -> Result<DType> {
    let natural = match stored {
        GgmlType::F16 => DType::F16,
        GgmlType::Bf16 => DType::BF16,
        _ => DType::F32,
    };
    match wanted {
        None => Ok(natural),
        Some(DType::F32) => Ok(if on_cpu { natural } else { DType::F32 }),
        Some(narrow @ (DType::BF16 | DType::F16)) => {
            let convert = is_matrix && (natural == DType::F32 || !on_cpu);
            Ok(if convert { narrow } else { natural })
        }
        Some(got) => Err(Error::WeightDtype { got }),
    }
}

/// A tensor around a vector, without a copy.
pub(super) fn tensor<T: Element>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &candle_core::Device::Cpu)?)
}
