//! The matrix of a linear layer and its product.

use candle_core::{CpuStorage, DType, Storage, Tensor};
use internlm_kernels::{Activation, Compute, Elements};

use crate::error::{Error, Result};

/// A matrix `(out_features, in_features)`.
///
/// The enum is closed on purpose: whoever adds a format is told by the compiler where it has to be
/// handled.
#[derive(Clone, Debug)]
pub enum Weight {
    /// Elements of f32, bf16 or f16, row-major.
    Dense(Tensor),
}

impl Weight {
    /// `(out_features, in_features)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Weight::Dense(weight) => match *weight.dims() {
                [rows, columns] => (rows, columns),
                _ => (weight.elem_count(), 1),
            },
        }
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Weight::Dense(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
        }
    }

    /// `x · weightᵀ + bias` by the CPU kernels, without gradients and without a copy of the
    /// weight.
    ///
    /// Sums are f32. `activation` says how x is rounded first; the result of a row does not depend
    /// on the other rows.
    ///
    /// # Shapes
    /// - x: `(num_tokens, in_features)`, f32, contiguous, on the CPU
    /// - bias: `(out_features)`, f32, contiguous, on the CPU
    /// - out: `(num_tokens, out_features)`, f32
    ///
    /// # Errors
    /// Another shape, dtype or device, or a weight that is not contiguous.
    pub fn matmul(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        compute: &Compute,
        activation: Activation,
    ) -> Result<Tensor> {
        let (n, k) = self.shape();
        let m = self.check(x, bias)?;
        let mut out = vec![0.0; m * n];
        let Weight::Dense(weight) = self;
        let product = |x: &[f32], weight: Elements<'_>, bias: Option<&[f32]>, out: &mut [f32]| {
            internlm_kernels::matmul(compute, x, weight, bias, activation, out, m, n, k)
                .map_err(Error::from)
        };
        with_elements("weight", weight, |weight| {
            with_elements("x", x, |x| {
                let x = f32s("x", x)?;
                match bias {
                    None => product(x, weight, None, &mut out),
                    Some(bias) => with_elements("bias", bias, |bias| {
                        product(x, weight, Some(f32s("bias", bias)?), &mut out)
                    }),
                }
            })
        })?;
        Ok(Tensor::from_vec(out, (m, n), x.device())?)
    }

    /// `x · weightᵀ + bias` by candle's operations, on any device, with gradients for x, weight
    /// and bias.
    ///
    /// Weight and bias are converted to the dtype of x; on the CPU, where candle converts half
    /// precision for every product, this is for training and tests and not for speed.
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
        let Weight::Dense(weight) = self;
        let out = x.matmul(&weight.to_dtype(x.dtype())?.t()?)?;
        match bias {
            None => Ok(out),
            Some(bias) => Ok(out.broadcast_add(&bias.to_dtype(x.dtype())?)?),
        }
    }

    /// Checks shapes; returns the number of tokens.
    fn check(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<usize> {
        let (n, k) = self.shape();
        let Weight::Dense(weight) = self;
        let shape = |what, got: &Tensor, want| {
            Err(Error::Shape {
                what,
                got: got.dims().to_vec(),
                want,
            })
        };
        if weight.rank() != 2 {
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
