//! Root mean square norm (arXiv 1910.07467).

use crate::compute::Compute;
use crate::error::{Result, check_len};
use crate::output::Output;

/// Elements that make a task worth handing to another thread.
const TASK_ELEMENTS: usize = 16 * 1024;

/// `out = x / sqrt(mean(x²) + eps) * weight`, row by row.
///
/// # Shapes
/// - x, out: `(rows, weight.len())`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where `x` is not whole rows or `out` is not as long as `x`.
pub fn rms_norm(
    compute: &Compute,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let rows = check_rows("rms_norm", x, weight)?;
    check_len("rms_norm", "out", out.len(), &[x.len()])?;
    let width = weight.len();
    let out = Output::new(out);
    over_rows(compute, rows, width, |row| {
        // SAFETY: each row is one task's alone.
        let out = unsafe { out.part(row * width, width) };
        scalar(&x[row * width..][..width], weight, eps, out);
    });
    Ok(())
}

/// `x += delta`, then the norm of the sum: the step between the sub-layers of a decoder.
///
/// # Shapes
/// - x, delta, out: `(rows, weight.len())`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where `x` is not whole rows or another slice is not as long.
pub fn add_rms_norm(
    compute: &Compute,
    x: &mut [f32],
    delta: &[f32],
    weight: &[f32],
    eps: f32,
    out: &mut [f32],
) -> Result<()> {
    let rows = check_rows("add_rms_norm", x, weight)?;
    check_len("add_rms_norm", "delta", delta.len(), &[x.len()])?;
    check_len("add_rms_norm", "out", out.len(), &[x.len()])?;
    let width = weight.len();
    let (x, out) = (Output::new(x), Output::new(out));
    over_rows(compute, rows, width, |row| {
        // SAFETY: each row is one task's alone.
        let (x, out) = unsafe { (x.part(row * width, width), out.part(row * width, width)) };
        for (x, delta) in x.iter_mut().zip(&delta[row * width..][..width]) {
            *x += delta;
        }
        scalar(x, weight, eps, out);
    });
    Ok(())
}

/// Number of rows.
fn check_rows(operation: &'static str, x: &[f32], weight: &[f32]) -> Result<usize> {
    let rows = x.len().checked_div(weight.len()).unwrap_or(0);
    check_len(operation, "x", x.len(), &[rows, weight.len()])?;
    Ok(rows)
}

/// Calls `each` for every row, on several threads where there is enough to do.
pub(crate) fn over_rows(compute: &Compute, rows: usize, width: usize, each: impl Fn(usize) + Sync) {
    let rows_per_task = (TASK_ELEMENTS / width.max(1)).max(1);
    compute.run(rows.div_ceil(rows_per_task), |task| {
        let start = task * rows_per_task;
        (start..rows.min(start + rows_per_task)).for_each(&each);
    });
}

/// The reference: one row.
fn scalar(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares: f32 = x.iter().map(|x| x * x).sum();
    let factor = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}
