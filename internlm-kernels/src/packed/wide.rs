//! Products in f32.
//!
//! 16 outputs are lanes, so a sum is one chain of multiply-adds along a block of k, and a result the
//! sum of its blocks in order: the same for any number of rows and on any instruction set with fused
//! multiply-adds. Few rows take weights from the registers in which they are widened; more rows go over
//! a stage of them in the first-level cache.

use std::ops::Range;

use super::layout::{Layout, STEP, ScaleType, TILE};
use super::matrix::PackedMatrix;
use super::product::Task;
use super::widening::Widening;
use crate::memory::LINE;
use crate::simd::{Kernel, Simd};

/// Inputs of a stage, with padding.
pub(super) const K_BLOCK: usize = 64;
/// Tiles side by side in a stage.
const STAGE_TILES: usize = 4;

/// Values of weights: one input after another, its outputs side by side.
#[repr(align(64))]
pub(super) struct Stage<const TILES: usize>(pub(super) [[[f32; TILE]; TILES]; K_BLOCK]);

/// A task of a product in f32.
pub(super) struct Wide<'a>(pub(super) Task<'a>);

/// Rows that take weights from registers.
const FEW_ROWS: usize = 4;

/// Bytes of codes that are asked for ahead of their use.
const AHEAD: usize = 2048;
/// The same of headers.
pub(super) const HEADERS_AHEAD: usize = 512;

/// Cuts a block of inputs, counted with padding, at the ends of groups: group, its steps, and where they
/// begin in the block.
#[inline(always)]
pub(super) fn pieces(
    matrix: &PackedMatrix,
    block: Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
    let padded_group = matrix.layout().padded_group;
    let mut k = block.start;
    std::iter::from_fn(move || {
        let group = (k < block.end).then(|| k / padded_group)?;
        let (first, start) = (k, group * padded_group);
        k = block.end.min(start + padded_group);
        let steps = (first - start) / STEP..(k - start) / STEP;
        Some((group, steps, first - block.start))
    })
}

impl Kernel for Wide<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Wide(task) = self;
        task.begin();
        let shape = task.matrix.shape();
        match (shape.bits, shape.scales) {
            (4, ScaleType::F16) => run::<S, 4, true>(s, &task),
            (4, ScaleType::F32) => run::<S, 4, false>(s, &task),
            (_, ScaleType::F16) => run::<S, 8, true>(s, &task),
            (_, ScaleType::F32) => run::<S, 8, false>(s, &task),
        }
    }
}

#[inline(always)]
fn run<S: Simd, const BITS: u32, const FUSED: bool>(s: S, task: &Task<'_>) {
    if task.rows.len() > FEW_ROWS {
        return staged::<S, BITS, FUSED>(s, task);
    }
    let mut row = task.rows.start;
    while row < task.rows.end {
        row += match (task.rows.end - row, S::LANES) {
            (4.., 16) => direct::<S, BITS, FUSED, 4, 4>(s, task, row),
            (2.., 16) => direct::<S, BITS, FUSED, 2, 4>(s, task, row),
            (_, 16) => direct::<S, BITS, FUSED, 1, 4>(s, task, row),
            (4.., _) => direct::<S, BITS, FUSED, 4, 2>(s, task, row),
            (2.., _) => direct::<S, BITS, FUSED, 2, 2>(s, task, row),
            _ => direct::<S, BITS, FUSED, 1, 2>(s, task, row),
        };
    }
}

/// `M` rows from `row` on, `V` vectors at a time. Returns `M`.
#[inline(always)]
fn direct<S: Simd, const BITS: u32, const FUSED: bool, const M: usize, const V: usize>(
    s: S,
    task: &Task<'_>,
    row: usize,
) -> usize {
    let layout = task.matrix.layout();
    let stride = task.x.stride;
    let x = &task.x.values[row * stride..(row + M) * stride];
    assert!(layout.padded_k <= stride, "rows of all inputs");
    for column in (task.tiles.start * TILE..task.tiles.end * TILE).step_by(V * S::LANES) {
        for k in (0..layout.padded_k).step_by(K_BLOCK) {
            let block = k..layout.padded_k.min(k + K_BLOCK);
            let mut sums = [[s.zero(); V]; M];
            for (group, steps, from) in pieces(task.matrix, block) {
                // Vectors beyond the last tile are computed as its own, and dropped.
                let place = |v: usize| {
                    let column = column + v * S::LANES;
                    let tile = (column / TILE).min(task.tiles.end - 1);
                    (tile, column % TILE)
                };
                let header = task.matrix.header(place(0).0, group);
                let mut codes = [header.as_ptr(); V];
                let first = Widening::<S::V, BITS, FUSED>::read(s, layout, header, place(0).1);
                let mut widening = [first; V];
                for v in 0..V {
                    let (tile, lane) = place(v);
                    let header = task.matrix.header(tile, group);
                    s.prefetch(header.as_ptr().wrapping_add(HEADERS_AHEAD));
                    widening[v] = Widening::read(s, layout, header, lane);
                    codes[v] = task.matrix.codes(tile, group)[4 * lane..].as_ptr();
                }
                for (index, step) in steps.enumerate() {
                    let at = step * layout.step();
                    for codes in codes {
                        s.prefetch_once(codes.wrapping_add(at + AHEAD));
                    }
                    for input in 0..STEP {
                        // SAFETY: a step of the group, and of the padded inputs of each row.
                        unsafe {
                            let x = x.as_ptr().add(k + from + index * STEP + input);
                            let mut xs = [s.splat(*x); M];
                            for i in 1..M {
                                xs[i] = s.splat(*x.add(i * stride));
                            }
                            for v in 0..V {
                                let w = widening[v].value(s, codes[v].add(at), input);
                                for i in 0..M {
                                    sums[i][v] = s.fma(xs[i], w, sums[i][v]);
                                }
                            }
                        }
                    }
                }
            }
            for i in 0..M {
                task.add_vectors(s, row + i, column, sums[i]);
            }
        }
    }
    M
}

/// All rows, over stages of widened weights.
#[inline(always)]
fn staged<S: Simd, const BITS: u32, const FUSED: bool>(s: S, task: &Task<'_>) {
    let mut stage = Stage([[[0.0; TILE]; STAGE_TILES]; K_BLOCK]);
    let layout = task.matrix.layout();
    let padded_k = layout.padded_k;
    for first in task.tiles.clone().step_by(STAGE_TILES) {
        let tiles = first..task.tiles.end.min(first + STAGE_TILES);
        for k in (0..padded_k).step_by(K_BLOCK) {
            let block = k..padded_k.min(k + K_BLOCK);
            for (at, tile) in tiles.clone().enumerate() {
                for (group, steps, to) in pieces(task.matrix, block.clone()) {
                    let stage = &mut stage.0[to..to + steps.len() * STEP];
                    let header = task.matrix.header(tile, group);
                    let codes = task.matrix.codes(tile, group);
                    let codes = &codes[steps.start * layout.step()..steps.end * layout.step()];
                    widen::<S, BITS, FUSED>(s, layout, header, codes, stage, at);
                }
            }
            for tile in tiles.clone() {
                let next = (k + K_BLOCK).min(padded_k)..(k + 2 * K_BLOCK).min(padded_k);
                for (group, steps, _) in pieces(task.matrix, next) {
                    s.prefetch(task.matrix.header(tile, group).as_ptr());
                    let codes = task.matrix.codes(tile, group).as_ptr();
                    for at in (steps.start * layout.step()..steps.end * layout.step()).step_by(LINE)
                    {
                        s.prefetch(codes.wrapping_add(at));
                    }
                }
            }
            s.call(AddBlock {
                task,
                stage: &stage,
                tiles: tiles.clone(),
                block,
            });
        }
    }
}

/// Widens steps of a tile, as tile `at` of a stage.
#[inline(always)]
fn widen<S: Simd, const BITS: u32, const FUSED: bool>(
    s: S,
    layout: &Layout,
    header: &[u8],
    codes: &[u8],
    stage: &mut [[[f32; TILE]; STAGE_TILES]],
    at: usize,
) {
    for lane in (0..TILE).step_by(S::LANES) {
        let widening = Widening::<S::V, BITS, FUSED>::read(s, layout, header, lane);
        let steps = codes.chunks_exact(layout.step());
        for (step, stage) in steps.zip(stage.as_chunks_mut::<STEP>().0) {
            for input in 0..STEP {
                // SAFETY: a whole step; a tile of the stage is 16 numbers, and `lane + LANES <= 16`.
                unsafe {
                    let value = widening.value(s, step.as_ptr().add(4 * lane), input);
                    s.store(stage[input][at].as_mut_ptr().add(lane), value);
                }
            }
        }
    }
}

/// Adds the products of a stage to all rows.
struct AddBlock<'a> {
    task: &'a Task<'a>,
    stage: &'a Stage<STAGE_TILES>,
    tiles: Range<usize>,
    block: Range<usize>,
}

impl Kernel for AddBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        add_block(self.task, s, self.stage, self.tiles, self.block);
    }
}

/// Adds the products of a stage to all rows.
#[inline(always)]
fn add_block<S: Simd>(
    task: &Task<'_>,
    s: S,
    stage: &Stage<STAGE_TILES>,
    tiles: Range<usize>,
    block: Range<usize>,
) {
    let mut row = task.rows.start;
    while row < task.rows.end {
        let (tiles, block) = (tiles.clone(), block.clone());
        // As many sums as hide the latency of an addition and fit 16 or 32 registers.
        row += match (task.rows.end - row, S::LANES) {
            (4.., 16) => add_rows::<S, 4, 4>(task, s, stage, tiles, block, row),
            (6.., _) => add_rows::<S, 6, 2>(task, s, stage, tiles, block, row),
            (2.., _) => add_rows::<S, 2, 4>(task, s, stage, tiles, block, row),
            (_, 16) => add_rows::<S, 1, 4>(task, s, stage, tiles, block, row),
            _ => add_rows::<S, 1, 8>(task, s, stage, tiles, block, row),
        };
    }
}

/// `M` rows, `V` vectors at a time. Returns `M`.
#[inline(always)]
fn add_rows<S: Simd, const M: usize, const V: usize>(
    task: &Task<'_>,
    s: S,
    stage: &Stage<STAGE_TILES>,
    tiles: Range<usize>,
    block: Range<usize>,
    row: usize,
) -> usize {
    let stride = task.x.stride;
    let x = &task.x.values[row * stride..(row + M) * stride];
    let len = block.len();
    assert!(
        len <= K_BLOCK && block.end <= stride,
        "a block of the padded inputs"
    );
    for at in (0..tiles.len() * TILE).step_by(V * S::LANES) {
        let mut sums = [[s.zero(); V]; M];
        for k in 0..len {
            // SAFETY: `k < len <= K_BLOCK` and `at + V * LANES` is at most the width of a stage,
            // as both are powers of two up to it; x holds `M` rows of `stride >= block.end` elements.
            unsafe {
                let w = stage.0.as_ptr().add(k).cast::<f32>().add(at);
                let mut ws = [s.load(w); V];
                for v in 1..V {
                    ws[v] = s.load(w.add(v * S::LANES));
                }
                for i in 0..M {
                    let x = s.splat(*x.as_ptr().add(i * stride + block.start + k));
                    for v in 0..V {
                        sums[i][v] = s.fma(x, ws[v], sums[i][v]);
                    }
                }
            }
        }
        for i in 0..M {
            task.add_vectors(s, row + i, tiles.start * TILE + at, sums[i]);
        }
    }
    M
}
