//! Factors per input channel: `W·s` is rounded and the producer of the input is divided by `s`.
//!
//! The candidates are those of AutoAWQ (`awq/quantize/quantizer.py`, `_search_best_scale`), between
//! the channels' activations and the spread of their weights:
//! `s = xm^r / (wm^(1 - r) + 1e-4)`.

use crate::error::{Error, Result};

/// Smallest factor before normalisation.
const LEAST: f32 = 1e-4;

/// `wm`: the mean over all outputs of `|W| / max|W in its group|`, for each input channel.
///
/// # Shapes
/// - weights: layers that share an input, `(rows, columns)` each
/// - out: `(columns)`
///
/// # Errors
/// [`Error::Length`] for values that are not whole rows of whole groups.
pub fn weight_means(weights: &[&[f32]], columns: usize, group_size: usize) -> Result<Vec<f32>> {
    let mut sums = vec![0.0f64; columns];
    let mut rows = 0;
    let whole = columns > 0 && group_size > 0 && columns.is_multiple_of(group_size);
    for weight in weights {
        if !whole || !weight.len().is_multiple_of(columns) {
            return Err(Error::Length {
                what: "weight",
                got: weight.len(),
                want: format!("rows of {columns} in groups of {group_size}"),
            });
        }
        rows += weight.len() / columns;
        for row in weight.chunks_exact(columns) {
            let groups = row.chunks_exact(group_size);
            for (group, sums) in groups.zip(sums.chunks_exact_mut(group_size)) {
                let largest = group.iter().fold(0.0f32, |m, w| m.max(w.abs())) + 1e-6;
                for (sum, w) in sums.iter_mut().zip(group) {
                    *sum += f64::from(w.abs() / largest);
                }
            }
        }
    }
    let rows = rows.max(1) as f64;
    Ok(sums.into_iter().map(|sum| (sum / rows) as f32).collect())
}

/// The factors of one exponent, normalised so that largest times smallest is 1.
///
/// What is not finite becomes 1, as upstream.
///
/// # Shapes
/// - activations: `(columns)`, mean or maximum of |x|
/// - weights: `(columns)`, of [`weight_means`]
/// - out: `(columns)`
pub fn candidate(activations: &[f32], weights: &[f32], exponent: f32) -> Vec<f32> {
    let raw = activations.iter().zip(weights).map(|(x, w)| {
        let scale = x.powf(exponent) / (w.powf(1.0 - exponent) + LEAST);
        scale.max(LEAST)
    });
    let mut scales: Vec<f32> = raw.collect();
    let (min, max) = crate::rtn::range(&scales);
    let norm = (max * min).sqrt();
    for scale in &mut scales {
        *scale /= norm;
        if !(scale.is_finite() && *scale > 0.0) {
            *scale = 1.0;
        }
    }
    scales
}

/// SmoothQuant's factors (arXiv 2211.10438, equation 4): `s[k] = max|x[k]|^alpha / max|W[k]|^(1 - alpha)`.
/// Channels without inputs or without weights keep 1.
///
/// # Shapes
/// - activations: `(columns)`, maximum of |x|
/// - weights: layers that share the input, `(rows, columns)` each
/// - out: `(columns)`
pub fn smoothing(activations: &[f32], weights: &[&[f32]], alpha: f32) -> Vec<f32> {
    let mut largest = vec![0.0f32; activations.len()];
    for weight in weights {
        for row in weight.chunks_exact(activations.len().max(1)) {
            let pairs = largest.iter_mut().zip(row);
            pairs.for_each(|(largest, w)| *largest = largest.max(w.abs()));
        }
    }
    let scale = |(x, w): (&f32, f32)| {
        let scale = x.powf(alpha) / w.powf(1.0 - alpha);
        let usable = *x > 0.0 && w > 0.0 && scale.is_finite() && scale > 0.0;
        if usable { scale } else { 1.0 }
    };
    activations.iter().zip(largest).map(scale).collect()
}

/// Multiplies the input channels of a weight: `W[:, k] *= s[k]`.
pub fn multiply_columns(weight: &mut [f32], scales: &[f32]) {
    for row in weight.chunks_exact_mut(scales.len().max(1)) {
        row.iter_mut().zip(scales).for_each(|(w, s)| *w *= s);
    }
}

/// Divides the input channels of a weight.
pub fn divide_columns(weight: &mut [f32], scales: &[f32]) {
    for row in weight.chunks_exact_mut(scales.len().max(1)) {
        row.iter_mut().zip(scales).for_each(|(w, s)| *w /= s);
    }
}

/// Divides the output rows of a weight, or the elements of a bias (`columns` = 1).
pub fn divide_rows(weight: &mut [f32], columns: usize, scales: &[f32]) {
    for (row, s) in weight.chunks_exact_mut(columns.max(1)).zip(scales) {
        row.iter_mut().for_each(|w| *w /= s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_means_are_relative_to_their_group() -> Result<()> {
        let (a, b) = ([1.0, -2.0, 4.0, 8.0], [0.0, 1.0, -1.0, 0.5]);
        let means = weight_means(&[&a, &b], 4, 2)?;
        for (got, want) in means.iter().zip([0.25, 1.0, 0.75, 0.75]) {
            assert!((got - want).abs() < 1e-5, "{means:?}");
        }
        assert!(matches!(
            weight_means(&[&a], 3, 3),
            Err(Error::Length { .. })
        ));
        assert!(matches!(
            weight_means(&[&a], 4, 3),
            Err(Error::Length { .. })
        ));
        Ok(())
    }

    #[test]
    fn smoothing_is_the_formula_of_the_paper() {
        let (a, b) = ([0.25, -8.0, 0.0, 1.0], [-4.0, 2.0, 0.0, -1.0]);
        let x = [9.0, 2.0, 5.0, 0.0];
        let half = smoothing(&x, &[&a, &b], 0.5);
        // sqrt(9 / 4), sqrt(2 / 8); no weights; no inputs.
        assert_eq!(half, [1.5, 0.5, 1.0, 1.0]);
        assert_eq!(smoothing(&x, &[&a, &b], 1.0), [9.0, 2.0, 1.0, 1.0]);
        assert_eq!(smoothing(&x, &[&a, &b], 0.0), [0.25, 0.125, 1.0, 1.0]);
        // After it, input times s⁻¹ and weight times s have the same largest values at 0.5.
        assert_eq!((9.0 / half[0], 4.0 * half[0]), (6.0, 6.0));
    }

    #[test]
    fn largest_times_smallest_is_one() {
        let scales = candidate(&[0.1, 3.0, 0.0, 1.0], &[0.2, 0.4, 0.1, 0.0], 0.5);
        let (min, max) = crate::rtn::range(&scales);
        assert!((min * max - 1.0).abs() < 1e-4, "{scales:?}");
        assert!(
            candidate(&[f32::INFINITY, 1.0], &[1.0, 1.0], 0.5)
                .iter()
                .all(|s| s.is_finite())
        );
    }
}
