//! Tensors as files hold them.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};

/// Element types of the tensors of quantized checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants are the names of the types
pub enum RawDtype {
    U8,
    I8,
    I32,
    F16,
    Bf16,
    F32,
}

impl RawDtype {
    /// Its name, as errors spell it.
    pub fn name(self) -> &'static str {
        match self {
            RawDtype::U8 => "u8",
            RawDtype::I8 => "i8",
            RawDtype::I32 => "i32",
            RawDtype::F16 => "f16",
            RawDtype::Bf16 => "bf16",
            RawDtype::F32 => "f32",
        }
    }

    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            RawDtype::U8 | RawDtype::I8 => 1,
            RawDtype::F16 | RawDtype::Bf16 => 2,
            RawDtype::I32 | RawDtype::F32 => 4,
        }
    }

    /// The value that a float of this dtype keeps of an f32, to nearest even; the value itself for
    /// f32 and for integers.
    ///
    /// Quantizers round a scale before they choose codes by it, as AutoAWQ does, so that a reader
    /// multiplies with the scale that the codes were chosen for.
    pub fn round(self, value: f32) -> f32 {
        match self {
            RawDtype::F16 => half::f16::from_f32(value).to_f32(),
            RawDtype::Bf16 => half::bf16::from_f32(value).to_f32(),
            RawDtype::F32 | RawDtype::I32 | RawDtype::U8 | RawDtype::I8 => value,
        }
    }
}

/// A tensor as a file holds it: row-major, little-endian, at any address.
///
/// The bytes are borrowed from a mapped file when a checkpoint is read, and owned when one is
/// written.
#[derive(Clone, Debug, PartialEq)]
pub struct RawTensor<'a> {
    /// What the elements are.
    pub dtype: RawDtype,
    /// The dimensions.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> RawTensor<'a> {
    /// A tensor. Whether the bytes fill the shape is checked by those who read it.
    pub fn new(
        dtype: RawDtype,
        shape: impl Into<Vec<usize>>,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Self {
        Self {
            dtype,
            shape: shape.into(),
            bytes: bytes.into(),
        }
    }

    /// The values in a float dtype, each rounded to it.
    pub(crate) fn floats(
        dtype: RawDtype,
        shape: impl Into<Vec<usize>>,
        values: impl IntoIterator<Item = f32>,
    ) -> RawTensor<'static> {
        let values = values.into_iter();
        let bytes: Vec<u8> = match dtype {
            RawDtype::F16 => values
                .flat_map(|v| half::f16::from_f32(v).to_le_bytes())
                .collect(),
            RawDtype::Bf16 => values
                .flat_map(|v| half::bf16::from_f32(v).to_le_bytes())
                .collect(),
            _ => values.flat_map(f32::to_le_bytes).collect(),
        };
        RawTensor::new(dtype, shape, bytes)
    }

    /// A candle tensor of the same elements; of i8, which candle does not have, their bytes as u8.
    ///
    /// # Errors
    /// Bytes that do not fill the shape.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        self.check_length("a stored tensor")?;
        let dtype = match self.dtype {
            RawDtype::U8 | RawDtype::I8 => DType::U8,
            RawDtype::I32 => DType::I32,
            RawDtype::F16 => DType::F16,
            RawDtype::Bf16 => DType::BF16,
            RawDtype::F32 => DType::F32,
        };
        Ok(Tensor::from_raw_buffer(
            &self.bytes,
            dtype,
            &self.shape,
            device,
        )?)
    }

    fn check_length(&self, what: &'static str) -> Result<()> {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        if elements.and_then(|n| n.checked_mul(self.dtype.bytes())) == Some(self.bytes.len()) {
            return Ok(());
        }
        Err(Error::RawLength {
            what,
            shape: self.shape.clone(),
            got: self.bytes.len(),
        })
    }

    fn wrong_dtype(&self, what: &'static str, want: &'static str) -> Error {
        Error::Dtype {
            what,
            got: self.dtype.name(),
            want,
        }
    }

    /// Checks that this is a matrix of i32 words; returns its dimensions.
    pub(crate) fn word_matrix(&self, what: &'static str) -> Result<(usize, usize)> {
        if self.dtype != RawDtype::I32 {
            return Err(self.wrong_dtype(what, "i32"));
        }
        self.check_length(what)?;
        match *self.shape.as_slice() {
            [lines, words] if lines > 0 && words > 0 => Ok((lines, words)),
            _ => Err(Error::Shape {
                what,
                got: self.shape.clone(),
                want: "two dimensions above 0".to_owned(),
            }),
        }
    }

    /// Checks that this has floats of a shape.
    pub(crate) fn check_floats(&self, what: &'static str, shape: &[usize]) -> Result<()> {
        if !matches!(self.dtype, RawDtype::F16 | RawDtype::Bf16 | RawDtype::F32) {
            return Err(self.wrong_dtype(what, "f16, bf16 or f32"));
        }
        self.check_shape(what, shape)
    }

    /// Checks that this has elements of one dtype and a shape.
    pub(crate) fn check_as(
        &self,
        what: &'static str,
        dtype: RawDtype,
        shape: &[usize],
    ) -> Result<()> {
        if self.dtype != dtype {
            return Err(self.wrong_dtype(what, dtype.name()));
        }
        self.check_shape(what, shape)
    }

    fn check_shape(&self, what: &'static str, shape: &[usize]) -> Result<()> {
        if self.shape != shape {
            return Err(Error::Shape {
                what,
                got: self.shape.clone(),
                want: format!("{shape:?}"),
            });
        }
        self.check_length(what)
    }

    /// The elements of 4 bytes, after a check.
    pub(crate) fn words(&self) -> &[[u8; 4]] {
        self.bytes.as_chunks().0
    }

    /// A float, after a check.
    pub(crate) fn float(&self, at: usize) -> f32 {
        let b = &self.bytes;
        match self.dtype {
            RawDtype::F16 => half::f16::from_le_bytes([b[2 * at], b[2 * at + 1]]).to_f32(),
            RawDtype::Bf16 => half::bf16::from_le_bytes([b[2 * at], b[2 * at + 1]]).to_f32(),
            _ => f32::from_le_bytes([b[4 * at], b[4 * at + 1], b[4 * at + 2], b[4 * at + 3]]),
        }
    }
}
