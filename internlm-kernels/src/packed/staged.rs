//! Products of many rows: codes are unpacked once for all of them.
//!
//! What one row's result is made of, and in which order, is as in [`block`](super::dot): a group's steps, its
//! weighing, the next group.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::avx2::prefetch;
use super::dot::{Dot, Many, Rows, Start};
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
    let mut stage = Stage::new();
    let mut totals = [d.zero(); ROWS];
    for tile in task.tiles.clone() {
        for start in task.rows.clone().step_by(ROWS) {
            let rows = start..task.rows.end.min(start + ROWS);
            for totals in &mut totals[..rows.len()] {
                *totals = d.zero();
            }
            for group in (0..layout.groups).step_by(groups_at_once) {
                let groups = group..layout.groups.min(group + groups_at_once);
                stage.fill(d, task, tile, groups.clone());
                let mut row = 0;
                while row < rows.len() {
                    let (at, totals) = (rows.start + row, &mut totals[row..]);
                    let groups = groups.clone();
                    // SAFETY: it was filled with these groups.
                    row += unsafe {
                        match (rows.len() - row, D::MANY) {
                            (8.., Many::Staged(8)) => stage.add::<8>(d, task, at, groups, totals),
                            (4.., _) => stage.add::<4>(d, task, at, groups, totals),
                            (2.., _) => stage.add::<2>(d, task, at, groups, totals),
                            _ => stage.add::<1>(d, task, at, groups, totals),
                        }
                    };
                }
            }
            for (row, totals) in rows.zip(&totals) {
                task.store(row, tile, &d.read(*totals));
            }
        }
    }
}

/// Some groups of a tile, unpacked: as many as [`Stage::fill`] was last called with.
struct Stage<D: Dot> {
    codes: [MaybeUninit<D::Codes>; STEPS],
    headers: [MaybeUninit<D::Header>; STEPS],
}

impl<D: Dot> Stage<D> {
    #[inline(always)]
    fn new() -> Self {
        Self {
            codes: [const { MaybeUninit::uninit() }; STEPS],
            headers: [const { MaybeUninit::uninit() }; STEPS],
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
                let header = d.header(header.as_ptr(), layout.shape.scales, layout.shape.zeros);
                kept.write(header);
                for step in 0..count {
                    let from = codes.as_ptr().add(step * D::STEP.1);
                    prefetch(from.wrapping_add(ahead), false);
                    self.codes[to].write(d.codes(from, header));
                    to += 1;
                }
            }
        }
    }

    /// Adds the groups to the totals of `M` rows from `row` on. Returns `M`.
    ///
    /// # Safety
    /// The stage must have been filled with these groups.
    #[inline(always)]
    unsafe fn add<const M: usize>(
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
            let codes = &self.codes[from..][..layout.steps(group)];
            from += codes.len();
            // SAFETY: the groups are those that the stage was filled with; the group is one of the layout, so its
            // steps lie in each row of activations; `scales` and `x_sums` hold a number for each group ([`Rows`]).
            unsafe {
                let header = self.headers[at].assume_init();
                // Loops, not closures: those are functions without the instructions.
                let mut sums = [d.start(header, Start::of(zeros, *x_sums[0].add(group))); M];
                for i in 1..M {
                    sums[i] = d.start(header, Start::of(zeros, *x_sums[i].add(group)));
                }
                let mut x_at = x_at;
                for codes in codes.chunks(D::FEW_STEPS) {
                    let mut few = [d.few(sums[0]); M];
                    for i in 1..M {
                        few[i] = d.few(sums[i]);
                    }
                    for codes in codes {
                        for i in 0..M {
                            few[i] = d.add(few[i], codes.assume_init(), d.x(values[i].add(x_at)));
                        }
                        x_at += D::STEP.0;
                    }
                    for i in 0..M {
                        sums[i] = d.sums(sums[i], few[i]);
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
