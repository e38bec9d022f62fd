//! Products in f32: weights are widened block by block to a stage in the first-level cache, then
//! every row goes over it.
//!
//! 16 outputs are lanes, so a sum is one chain of multiply-adds along a block of k, and a result the
//! sum of its blocks in order: the same for any number of rows and on any instruction set with fused
//! multiply-adds.

use std::ops::Range;

use half::f16;

use super::layout::{LINE, Layout, STEP, ScaleType, TILE, ZeroType};
use super::matrix::PackedMatrix;
use super::product::Task;
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

/// Widens the inputs `block`, counted with padding, of a tile as tile `at` of a stage.
#[inline(always)]
fn widen<S: Simd>(
    s: S,
    matrix: &PackedMatrix,
    tile: usize,
    block: Range<usize>,
    stage: &mut Stage<STAGE_TILES>,
    at: usize,
) {
    let layout = matrix.layout();
    for (group, steps, to) in pieces(matrix, block) {
        let memory = matrix.tile(tile, group);
        let codes = &memory[layout.codes()..][steps.start * layout.step()..];
        let codes = &codes[..steps.len() * layout.step()];
        let stage = &mut stage.0[to..to + steps.len() * STEP];
        // Inputs of a line stand at these bits of its dwords.
        if layout.shape.bits == 4 {
            let shifts = [0, 8, 16, 24, 4, 12, 20, 28];
            widen_lines(s, layout, memory, codes, shifts, 15, stage, at);
        } else {
            let shifts = [0, 8, 16, 24];
            widen_lines(s, layout, memory, codes, shifts, 255, stage, at);
        }
    }
}

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

/// Widens lines of codes, each of `INPUTS` inputs, of the tile that begins `memory`.
#[expect(
    clippy::too_many_arguments,
    reason = "from and to, each with its place"
)]
#[inline(always)]
fn widen_lines<S: Simd, const INPUTS: usize>(
    s: S,
    layout: &Layout,
    memory: &[u8],
    codes: &[u8],
    shifts: [u32; INPUTS],
    mask: u32,
    stage: &mut [[[f32; TILE]; STAGE_TILES]],
    at: usize,
) {
    let header = &memory[..layout.codes()];
    let zeros = &header[layout.zeros()..];
    let points = layout.shape.zeros == ZeroType::Points;
    let mut wide_points = [0.0; TILE];
    if points {
        for (wide, point) in wide_points.iter_mut().zip(zeros) {
            *wide = f32::from(*point);
        }
    }
    for lane in (0..TILE).step_by(S::LANES) {
        // SAFETY: a header holds 16 scales and 16 zeros of these types, and `lane + LANES <= 16`.
        let (scale, zero) = unsafe {
            let scale = match layout.shape.scales {
                ScaleType::F16 => s.load_f16(header.as_ptr().cast::<f16>().add(lane)),
                ScaleType::F32 => s.load(header.as_ptr().cast::<f32>().add(lane)),
            };
            let zero = if points {
                s.load(wide_points.as_ptr().add(lane))
            } else {
                s.load(zeros.as_ptr().cast::<f32>().add(lane))
            };
            (scale, zero)
        };
        let lines = codes.as_chunks::<LINE>().0.iter();
        for (line, stage) in lines.zip(stage.as_chunks_mut::<INPUTS>().0) {
            for input in 0..INPUTS {
                // SAFETY: a line is 16 dwords, a tile of the stage 16 numbers, `lane + LANES <= 16`.
                unsafe {
                    let codes = line.as_ptr().add(4 * lane);
                    let code = s.load_codes(codes, shifts[input], mask);
                    let value = if points {
                        s.mul(s.sub(code, zero), scale)
                    } else {
                        s.add(s.mul(code, scale), zero)
                    };
                    s.store(stage[input][at].as_mut_ptr().add(lane), value);
                }
            }
        }
    }
}

impl Kernel for Wide<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Wide(task) = self;
        task.begin();
        let mut stage = Stage([[[0.0; TILE]; STAGE_TILES]; K_BLOCK]);
        let padded_k = task.matrix.layout().padded_k;
        for first in task.tiles.clone().step_by(STAGE_TILES) {
            let tiles = first..task.tiles.end.min(first + STAGE_TILES);
            for k in (0..padded_k).step_by(K_BLOCK) {
                let block = k..padded_k.min(k + K_BLOCK);
                for (index, tile) in tiles.clone().enumerate() {
                    widen(s, task.matrix, tile, block.clone(), &mut stage, index);
                }
                add_block(&task, s, &stage, tiles.clone(), block);
            }
        }
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
            (4.., _) => add_rows::<S, 4, 2>(task, s, stage, tiles, block, row),
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
        for (i, sums) in sums.into_iter().enumerate() {
            task.add_vectors(s, row + i, tiles.start * TILE + at, sums);
        }
    }
    M
}
