//! Keys and values as tensors: for devices without our kernels, for training, and as the twin that
//! the kernels are tested against. Every operation is differentiable.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use crate::config::QkvLayout;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::rope::Rotations;

/// Keys and values of one sequence in one layer, `(num_key_value_heads, len, head_dim)` each.
#[derive(Debug, Default)]
pub(super) struct TensorLayer {
    stored: Option<(Tensor, Tensor)>,
}

impl TensorLayer {
    /// Attention of the rows of one sequence.
    ///
    /// # Shapes
    /// - qkv: `(num_tokens, qkv_dim)`, all rows of the batch
    /// - out: `(rows, num_attention_heads * head_dim)`
    pub(super) fn attend(
        &mut self,
        step: &Step<'_>,
        qkv: &Tensor,
        rows: Range<usize>,
    ) -> Result<Tensor> {
        let geometry = step.geometry;
        let (heads, kv_heads) = (geometry.num_attention_heads, geometry.num_key_value_heads);
        let (dim, len) = (geometry.head_dim, rows.len());
        let start = step.batch.positions()[rows.start] as usize;
        let (q, k, v) = split(step, &qkv.narrow(0, rows.start, len)?)?; // (heads, rows, head_dim)
        let tokens = step.rope.tokens();
        let q = rotate(&q, tokens, rows.clone())?;
        let k = if geometry.keeps_raw_keys {
            k
        } else {
            rotate(&k, tokens, rows.clone())?
        };
        let (k, v) = match &self.stored {
            Some((keys, values)) if start > 0 => (
                Tensor::cat(&[&keys.narrow(1, 0, start)?, &k], 1)?,
                Tensor::cat(&[&values.narrow(1, 0, start)?, &v], 1)?,
            ),
            _ => (k, v),
        };
        self.stored = Some((k.clone(), v.clone()));
        let group = geometry.group_size();
        let scale = 1.0 / (dim as f64).sqrt();
        // Rows that see the keys under different bases (raw keys only) are attended one run at a time.
        let mut outs = Vec::new();
        for run in super::host::runs_of_one_base(step, rows.clone()) {
            let seen = step.batch.positions()[run.end - 1] as usize + 1;
            let k = k.narrow(1, 0, seen)?;
            let k = if geometry.keeps_raw_keys {
                let base = step.rope.base(run.start);
                let rotations = step.rope.keys(base).ok_or_else(|| Error::Batch {
                    what: format!("no rotations of raw keys for base {base}"),
                })?;
                rotate(&k, rotations, 0..seen)?
            } else {
                k
            };
            let v = v.narrow(1, 0, seen)?;
            let q = q.narrow(1, run.start - rows.start, run.len())?.reshape((
                kv_heads,
                group * run.len(),
                dim,
            ))?;
            let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * scale)?; // (kv, group*run, seen)
            let scores =
                scores
                    .to_dtype(DType::F32)?
                    .reshape((kv_heads, group, run.len(), seen))?;
            let first = step.batch.positions()[run.start] as usize;
            let scores = scores.broadcast_add(&causal(first, run.len(), seen, qkv.device())?)?;
            let weights = candle_nn::ops::softmax(&scores, D::Minus1)?.to_dtype(v.dtype())?;
            let out = weights
                .reshape((kv_heads, group * run.len(), seen))?
                .matmul(&v.contiguous()?)?; // (kv, group*run, head_dim)
            let out = out.reshape((heads, run.len(), dim))?.transpose(0, 1)?;
            outs.push(out.reshape((run.len(), heads * dim))?);
        }
        Ok(Tensor::cat(&outs, 0)?)
    }
}

/// `0` where a row may look, minus infinity where it may not, `(rows, seen)`.
fn causal(first: usize, rows: usize, seen: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<f32> = (0..rows)
        .flat_map(|row| {
            (0..seen).map(move |key| {
                if key <= first + row {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (rows, seen), device)?)
}

/// Queries, keys and values of some rows, `(heads, rows, head_dim)` each.
fn split(step: &Step<'_>, qkv: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let geometry = step.geometry;
    let (heads, kv_heads) = (geometry.num_attention_heads, geometry.num_key_value_heads);
    let (dim, group) = (geometry.head_dim, geometry.group_size());
    let rows = qkv.dim(0)?;
    let (q, k, v) = match geometry.qkv_layout {
        QkvLayout::Separate => {
            let heads_of = |start: usize, count: usize| {
                qkv.narrow(1, start * dim, count * dim)?
                    .reshape((rows, count, dim))
            };
            (
                heads_of(0, heads)?,
                heads_of(heads, kv_heads)?,
                heads_of(heads + kv_heads, kv_heads)?,
            )
        }
        QkvLayout::Interleaved => {
            let grouped = qkv.reshape((rows, kv_heads, group + 2, dim))?;
            (
                grouped.narrow(2, 0, group)?.reshape((rows, heads, dim))?,
                grouped.narrow(2, group, 1)?.squeeze(2)?,
                grouped.narrow(2, group + 1, 1)?.squeeze(2)?,
            )
        }
    };
    let first = |t: Tensor| t.transpose(0, 1)?.contiguous();
    Ok((first(q)?, first(k)?, first(v)?))
}

/// Rotates heads: `x * cos + rotate_half(x) * sin`, row `i` of `x` by row `rows.start + i`.
fn rotate(x: &Tensor, rotations: &Rotations, rows: Range<usize>) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let of = |all: &[f32]| -> Result<Tensor> {
        let part = &all[rows.start * half..rows.end * half];
        Ok(Tensor::from_slice(part, (1, rows.len(), half), x.device())?.to_dtype(x.dtype())?)
    };
    let (cos, sin) = (of(rotations.cos())?, of(rotations.sin())?);
    let (a, b) = (
        x.narrow(D::Minus1, 0, half)?,
        x.narrow(D::Minus1, half, half)?,
    );
    let low = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let high = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Ok(Tensor::cat(&[low, high], D::Minus1)?)
}
