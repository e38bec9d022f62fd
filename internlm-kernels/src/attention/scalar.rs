//! The reference: one row of one head after the other, two passes over its keys.

use crate::attention::{AttentionSequence, AttentionShape};
use crate::compute::Compute;
use crate::output::Output;

/// The arguments of [`crate::attention()`], checked.
pub(super) fn attention(
    compute: &Compute,
    q: &[f32],
    sequences: &[AttentionSequence<'_>],
    shape: &AttentionShape,
    out: Output<'_, f32>,
) {
    let heads = shape.num_attention_heads;
    compute.run(sequences.len() * heads, |task| {
        let (sequence, head) = (&sequences[task / heads], task % heads);
        for index in 0..sequence.q_len {
            let start = ((sequence.q_start + index) * heads + head) * shape.head_dim;
            // SAFETY: rows of sequences are disjoint, and a head is one task's alone.
            let out = unsafe { out.part(start, shape.head_dim) };
            row(
                &q[start..][..shape.head_dim],
                sequence,
                shape,
                head,
                index,
                out,
            );
        }
    });
}

/// Row `row` of a sequence's queries, for query head `head`.
///
/// # Shapes
/// - q, out: `(head_dim)`
fn row(
    q: &[f32],
    sequence: &AttentionSequence<'_>,
    shape: &AttentionShape,
    head: usize,
    row: usize,
    out: &mut [f32],
) {
    let visible = sequence.len - sequence.q_len + row + 1;
    let kv_heads = shape.num_key_value_heads;
    let kv_head = head / (shape.num_attention_heads / kv_heads);
    let mut cached = vec![0.0; shape.head_dim];
    let mut weights = Vec::with_capacity(visible);
    for token in 0..visible {
        sequence.keys.read(kv_heads, kv_head, token, &mut cached);
        let dot: f32 = q.iter().zip(&cached).map(|(q, k)| q * k).sum();
        weights.push(shape.scale * dot);
    }
    softmax(&mut weights);
    out.fill(0.0);
    for (token, weight) in weights.iter().enumerate() {
        sequence.values.read(kv_heads, kv_head, token, &mut cached);
        for (out, value) in out.iter_mut().zip(&cached) {
            *out += weight * value;
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}
