//! Root mean square norm (arXiv 1910.07467).

use crate::compute::Compute;
use crate::error::{Result, check_len};
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch};

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
        norm_row(compute, &x[row * width..][..width], weight, eps, out);
    });
    Ok(())
}

/// `sum = x + delta`, and the norm of the sum: the step between the sub-layers of a decoder.
///
/// # Shapes
/// - x, delta, sum, out: `(rows, weight.len())`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where `x` is not whole rows or another slice is not as long.
pub fn add_rms_norm(
    compute: &Compute,
    x: &[f32],
    delta: &[f32],
    weight: &[f32],
    eps: f32,
    sum: &mut [f32],
    out: &mut [f32],
) -> Result<()> {
    let rows = check_rows("add_rms_norm", x, weight)?;
    check_len("add_rms_norm", "delta", delta.len(), &[x.len()])?;
    check_len("add_rms_norm", "sum", sum.len(), &[x.len()])?;
    check_len("add_rms_norm", "out", out.len(), &[x.len()])?;
    let width = weight.len();
    let outputs = [sum, out].map(Output::new);
    over_rows(compute, rows, width, |row| {
        let start = row * width;
        // SAFETY: each row is one task's alone.
        let [sum, out] = outputs.each_ref().map(|o| unsafe { o.part(start, width) });
        let addends = x[start..][..width].iter().zip(&delta[start..][..width]);
        for (sum, (x, delta)) in sum.iter_mut().zip(addends) {
            *sum = x + delta;
        }
        norm_row(compute, sum, weight, eps, out);
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

fn norm_row(compute: &Compute, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    if let Err(row) = dispatch(
        compute.isa(),
        Row {
            x,
            weight,
            eps,
            out,
        },
    ) {
        scalar(row.x, row.weight, row.eps, row.out);
    }
}

/// The reference: one row.
fn scalar(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let squares = x.iter().map(|x| x * x).sum();
    scale(x, weight, eps, squares, out);
}

/// The elementwise half of the norm.
#[inline(always)]
fn scale(x: &[f32], weight: &[f32], eps: f32, squares: f32, out: &mut [f32]) {
    let factor = 1.0 / (squares / x.len() as f32 + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * factor * weight;
    }
}

/// The same with vectors.
struct Row<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        const SUMS: usize = 4;
        let mut sums = [s.zero(); SUMS];
        let chunks = self.x.chunks_exact(SUMS * S::LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a chunk is `SUMS` vectors.
                let x = unsafe { s.load(chunk.as_ptr().add(i * S::LANES)) };
                *sum = s.fma(x, x, *sum);
            }
        }
        for x in rest.chunks(S::LANES) {
            let x = s.load_some(x);
            sums[0] = s.fma(x, x, sums[0]);
        }
        let sum = s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3]));
        scale(self.x, self.weight, self.eps, s.sum(sum), self.out);
    }
}
