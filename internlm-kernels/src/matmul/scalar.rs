//! The reference: plain loops over rows.

use crate::compute::Compute;
use crate::elements::Element;
use crate::matmul::{Activation, Shape, rounded};
use crate::output::Output;

/// Output columns of one task.
const COLUMNS: usize = 16;

/// Partial sums of a dot product, so that the compiler may keep them in vectors.
const LANES: usize = 8;

/// The arguments of [`crate::matmul()`], checked.
pub(super) fn matmul<W: Element>(
    compute: &Compute,
    x: &[f32],
    w: &[W],
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
    Shape { m, n, k }: Shape,
) {
    let x = rounded(x, activation);
    let out = Output::new(out);
    compute.run(n.div_ceil(COLUMNS), |task| {
        let columns = task * COLUMNS..n.min((task + 1) * COLUMNS);
        for row in 0..m {
            let x = &x[row * k..][..k];
            // SAFETY: tasks have disjoint columns, so these parts of rows don't overlap.
            let out = unsafe { out.part(row * n + columns.start, columns.len()) };
            for (out, column) in out.iter_mut().zip(columns.clone()) {
                let bias = bias.map_or(0.0, |bias| bias[column]);
                *out = bias + dot(x, &w[column * k..][..k]);
            }
        }
    });
}

/// The sum of products, in one order for each length.
fn dot<W: Element>(x: &[f32], w: &[W]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (w_chunks, w_rest) = w.as_chunks::<LANES>();
    for (x, w) in x_chunks.iter().zip(w_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * w[lane].widen();
        }
    }
    let rest: f32 = x_rest.iter().zip(w_rest).map(|(x, w)| x * w.widen()).sum();
    sums.iter().sum::<f32>() + rest
}
