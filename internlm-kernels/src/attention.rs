//! Causal attention over cached keys and values.

mod block;
mod kv;
mod scalar;
mod tasks;
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod tiles;

pub use kv::{KvBlocks, KvElements};

use crate::compute::Compute;
use crate::error::{Error, Result, check_len};
use crate::isa::Isa;
use crate::matmul::Activation;
use crate::output::Output;

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads; head `h` reads key-value head `h / (num_attention_heads / num_key_value_heads)`.
    pub num_attention_heads: usize,
    /// Key-value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Factor on `q · k`, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// What may be rounded. Only [`Activation::Bf16`] says anything, and only where [`Isa::Amx`] runs: of tasks
    /// with 16 rows or more (tokens times the heads of a group) and heads of a multiple of 32, the blocks of
    /// 64 keys that all rows see are computed in bf16, sums and exponentials in f32. A row's result then also
    /// depends on which rows were beside it.
    pub activation: Activation,
}

/// One sequence of a batch.
///
/// Its queries are the last `q_len` of its `len` tokens: query row `i` sees keys
/// `0..=len - q_len + i`. Of its blocks the first `len` tokens are valid, the rest is never read.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSequence<'a> {
    /// First row of `q` that belongs to this sequence.
    pub q_start: usize,
    /// Number of rows of `q`.
    pub q_len: usize,
    /// Keys, rotated.
    pub keys: KvBlocks<'a>,
    /// Values.
    pub values: KvBlocks<'a>,
    /// Tokens that each head holds, the queries' own included.
    pub len: usize,
}

/// Attention of every sequence: `out = softmax(scale · q · keysᵀ + causal mask) · values`.
///
/// Rows of `out` that belong to no sequence are left as they are.
///
/// # Shapes
/// - q, out: `(num_tokens, num_attention_heads, head_dim)`, q rotated
///
/// # Errors
/// [`Error::Heads`] where the heads can't be grouped, [`Error::Shape`] where a slice has another
/// length than its dimensions say, [`Error::Sequence`] where a sequence's rows are not in `q` or
/// belong to another sequence too, where it has more queries than tokens or more tokens than room, or where
/// its blocks are not there.
pub fn attention(
    compute: &Compute,
    q: &[f32],
    sequences: &[AttentionSequence<'_>],
    shape: &AttentionShape,
    out: &mut [f32],
) -> Result<()> {
    check(q, sequences, shape, out)?;
    if compute.isa() == Isa::Scalar {
        scalar::attention(compute, q, sequences, shape, Output::new(out));
    } else {
        let out = Output::new(out);
        tasks::attention(compute, q, sequences, shape, out, |rows| {
            full_blocks(compute, rows)
        });
    }
    Ok(())
}

/// Tiles for a task, where they may be used.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn full_blocks(
    compute: &Compute,
    rows: &block::Rows<'_>,
) -> Option<tiles::Tiled<crate::amx::Hardware>> {
    let bf16 = rows.shape.activation == Activation::Bf16;
    (compute.isa() == Isa::Amx && bf16)
        .then(|| tiles::Tiled::new(rows))
        .flatten()
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn full_blocks(_: &Compute, _: &block::Rows<'_>) -> Option<std::convert::Infallible> {
    None
}

fn check(
    q: &[f32],
    sequences: &[AttentionSequence<'_>],
    shape: &AttentionShape,
    out: &[f32],
) -> Result<()> {
    let &AttentionShape {
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        ..
    } = shape;
    if num_key_value_heads == 0 || !num_attention_heads.is_multiple_of(num_key_value_heads) {
        return Err(Error::Heads {
            num_attention_heads,
            num_key_value_heads,
        });
    }
    let width = num_attention_heads.saturating_mul(head_dim);
    let num_tokens = q.len().checked_div(width).unwrap_or(0);
    check_len("attention", "q", q.len(), &[num_tokens, width])?;
    check_len("attention", "out", out.len(), &[q.len()])?;
    let mut rows = Vec::with_capacity(sequences.len());
    for (index, s) in sequences.iter().enumerate() {
        let at_most = |what, got, limit| {
            if got <= limit {
                Ok(())
            } else {
                Err(Error::Sequence {
                    sequence: index,
                    what,
                    got,
                    limit,
                })
            }
        };
        at_most("q_start", s.q_start, num_tokens)?;
        at_most("q_len", s.q_len, num_tokens - s.q_start)?;
        at_most("q_len", s.q_len, s.len)?;
        for (name, blocks) in [("keys", &s.keys), ("values", &s.values)] {
            blocks.check(index, name, s.len, num_key_value_heads, head_dim)?;
        }
        if s.q_len > 0 {
            rows.push((s.q_start, s.q_len, index));
        }
    }
    rows.sort_unstable();
    for pair in rows.windows(2) {
        let [(start, len, sequence), (limit, ..)] = *pair else {
            continue;
        };
        if start + len > limit {
            return Err(Error::Sequence {
                sequence,
                what: "q_len",
                got: len,
                limit: limit - start,
            });
        }
    }
    Ok(())
}
