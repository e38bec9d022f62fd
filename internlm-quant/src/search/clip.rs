//! How far the range of a group is clipped before it is rounded.
//!
//! The candidates are AutoAWQ's (`_search_best_clip`): for `i` in 0..10 the bound
//! `max|w| · (1 - i/20)`. The error is not sampled but exact: the mean square of what the outputs
//! change by, `dᵀ G d` with the second moments `G` of the group's inputs (`d` = rounded - w). It
//! equals AutoAWQ's loop over all tokens.

use internlm_kernels::{Activation, Compute, Elements, matmul};

use super::statistics::Gram;
use crate::error::Result;
use crate::parallel;
use crate::rtn::{Grid, Grouping, range, rows};

/// Candidates; the last bound is `1 - (CANDIDATES - 1) / STEPS` of the maximum.
const CANDIDATES: usize = 10;
const STEPS: f32 = 20.0;
/// Rows whose candidates are multiplied at once.
const ROWS: usize = 48;

/// The bound of each group of a matrix, as a part of its largest absolute value.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    groups: usize,
    /// `(rows, groups)`, in 0.5..=1
    ratios: Vec<f32>,
}

impl Clip {
    /// The ratio of a group.
    pub fn ratio(&self, row: usize, group: usize) -> f32 {
        self.ratios[row * self.groups + group]
    }

    /// The mean ratio, 1 where nothing is clipped.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.ratios.iter().map(|&r| f64::from(r)).sum();
        sum / self.ratios.len().max(1) as f64
    }

    /// Clips a matrix: `w = clamp(w, -m, m)`.
    ///
    /// # Shapes
    /// - weight: `(rows, columns)`, the one that was searched
    pub fn apply(&self, weight: &mut [f32]) {
        let size = weight.len() / self.ratios.len().max(1);
        for (group, &ratio) in weight.chunks_exact_mut(size.max(1)).zip(&self.ratios) {
            if ratio < 1.0 {
                let bound = bound(group, ratio);
                group.iter_mut().for_each(|w| *w = w.clamp(-bound, bound));
            }
        }
    }
}

/// `max|w| · ratio`
pub(crate) fn bound(group: &[f32], ratio: f32) -> f32 {
    let (min, max) = range(group);
    (max.max(-min) * ratio).max(0.0)
}

/// The grid of a group after clipping.
pub(crate) fn clipped_grid(group: &[f32], ratio: f32, grouping: Grouping) -> Grid {
    let (min, max) = range(group);
    let bound = (max.max(-min) * ratio).max(0.0);
    let clamp = |v: f32| v.clamp(-bound, bound);
    Grid::asymmetric(clamp(min), clamp(max), grouping.levels()).stored(grouping.scales)
}

/// The bounds with the least error; of equal ones the widest.
///
/// # Shapes
/// - weight: `(rows, columns)`
/// - gram: of inputs of the same width; its blocks hold whole groups
///
/// # Errors
/// [`Error::GroupSize`](crate::Error::GroupSize) and [`Error::Length`](crate::Error::Length) for
/// shapes that don't belong together.
pub fn search(compute: &Compute, weight: &[f32], gram: &Gram, grouping: Grouping) -> Result<Clip> {
    let (columns, size) = (gram.columns(), grouping.group_size);
    grouping.check(columns)?;
    grouping.check(gram.block())?;
    let rows = rows(weight, columns)?;
    let groups = columns / size;
    let searched = parallel::map(compute, groups, |group| -> Result<_> {
        let moments = gram.square(group * size, size);
        let mut ratios = Vec::with_capacity(rows);
        let of_row = |row: usize| &weight[row * columns + group * size..][..size];
        for first in (0..rows).step_by(ROWS) {
            let rows = first..rows.min(first + ROWS);
            let mut changes = Vec::with_capacity(rows.len() * CANDIDATES * size);
            for row in rows {
                for candidate in 0..CANDIDATES {
                    change(of_row(row), ratio(candidate), grouping, &mut changes);
                }
            }
            let errors = quadratic_forms(compute, &changes, &moments, size)?;
            ratios.extend(
                errors
                    .chunks_exact(CANDIDATES)
                    .map(|errors| ratio(least(errors))),
            );
        }
        Ok(ratios)
    });
    let mut ratios = vec![1.0; rows * groups];
    for (group, of_rows) in searched.into_iter().enumerate() {
        for (row, ratio) in of_rows?.into_iter().enumerate() {
            ratios[row * groups + group] = ratio;
        }
    }
    Ok(Clip { groups, ratios })
}

fn ratio(candidate: usize) -> f32 {
    1.0 - candidate as f32 / STEPS
}

/// What rounding with a clipped range changes, added to `to`.
fn change(group: &[f32], ratio: f32, grouping: Grouping, to: &mut Vec<f32>) {
    let grid = clipped_grid(group, ratio, grouping);
    to.extend(group.iter().map(|&w| grid.round(w) - w));
}

/// `dᵀ G d` of each row of `changes`.
fn quadratic_forms(
    compute: &Compute,
    changes: &[f32],
    moments: &[f32],
    size: usize,
) -> Result<Vec<f64>> {
    let count = changes.len() / size;
    let mut products = vec![0.0; changes.len()];
    let w = Elements::F32(moments); // symmetric
    let activation = Activation::F32;
    matmul(
        compute,
        changes,
        w,
        None,
        activation,
        &mut products,
        count,
        size,
        size,
    )?;
    let pairs = changes.chunks_exact(size).zip(products.chunks_exact(size));
    let form = |(d, p): (&[f32], &[f32])| d.iter().zip(p).map(|(d, p)| f64::from(d * p)).sum();
    Ok(pairs.map(form).collect())
}

/// The first of the least.
fn least(errors: &[f64]) -> usize {
    let mut best = 0;
    for (index, error) in errors.iter().enumerate() {
        if *error < errors[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtn::ScaleType;

    /// Mean over tokens of the squared change of one output, by the tokens themselves.
    fn loop_over_tokens(x: &[f32], change: &[f32], columns: usize, first: usize) -> f64 {
        let of_token = |row: &[f32]| {
            let sum: f64 = row[first..]
                .iter()
                .zip(change)
                .map(|(x, d)| f64::from(x * d))
                .sum();
            sum * sum
        };
        x.chunks(columns).map(of_token).sum::<f64>() / (x.len() / columns) as f64
    }

    #[test]
    fn the_loss_is_that_of_a_loop_over_tokens() -> Result<()> {
        let compute = Compute::new(Some(2))?;
        let (rows, columns, tokens) = (7, 32, 50);
        let grouping = Grouping {
            scales: ScaleType::F32,
            ..Grouping::awq(16)
        };
        // Weights with outliers, inputs whose channels differ.
        let weight: Vec<f32> = (0..rows * columns)
            .map(|i| (i as f32 * 1.7).sin() * if i % 13 == 0 { 4.0 } else { 1.0 })
            .collect();
        let x: Vec<f32> = (0..tokens * columns)
            .map(|i| (i as f32 * 0.9).cos() * (1 + i % columns) as f32)
            .collect();
        let mut gram = Gram::new(columns, 16)?;
        gram.add(&compute, &x)?;
        let clip = search(&compute, &weight, &gram, grouping)?;
        let mut clipped = 0;
        for row in 0..rows {
            for group in 0..2 {
                let values = &weight[row * columns + group * 16..][..16];
                let loss = |ratio: f32| {
                    let mut d = Vec::new();
                    change(values, ratio, grouping, &mut d);
                    loop_over_tokens(&x, &d, columns, group * 16)
                };
                let got = loss(clip.ratio(row, group));
                for candidate in 0..CANDIDATES {
                    assert!(got <= loss(ratio(candidate)) * 1.001);
                }
                clipped += usize::from(clip.ratio(row, group) < 1.0);
            }
        }
        assert!(clipped > 0 && clip.mean() < 1.0);
        let mut applied = weight.clone();
        clip.apply(&mut applied);
        for (index, (a, w)) in applied.iter().zip(&weight).enumerate() {
            let (row, group) = (index / columns, index % columns / 16);
            let values = &weight[row * columns + group * 16..][..16];
            let bound = bound(values, clip.ratio(row, group));
            assert_eq!(*a, w.clamp(-bound, bound));
        }
        Ok(())
    }
}
