//! Keys and values on the CPU, read in place by the attention kernel.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use internlm_kernels::{AttentionSequence, AttentionShape, attention, rope};

use super::pool::{KvDtype, Pool, RowsMut};
use crate::context::{AttentionGeometry, Step};
use crate::error::{Error, Result};
use crate::rope::Rotations;

/// Rows from which on it pays to wake other threads.
const PARALLEL_ROWS: usize = 16;

/// Keys and values of one layer: of one sequence, or of all that share a pool of blocks.
#[derive(Debug)]
pub(super) struct HostLayer {
    keys: Pool,
    values: Pool,
}

/// New rows of one sequence, and its blocks.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) rows: Range<usize>,
    pub(super) block_table: &'a [u32],
}

impl HostLayer {
    pub(super) fn new(
        dtype: KvDtype,
        num_blocks: usize,
        block_size: usize,
        geometry: &AttentionGeometry,
    ) -> Result<Self> {
        let (heads, dim) = (geometry.num_key_value_heads, geometry.head_dim);
        let pool = || Pool::new(dtype, num_blocks, heads, block_size, dim);
        Ok(Self {
            keys: pool()?,
            values: pool()?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Tokens of a block.
    pub(super) fn block_size(&self) -> usize {
        self.keys.block_size()
    }

    /// Makes room for `len` tokens in the one block, doubling, and keeps what is there.
    pub(super) fn reserve(&mut self, len: usize) -> Result<()> {
        let capacity = self.block_size();
        if len > capacity {
            let capacity = len.max(2 * capacity).next_multiple_of(64);
            *self = self.grown(capacity)?;
        }
        Ok(())
    }

    /// A copy of the one block with room for `len` tokens, no fewer than it has.
    pub(super) fn grown(&self, len: usize) -> Result<Self> {
        Ok(Self {
            keys: self.keys.grown(len)?,
            values: self.values.grown(len)?,
        })
    }

    /// Copies a block over another.
    pub(super) fn copy_block(&mut self, from: usize, to: usize) {
        self.keys.copy_block(from, to);
        self.values.copy_block(from, to);
    }

    /// Stores the keys and values of new rows, keys rotated unless they are kept raw.
    pub(super) fn store(
        &mut self,
        step: &Step<'_>,
        qkv: &[f32],
        places: &[Place<'_>],
    ) -> Result<()> {
        let geometry = step.geometry;
        let rotate = !geometry.keeps_raw_keys;
        let k_offset = |head| geometry.k_offset(head);
        let v_offset = |head| geometry.v_offset(head);
        store(&mut self.keys, step, qkv, places, &k_offset, rotate)?;
        store(&mut self.values, step, qkv, places, &v_offset, false)
    }

    /// Raw keys of one sequence with the first `len` positions rotated under one base, in one block. What
    /// was quantized is f32.
    fn rotated(&self, step: &Step<'_>, table: &[u32], len: usize, base: f64) -> Result<Pool> {
        let rotations = step.rope.keys(base).ok_or_else(|| Error::Batch {
            what: format!("no rotations of raw keys for base {base}"),
        })?;
        let dtype = match self.keys.dtype() {
            KvDtype::Int8 | KvDtype::Int4 => KvDtype::F32,
            dtype => dtype,
        };
        let (heads, dim) = (step.geometry.num_key_value_heads, step.geometry.head_dim);
        let mut pool = Pool::new(dtype, 1, heads, len, dim)?;
        let work = |head: usize, to: &mut RowsMut<'_>| -> Result<()> {
            let mut key = vec![0.0; dim];
            for position in 0..len {
                let (block, token) = (position / self.block_size(), position % self.block_size());
                self.keys
                    .read(table[block] as usize, head, token, &mut key)?;
                let (cos, sin) = Rotations::row(rotations, position);
                rope(&mut key, cos, sin);
                to.write(position, &key)?;
            }
            Ok(())
        };
        each(step, pool.blocks_mut(&[0]), len >= PARALLEL_ROWS, work)?;
        Ok(pool)
    }
}

/// Rows of the batch that go to one block.
struct Piece {
    block: usize,
    rows: Range<usize>,
}

/// Where new rows go, by rising blocks.
fn pieces(step: &Step<'_>, places: &[Place<'_>], block_size: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(places.len());
    for place in places {
        let mut rows = place.rows.clone();
        while !rows.is_empty() {
            let position = step.batch.positions()[rows.start] as usize;
            let Some(&block) = place.block_table.get(position / block_size) else {
                return Err(Error::Batch {
                    what: format!(
                        "position {position} is past the {} blocks of its sequence",
                        place.block_table.len()
                    ),
                });
            };
            let count = rows.len().min(block_size - position % block_size);
            pieces.push(Piece {
                block: block as usize,
                rows: rows.start..rows.start + count,
            });
            rows.start += count;
        }
    }
    pieces.sort_unstable_by_key(|piece| piece.block);
    match pieces
        .windows(2)
        .find(|pair| pair[0].block == pair[1].block)
    {
        Some(pair) => Err(Error::Batch {
            what: format!("two sequences write to block {}", pair[0].block),
        }),
        None => Ok(pieces),
    }
}

/// Stores rows of one kind of head (at `offset` in a row of qkv), rotated where `rotate` says so.
fn store(
    pool: &mut Pool,
    step: &Step<'_>,
    qkv: &[f32],
    places: &[Place<'_>],
    offset: &(dyn Fn(usize) -> usize + Sync),
    rotate: bool,
) -> Result<()> {
    let geometry = step.geometry;
    let (heads, dim, width) = (
        geometry.num_key_value_heads,
        geometry.head_dim,
        geometry.qkv_dim(),
    );
    let block_size = pool.block_size();
    let pieces = pieces(step, places, block_size)?;
    let blocks: Vec<usize> = pieces.iter().map(|piece| piece.block).collect();
    let parts = pool.blocks_mut(&blocks);
    if parts.len() != pieces.len() * heads {
        return Err(Error::Batch {
            what: format!("a block of {blocks:?} is not in the cache"),
        });
    }
    let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
    each(step, parts, rows >= PARALLEL_ROWS, |part, to| {
        let (piece, head) = (&pieces[part / heads], part % heads);
        let mut rotated = vec![0.0; dim];
        for row in piece.rows.clone() {
            let from = &qkv[row * width + offset(head)..][..dim];
            let token = step.batch.positions()[row] as usize % block_size;
            if rotate {
                rotated.copy_from_slice(from);
                let (cos, sin) = step.rope.tokens().row(row);
                rope(&mut rotated, cos, sin);
                to.write(token, &rotated)?;
            } else {
                to.write(token, from)?;
            }
        }
        Ok(())
    })
}

/// Work on each part of a pool, on several threads where it pays.
fn each<'a>(
    step: &Step<'_>,
    mut parts: Vec<RowsMut<'a>>,
    parallel: bool,
    work: impl Fn(usize, &mut RowsMut<'a>) -> Result<()> + Sync,
) -> Result<()> {
    if !parallel {
        let mut parts = parts.iter_mut().enumerate();
        return parts.try_for_each(|(index, part)| work(index, part));
    }
    let parts: Vec<_> = parts.into_iter().map(Mutex::new).collect();
    let failed = Mutex::new(None);
    step.compute.run(parts.len(), |index| {
        let mut part = parts[index].lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = work(index, &mut part) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Queries out of the fused projection, rotated, `(num_tokens, num_attention_heads, head_dim)`.
fn queries(step: &Step<'_>, qkv: &[f32]) -> Vec<f32> {
    let geometry = step.geometry;
    let (dim, width) = (geometry.head_dim, geometry.qkv_dim());
    let q_dim = geometry.num_attention_heads * dim;
    let mut q = step.buffers.take(step.batch.num_tokens() * q_dim);
    let fill = |row: usize, to: &mut [f32]| {
        let (cos, sin) = step.rope.tokens().row(row);
        for (head, to) in to.chunks_exact_mut(dim).enumerate() {
            to.copy_from_slice(&qkv[row * width + geometry.q_offset(head)..][..dim]);
            rope(to, cos, sin);
        }
    };
    const ROWS: usize = 16;
    if step.batch.num_tokens() < PARALLEL_ROWS {
        q.chunks_exact_mut(q_dim)
            .enumerate()
            .for_each(|(row, to)| fill(row, to));
    } else {
        let chunks: Vec<_> = q.chunks_mut(ROWS * q_dim).map(Mutex::new).collect();
        step.compute.run(chunks.len(), |chunk| {
            if let Ok(mut to) = chunks[chunk].lock() {
                for (i, to) in to.chunks_exact_mut(q_dim).enumerate() {
                    fill(chunk * ROWS + i, to);
                }
            }
        });
        drop(chunks);
    }
    q
}

/// Attention of the batch's rows, each sequence over its blocks of a layer.
///
/// # Shapes
/// - qkv: as [`KvCache::attend`](super::KvCache::attend) gets it
/// - out: `(num_tokens, num_attention_heads, head_dim)`
pub(super) fn attend(
    step: &Step<'_>,
    qkv: &[f32],
    sequences: &[(Place<'_>, &HostLayer)],
) -> Result<Vec<f32>> {
    let geometry = step.geometry;
    let mut runs = Vec::new();
    for (place, layer) in sequences {
        for run in runs_of_one_base(step, place.rows.clone()) {
            let len = step.batch.positions()[run.end - 1] as usize + 1;
            let rotated = if geometry.keeps_raw_keys {
                let base = step.rope.base(run.start);
                Some(layer.rotated(step, place.block_table, len, base)?)
            } else {
                None
            };
            runs.push((place.block_table, layer, run, len, rotated));
        }
    }
    let sequences: Vec<_> = runs
        .iter()
        .map(|(table, layer, run, len, rotated)| AttentionSequence {
            q_start: run.start,
            q_len: run.len(),
            keys: match rotated {
                Some(rotated) => rotated.blocks(&[0]),
                None => layer.keys.blocks(table),
            },
            values: layer.values.blocks(table),
            len: *len,
        })
        .collect();
    let shape = AttentionShape {
        num_attention_heads: geometry.num_attention_heads,
        num_key_value_heads: geometry.num_key_value_heads,
        head_dim: geometry.head_dim,
        scale: 1.0 / (geometry.head_dim as f32).sqrt(),
        activation: step.attention_activation,
    };
    let q = queries(step, qkv);
    let mut out = step.buffers.take(q.len());
    attention(step.compute, &q, &sequences, &shape, &mut out)?;
    step.buffers.give_back(q);
    Ok(out)
}

/// Runs of rows that see the keys under one base: all of them, unless raw keys are kept.
pub(super) fn runs_of_one_base(step: &Step<'_>, rows: Range<usize>) -> Vec<Range<usize>> {
    if !step.geometry.keeps_raw_keys {
        return vec![rows];
    }
    let mut runs: Vec<Range<usize>> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some(run) if step.rope.base(run.start) == step.rope.base(row) => run.end = row + 1,
            _ => runs.push(row..row + 1),
        }
    }
    runs
}
