//! Keys and values as tensors: for devices without our kernels, for training, and as the twin that
//! the kernels are tested against. Every operation is differentiable.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};

use crate::config::QkvLayout;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::rope::Rotations;

/// Keys and values of one sequence in one layer, `(num_key_value_heads, len, head_dim)` each.
#[derive(Clone, Debug, Default)]
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
        let start = step.batch.positions()[rows.start] as usize;
        let (q, k, v) = projections(step, qkv, rows.clone())?;
        let (k, v) = match &self.stored {
            Some((keys, values)) if start > 0 => (
                Tensor::cat(&[&keys.narrow(1, 0, start)?, &k], 1)?,
                Tensor::cat(&[&values.narrow(1, 0, start)?, &v], 1)?,
            ),
            _ => (k, v),
        };
        self.stored = Some((k.clone(), v.clone()));
        attend_to(step, &q, &k, &v, rows)
    }
}

/// Keys and values of one layer in blocks, `(num_blocks * block_size, num_key_value_heads * head_dim)` each.
#[derive(Debug)]
pub(super) struct TensorPool {
    keys: Tensor,
    values: Tensor,
    block_size: usize,
}

impl TensorPool {
    /// Blocks of zeros, of the dtype and on the device of `like`.
    pub(super) fn new(
        step: &Step<'_>,
        like: &Tensor,
        num_blocks: usize,
        block_size: usize,
    ) -> Result<Self> {
        let geometry = step.geometry;
        let width = geometry.num_key_value_heads * geometry.head_dim;
        let pool = || {
            Tensor::zeros(
                (num_blocks * block_size, width),
                like.dtype(),
                like.device(),
            )
        };
        Ok(Self {
            keys: pool()?,
            values: pool()?,
            block_size,
        })
    }

    /// Copies a block over another.
    pub(super) fn copy_block(&self, from: usize, to: usize) -> Result<()> {
        for pool in [&self.keys, &self.values] {
            let block = pool.narrow(0, from * self.block_size, self.block_size)?;
            pool.slice_set(&block.copy()?, 0, to * self.block_size)?;
        }
        Ok(())
    }

    /// Attention of the rows of one sequence, which has these blocks.
    ///
    /// # Shapes
    /// As [`TensorLayer::attend`].
    pub(super) fn attend(
        &self,
        step: &Step<'_>,
        qkv: &Tensor,
        rows: Range<usize>,
        block_table: &[u32],
    ) -> Result<Tensor> {
        let (heads, dim) = (step.geometry.num_key_value_heads, step.geometry.head_dim);
        let (q, k, v) = projections(step, qkv, rows.clone())?;
        let start = step.batch.positions()[rows.start] as usize;
        let end = start + rows.len();
        let row_of = |position: usize| {
            let block = block_table[position / self.block_size] as usize;
            block * self.block_size + position % self.block_size
        };
        for (pool, new) in [(&self.keys, &k), (&self.values, &v)] {
            let new = new.transpose(0, 1)?.reshape((rows.len(), heads * dim))?;
            let mut position = start;
            while position < end {
                let count = (self.block_size - position % self.block_size).min(end - position);
                let part = new.narrow(0, position - start, count)?.contiguous()?;
                pool.slice_set(&part, 0, row_of(position))?;
                position += count;
            }
        }
        let index: Vec<u32> = (0..end).map(|position| row_of(position) as u32).collect();
        let index = Tensor::from_vec(index, end, qkv.device())?;
        let seen = |pool: &Tensor| {
            let rows = pool.index_select(&index, 0)?.reshape((end, heads, dim))?;
            rows.transpose(0, 1)?.contiguous()
        };
        attend_to(step, &q, &seen(&self.keys)?, &seen(&self.values)?, rows)
    }
}

/// Queries, keys and values of some rows, `(heads, rows, head_dim)` each; rotated, but for keys that are
/// kept raw.
fn projections(
    step: &Step<'_>,
    qkv: &Tensor,
    rows: Range<usize>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (q, k, v) = split(step, &qkv.narrow(0, rows.start, rows.len())?)?;
    let tokens = step.rope.tokens();
    let q = rotate(&q, tokens, rows.clone())?;
    let k = match step.geometry.keeps_raw_keys {
        true => k,
        false => rotate(&k, tokens, rows)?,
    };
    Ok((q, k, v))
}

/// Attention of some rows to the keys and values from position 0 on.
///
/// # Shapes
/// - q: `(num_attention_heads, rows, head_dim)`
/// - k, v: `(num_key_value_heads, at least the last position + 1, head_dim)`
/// - out: `(rows, num_attention_heads * head_dim)`
fn attend_to(
    step: &Step<'_>,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    rows: Range<usize>,
) -> Result<Tensor> {
    let geometry = step.geometry;
    let (heads, kv_heads) = (geometry.num_attention_heads, geometry.num_key_value_heads);
    let dim = geometry.head_dim;
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
        let scores = scores
            .to_dtype(DType::F32)?
            .reshape((kv_heads, group, run.len(), seen))?;
        let first = step.batch.positions()[run.start] as usize;
        let scores = scores.broadcast_add(&causal(first, run.len(), seen, q.device())?)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?.to_dtype(v.dtype())?;
        let out = weights
            .reshape((kv_heads, group * run.len(), seen))?
            .matmul(&v.contiguous()?)?; // (kv, group*run, head_dim)
        let out = out.reshape((heads, run.len(), dim))?.transpose(0, 1)?;
        outs.push(out.reshape((run.len(), heads * dim))?);
    }
    Ok(Tensor::cat(&outs, 0)?)
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
