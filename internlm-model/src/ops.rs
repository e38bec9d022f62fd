//! Operations of the decoder, each once for our kernels and once for candle.

use candle_core::{D, DType, Device, Storage, Tensor};
use internlm_kernels as kernels;

use crate::context::Step;
use crate::error::{Error, Result};

/// Calls `f` with the elements of a contiguous f32 tensor on the CPU, without a copy.
pub(crate) fn with_f32<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = t.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(cpu), Some((start, end))) => f(&cpu.as_slice::<f32>()?[start..end]),
        _ => Err(Error::Compute {
            at: "kernel input".to_owned(),
            source: candle_core::Error::Msg("a contiguous tensor on the CPU is needed".to_owned()),
        }),
    }
}

/// A tensor `(rows, columns)` around a result.
pub(crate) fn from_rows(data: Vec<f32>, rows: usize, device: &Device) -> Result<Tensor> {
    let columns = data.len() / rows.max(1);
    Ok(Tensor::from_vec(data, (rows, columns), device)?)
}

/// Root mean square norm (arXiv 1910.07467): `x / sqrt(mean(x^2) + eps) * weight`, in f32.
///
/// # Shapes
/// - x, out: `(num_tokens, hidden_size)`
/// - weight: `(hidden_size)`, f32
pub(crate) fn rms_norm(step: &Step<'_>, x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    if step.uses_kernels(x.device()) {
        let out = with_f32(x, |x| {
            let mut out = step.buffers.take(x.len());
            with_f32(weight, |w| {
                Ok(kernels::rms_norm(step.compute, x, w, eps, &mut out)?)
            })?;
            Ok(out)
        })?;
        from_rows(out, x.dim(0)?, x.device())
    } else {
        let wide = x.to_dtype(DType::F32)?;
        let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = wide.broadcast_div(&(mean + f64::from(eps))?.sqrt()?)?;
        Ok(normed.broadcast_mul(weight)?.to_dtype(x.dtype())?)
    }
}

/// `x + delta`, and its norm.
///
/// # Shapes
/// - x, delta, both results: `(num_tokens, hidden_size)`
pub(crate) fn add_rms_norm(
    step: &Step<'_>,
    x: &Tensor,
    delta: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    if step.uses_kernels(x.device()) {
        let [mut sum, mut out] = [(); 2].map(|()| step.buffers.take(x.elem_count()));
        let Step { compute, .. } = step;
        with_f32(x, |x| {
            with_f32(delta, |delta| {
                with_f32(weight, |w| {
                    kernels::add_rms_norm(compute, x, delta, w, eps, &mut sum, &mut out)
                        .map_err(Error::from)
                })
            })
        })?;
        let rows = x.dim(0)?;
        Ok((
            from_rows(sum, rows, x.device())?,
            from_rows(out, rows, x.device())?,
        ))
    } else {
        let sum = (x + delta)?;
        let out = rms_norm(step, &sum, weight, eps)?;
        Ok((sum, out))
    }
}

/// Gate of the feed-forward layer: `silu(gate) * up`.
///
/// # Shapes
/// - gate_up: `(num_tokens, 2 * intermediate_size)`, gate first
/// - out: `(num_tokens, intermediate_size)`
pub(crate) fn silu_mul(step: &Step<'_>, gate_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = gate_up.dims2()?;
    let intermediate_size = width / 2;
    if step.uses_kernels(gate_up.device()) {
        let out = with_f32(gate_up, |gate_up| {
            let mut out = step.buffers.take(rows * intermediate_size);
            kernels::silu_mul(step.compute, gate_up, intermediate_size, &mut out)?;
            Ok(out)
        })?;
        from_rows(out, rows, gate_up.device())
    } else {
        let gate = gate_up.narrow(1, 0, intermediate_size)?;
        let up = gate_up.narrow(1, intermediate_size, intermediate_size)?;
        Ok((gate.silu()? * up)?)
    }
}
