//! bf16 activations: weights are unpacked to bf16, scales and zeros applied.

use std::ops::Range;

use crate::amx::bf16::{Inputs, Pairs, Product, product};
use crate::amx::{SIDE, Tiles};
use crate::compute::Compute;
use crate::elements::bf16_pair;
use crate::memory::LINE;
use crate::output::Output;
use crate::packed::PackedMatrix;
use crate::packed::activations::Activations;
use crate::packed::layout::{STEP, TILE};
use crate::packed::matrix::Header;
use crate::packed::product::Task;
use crate::packed::wide::pieces;

/// The arguments of [`crate::packed_matmul`], checked, with activations of [`crate::Activation::Bf16`].
pub(in crate::packed) fn matmul<T: Tiles>(
    compute: &Compute,
    x: &[f32],
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
    m: usize,
) {
    let layout = w.layout();
    let inputs = Inputs {
        k: layout.shape.k,
        group: layout.group,
        padded_group: layout.padded_group,
        padded_k: layout.padded_k,
    };
    let task = Task {
        matrix: w,
        x: Activations::default(),
        bias,
        out: Output::new(out),
        rows: 0..m,
        tiles: 0..layout.columns,
    };
    product::<T>(compute, x, inputs, (m, layout.shape.n), &task);
}

impl Product for Task<'_> {
    #[inline(always)]
    fn begin(&self, rows: Range<usize>, tiles: Range<usize>) {
        self.over(rows, tiles).begin();
    }

    #[inline(always)]
    fn unpack(&self, tile: usize, inputs: Range<usize>, to: &mut [Pairs]) {
        if self.matrix.shape().bits == 4 {
            values::<4>(self.matrix, tile, inputs, to);
        } else {
            values::<8>(self.matrix, tile, inputs, to);
        }
    }

    #[inline(always)]
    fn add(&self, row: usize, tiles: Range<usize>, sums: &[f32; 2 * SIDE]) {
        let first = tiles.start;
        self.over(row..row + 1, tiles).add(row, first, sums);
    }
}

/// Unpacks weights of a tile to bf16.
#[inline(always)]
fn values<const BITS: usize>(
    matrix: &PackedMatrix,
    tile: usize,
    inputs: Range<usize>,
    to: &mut [Pairs],
) {
    /// Pairs of inputs of a step.
    const PAIRS: usize = STEP / 2;
    let layout = matrix.layout();
    for (group, steps, at) in pieces(matrix, inputs) {
        let header = Header::read(layout, matrix.header(tile, group));
        // Where there is no minimum, -0.0 keeps the sign of a zero.
        let minimums = header.minimums.unwrap_or([-0.0; TILE]);
        let codes = &matrix.codes(tile, group)[steps.start * layout.step()..];
        let to = to[at / 2..].as_chunks_mut::<PAIRS>().0;
        for (step, to) in codes.chunks_exact(16 * BITS).take(steps.len()).zip(to) {
            for (pair, to) in to.iter_mut().enumerate() {
                // Four bits: the upper halves of bytes are the last two pairs; eight: the second line.
                let line: &[u8; LINE] = &step.as_chunks().0[pair / 2 * (BITS / 8)];
                let shift = pair % 2 * 16 + pair / 2 * (8 - BITS);
                let mask = (1 << BITS) - 1;
                let dwords = line.as_chunks::<4>().0;
                let mut words = [0; TILE];
                for lane in 0..TILE {
                    let dword = u32::from_le_bytes(dwords[lane]);
                    let mut pair = [0.0; 2];
                    for (half, value) in pair.iter_mut().enumerate() {
                        let code = (dword >> (shift + 8 * half) & mask) as i32;
                        let code = (code - header.points[lane]) as f32;
                        *value = code * header.scales[lane] + minimums[lane];
                    }
                    words[lane] = bf16_pair(pair[0], pair[1]);
                }
                *to = words;
            }
        }
    }
}
