//! Keys and values on the CPU, read in place by the attention kernel.

use std::ops::Range;
use std::sync::Mutex;

use candle_core::{DType, Tensor};
use half::{bf16, f16};
use internlm_kernels::{AttentionSequence, AttentionShape, Elements, attention, rope};

use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};
use crate::rope::Rotations;

/// Keys and values of one sequence in one layer, `(num_key_value_heads, capacity, head_dim)` each.
#[derive(Debug)]
pub(super) struct HostLayer {
    keys: Buffer,
    values: Buffer,
    capacity: usize,
}

#[derive(Debug)]
enum Buffer {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
}

/// An element type that a cache may hold.
trait Element: Copy + Default + Send + Sync + Into<f32> {
    fn from_f32(x: f32) -> Self;
}

impl Element for f32 {
    fn from_f32(x: f32) -> Self {
        x
    }
}

impl Element for bf16 {
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

impl Element for f16 {
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }
}

impl HostLayer {
    pub(super) fn new(dtype: DType) -> Self {
        let buffer = || match dtype {
            DType::BF16 => Buffer::Bf16(Vec::new()),
            DType::F16 => Buffer::F16(Vec::new()),
            _ => Buffer::F32(Vec::new()),
        };
        Self {
            keys: buffer(),
            values: buffer(),
            capacity: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes()
    }

    /// Makes room for `len` tokens, doubling, and keeps what is there.
    fn reserve(&mut self, len: usize, heads: usize, head_dim: usize) {
        if len <= self.capacity {
            return;
        }
        let capacity = len.max(2 * self.capacity).next_multiple_of(64);
        self.keys.grow(self.capacity, capacity, heads, head_dim);
        self.values.grow(self.capacity, capacity, heads, head_dim);
        self.capacity = capacity;
    }
}

impl Buffer {
    fn bytes(&self) -> usize {
        match self {
            Buffer::F32(v) => size_of_val(&v[..]),
            Buffer::Bf16(v) => size_of_val(&v[..]),
            Buffer::F16(v) => size_of_val(&v[..]),
        }
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Buffer::F32(v) => Elements::F32(v),
            Buffer::Bf16(v) => Elements::Bf16(v),
            Buffer::F16(v) => Elements::F16(v),
        }
    }

    fn grow(&mut self, old: usize, new: usize, heads: usize, head_dim: usize) {
        fn grow<T: Element>(v: &mut Vec<T>, old: usize, new: usize, heads: usize, dim: usize) {
            let mut grown = vec![T::default(); heads * new * dim];
            if old > 0 {
                for (to, from) in grown
                    .chunks_exact_mut(new * dim)
                    .zip(v.chunks_exact(old * dim))
                {
                    to[..old * dim].copy_from_slice(from);
                }
            }
            *v = grown;
        }
        match self {
            Buffer::F32(v) => grow(v, old, new, heads, head_dim),
            Buffer::Bf16(v) => grow(v, old, new, heads, head_dim),
            Buffer::F16(v) => grow(v, old, new, heads, head_dim),
        }
    }

    /// Stores rows of one kind of head (at `offset` in a row of qkv), rotated where `rotate` says how.
    fn store(
        &mut self,
        capacity: usize,
        step: &Step<'_>,
        qkv: &[f32],
        rows: Range<usize>,
        offset: &(dyn Fn(usize) -> usize + Sync),
        rotate: bool,
    ) {
        fn store<T: Element>(
            to: &mut [T],
            step: &Step<'_>,
            qkv: &[f32],
            rows: Range<usize>,
            offset: usize,
            rotate: bool,
        ) {
            let (dim, width) = (step.geometry.head_dim, step.geometry.qkv_dim());
            let mut rotated = vec![0.0; dim];
            for row in rows {
                let from = &qkv[row * width + offset..][..dim];
                let position = step.batch.positions()[row] as usize;
                let to = &mut to[position * dim..][..dim];
                rotated.copy_from_slice(from);
                if rotate {
                    let (cos, sin) = step.rope.tokens().row(row);
                    rope(&mut rotated, cos, sin);
                }
                for (to, &from) in to.iter_mut().zip(&rotated) {
                    *to = T::from_f32(from);
                }
            }
        }
        fn each<T: Element>(
            v: &mut [T],
            capacity: usize,
            step: &Step<'_>,
            work: impl Fn(usize, &mut [T]) + Sync,
            parallel: bool,
        ) {
            let heads = v.chunks_exact_mut(capacity * step.geometry.head_dim);
            if parallel {
                let heads: Vec<_> = heads.map(Mutex::new).collect();
                step.compute.run(heads.len(), |head| {
                    if let Ok(mut to) = heads[head].lock() {
                        work(head, &mut to);
                    }
                });
            } else {
                heads.enumerate().for_each(|(head, to)| work(head, to));
            }
        }
        let parallel = rows.len() >= 16;
        macro_rules! run {
            ($v:expr) => {
                each(
                    $v,
                    capacity,
                    step,
                    |head, to| store(to, step, qkv, rows.clone(), offset(head), rotate),
                    parallel,
                )
            };
        }
        match self {
            Buffer::F32(v) => run!(v),
            Buffer::Bf16(v) => run!(v),
            Buffer::F16(v) => run!(v),
        }
    }

    /// A copy of raw keys with the first `len` positions rotated under one base; same shape and type.
    fn rotated(&self, step: &Step<'_>, capacity: usize, len: usize, base: f64) -> Result<Self> {
        let rotations = step.rope.keys(base).ok_or_else(|| Error::Batch {
            what: format!("no rotations of raw keys for base {base}"),
        })?;
        fn rotate<T: Element>(
            v: &[T],
            step: &Step<'_>,
            rotations: &Rotations,
            capacity: usize,
            len: usize,
        ) -> Vec<T> {
            let dim = step.geometry.head_dim;
            let mut out = vec![T::default(); v.len()];
            let heads: Vec<_> = out
                .chunks_exact_mut(capacity * dim)
                .map(Mutex::new)
                .collect();
            step.compute.run(heads.len(), |head| {
                let Ok(mut to) = heads[head].lock() else {
                    return;
                };
                let from = &v[head * capacity * dim..];
                let mut key = vec![0.0; dim];
                for position in 0..len {
                    let at = position * dim..(position + 1) * dim;
                    for (key, &raw) in key.iter_mut().zip(&from[at.clone()]) {
                        *key = raw.into();
                    }
                    let (cos, sin) = rotations.row(position);
                    rope(&mut key, cos, sin);
                    for (to, &key) in to[at].iter_mut().zip(&key) {
                        *to = T::from_f32(key);
                    }
                }
            });
            drop(heads);
            out
        }
        Ok(match self {
            Buffer::F32(v) => Buffer::F32(rotate(v, step, rotations, capacity, len)),
            Buffer::Bf16(v) => Buffer::Bf16(rotate(v, step, rotations, capacity, len)),
            Buffer::F16(v) => Buffer::F16(rotate(v, step, rotations, capacity, len)),
        })
    }
}

/// Queries out of the fused projection, rotated, `(num_tokens, num_attention_heads, head_dim)`.
fn queries(step: &Step<'_>, qkv: &[f32]) -> Vec<f32> {
    let geometry = step.geometry;
    let (dim, width) = (geometry.head_dim, geometry.qkv_dim());
    let q_dim = geometry.num_attention_heads * dim;
    let mut q = vec![0.0; step.batch.num_tokens() * q_dim];
    let fill = |row: usize, to: &mut [f32]| {
        let (cos, sin) = step.rope.tokens().row(row);
        for (head, to) in to.chunks_exact_mut(dim).enumerate() {
            to.copy_from_slice(&qkv[row * width + geometry.q_offset(head)..][..dim]);
            rope(to, cos, sin);
        }
    };
    const ROWS: usize = 16;
    if step.batch.num_tokens() < ROWS {
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

/// Attention of one layer over the host buffers of the batch's sequences: slot, rows, buffers.
pub(super) fn attend(
    step: &Step<'_>,
    qkv: &Tensor,
    slots: &mut [(usize, Range<usize>, HostLayer)],
) -> Result<Tensor> {
    let geometry = step.geometry;
    let (kv_heads, dim) = (geometry.num_key_value_heads, geometry.head_dim);
    let out = with_f32(qkv, |qkv| {
        let q = queries(step, qkv);
        for (_, rows, host) in slots.iter_mut() {
            let len = step.batch.positions()[rows.end - 1] as usize + 1;
            host.reserve(len, kv_heads, dim);
            let k_offset = |head| geometry.k_offset(head);
            let v_offset = |head| geometry.v_offset(head);
            let rotate = !geometry.keeps_raw_keys;
            host.keys
                .store(host.capacity, step, qkv, rows.clone(), &k_offset, rotate);
            host.values
                .store(host.capacity, step, qkv, rows.clone(), &v_offset, false);
        }
        let mut runs = Vec::new();
        for (_, rows, host) in slots.iter() {
            for run in runs_of_one_base(step, rows.clone()) {
                let len = step.batch.positions()[run.end - 1] as usize + 1;
                let rotated = if geometry.keeps_raw_keys {
                    let base = step.rope.base(run.start);
                    Some(host.keys.rotated(step, host.capacity, len, base)?)
                } else {
                    None
                };
                runs.push((host, run, len, rotated));
            }
        }
        let sequences: Vec<_> = runs
            .iter()
            .map(|(host, run, len, rotated)| AttentionSequence {
                q_start: run.start,
                q_len: run.len(),
                keys: rotated.as_ref().unwrap_or(&host.keys).elements(),
                values: host.values.elements(),
                capacity: host.capacity,
                len: *len,
            })
            .collect();
        let shape = AttentionShape {
            num_attention_heads: geometry.num_attention_heads,
            num_key_value_heads: kv_heads,
            head_dim: dim,
            scale: 1.0 / (dim as f32).sqrt(),
        };
        let mut out = vec![0.0; q.len()];
        attention(step.compute, &q, &sequences, &shape, &mut out)?;
        Ok(out)
    })?;
    from_rows(out, step.batch.num_tokens(), qkv.device())
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
