//! Rounding that compensates (GPTQ, arXiv 2210.17323; reference `fasterquant` of IST-DASLab/gptq).
//!
//! Inputs are rounded one after the other; what rounding one of them changes in the outputs is taken up
//! by the inputs that are not rounded yet. Those with the largest mean square come first, while there are
//! many left to make up for them ("act order"). Groups are of neighbouring inputs all the same, and their
//! grids are fixed before the first rounding ("static groups"), so the result is an ordinary matrix of
//! codes, without an order of its own.

use internlm_kernels::{Activation, Compute, Elements, matmul};

use super::cholesky;
use super::clip::{Clip, clipped_grid};
use super::statistics::Gram;
use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::parallel;
use crate::rtn::{Grid, Grouping, check_finite, check_scales, rows};

/// Inputs whose errors are gathered before the inputs after them are updated.
const BLOCK: usize = 128;
/// Rows of a task.
const ROWS: usize = 32;

/// The spread of errors, cut into blocks of inputs.
#[derive(Debug)]
pub struct Spread {
    columns: usize,
    group_size: usize,
    /// The input that is rounded at each turn.
    order: Vec<usize>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    first: usize,
    width: usize,
    /// `(width, width)`: within the block.
    inside: Vec<f32>,
    /// `(columns after the block, width)`: to the inputs after it.
    after: Vec<f32>,
}

impl Spread {
    /// From the second moments of the inputs.
    ///
    /// `damping` is the part of the mean square that is added to each; 0.01 is usual.
    ///
    /// # Errors
    /// [`Error::GroupSize`] where groups don't divide the inputs or moments are kept of blocks only,
    /// [`Error::NotPositive`] for moments that are not finite.
    pub fn new(compute: &Compute, gram: &Gram, group_size: usize, damping: f64) -> Result<Self> {
        let columns = gram.columns();
        Grouping::awq(group_size).check(columns)?;
        if gram.block() != columns {
            return Err(Error::GroupSize {
                group_size: gram.block(),
                in_features: columns,
                offers: vec![columns],
            });
        }
        let moments = gram.square(0, columns);
        let mut order = Vec::from_iter(0..columns);
        let power = |column: usize| moments[column * columns + column];
        order.sort_by(|&a, &b| power(b).total_cmp(&power(a)));
        let ordered = order.iter().flat_map(|&row| {
            let row = &moments[row * columns..][..columns];
            order.iter().map(|&column| row[column])
        });
        let ordered = Vec::from_iter(ordered);
        let factor = cholesky::inverse_factor(compute, &ordered, columns, damping)?;
        let blocks = (0..columns).step_by(BLOCK).map(|first| {
            let width = BLOCK.min(columns - first);
            let row = |j: usize| &factor[(first + j) * columns..][..columns];
            let end = first + width;
            Block {
                first,
                width,
                inside: (0..width)
                    .flat_map(|j| row(j)[first..end].to_vec())
                    .collect(),
                after: (end..columns)
                    .flat_map(|k| (0..width).map(move |j| row(j)[k]))
                    .collect(),
            }
        });
        Ok(Self {
            columns,
            group_size,
            blocks: blocks.collect(),
            order,
        })
    }

    /// Rounds a matrix; `clip` says how far the range of each group shrinks.
    ///
    /// # Shapes
    /// - weight: `(rows, columns)`
    ///
    /// # Errors
    /// [`Error::Length`] for another width, [`Error::GroupSize`] for groups of another size than the
    /// spread's, [`Error::NotFinite`] for weights that are not finite.
    pub fn round(
        &self,
        compute: &Compute,
        weight: &[f32],
        clip: Option<&Clip>,
        grouping: Grouping,
    ) -> Result<Codes> {
        let columns = self.columns;
        if grouping.group_size != self.group_size {
            return Err(Error::GroupSize {
                group_size: grouping.group_size,
                in_features: columns,
                offers: vec![self.group_size],
            });
        }
        grouping.check(columns)?;
        let rows = rows(weight, columns)?;
        check_finite("weight", weight)?;
        let tasks = parallel::map(compute, rows.div_ceil(ROWS), |task| -> Result<_> {
            let range = task * ROWS..rows.min((task + 1) * ROWS);
            let weight = &weight[range.start * columns..range.end * columns];
            let mut sweep = Sweep::new(self, weight, range.start, clip, grouping);
            for block in &self.blocks {
                sweep.block(compute, block, self, grouping)?;
            }
            Ok((sweep.codes, sweep.grids))
        });
        let mut codes = Vec::with_capacity(weight.len());
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        for task in tasks {
            let (task_codes, grids) = task?;
            codes.extend(task_codes);
            scales.extend(grids.iter().map(|grid| grid.scale));
            zeros.extend(grids.iter().map(|grid| grid.zero as u8));
        }
        check_scales(&scales)?;
        Ok(Codes {
            rows,
            columns,
            bits: grouping.bits,
            group_size: grouping.group_size,
            codes,
            scales,
            zeros: Zeros::Points(zeros),
            order: None,
        })
    }
}

/// Some rows on their way.
struct Sweep {
    /// `(rows, columns)` in the order of rounding, compensated so far.
    weight: Vec<f32>,
    /// `(rows, columns)`
    codes: Vec<u8>,
    /// `(rows, groups)`
    grids: Vec<Grid>,
}

impl Sweep {
    /// Rows of a matrix, `first_row` being the first of them.
    fn new(
        spread: &Spread,
        weight: &[f32],
        first_row: usize,
        clip: Option<&Clip>,
        grouping: Grouping,
    ) -> Self {
        let (columns, size) = (spread.columns, grouping.group_size);
        let groups = columns / size;
        let grids = weight.chunks_exact(size).enumerate().map(|(index, group)| {
            let ratio = clip.map_or(1.0, |clip| {
                clip.ratio(first_row + index / groups, index % groups)
            });
            clipped_grid(group, ratio, grouping)
        });
        let ordered = weight
            .chunks_exact(columns)
            .flat_map(|row| spread.order.iter().map(|&column| row[column]));
        Self {
            grids: grids.collect(),
            weight: ordered.collect(),
            codes: vec![0; weight.len()],
        }
    }

    /// Rounds the inputs of a block, and spreads their errors over those after it.
    fn block(
        &mut self,
        compute: &Compute,
        block: &Block,
        spread: &Spread,
        grouping: Grouping,
    ) -> Result<()> {
        let &Block { first, width, .. } = block;
        let columns = spread.columns;
        let (size, groups) = (grouping.group_size, columns / grouping.group_size);
        let rows = self.weight.len() / columns;
        let mut errors = vec![0.0; rows * width];
        for (row, errors) in errors.chunks_exact_mut(width).enumerate() {
            let weight = &mut self.weight[row * columns + first..][..width];
            for (j, &column) in spread.order[first..][..width].iter().enumerate() {
                let grid = self.grids[row * groups + column / size];
                let code = grid.code(weight[j]);
                self.codes[row * columns + column] = code as u8;
                let factor = &block.inside[j * width..][..width];
                let error = (weight[j] - grid.value(code)) / factor[j];
                for (w, u) in weight[j + 1..].iter_mut().zip(&factor[j + 1..]) {
                    *w -= error * u;
                }
                errors[j] = error;
            }
        }
        let after = columns - first - width;
        let mut updates = vec![0.0; rows * after];
        let w = Elements::F32(&block.after);
        let activation = Activation::F32;
        matmul(
            compute,
            &errors,
            w,
            None,
            activation,
            &mut updates,
            rows,
            after,
            width,
        )?;
        for (row, update) in updates.chunks_exact(after.max(1)).enumerate() {
            let weight = &mut self.weight[row * columns + first + width..][..after];
            weight.iter_mut().zip(update).for_each(|(w, u)| *w -= u);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtn::asymmetric;

    /// Inputs that depend on each other, as those of real layers.
    fn inputs(tokens: usize, columns: usize) -> Vec<f32> {
        let mut x = Vec::new();
        for t in 0..tokens {
            let base = [
                (t as f32 * 0.7).sin(),
                (t as f32 * 1.3).cos(),
                (t as f32 * 0.2).sin(),
            ];
            for c in 0..columns {
                let own = ((t * 131 + c * 37) as f32 * 0.913).sin();
                x.push(base[c % 3] * (1.0 + (c % 5) as f32) + 0.3 * own);
            }
        }
        x
    }

    fn output_error(x: &[f32], weight: &[f32], codes: &Codes) -> f64 {
        let (columns, rounded) = (codes.columns, codes.dequantize());
        let mut sum = 0.0;
        for token in x.chunks(columns) {
            for (w, q) in weight.chunks(columns).zip(rounded.chunks(columns)) {
                let diff: f32 = token
                    .iter()
                    .zip(w.iter().zip(q))
                    .map(|(x, (w, q))| x * (w - q))
                    .sum();
                sum += f64::from(diff * diff);
            }
        }
        sum
    }

    #[track_caller]
    fn check(rows: usize, columns: usize, group_size: usize) {
        let compute = Compute::new(Some(2)).unwrap();
        let x = inputs(300, columns);
        let weight: Vec<f32> = (0..rows * columns)
            .map(|i| (i as f32 * 1.93).sin())
            .collect();
        let mut gram = Gram::new(columns, columns).unwrap();
        gram.add(&compute, &x).unwrap();
        let grouping = Grouping::awq(group_size);
        let spread = Spread::new(&compute, &gram, group_size, 0.01).unwrap();
        let codes = spread.round(&compute, &weight, None, grouping).unwrap();
        codes.check().unwrap();
        let nearest = asymmetric(&compute, &weight, columns, grouping).unwrap();
        let (ours, rtn) = (
            output_error(&x, &weight, &codes),
            output_error(&x, &weight, &nearest),
        );
        assert!(ours < 0.5 * rtn, "{ours} against {rtn}");
        let one = Compute::new(Some(1)).unwrap();
        assert_eq!(spread.round(&one, &weight, None, grouping).unwrap(), codes);
    }

    #[test]
    fn outputs_change_less_than_by_rounding_to_nearest() {
        check(5, 32, 16);
        check(40, 96, 32);
        check(33, 320, 64); // blocks of 128, 128 and 64
        check(9, 288, 96); // groups that don't divide 128
        check(3, 256, 256); // groups larger than a block
    }

    #[test]
    fn independent_inputs_are_rounded_to_nearest() {
        let compute = Compute::new(Some(1)).unwrap();
        let columns = 32;
        // One input at a time: the moments are diagonal.
        let x: Vec<f32> = (0..columns * columns)
            .map(|i| f32::from(u8::from(i / columns == i % columns)))
            .collect();
        let mut gram = Gram::new(columns, columns).unwrap();
        gram.add(&compute, &x).unwrap();
        let weight: Vec<f32> = (0..4 * columns).map(|i| (i as f32 * 1.93).sin()).collect();
        let grouping = Grouping {
            scales: crate::rtn::ScaleType::F32,
            ..Grouping::awq(16)
        };
        let spread = Spread::new(&compute, &gram, 16, 0.01).unwrap();
        let codes = spread.round(&compute, &weight, None, grouping).unwrap();
        assert_eq!(
            codes,
            asymmetric(&compute, &weight, columns, grouping).unwrap()
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let compute = Compute::new(Some(1)).unwrap();
        let mut gram = Gram::new(32, 32).unwrap();
        gram.add(&compute, &inputs(40, 32)).unwrap();
        let blocks = Gram::new(32, 16).unwrap();
        let refused = |r: Result<Spread>| matches!(r, Err(Error::GroupSize { .. }));
        assert!(refused(Spread::new(&compute, &blocks, 16, 0.01)));
        assert!(refused(Spread::new(&compute, &gram, 24, 0.01)));
        let spread = Spread::new(&compute, &gram, 16, 0.01).unwrap();
        let round =
            |weight: &[f32], size| spread.round(&compute, weight, None, Grouping::awq(size));
        assert!(matches!(round(&[0.0; 33], 16), Err(Error::Length { .. })));
        assert!(matches!(round(&[0.0; 32], 8), Err(Error::GroupSize { .. })));
        assert!(matches!(
            round(&[f32::NAN; 32], 16),
            Err(Error::NotFinite { .. })
        ));
    }
}
