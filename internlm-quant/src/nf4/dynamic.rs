//! Double quantization: largest absolute values in the dynamic 8-bit type.

use super::{DoubleAbsmax, NESTED_BLOCK_SIZE, quantize_blocks};
use crate::error::Result;

impl DoubleAbsmax {
    /// Quantizes what is left after the mean is taken off.
    pub(super) fn quantize(absmax: &[f32]) -> Result<Self> {
        let offset = match absmax.len() {
            0 => 0.0,
            count => torch_sum(absmax) / count as f32,
        };
        let values = dynamic_values();
        let bounds: Vec<f32> = values.windows(2).map(|v| (v[0] + v[1]) / 2.0).collect();
        let rest: Vec<f32> = absmax.iter().map(|x| x - offset).collect();
        let (codes, absmax) = quantize_blocks(&rest, NESTED_BLOCK_SIZE, &bounds)?;
        Ok(Self {
            codes,
            values,
            offset,
            block_size: NESTED_BLOCK_SIZE,
            absmax,
        })
    }

    /// The largest absolute values, after a check of the lengths.
    pub(super) fn dequantize(&self) -> Vec<f32> {
        let codes = self.codes.iter().enumerate();
        let value = |(i, code): (usize, &u8)| {
            self.values[usize::from(*code)] * self.absmax[i / self.block_size] + self.offset
        };
        codes.map(value).collect()
    }
}

/// The 256 values of the dynamic type (Dettmers, arXiv 1511.04561; `create_dynamic_map`): for each
/// power of ten from 1e-6 to 1, twice as many values as for the one before, in the middles of equal
/// parts of 0.1..1; their negatives; 0 and 1.
fn dynamic_values() -> Vec<f32> {
    let mut values = vec![0.0, 1.0];
    for (i, power) in [1e-6f32, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
        .into_iter()
        .enumerate()
    {
        let parts = 1usize << i;
        let bounds = linspace(0.1, 1.0, parts + 1);
        for bound in bounds.windows(2) {
            let value = power * ((bound[0] + bound[1]) / 2.0);
            values.extend([value, -value]);
        }
    }
    values.sort_by(f32::total_cmp);
    values
}

/// `torch.linspace` in f32: counted from the nearer end, with fused multiplication and addition.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    let value = |i: usize| {
        if i < count / 2 {
            step.mul_add(i as f32, start)
        } else {
            (-step).mul_add((count - 1 - i) as f32, end)
        }
    };
    (0..count).map(value).collect()
}

/// Lanes of a vector, and vectors that are summed side by side.
const LANES: usize = 8;
const VECTORS: usize = 4;
const WIDTH: usize = LANES * VECTORS;

/// A sum in the order of torch (`row_sum` and `multi_row_sum` of `SumKernel.cpp`) on one thread with
/// vectors of eight: 32 sums side by side, each a cascade of four levels; then the vectors, the lanes
/// and the rest.
fn torch_sum(values: &[f32]) -> f32 {
    // Too few for a vector: four sums side by side, the first of which takes what is left.
    if let [first, second, third, fourth, rest @ ..] = values
        && values.len() < LANES
    {
        return rest.iter().fold(*first, |sum, x| sum + x) + second + third + fourth;
    }
    let (wide, rest) = values.as_chunks::<WIDTH>();
    let mut sums = cascade(wide);
    let (vectors, rest) = rest.as_chunks::<LANES>();
    for vector in vectors {
        add(&mut sums[..LANES], vector);
    }
    let (first, others) = sums.split_at_mut(LANES);
    for vector in others.chunks(LANES) {
        add(first, vector);
    }
    // The rest comes before the lanes.
    rest.iter().chain(first.iter()).fold(0.0, |sum, x| sum + x)
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// Sums of columns in blocks of blocks, so that small values are not lost in large sums.
fn cascade(rows: &[[f32; WIDTH]]) -> [f32; WIDTH] {
    const LEVELS: usize = 4;
    let ceil_log2 = rows.len().next_power_of_two().trailing_zeros();
    let power = (ceil_log2 / LEVELS as u32).max(4);
    let step = 1usize << power;
    let mut sums = [[0.0; WIDTH]; LEVELS];
    let (steps, rest) = rows.split_at(rows.len() / step * step);
    for (i, rows) in steps.chunks(step).enumerate() {
        rows.iter().for_each(|row| add(&mut sums[0], row));
        for level in 1..LEVELS {
            let below = std::mem::replace(&mut sums[level - 1], [0.0; WIDTH]);
            add(&mut sums[level], &below);
            // A level is passed on when it is full: after `step` of the one below.
            if !(i + 1).is_multiple_of(step.pow(level as u32)) {
                break;
            }
        }
    }
    rest.iter().for_each(|row| add(&mut sums[0], row));
    let [mut sum, others @ ..] = sums;
    others.iter().for_each(|level| add(&mut sum, level));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dynamic_type_is_sorted_and_nearly_symmetric() {
        let values = dynamic_values();
        assert_eq!(values.len(), 256);
        assert!(values.windows(2).all(|v| v[0] < v[1]));
        assert_eq!((values[127], values[255]), (0.0, 1.0));
        assert!((0..127).all(|i| values[i] == -values[254 - i]));
    }

    #[test]
    fn a_sum_has_every_element_once() {
        for count in [0, 1, 7, 8, 31, 32, 33, 511, 512, 513, 8192, 8999] {
            // Whole numbers: any order of addition gives the same sum.
            let values: Vec<f32> = (0..count).map(|i| (i % 101) as f32).collect();
            let want: usize = (0..count).map(|i| i % 101).sum();
            assert_eq!(torch_sum(&values), want as f32, "{count}");
        }
    }
}
