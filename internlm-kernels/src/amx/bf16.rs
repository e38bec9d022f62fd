//! Products of bf16 by tiles: activations are rounded to bf16 once, weights unpacked to it once a task.

use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use super::{BLOCK_ROWS, Block, Kind, MAX_DEPTH, SIDE, Stage, Tiles, over_tasks, products, store};
use crate::compute::Compute;
use crate::elements::round_bf16;
use crate::memory::Line;
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch};

/// Inputs of a tile.
const DEPTH: usize = MAX_DEPTH / 2;

/// Inputs whose weights are unpacked at a time: those of all columns of a task fit the second-level
/// cache beside 32 rows of activations.
const K_BLOCK: usize = 2048;

/// Pairs of neighbouring inputs of 16 columns, the first in the lower half of a dword.
pub(crate) type Pairs = [u32; SIDE];

/// How inputs are counted: groups of `group` are filled up with zeros to `padded_group`.
#[derive(Clone, Copy)]
pub(crate) struct Inputs {
    pub(crate) k: usize,
    pub(crate) group: usize,
    pub(crate) padded_group: usize,
    /// All, with padding.
    pub(crate) padded_k: usize,
}

impl Inputs {
    /// Inputs in tiles.
    fn in_tiles(self) -> usize {
        self.padded_k.next_multiple_of(DEPTH)
    }
}

/// Weights and a result.
pub(crate) trait Product: Sync {
    /// Begins the result of rows, in tiles of 16 columns, with the bias.
    fn begin(&self, rows: Range<usize>, tiles: Range<usize>);

    /// Writes weights of 16 columns and of a block of inputs, counted with padding, rounded to bf16.
    /// What lies beyond the last input or column is a finite number.
    fn unpack(&self, tile: usize, inputs: Range<usize>, to: &mut [Pairs]);

    /// Adds sums of two tiles of columns to a row of the result; what lies beyond the last column of the
    /// first `tiles` tiles is dropped.
    fn add(&self, row: usize, tiles: Range<usize>, sums: &[f32; 2 * SIDE]);
}

/// Computes a product of `x`, `(m, k)`, with `n` columns.
pub(crate) fn product<T: Tiles>(
    compute: &Compute,
    x: &[f32],
    inputs: Inputs,
    (m, n): (usize, usize),
    product: &impl Product,
) {
    // Words of a row in tiles, and of a panel of 16 rows.
    let panel = SIDE * inputs.in_tiles() / 2;
    compute.with_scratch(m.div_ceil(SIDE) * panel, |words| {
        let panels = Output::new(words);
        compute.run(m.div_ceil(SIDE), |index| {
            let rows = index * SIDE..m.min((index + 1) * SIDE);
            // SAFETY: each panel is one task's alone.
            let to = unsafe { panels.part(index * panel, panel) };
            let to = bytemuck::cast_slice_mut(to);
            let x = &x[rows.start * inputs.k..rows.end * inputs.k];
            if let Err(pack) = dispatch(compute.isa(), Pack { x, inputs, to }) {
                pack.pack();
            }
        });
        let panels: &[u8] = bytemuck::cast_slice(words);
        over_tasks(compute, (m, n, inputs.k), |rows, tiles| {
            let task = Task {
                product,
                panels,
                inputs: inputs.in_tiles(),
                padded_k: inputs.padded_k,
                rows,
                tiles,
                kind: PhantomData::<T>,
            };
            if let Err(task) = dispatch(compute.isa(), task) {
                task.compute();
            }
        });
    });
}

/// Rounds up to 16 rows into tiles. Rows that are not there stay as they are.
struct Pack<'a> {
    x: &'a [f32],
    inputs: Inputs,
    to: &'a mut [bf16],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.pack();
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn pack(self) {
        let Inputs {
            k,
            group,
            padded_group,
            ..
        } = self.inputs;
        if self.inputs.in_tiles() != k {
            self.to.fill(bf16::ZERO);
        }
        for (row, x) in self.x.chunks_exact(k.max(1)).enumerate() {
            for (index, mut x) in x.chunks(group).enumerate() {
                let mut input = index * padded_group;
                while !x.is_empty() {
                    let (tile, at) = (input / DEPTH, input % DEPTH);
                    let (part, rest) = x.split_at(x.len().min(DEPTH - at));
                    let to = &mut self.to[(tile * SIDE + row) * DEPTH + at..][..part.len()];
                    for (to, &x) in to.iter_mut().zip(part) {
                        *to = round_bf16(x);
                    }
                    input += part.len();
                    x = rest;
                }
            }
        }
    }
}

/// What one thread does at a time.
struct Task<'a, T, P> {
    product: &'a P,
    /// Rows 16 by 16 in tiles.
    panels: &'a [u8],
    /// Inputs of a panel.
    inputs: usize,
    /// Inputs that have weights.
    padded_k: usize,
    rows: Range<usize>,
    tiles: Range<usize>,
    kind: PhantomData<T>,
}

impl<T: Tiles, P: Product> Kernel for Task<'_, T, P> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.compute();
    }
}

impl<T: Tiles, P: Product> Task<'_, T, P> {
    #[inline(always)]
    fn compute(&self) {
        self.product.begin(self.rows.clone(), self.tiles.clone());
        let mut tiles = T::configure(MAX_DEPTH);
        let widest = self.inputs.min(K_BLOCK);
        let mut stage = Stage::new(self.tiles.len() * widest / 2);
        let mut sums = Block::ZERO;
        for start in (0..self.inputs).step_by(K_BLOCK) {
            let block = start..self.inputs.min(start + K_BLOCK);
            let column = block.len() / 2;
            for (tile, to) in self.tiles.clone().zip(stage.chunks_exact_mut(column)) {
                let to: &mut [Pairs] = bytemuck::cast_slice_mut(to);
                let inputs = start..self.padded_k.min(block.end);
                let (to, rest) = to.split_at_mut(inputs.len().div_ceil(2));
                self.product.unpack(tile, inputs, to);
                rest.fill([0; SIDE]);
            }
            for row in self.rows.clone().step_by(BLOCK_ROWS) {
                for first in (0..self.tiles.len()).step_by(2) {
                    if row + SIDE < self.rows.end {
                        self.block::<true>(
                            &mut tiles,
                            &stage,
                            &mut sums,
                            row,
                            first,
                            block.clone(),
                        );
                    } else {
                        self.block::<false>(
                            &mut tiles,
                            &stage,
                            &mut sums,
                            row,
                            first,
                            block.clone(),
                        );
                    }
                }
            }
        }
    }

    /// Up to 32 rows and two tiles of columns.
    #[inline(always)]
    fn block<const LOWER: bool>(
        &self,
        tiles: &mut T,
        stage: &[Line],
        sums: &mut Block,
        row: usize,
        first: usize,
        block: Range<usize>,
    ) {
        const ROW_BYTES: usize = size_of::<bf16>();
        let panel = |at: usize| {
            let start = (row / SIDE + at) * SIDE * self.inputs;
            let (from, len) = (start + SIDE * block.start, SIDE * block.len());
            &self.panels[ROW_BYTES * from..][..ROW_BYTES * len]
        };
        // Columns beyond the last tile are computed as its own, and dropped.
        let second = self.tiles.len().min(first + 2) - 1;
        let column = |at: usize| -> &[u8] {
            let lines = block.len() / 2;
            bytemuck::cast_slice(&stage[at * lines..][..lines])
        };
        let a = [panel(0), panel(usize::from(LOWER))];
        let b = [column(first), column(second)];
        products::<T, LOWER>(tiles, Kind::Bf16, MAX_DEPTH, a, b);
        store::<T, LOWER>(tiles, sums);
        let columns = self.tiles.start + first..self.tiles.start + second + 1;
        let rows = row..self.rows.end.min(row + BLOCK_ROWS);
        for (row, sums) in rows.zip(&sums.0) {
            self.product.add(row, columns.clone(), sums);
        }
    }
}

/// Rows to columns. Of the eight bits that number an element, four of the row and four of the column,
/// each of four rounds makes the highest the lowest, by an interleaving that compilers vectorise.
#[inline(always)]
pub(crate) fn transpose(mut rows: [[u32; SIDE]; SIDE]) -> [[u32; SIDE]; SIDE] {
    for _ in 0..4 {
        let mut next = [[0; SIDE]; SIDE];
        for (pair, [low, high]) in next.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let (a, b) = (rows[pair], rows[pair + SIDE / 2]);
            for lane in 0..SIDE / 2 {
                low[2 * lane] = a[lane];
                low[2 * lane + 1] = b[lane];
                high[2 * lane] = a[SIDE / 2 + lane];
                high[2 * lane + 1] = b[SIDE / 2 + lane];
            }
        }
        rows = next;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let number = |row: usize, column: usize| (row * 100 + column) as u32;
        let rows = std::array::from_fn(|row| std::array::from_fn(|column| number(row, column)));
        let want: [[u32; SIDE]; SIDE] =
            std::array::from_fn(|row| std::array::from_fn(|column| number(column, row)));
        assert_eq!(transpose(rows), want);
    }
}
