//! Products of bf16 weights by tiles.

use std::ops::Range;

use half::bf16;

use crate::amx::bf16::{Inputs, Pairs, Product, product, transpose};
use crate::amx::{SIDE, Tiles};
use crate::compute::Compute;
use crate::matmul::Shape;
use crate::output::{Output, add_to};

/// The arguments of [`crate::matmul()`], checked.
pub(super) fn matmul<T: Tiles>(
    compute: &Compute,
    x: &[f32],
    w: &[bf16],
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
) {
    let Shape { m, n, k } = shape;
    let inputs = Inputs {
        k,
        group: k.max(1),
        padded_group: k,
        padded_k: k,
    };
    let out = Output::new(out);
    let dense = Dense { w, bias, out, n, k };
    product::<T>(compute, x, inputs, (m, n), &dense);
}

struct Dense<'a> {
    w: &'a [bf16],
    bias: Option<&'a [f32]>,
    out: Output<'a, f32>,
    n: usize,
    k: usize,
}

impl Dense<'_> {
    /// A row's elements of some tiles of 16 columns, and these columns.
    #[expect(clippy::mut_from_ref, reason = "see `Output::part`")]
    #[inline(always)]
    fn part(&self, row: usize, tiles: Range<usize>) -> (&mut [f32], Range<usize>) {
        let columns = tiles.start * SIDE..self.n.min(tiles.end * SIDE);
        // SAFETY: tasks have no element of the result in common, and a task takes one part at a time.
        let out = unsafe { self.out.part(row * self.n + columns.start, columns.len()) };
        (out, columns)
    }
}

impl Product for Dense<'_> {
    #[inline(always)]
    fn begin(&self, rows: Range<usize>, tiles: Range<usize>) {
        for row in rows {
            let (out, columns) = self.part(row, tiles.clone());
            match self.bias {
                Some(bias) => out.copy_from_slice(&bias[columns]),
                None => out.fill(0.0),
            }
        }
    }

    #[inline(always)]
    fn unpack(&self, tile: usize, inputs: Range<usize>, to: &mut [Pairs]) {
        /// Inputs of 16 pairs.
        const WIDTH: usize = 2 * SIDE;
        let columns = tile * SIDE..self.n.min((tile + 1) * SIDE);
        for (start, to) in inputs.clone().step_by(WIDTH).zip(to.chunks_mut(SIDE)) {
            let len = WIDTH.min(inputs.end - start);
            let mut pairs = [[0; SIDE]; SIDE];
            for (pairs, column) in pairs.iter_mut().zip(columns.clone()) {
                let from = &self.w[column * self.k + start..][..len];
                let to: &mut [bf16; WIDTH] = bytemuck::cast_mut(pairs);
                match from.as_array() {
                    Some(from) => *to = *from,
                    None => to[..len].copy_from_slice(from),
                }
            }
            let pairs = transpose(pairs);
            to.copy_from_slice(&pairs[..to.len()]);
        }
    }

    #[inline(always)]
    fn add(&self, row: usize, tiles: Range<usize>, sums: &[f32; 2 * SIDE]) {
        add_to(self.part(row, tiles).0, sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::amx::model::Model;

    /// The kernel on the model of tiles.
    #[test]
    fn odd_shapes_agree_with_f64() {
        let shapes = [
            (1, 1, 1),
            (2, 17, 0),
            (16, 16, 32),
            (17, 33, 31),
            (33, 20, 100),
            (40, 130, 65),
            (70, 49, 576),
            (18, 3, 4101),
        ];
        for isa in Isa::available() {
            let compute = Compute::with_isa(isa, Some(2)).unwrap();
            for (m, n, k) in shapes {
                let number = |i: usize, step: f32| (i as f32 * step).sin();
                let x: Vec<f32> = (0..m * k).map(|i| number(i, 0.37)).collect();
                let w: Vec<bf16> = (0..n * k)
                    .map(|i| bf16::from_f32(number(i, 0.73)))
                    .collect();
                let bias: Vec<f32> = (0..n).map(|i| number(i, 0.11)).collect();
                let bias = (n % 2 == 0).then_some(bias.as_slice());
                let mut out = vec![f32::NAN; m * n];
                matmul::<Model>(&compute, &x, &w, bias, &mut out, Shape { m, n, k });
                for (index, got) in out.into_iter().enumerate() {
                    let (row, column) = (index / n, index % n);
                    let mut want = bias.map_or(0.0, |bias| f64::from(bias[column]));
                    let mut magnitude = want.abs();
                    for (x, w) in x[row * k..][..k].iter().zip(&w[column * k..][..k]) {
                        let product = bf16::from_f32(*x).to_f64() * w.to_f64();
                        want += product;
                        magnitude += product.abs();
                    }
                    assert!(
                        (f64::from(got) - want).abs() <= 1e-5 * magnitude,
                        "{isa} ({m}, {n}, {k}) at ({row}, {column}): {got} is not {want}"
                    );
                }
            }
        }
    }
}
