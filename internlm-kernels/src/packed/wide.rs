//! Products in f32: weights are widened block by block to a stage in the first-level cache, then
//! every row goes over it.
//!
//! 16 outputs are lanes, so a sum is one chain of multiply-adds along a block of k, and a result the
//! sum of its blocks in order: the same for any number of rows and on any instruction set with fused
//! multiply-adds.

use std::ops::Range;

use super::layout::{LINE, STEP, TILE};
use super::matrix::{Header, PackedMatrix};
use super::product::Task;
use crate::simd::{Kernel, Simd};

/// Inputs of a stage, with padding.
pub(super) const K_BLOCK: usize = 64;
/// Tiles side by side in a stage.
const STAGE_TILES: usize = 4;
const WIDTH: usize = STAGE_TILES * TILE;

/// Values of weights: one input after another, its outputs side by side.
#[repr(align(64))]
pub(super) struct Stage<const WIDTH: usize>(pub(super) [[f32; WIDTH]; K_BLOCK]);

/// A task of a product in f32.
pub(super) struct Wide<'a>(pub(super) Task<'a>);

/// Widens the inputs `block`, counted with padding, of a tile to columns from `at` on of a stage.
#[inline(always)]
pub(super) fn widen<const WIDTH: usize>(
    matrix: &PackedMatrix,
    tile: usize,
    block: Range<usize>,
    stage: &mut Stage<WIDTH>,
    at: usize,
) {
    let layout = matrix.layout();
    let mut k = block.start;
    while k < block.end {
        let group = k / layout.padded_group;
        let start = group * layout.padded_group;
        let end = block.end.min(start + layout.padded_group);
        let memory = matrix.tile(tile, group);
        let header = Header::read(layout, memory);
        let steps = (k - start) / STEP..(end - start) / STEP;
        let codes =
            &memory[layout.codes()..][steps.start * layout.step()..][..steps.len() * layout.step()];
        let stage = &mut stage.0[k - block.start..end - block.start];
        if layout.shape.bits == 4 {
            for (codes, stage) in codes
                .as_chunks::<LINE>()
                .0
                .iter()
                .zip(stage.as_chunks_mut::<STEP>().0)
            {
                for (j, to) in stage.iter_mut().enumerate() {
                    widen_input(
                        &header,
                        codes,
                        j % 4 * 8 + j / 4 * 4,
                        15,
                        &mut to[at..at + TILE],
                    );
                }
            }
        } else {
            for (codes, stage) in codes
                .as_chunks::<LINE>()
                .0
                .iter()
                .zip(stage.as_chunks_mut::<4>().0)
            {
                for (j, to) in stage.iter_mut().enumerate() {
                    widen_input(&header, codes, j * 8, 255, &mut to[at..at + TILE]);
                }
            }
        }
        k = end;
    }
}

/// Widens one input of 16 outputs, whose codes stand at bit `shift` of their dwords.
#[inline(always)]
fn widen_input(header: &Header, codes: &[u8; LINE], shift: usize, mask: u32, to: &mut [f32]) {
    let code = |lane: usize| {
        let from = 4 * lane;
        let dword = [
            codes[from],
            codes[from + 1],
            codes[from + 2],
            codes[from + 3],
        ];
        u32::from_le_bytes(dword) >> shift & mask
    };
    // The loops are apart for the sake of vectorisation.
    match &header.minimums {
        None => {
            for lane in 0..TILE {
                to[lane] = (code(lane) as i32 - header.points[lane]) as f32 * header.scales[lane];
            }
        }
        Some(minimums) => {
            for lane in 0..TILE {
                to[lane] = code(lane) as i32 as f32 * header.scales[lane] + minimums[lane];
            }
        }
    }
}

impl Kernel for Wide<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Wide(task) = self;
        task.begin();
        let mut stage = Stage([[0.0; WIDTH]; K_BLOCK]);
        let padded_k = task.matrix.layout().padded_k;
        for first in task.tiles.clone().step_by(STAGE_TILES) {
            let tiles = first..task.tiles.end.min(first + STAGE_TILES);
            for k in (0..padded_k).step_by(K_BLOCK) {
                let block = k..padded_k.min(k + K_BLOCK);
                for (index, tile) in tiles.clone().enumerate() {
                    widen(task.matrix, tile, block.clone(), &mut stage, index * TILE);
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
    stage: &Stage<WIDTH>,
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
    stage: &Stage<WIDTH>,
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
            // SAFETY: `k < len <= K_BLOCK` and `at + V * LANES <= WIDTH`, as both are powers of two
            // up to `WIDTH`; x holds `M` rows of `stride >= block.end` elements.
            unsafe {
                let w = stage.0.as_ptr().add(k).cast::<f32>().add(at);
                let w: [S::V; V] = std::array::from_fn(|v| s.load(w.add(v * S::LANES)));
                for i in 0..M {
                    let x = s.splat(*x.as_ptr().add(i * stride + block.start + k));
                    for v in 0..V {
                        sums[i][v] = s.fma(x, w[v], sums[i][v]);
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
