//! Products of many rows: codes are unpacked once for all of them.
//!
//! What one row's result is made of, and in which order, is as in [`block`](super::dot): a group's steps, its
//! weighing, the next group.

use std::ops::Range;

use super::avx2::prefetch;
use super::dot::{Dot, Rows, Start};
use super::layout::{STEP, ZeroType};
use super::product::Task;

/// Unpacked steps that the first-level cache holds beside the activations of some rows: 16 KiB of the widest
/// codes. And rows that go over them, whose activations of these steps the second-level cache holds.
const STEPS: usize = 64;
const ROWS: usize = 128;

/// Whether there is a group, and its steps fit.
pub(super) fn fits(task: &Task<'_>) -> bool {
    let layout = task.matrix.layout();
    let steps = layout.padded_group / STEP;
    !task.tiles.is_empty() && layout.groups > 0 && (1..=STEPS).contains(&steps)
}

/// A task, all of it; [`fits`] said so.
#[inline(always)]
pub(super) fn run<D: Dot>(d: D, task: &Task<'_>) {
    let layout = *task.matrix.layout();
    let group_steps = layout.padded_group / STEP;
    let parts = layout.groups.div_ceil(STEPS / group_steps);
    let groups_at_once = layout.groups.div_ceil(parts);
    let mut stage = Stage::new(d, task);
    for tile in task.tiles.clone() {
        for start in task.rows.clone().step_by(ROWS) {
            let rows = start..task.rows.end.min(start + ROWS);
            let mut totals = [d.zero(); ROWS];
            for group in (0..layout.groups).step_by(groups_at_once) {
                let groups = group..layout.groups.min(group + groups_at_once);
                stage.fill(d, task, tile, groups.clone());
                let mut row = 0;
                while row < rows.len() {
                    let (at, totals) = (rows.start + row, &mut totals[row..]);
                    row += match rows.len() - row {
                        8.. => stage.add::<8>(d, task, at, groups.clone(), totals),
                        4.. => stage.add::<4>(d, task, at, groups.clone(), totals),
                        2.. => stage.add::<2>(d, task, at, groups.clone(), totals),
                        _ => stage.add::<1>(d, task, at, groups.clone(), totals),
                    };
                }
            }
            for (row, totals) in rows.zip(totals) {
                task.store(row, tile, &d.read(totals));
            }
        }
    }
}

/// Some groups of a tile, unpacked.
struct Stage<D: Dot> {
    codes: [D::Codes; STEPS],
    headers: [D::Header; STEPS],
}

impl<D: Dot> Stage<D> {
    /// Memory for them, filled with the task's first; [`fits`] said that there is one.
    #[inline(always)]
    fn new(d: D, task: &Task<'_>) -> Self {
        let layout = task.matrix.layout();
        let header = &task.matrix.headers(task.tiles.start)[..layout.header_bytes()];
        let step = &task.matrix.steps(task.tiles.start)[..D::STEP.1];
        // SAFETY: the slices hold a header and a step, aligned by layout.
        unsafe {
            let header = d.header(header.as_ptr(), layout.shape.scales, layout.shape.zeros);
            Self {
                codes: [d.codes(step.as_ptr(), header); STEPS],
                headers: [header; STEPS],
            }
        }
    }

    #[inline(always)]
    fn fill(&mut self, d: D, task: &Task<'_>, tile: usize, groups: Range<usize>) {
        let layout = task.matrix.layout();
        let (steps, headers) = (task.matrix.steps(tile), task.matrix.headers(tile));
        let ahead = layout.codes(groups.len());
        let mut to = 0;
        for (group, kept) in groups.zip(&mut self.headers) {
            let header = &headers[layout.header(group)..][..layout.header_bytes()];
            let count = layout.steps(group);
            let codes = &steps[layout.codes(group)..][..count * D::STEP.1];
            // SAFETY: the slices hold a header and so many steps, aligned by layout.
            unsafe {
                *kept = d.header(header.as_ptr(), layout.shape.scales, layout.shape.zeros);
                for step in 0..count {
                    let from = codes.as_ptr().add(step * D::STEP.1);
                    prefetch(from.wrapping_add(ahead), false);
                    self.codes[to] = d.codes(from, *kept);
                    to += 1;
                }
            }
        }
    }

    /// Adds the groups to the totals of `M` rows from `row` on. Returns `M`.
    #[inline(always)]
    fn add<const M: usize>(
        &self,
        d: D,
        task: &Task<'_>,
        row: usize,
        groups: Range<usize>,
        totals: &mut [D::Totals],
    ) -> usize {
        let layout = task.matrix.layout();
        let zeros = layout.shape.zeros;
        let minimums = zeros == ZeroType::Minimums;
        let Rows {
            values,
            scales,
            x_sums,
        } = Rows::<M>::new::<D>(task, row);
        let totals = &mut totals[..M];
        let mut from = 0;
        for (at, group) in groups.enumerate() {
            let x_at = group * (layout.padded_group / STEP) * D::STEP.0;
            let header = self.headers[at];
            let codes = &self.codes[from..][..layout.steps(group)];
            from += codes.len();
            // SAFETY: the group is one of the layout, so its steps lie in each row of activations; `scales` and
            // `x_sums` hold a number for each group ([`Rows`]).
            unsafe {
                // Loops, not closures: those are functions without the instructions.
                let mut sums = [d.start(header, Start::of(zeros, *x_sums[0].add(group))); M];
                for i in 1..M {
                    sums[i] = d.start(header, Start::of(zeros, *x_sums[i].add(group)));
                }
                for (step, codes) in codes.iter().enumerate() {
                    for i in 0..M {
                        let x = d.x(values[i].add(x_at + step * D::STEP.0));
                        sums[i] = d.add(sums[i], *codes, x);
                    }
                }
                for i in 0..M {
                    let x = (*scales[i].add(group), *x_sums[i].add(group));
                    totals[i] = d.finish(totals[i], sums[i], header, x, minimums);
                }
            }
        }
        M
    }
}
