//! The triangular factor that error compensation needs, in f64.

use internlm_kernels::Compute;

use crate::error::{Error, Result};
use crate::parallel;

/// Columns that are factored, or solved for, at once.
const PANEL: usize = 64;
/// Rows that one task updates.
const ROWS_PER_TASK: usize = 8;
/// How often the damping is raised tenfold before a matrix is given up.
const ATTEMPTS: i32 = 6;

/// The upper triangular `U` with `Uᵀ U = (H + damping · mean(diag H) · 1)⁻¹`.
///
/// Row `j` of `U`, divided by `U[j,j]`, says how the error of input `j` is spread over the inputs
/// after it (GPTQ, arXiv 2210.17323, section 3.3). It comes from one factorisation and one
/// triangular inverse: `H = M Mᵀ` with `M` upper triangular gives `U = M⁻¹`. Should the matrix not
/// be positive definite at this damping, ten times as much is tried, six times in all.
///
/// # Shapes
/// - moments, out: `(columns, columns)`
///
/// # Errors
/// [`Error::NotPositive`] where no damping helps, as for moments that are not finite;
/// [`Error::Length`] for another shape.
pub fn inverse_factor(
    compute: &Compute,
    moments: &[f32],
    columns: usize,
    damping: f64,
) -> Result<Vec<f32>> {
    let n = columns;
    if n.checked_mul(n) != Some(moments.len()) {
        return Err(Error::Length {
            what: "second moments",
            got: moments.len(),
            want: format!("{n} times {n}"),
        });
    }
    let trace: f64 = (0..n).map(|i| f64::from(moments[i * n + i])).sum();
    let mean = trace / n.max(1) as f64;
    // Without any input every choice is as good.
    let mean = if mean == 0.0 { 1.0 } else { mean };
    for attempt in 0..ATTEMPTS {
        // From the last input to the first, so that the usual lower factor is the upper one.
        let mut a: Vec<f64> = moments.iter().rev().map(|&m| f64::from(m)).collect();
        for i in 0..n {
            a[i * n + i] += damping.max(1e-8) * 10f64.powi(attempt) * mean;
        }
        if lower(compute, &mut a, n) {
            return Ok(inverse_reversed(compute, &a, n));
        }
    }
    Err(Error::NotPositive { columns })
}

/// Replaces the lower triangle by the factor `L` with `L Lᵀ = A`; `false` where there is none.
fn lower(compute: &Compute, a: &mut [f64], n: usize) -> bool {
    for first in (0..n).step_by(PANEL) {
        let end = n.min(first + PANEL);
        let width = end - first;
        // What the columns before contribute.
        let before: Vec<f64> = (first..end)
            .flat_map(|row| a[row * n..][..first].iter().copied())
            .collect();
        let tasks = ROWS_PER_TASK * n;
        parallel::over_chunks(compute, &mut a[first * n..], tasks, |_, rows| {
            for row in rows.chunks_exact_mut(n) {
                let (known, panel) = row.split_at_mut(first);
                for (j, value) in panel[..width].iter_mut().enumerate() {
                    *value -= dot(known, &before[j * first..][..first]);
                }
            }
        });
        for i in first..end {
            for j in first..=i {
                let sum = dot(&a[i * n + first..i * n + j], &a[j * n + first..j * n + j]);
                let value = a[i * n + j] - sum;
                a[i * n + j] = if j < i {
                    value / a[j * n + j]
                } else if value > 0.0 && value.is_finite() {
                    value.sqrt()
                } else {
                    return false;
                };
            }
        }
        let diagonal: Vec<f64> = (first..end)
            .flat_map(|row| a[row * n + first..][..width].iter().copied())
            .collect();
        parallel::over_chunks(compute, &mut a[end * n..], tasks, |_, rows| {
            for row in rows.chunks_exact_mut(n) {
                let panel = &mut row[first..end];
                for j in 0..width {
                    let factor = &diagonal[j * width..][..=j];
                    panel[j] = (panel[j] - dot(&panel[..j], &factor[..j])) / factor[j];
                }
            }
        });
    }
    true
}

/// The inverse of a lower triangular matrix, rows and columns in reverse.
fn inverse_reversed(compute: &Compute, l: &[f64], n: usize) -> Vec<f32> {
    let strips = parallel::map(compute, n.div_ceil(PANEL), |strip| {
        let first = strip * PANEL;
        let width = PANEL.min(n - first);
        // Columns first..first + width of the inverse, whose rows above `first` are zero.
        let mut y = vec![0.0; (n - first) * width];
        for i in first..n {
            let (known, rest) = y.split_at_mut((i - first) * width);
            let row = &mut rest[..width];
            if let Some(one) = row.get_mut(i - first) {
                *one = 1.0;
            }
            for (factor, known) in l[i * n + first..].iter().zip(known.chunks_exact(width)) {
                row.iter_mut()
                    .zip(known)
                    .for_each(|(r, k)| *r -= factor * k);
            }
            row.iter_mut().for_each(|r| *r /= l[i * n + i]);
        }
        y
    });
    let mut out = vec![0.0; n * n];
    for (strip, y) in strips.into_iter().enumerate() {
        let first = strip * PANEL;
        let width = PANEL.min(n - first);
        for (i, row) in y.chunks_exact(width).enumerate() {
            for (j, value) in row.iter().enumerate() {
                out[(n - 1 - first - i) * n + n - 1 - first - j] = *value as f32;
            }
        }
    }
    out
}

/// A sum in eight strands, so that it runs in vectors; the order is fixed.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a
        .remainder()
        .iter()
        .zip(b.remainder())
        .map(|(a, b)| a * b)
        .sum();
    let mut sums = [0.0; 8];
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Xᵀ X / tokens` of some X.
    fn moments(n: usize, tokens: usize) -> Vec<f32> {
        let x = |t: usize, i: usize| ((t * 31 + i * 17) as f64 * 0.61).sin() + (i % 3) as f64;
        let of = |i, j| (0..tokens).map(|t| x(t, i) * x(t, j)).sum::<f64>() / tokens as f64;
        let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
        pairs.map(|(i, j)| of(i, j) as f32).collect()
    }

    #[track_caller]
    fn check(n: usize, tokens: usize) {
        let compute = Compute::new(Some(3)).unwrap();
        let h = moments(n, tokens);
        let u = inverse_factor(&compute, &h, n, 0.01).unwrap();
        let mean = (0..n).map(|i| f64::from(h[i * n + i])).sum::<f64>() / n as f64;
        for i in 0..n {
            assert!(
                u[i * n..][..i].iter().all(|&v| v == 0.0),
                "not upper triangular"
            );
            // (UᵀU) (H + damping) = 1
            for j in 0..n {
                let mut sum = 0.0;
                for k in 0..n {
                    let inverse: f64 = (0..=i.min(k))
                        .map(|r| f64::from(u[r * n + i]) * f64::from(u[r * n + k]))
                        .sum();
                    let damped = f64::from(h[k * n + j]) + if k == j { 0.01 * mean } else { 0.0 };
                    sum += inverse * damped;
                }
                let want = f64::from(u8::from(i == j));
                assert!((sum - want).abs() < 1e-3, "({i}, {j}) is {sum}");
            }
        }
        let one = Compute::new(Some(1)).unwrap();
        assert_eq!(inverse_factor(&one, &h, n, 0.01).unwrap(), u);
    }

    #[test]
    fn the_factor_inverts_the_damped_moments() {
        check(1, 3);
        check(5, 9);
        check(70, 200);
        check(70, 10); // fewer tokens than inputs
        check(130, 40);
    }

    #[test]
    fn moments_without_a_factor_are_refused() {
        let compute = Compute::new(Some(1)).unwrap();
        let nan = inverse_factor(&compute, &[f32::NAN], 1, 0.01);
        assert!(matches!(nan, Err(Error::NotPositive { columns: 1 })));
        let shape = inverse_factor(&compute, &[1.0; 3], 2, 0.01);
        assert!(matches!(shape, Err(Error::Length { .. })));
        // Nothing was seen of the inputs.
        assert_eq!(
            inverse_factor(&compute, &[0.0; 4], 2, 1.0).unwrap(),
            [1.0, 0.0, 0.0, 1.0]
        );
    }
}
