//! The matrix of a linear layer and its product.

use std::sync::Arc;

use candle_core::{CpuStorage, DType, Storage, Tensor};
use internlm_kernels::{Activation, Compute, Elements};

use crate::error::{Error, Result};
use crate::packed::PackedWeight;
use crate::packed_tensors::PackedTensors;

/// A matrix `(out_features, in_features)`.
///
/// The enum is closed on purpose: whoever adds a format is told by the compiler where it has to be
/// handled.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Elements of f32, bf16 or f16, row-major.
    Dense(Tensor),
    /// Codes of 4 or 8 bits in the order of the CPU kernels.
    Packed(Arc<PackedWeight>),
    /// The same as tensors, on any device.
    PackedTensors(Arc<PackedTensors>),
}

impl Weight {
    /// `(out_features, in_features)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Weight::Dense(weight) => match *weight.dims() {
                [rows, columns] => (rows, columns),
                _ => (weight.elem_count(), 1),
            },
            Weight::Packed(weight) => weight.shape(),
            Weight::PackedTensors(weight) => weight.shape(),
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Weight::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Weight::Packed(weight) => weight.bytes(),
            Weight::PackedTensors(weight) => weight.bytes(),
        }
    }

    /// The matrix as a tensor: a dense one itself, a packed one's values in f32.
    ///
    /// # Shapes
    /// - out: `(out_features, in_features)`
    ///
    /// # Errors
    /// A failed operation.
    pub fn dequantize(&self) -> Result<Tensor> {
        match self {
            Weight::Dense(weight) => Ok(weight.clone()),
            Weight::Packed(weight) => weight.dequantize(),
            Weight::PackedTensors(weight) => weight.dequantize(DType::F32),
        }
    }

    /// Some rows, as an embedding looks them up: a dense matrix's in its dtype, a packed one's in f32.
    ///
    /// # Shapes
    /// - out: `(rows.len(), in_features)`
    ///
    /// # Errors
    /// A row that is not there.
    pub fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        match self {
            Weight::Dense(weight) => {
                let rows = Tensor::new(rows, weight.device())?;
                Ok(weight.index_select(&rows, 0)?)
            }
            Weight::Packed(weight) => weight.rows(rows),
            Weight::PackedTensors(weight) => weight.rows(rows),
        }
    }

    /// Says that the next product is with this weight, see [`Compute::announce`].
    pub fn announce(&self, compute: &Compute) {
        match self {
            Weight::Dense(weight) => {
                // Where it can't be read, there is no product either.
                let _ = with_elements("weight", weight, |weight| {
                    match weight {
                        Elements::F32(v) => compute.announce(v),
                        Elements::F16(v) => compute.announce(v),
                        Elements::Bf16(v) => compute.announce(v),
                    }
                    Ok(())
                });
            }
            Weight::Packed(weight) => weight.matrix().announce(compute),
            Weight::PackedTensors(_) => {} // no kernel reads it
        }
    }

    /// `x · weightᵀ + bias` by the CPU kernels, without gradients and without a copy of the
    /// weight.
    ///
    /// Sums are f32. `activation` says how x is rounded first, see
    /// [`packed_matmul`](internlm_kernels::packed_matmul) for packed weights; the result of a row does
    /// not depend on the other rows.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`, f32, contiguous, on the CPU
    /// - bias: `(out_features)`, f32, contiguous, on the CPU
    /// - out: `(num_tokens, out_features)`, f32
    ///
    /// # Errors
    /// Another shape, dtype or device, a weight that is not contiguous, and packed tensors: no kernel
    /// reads those.
    pub fn matmul(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        compute: &Compute,
        activation: Activation,
    ) -> Result<Tensor> {
        self.matmul_into(x, bias, compute, activation, Vec::new())
    }

    /// The same in memory that is there already: `out` is of any length, and what it holds is lost.
    ///
    /// # Errors
    /// As [`Weight::matmul`].
    pub fn matmul_into(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        compute: &Compute,
        activation: Activation,
        mut out: Vec<f32>,
    ) -> Result<Tensor> {
        let (n, k) = self.shape();
        let m = self.check(x, bias)?;
        out.resize(m * n, 0.0);
        with_operands(x, bias, |x, bias| match self {
            Weight::Dense(weight) => with_elements("weight", weight, |weight| {
                let out = &mut out;
                internlm_kernels::matmul(compute, x, weight, bias, activation, out, m, n, k)
                    .map_err(Error::from)
            }),
            Weight::Packed(weight) => weight.matmul(x, bias, compute, activation, &mut out, m),
            Weight::PackedTensors(_) => Err(Error::Layout { what: "weight" }),
        })?;
        Ok(Tensor::from_vec(out, (m, n), x.device())?)
    }

    /// `x · weightᵀ + bias` by candle's operations, on any device, with gradients for x, bias
    /// and a dense weight.
    ///
    /// Weight and bias are converted to the dtype of x, and a packed weight is dequantized (one of the CPU
    /// kernels is also copied to the device of x); this is done for every product, so on the CPU it is for
    /// training and tests and not for speed.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`
    /// - bias: `(out_features)`
    /// - out: `(num_tokens, out_features)`, in the dtype of x
    ///
    /// # Errors
    /// Another shape, tensors on different devices, or a failed operation.
    pub fn matmul_tensor(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        self.check(x, bias)?;
        let out = match self {
            Weight::Dense(weight) => x.matmul(&weight.to_dtype(x.dtype())?.t()?)?,
            Weight::Packed(weight) => {
                let weight = weight.dequantize()?.to_device(x.device())?;
                x.matmul(&weight.to_dtype(x.dtype())?.t()?)?
            }
            Weight::PackedTensors(weight) => weight.matmul(x)?,
        };
        match bias {
            None => Ok(out),
            Some(bias) => Ok(out.broadcast_add(&bias.to_dtype(x.dtype())?)?),
        }
    }

    /// Checks shapes; returns the number of tokens.
    fn check(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
        let (n, k) = self.shape();
        let shape = |what, got: &Tensor, want| {
            Err(Error::Shape {
                what,
                got: got.dims().to_vec(),
                want,
            })
        };
        if let Weight::Dense(weight) = self
            && weight.rank() != 2
        {
            return shape("weight", weight, "(out_features, in_features)".to_owned());
        }
        if let Some(bias) = bias.filter(|bias| *bias.dims() != [n]) {
            return shape("bias", bias, format!("({n})"));
        }
        match *x.dims() {
            [m, columns] if columns == k => Ok(m),
            _ => shape("x", x, format!("(num_tokens, {k})")),
        }
    }
}

/// Calls `f` with the elements of x and bias.
fn with_operands<R>(
    x: &Tensor,
    bias: Option<&Tensor>,
    f: impl FnOnce(&[f32], Option<&[f32]>) -> Result<R>,
) -> Result<R> {
    with_elements("x", x, |x| {
        let x = f32s("x", x)?;
        match bias {
            None => f(x, None),
            Some(bias) => with_elements("bias", bias, |bias| f(x, Some(f32s("bias", bias)?))),
        }
    })
}

/// Calls `f` with the elements of a contiguous tensor on the CPU, without a copy.
fn with_elements<R>(
    what: &'static str,
    tensor: &Tensor,
    f: impl FnOnce(Elements<'_>) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(cpu), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(Error::Layout { what });
    };
    f(match cpu {
        CpuStorage::F32(v) => Elements::F32(&v[start..end]),
        CpuStorage::F16(v) => Elements::F16(&v[start..end]),
        CpuStorage::BF16(v) => Elements::Bf16(&v[start..end]),
        _ => return Err(wrong_dtype(what, tensor.dtype(), "f32, f16 or bf16")),
    })
}

fn f32s<'a>(what: &'static str, elements: Elements<'a>) -> Result<&'a [f32]> {
    match elements {
        Elements::F32(v) => Ok(v),
        Elements::F16(_) => Err(wrong_dtype(what, DType::F16, "f32")),
        Elements::Bf16(_) => Err(wrong_dtype(what, DType::BF16, "f32")),
    }
}

fn wrong_dtype(what: &'static str, got: DType, want: &'static str) -> Error {
    Error::Dtype {
        what,
        got: got.as_str(),
        want,
    }
}
