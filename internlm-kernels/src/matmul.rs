//! Products of activations and dense weights.

mod scalar;

use crate::compute::Compute;
use crate::elements::{Elements, round_bf16};
use crate::error::{Result, check_len};
use crate::output::Output;

/// How activations are rounded before a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// Not at all.
    #[default]
    F32,
    /// To the nearest bf16, as a network that runs in bf16 does. Sums stay in f32.
    Bf16,
}

/// A linear layer: `out = x · wᵀ + bias`.
///
/// # Shapes
/// - x: `(m, k)`
/// - w: `(n, k)`, row-major as in a checkpoint
/// - bias: `(n)`
/// - out: `(m, n)`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where a slice has another length.
#[expect(
    clippy::too_many_arguments,
    reason = "a product has this many operands"
)]
pub fn matmul(
    compute: &Compute,
    x: &[f32],
    w: Elements<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
    m: usize,
    n: usize,
    k: usize,
) -> Result<()> {
    check_len("matmul", "x", x.len(), &[m, k])?;
    check_len("matmul", "w", w.len(), &[n, k])?;
    check_len("matmul", "out", out.len(), &[m, n])?;
    if let Some(bias) = bias {
        check_len("matmul", "bias", bias.len(), &[n])?;
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    let rounded: Vec<f32>;
    let x = match activation {
        Activation::F32 => x,
        Activation::Bf16 => {
            rounded = x.iter().map(|&x| round_bf16(x).to_f32()).collect();
            &rounded
        }
    };
    let out = Output::new(out);
    compute.run(n.div_ceil(scalar::COLUMNS), |task| {
        let columns = task * scalar::COLUMNS..n.min((task + 1) * scalar::COLUMNS);
        match w {
            Elements::F32(w) => scalar::columns(x, w, bias, out, m, n, k, columns),
            Elements::F16(w) => scalar::columns(x, w, bias, out, m, n, k, columns),
            Elements::Bf16(w) => scalar::columns(x, w, bias, out, m, n, k, columns),
        }
    });
    Ok(())
}
