//! NF4, the 4-bit type of QLoRA, as bitsandbytes computes and stores it.
//!
//! The elements of a tensor, row after row, are cut into blocks; each block keeps its largest
//! absolute value (`absmax`) in f32, and each element the nearest of 16 fixed values to
//! `x / absmax`. With double quantization the `absmax`s are themselves stored in 8 bits.
//!
//! Bytes hold the first of two elements in their high nibble. Sources: Dettmers et al., QLoRA
//! (arXiv 2305.14314); `bitsandbytes/backends/default/ops.py` and `functional.py` (`QuantState`) of
//! bitsandbytes-foundation/bitsandbytes.
//!
//! ```
//! use internlm_quant::RawDtype;
//! use internlm_quant::nf4::Nf4Tensor;
//!
//! let values: Vec<f32> = (0..128).map(|i| i as f32 / 64.0 - 1.0).collect();
//! let packed = Nf4Tensor::quantize(&values, &[2, 64], RawDtype::F32)?;
//! assert_eq!(packed.dequantize()?[0], -1.0);
//! let tensors = packed.named("up_proj.weight");
//! let find = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
//! assert_eq!(Nf4Tensor::from_named("up_proj.weight", find)?, packed);
//! # Ok::<(), internlm_quant::Error>(())
//! ```

mod dynamic;
mod names;

use crate::error::{Error, Result};
use crate::raw::RawDtype;

/// The 16 values: quantiles of a normal distribution, scaled to -1..1 (`_NF4_QUANT_TABLE`).
pub const NF4_VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Elements of a block, unless a file says otherwise.
pub const BLOCK_SIZE: usize = 64;
/// Blocks that share an `absmax` of their own under double quantization, unless a file says
/// otherwise.
pub const NESTED_BLOCK_SIZE: usize = 256;

/// What bitsandbytes divides by where a block is 0.
const TINY: f32 = 1e-38;

/// A tensor in NF4.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4Tensor {
    /// The dimensions.
    pub shape: Vec<usize>,
    /// The dtype that values were in, and are rounded to again: f32, f16 or bf16.
    pub dtype: RawDtype,
    /// Two elements a byte, the first in the high nibble.
    pub packed: Vec<u8>,
    /// Elements of a block.
    pub block_size: usize,
    /// What each of the 16 codes stands for.
    pub values: [f32; 16],
    /// `(blocks)`
    pub absmax: Absmax,
}

/// The largest absolute value of each block.
#[derive(Clone, Debug, PartialEq)]
pub enum Absmax {
    /// As it is.
    Plain(Vec<f32>),
    /// In 8 bits.
    Double(DoubleAbsmax),
}

/// Largest absolute values in 8 bits: `values[code] · absmax + offset`.
#[derive(Clone, Debug, PartialEq)]
pub struct DoubleAbsmax {
    /// `(blocks)`
    pub codes: Vec<u8>,
    /// What each of the 256 codes stands for.
    pub values: Vec<f32>,
    /// The mean of the largest absolute values.
    pub offset: f32,
    /// Codes that share a scale.
    pub block_size: usize,
    /// `(blocks / block_size)`, rounded up
    pub absmax: Vec<f32>,
}

impl Nf4Tensor {
    /// Quantizes values in blocks of 64. `dtype` is what the values were in; it is only recorded.
    ///
    /// Arithmetic is that of bitsandbytes, to the last bit: whole blocks are multiplied with the
    /// reciprocal of `absmax`, a last one that is short is divided by it, and a value in the middle of
    /// two goes to the lower one.
    ///
    /// # Shapes
    /// - values: as many as `shape` has elements
    ///
    /// # Errors
    /// Another number of values, a dtype that is no float, values that are not finite.
    pub fn quantize(values: &[f32], shape: &[usize], dtype: RawDtype) -> Result<Self> {
        if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(values.len()) {
            return Err(Error::Shape {
                what: "values",
                got: vec![values.len()],
                want: format!("elements of {shape:?}"),
            });
        }
        check_dtype(dtype)?;
        let bounds: [f32; 15] = std::array::from_fn(|i| (NF4_VALUES[i] + NF4_VALUES[i + 1]) / 2.0);
        let (codes, absmax) = quantize_blocks(values, BLOCK_SIZE, &bounds)?;
        // A last odd element is followed by the code of 0.
        let pairs = codes.chunks(2).map(|pair| match *pair {
            [first, second] => first << 4 | second,
            _ => pair[0] << 4 | nearest(0.0, &bounds),
        });
        Ok(Self {
            shape: shape.to_vec(),
            dtype,
            packed: pairs.collect(),
            block_size: BLOCK_SIZE,
            values: NF4_VALUES,
            absmax: Absmax::Plain(absmax),
        })
    }

    /// [`quantize`](Nf4Tensor::quantize), and its `absmax`s in blocks of 256 after that.
    ///
    /// Their mean is summed in the order of torch on one thread with vectors of eight; other orders
    /// differ in the last bit.
    ///
    /// # Errors
    /// As `quantize`.
    pub fn quantize_double(values: &[f32], shape: &[usize], dtype: RawDtype) -> Result<Self> {
        let mut tensor = Self::quantize(values, shape, dtype)?;
        if let Absmax::Plain(absmax) = &tensor.absmax {
            tensor.absmax = Absmax::Double(DoubleAbsmax::quantize(absmax)?);
        }
        Ok(tensor)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values, rounded to [`dtype`](Nf4Tensor::dtype).
    ///
    /// # Errors
    /// What [`check`](Nf4Tensor::check) refuses.
    pub fn dequantize(&self) -> Result<Vec<f32>> {
        self.check()?;
        let double;
        let absmax = match &self.absmax {
            Absmax::Plain(absmax) => absmax,
            Absmax::Double(absmax) => {
                double = absmax.dequantize();
                &double
            }
        };
        let value = |i: usize| {
            let code = self.packed[i / 2] >> (4 - i % 2 * 4) & 15;
            let value = self.values[usize::from(code)] * absmax[i / self.block_size];
            self.dtype.round(value)
        };
        Ok((0..self.elements()).map(value).collect())
    }

    /// Checks that lengths agree and that scales are finite.
    ///
    /// # Errors
    /// [`Error::Codes`], naming the field, and [`Error::Dtype`].
    pub fn check(&self) -> Result<()> {
        check_dtype(self.dtype)?;
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let Some(elements) = elements else {
            return fail("shape", format!("{:?} overflows", self.shape));
        };
        check_length("packed", self.packed.len(), elements.div_ceil(2))?;
        check_block_size("blocksize", self.block_size)?;
        check_finite("quant_map", &self.values)?;
        let blocks = elements.div_ceil(self.block_size);
        match &self.absmax {
            Absmax::Plain(absmax) => {
                check_length("absmax", absmax.len(), blocks)?;
                check_finite("absmax", absmax)
            }
            Absmax::Double(double) => {
                check_length("absmax", double.codes.len(), blocks)?;
                check_length("nested_quant_map", double.values.len(), 256)?;
                check_block_size("nested_blocksize", double.block_size)?;
                let nested = blocks.div_ceil(double.block_size);
                check_length("nested_absmax", double.absmax.len(), nested)?;
                check_finite("nested_absmax", &double.absmax)?;
                check_finite("nested_quant_map", &double.values)?;
                check_finite("nested_offset", &[double.offset])
            }
        }
    }
}

fn fail<T>(what: &'static str, message: String) -> Result<T> {
    Err(Error::Codes { what, message })
}

fn check_length(what: &'static str, got: usize, want: usize) -> Result<()> {
    match got == want {
        true => Ok(()),
        false => fail(what, format!("{got} elements, expected {want}")),
    }
}

fn check_block_size(what: &'static str, block_size: usize) -> Result<()> {
    match block_size {
        0 => fail(what, "must not be 0".to_owned()),
        _ => Ok(()),
    }
}

fn check_finite(what: &'static str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => fail(what, format!("holds {value}")),
        None => Ok(()),
    }
}

fn check_dtype(dtype: RawDtype) -> Result<()> {
    match dtype {
        RawDtype::F16 | RawDtype::Bf16 | RawDtype::F32 => Ok(()),
        RawDtype::U8 | RawDtype::I8 | RawDtype::I32 => Err(Error::Dtype {
            what: "an NF4 tensor",
            got: dtype.name(),
            want: "f16, bf16 or f32",
        }),
    }
}

/// The code of a value in -1..1: how many bounds between codes lie below it.
fn nearest(value: f32, bounds: &[f32]) -> u8 {
    bounds.partition_point(|bound| *bound < value) as u8
}

/// Codes of the elements and largest absolute values of the blocks.
fn quantize_blocks(
    values: &[f32],
    block_size: usize,
    bounds: &[f32],
) -> Result<(Vec<u8>, Vec<f32>)> {
    if values.iter().any(|value| !value.is_finite()) {
        return Err(Error::NotFinite {
            what: "a value to be quantized",
        });
    }
    let mut codes = Vec::with_capacity(values.len());
    let mut maxima = Vec::with_capacity(values.len().div_ceil(block_size));
    for block in values.chunks(block_size) {
        let mut absmax = block.iter().fold(0f32, |max, x| max.max(x.abs()));
        if block.len() == block_size {
            let reciprocal = 1.0 / absmax.max(TINY);
            let code = |x: &f32| nearest((x * reciprocal).clamp(-1.0, 1.0), bounds);
            codes.extend(block.iter().map(code));
        } else {
            absmax = absmax.max(TINY);
            let code = |x: &f32| nearest((x / absmax).clamp(-1.0, 1.0), bounds);
            codes.extend(block.iter().map(code));
        }
        maxima.push(absmax);
    }
    Ok((codes, maxima))
}
