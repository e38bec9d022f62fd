//! Blocks of keys that all rows of a task see, by tiles: queries, keys, values and their weights are rounded
//! to bf16, sums are f32.

use super::block::{FullBlocks, Rows};
use super::kv::BLOCK;
use crate::amx::bf16::transpose;
use crate::amx::{BLOCK_ROWS, Block, Kind, MAX_DEPTH, MIN_ROWS, SIDE, Tiles, products, store};
use crate::elements::{Element, Elements, bf16_pair};

/// Inputs of a tile.
const DEPTH: usize = MAX_DEPTH / 2;

/// 16 rows of 16 pairs of bf16.
type Tile = [[u32; SIDE]; SIDE];

/// Tiles of weights from one panel of 16 rows to the next.
const WEIGHTS: usize = BLOCK / DEPTH;

/// The tiles of one task.
pub(super) struct Tiled<T> {
    tiles: T,
    head_dim: usize,
    rows: usize,
    /// Panels of 16 rows, `head_dim / 32` tiles each.
    queries: Vec<Tile>,
    /// The same of a block's weights, [`WEIGHTS`] tiles each.
    weights: Vec<Tile>,
    /// Two columns of tiles of keys or values.
    columns: Vec<Tile>,
}

impl<T: Tiles> Tiled<T> {
    /// For these rows; none where they are too few, or their heads no whole tiles.
    pub(super) fn new(rows: &Rows<'_>) -> Option<Self> {
        let (count, head_dim) = (rows.len(), rows.shape.head_dim);
        if count < MIN_ROWS || head_dim == 0 || !head_dim.is_multiple_of(DEPTH) {
            return None;
        }
        let empty = [[0; SIDE]; SIDE];
        let (panels, depth) = (count.div_ceil(SIDE), head_dim / DEPTH);
        let mut queries = vec![empty; panels * depth];
        for row in 0..count {
            pack(&mut queries, depth, row, rows.query(row));
        }
        Some(Self {
            tiles: T::configure(MAX_DEPTH),
            head_dim,
            rows: count,
            queries,
            weights: vec![empty; panels * WEIGHTS],
            columns: vec![empty; 2 * depth.max(WEIGHTS)],
        })
    }
}

impl<T: Tiles> FullBlocks for Tiled<T> {
    #[inline(always)]
    fn scores(&mut self, keys: Elements<'_>, scores: &mut [f32]) {
        match keys {
            Elements::F32(keys) => self.scores_of(keys, scores),
            Elements::F16(keys) => self.scores_of(keys, scores),
            Elements::Bf16(keys) => self.scores_of(keys, scores),
        }
    }

    #[inline(always)]
    fn add_values(&mut self, weights: &[f32], values: Elements<'_>, sums: &mut [f32]) {
        for (row, weights) in weights.chunks_exact(BLOCK).enumerate() {
            pack(&mut self.weights, WEIGHTS, row, weights);
        }
        match values {
            Elements::F32(values) => self.add_values_of(values, sums),
            Elements::F16(values) => self.add_values_of(values, sums),
            Elements::Bf16(values) => self.add_values_of(values, sums),
        }
    }
}

impl<T: Tiles> Tiled<T> {
    #[inline(always)]
    fn scores_of<E: Element>(&mut self, keys: &[E], scores: &mut [f32]) {
        let depth = self.head_dim / DEPTH;
        for first in (0..BLOCK).step_by(2 * SIDE) {
            for (at, column) in self.columns[..2 * depth].iter_mut().enumerate() {
                let (key, input) = (first + at / depth * SIDE, at % depth * DEPTH);
                for (row, pairs) in column.iter_mut().enumerate() {
                    let key = &keys[(key + row) * self.head_dim + input..][..DEPTH];
                    for (pair, two) in pairs.iter_mut().zip(key.as_chunks::<2>().0) {
                        *pair = bf16_pair(two[0].widen(), two[1].widen());
                    }
                }
                *column = transpose(*column);
            }
            let queries = self.queries.as_slice();
            let to = |row: usize, sums: &[f32; 2 * SIDE]| {
                scores[row * BLOCK + first..][..2 * SIDE].copy_from_slice(sums);
            };
            each_row(
                &mut self.tiles,
                self.rows,
                depth,
                queries,
                &self.columns,
                to,
            );
        }
    }

    #[inline(always)]
    fn add_values_of<E: Element>(&mut self, values: &[E], sums: &mut [f32]) {
        let width = sums.len() / self.rows;
        for first in (0..self.head_dim).step_by(2 * SIDE) {
            for (at, column) in self.columns[..2 * WEIGHTS].iter_mut().enumerate() {
                let (value, dim) = (at % WEIGHTS * DEPTH, first + at / WEIGHTS * SIDE);
                for (pair, pairs) in column.iter_mut().enumerate() {
                    let [low, high] = [0, 1].map(|second| {
                        let value = value + 2 * pair + second;
                        &values[value * self.head_dim + dim..][..SIDE]
                    });
                    for (pair, (low, high)) in pairs.iter_mut().zip(low.iter().zip(high)) {
                        *pair = bf16_pair(low.widen(), high.widen());
                    }
                }
            }
            let weights = self.weights.as_slice();
            let to = |row: usize, more: &[f32; 2 * SIDE]| {
                let sums = &mut sums[row * width + first..][..2 * SIDE];
                sums.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
            };
            each_row(
                &mut self.tiles,
                self.rows,
                WEIGHTS,
                weights,
                &self.columns,
                to,
            );
        }
    }
}

/// Rounds a row into its panel of `depth` tiles.
#[inline(always)]
fn pack(panels: &mut [Tile], depth: usize, row: usize, x: &[f32]) {
    let panel = &mut panels[row / SIDE * depth..][..depth];
    for (tile, x) in panel.iter_mut().zip(x.chunks_exact(DEPTH)) {
        for (pair, two) in tile[row % SIDE].iter_mut().zip(x.as_chunks::<2>().0) {
            *pair = bf16_pair(two[0], two[1]);
        }
    }
}

/// Products of all rows and two columns of tiles, each `depth` long; calls `to` with a row and its sums.
#[inline(always)]
fn each_row<T: Tiles>(
    tiles: &mut T,
    rows: usize,
    depth: usize,
    panels: &[Tile],
    columns: &[Tile],
    mut to: impl FnMut(usize, &[f32; 2 * SIDE]),
) {
    let b = [0, depth].map(|at| bytemuck::cast_slice(&columns[at..][..depth]));
    let mut sums = Block::ZERO;
    for first in (0..rows).step_by(BLOCK_ROWS) {
        let panel =
            |at: usize| bytemuck::cast_slice(&panels[(first / SIDE + at) * depth..][..depth]);
        if rows - first > SIDE {
            products::<T, true>(tiles, Kind::Bf16, MAX_DEPTH, [panel(0), panel(1)], b);
            store::<T, true>(tiles, &mut sums);
        } else {
            products::<T, false>(tiles, Kind::Bf16, MAX_DEPTH, [panel(0), panel(0)], b);
            store::<T, false>(tiles, &mut sums);
        }
        for (row, sums) in (first..rows).zip(&sums.0) {
            to(row, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use crate::amx::model::Model;
    use crate::attention::tasks;
    use crate::attention::{AttentionSequence, AttentionShape, KvBlocks};
    use crate::elements::Elements;
    use crate::matmul::Activation;
    use crate::output::Output;
    use crate::{Compute, Isa};

    use super::{Rows, Tiled};

    /// Queries, keys and values of one sequence that are bf16 already, by tiles and by vectors in f32: what is
    /// left is the rounding of weights, a 512th of each at most.
    #[test]
    fn tiles_agree_with_vectors() {
        let shapes = [(9, 3, 64), (4, 4, 32), (16, 2, 128), (20, 1, 64)];
        let lengths = [(1, 1), (70, 70), (33, 300), (150, 700), (16, 1200)];
        for isa in Isa::available()
            .into_iter()
            .filter(|&isa| isa != Isa::Scalar)
        {
            let compute = Compute::with_isa(isa, Some(2)).unwrap();
            for (num_attention_heads, num_key_value_heads, head_dim) in shapes {
                for (q_len, len) in lengths {
                    let shape = AttentionShape {
                        num_attention_heads,
                        num_key_value_heads,
                        head_dim,
                        scale: 2.0 / (head_dim as f32).sqrt(),
                        activation: Activation::Bf16,
                    };
                    let number = |i: usize, step: f32| bf16::from_f32((i as f32 * step).sin());
                    let row = num_attention_heads * head_dim;
                    let q: Vec<f32> = (0..q_len * row).map(|i| number(i, 0.37).to_f32()).collect();
                    let size = num_key_value_heads * len * head_dim;
                    let keys: Vec<bf16> = (0..size).map(|i| number(i, 0.73)).collect();
                    let values: Vec<bf16> = (0..size).map(|i| number(i, 0.51)).collect();
                    let wide: Vec<f32> = values.iter().map(|x| x.to_f32()).collect();
                    let sequence = AttentionSequence {
                        q_start: 0,
                        q_len,
                        keys: KvBlocks::contiguous(Elements::Bf16(&keys), len),
                        values: KvBlocks::contiguous(Elements::F32(&wide), len),
                        len,
                    };
                    let run = |by_tiles: bool| {
                        let mut out = vec![f32::NAN; q.len()];
                        let to = Output::new(&mut out);
                        let full =
                            |rows: &Rows<'_>| by_tiles.then(|| Tiled::<Model>::new(rows)).flatten();
                        tasks::attention(&compute, &q, &[sequence], &shape, to, full);
                        out
                    };
                    for (at, (got, want)) in run(true).into_iter().zip(run(false)).enumerate() {
                        assert!(
                            (got - want).abs() <= 1.0 / 512.0 + 1e-5,
                            "{isa} {shape:?} {q_len} of {len}: [{at}] {got} is not {want}"
                        );
                    }
                }
            }
        }
    }
}
