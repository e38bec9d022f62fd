//! The reference: one row of one head after the other, two passes over its keys.

use crate::attention::{AttentionSequence, AttentionShape};
use crate::compute::Compute;
use crate::elements::{Element, Elements};
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
    let group = shape.num_attention_heads / shape.num_key_value_heads;
    let start = head / group * sequence.capacity * shape.head_dim;
    let (start, len) = (start, visible * shape.head_dim);
    let mut weights = match sequence.keys {
        Elements::F32(keys) => scores(q, &keys[start..][..len], shape.scale),
        Elements::F16(keys) => scores(q, &keys[start..][..len], shape.scale),
        Elements::Bf16(keys) => scores(q, &keys[start..][..len], shape.scale),
    };
    softmax(&mut weights);
    out.fill(0.0);
    match sequence.values {
        Elements::F32(values) => weighted_sum(&weights, &values[start..][..len], out),
        Elements::F16(values) => weighted_sum(&weights, &values[start..][..len], out),
        Elements::Bf16(values) => weighted_sum(&weights, &values[start..][..len], out),
    }
}

fn scores<T: Element>(q: &[f32], keys: &[T], scale: f32) -> Vec<f32> {
    let dot = |key: &[T]| q.iter().zip(key).map(|(q, k)| q * k.widen()).sum::<f32>();
    keys.chunks_exact(q.len().max(1))
        .map(|key| scale * dot(key))
        .collect()
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

fn weighted_sum<T: Element>(weights: &[f32], values: &[T], out: &mut [f32]) {
    for (weight, value) in weights.iter().zip(values.chunks_exact(out.len().max(1))) {
        for (out, value) in out.iter_mut().zip(value) {
            *out += weight * value.widen();
        }
    }
}
