//! Causal attention over cached keys and values.

mod block;
mod scalar;
mod tasks;

use crate::compute::Compute;
use crate::elements::Elements;
use crate::error::{Error, Result, check_len};
use crate::isa::Isa;
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
}

/// One sequence of a batch.
///
/// Its queries are the last `q_len` of its `len` tokens: query row `i` sees keys
/// `0..=len - q_len + i`.
///
/// # Shapes
/// - keys, values: `(num_key_value_heads, capacity, head_dim)`; the first `len` tokens of each head
///   are valid, the rest is never read
#[derive(Debug, Clone, Copy)]
pub struct AttentionSequence<'a> {
    /// First row of `q` that belongs to this sequence.
    pub q_start: usize,
    /// Number of rows of `q`.
    pub q_len: usize,
    /// Keys, rotated.
    pub keys: Elements<'a>,
    /// Values.
    pub values: Elements<'a>,
    /// Tokens that each head has room for.
    pub capacity: usize,
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
/// belong to another sequence too, or where it has more queries than tokens or more tokens than room.
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
        tasks::attention(compute, q, sequences, shape, Output::new(out));
    }
    Ok(())
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
        at_most("len", s.len, s.capacity)?;
        at_most("q_len", s.q_len, s.len)?;
        let dims = [num_key_value_heads, s.capacity, head_dim];
        check_len("attention", "keys", s.keys.len(), &dims)?;
        check_len("attention", "values", s.values.len(), &dims)?;
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
