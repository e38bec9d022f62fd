//! Activations as products read them: groups filled up to whole steps, rounded or quantized.
//!
//! All of it is plain Rust that compilers vectorise; run through [`dispatch`] it uses the wide
//! registers, and the result is the same on every instruction set. Loops, not closures: those are functions
//! without the instructions.

use super::layout::{Layout, STEP, ZeroType};
use crate::compute::Compute;
use crate::elements::round_bf16;
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch};

/// Rows that one task prepares.
const TASK_ROWS: usize = 8;

/// Magnitudes below which a group counts as zeros: 32767 divided by it must be finite.
const TINY: f32 = 1e-33;

/// How activations are prepared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// f32, one word an input.
    F32,
    /// f32 rounded to bf16, one word an input.
    Rounded,
    /// bf16, half a word an input: each 4 inputs in the order 0, 2, 1, 3; and sums of groups.
    Bf16,
    /// 16 bits, half a word an input: each 8 in the order [`IN_PAIRS`]; and scales and sums of groups.
    Int16,
    /// 8 bits, a quarter of a word an input; and scales and sums of groups.
    Int8,
}

/// Where the inputs of a step lie in [`Form::Int16`].
pub(super) const IN_PAIRS: [usize; STEP] = [0, 2, 4, 6, 1, 3, 5, 7];

/// What a matrix of points needs to know of the sum of a group is an integer; of minimums, a float.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// The sum of the codes, as i32.
    Codes,
    /// The sum of the rounded activations, as f32.
    Values,
}

impl Sums {
    /// What activations of 8 or 16 bits of this matrix need.
    pub(super) fn of_codes(layout: &Layout) -> Sums {
        match layout.shape.zeros {
            ZeroType::Points | ZeroType::Constant(_) => Sums::Codes,
            ZeroType::Minimums => Sums::Values,
        }
    }

    /// As a word, of codes whose sum is `sum`.
    #[inline(always)]
    pub(super) fn word(self, scale: f32, sum: i32) -> f32 {
        match self {
            Sums::Codes => f32::from_bits(sum as u32),
            Sums::Values => scale * sum as f32,
        }
    }
}

/// Prepared activations; all words of all rows, so that they may lie in one piece of memory.
///
/// # Shapes
/// - values: `(rows, stride)` words
/// - scales, sums: `(rows, groups)`
#[derive(Clone, Copy, Default)]
pub(super) struct Activations<'a> {
    pub(super) values: &'a [f32],
    /// Words from one row to the next.
    pub(super) stride: usize,
    pub(super) scales: &'a [f32],
    pub(super) sums: &'a [f32],
}

impl Form {
    /// Words of a row.
    fn stride(self, layout: &Layout) -> usize {
        match self {
            Form::F32 | Form::Rounded => layout.padded_k,
            Form::Bf16 | Form::Int16 => layout.padded_k / 2,
            Form::Int8 => layout.padded_k / 4,
        }
    }

    fn groups(self, layout: &Layout) -> usize {
        match self {
            Form::F32 | Form::Rounded => 0,
            Form::Bf16 | Form::Int16 | Form::Int8 => layout.groups,
        }
    }

    /// Calls `f` with the activations in this form.
    ///
    /// # Shapes
    /// - x: `(rows, k)`
    pub(super) fn prepare(
        self,
        compute: &Compute,
        layout: &Layout,
        x: &[f32],
        f: impl FnOnce(Activations<'_>),
    ) {
        let k = layout.shape.k;
        let (stride, groups) = (self.stride(layout), self.groups(layout));
        if self == Form::F32 && layout.padded_k == k {
            let (values, scales, sums) = (x, &[][..], &[][..]);
            return f(Activations {
                values,
                stride,
                scales,
                sums,
            });
        }
        let rows = x.len() / k.max(1);
        compute.with_scratch(rows * (stride + 2 * groups), |words| {
            let (values, rest) = words.split_at_mut(rows * stride);
            let (scales, group_sums) = rest.split_at_mut(rows * groups);
            let outputs = [&mut *values, &mut *scales, &mut *group_sums].map(Output::new);
            compute.run(rows.div_ceil(TASK_ROWS), |task| {
                for row in task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS) {
                    let [values, scales, group_sums] = &outputs;
                    // SAFETY: each row is one task's alone.
                    let kernel = unsafe {
                        Row {
                            form: self,
                            layout,
                            x: &x[row * k..][..k],
                            values: values.part(row * stride, stride),
                            scales: scales.part(row * groups, groups),
                            sums: group_sums.part(row * groups, groups),
                        }
                    };
                    if let Err(kernel) = dispatch(compute.isa(), kernel) {
                        kernel.prepare();
                    }
                }
            });
            f(Activations {
                values,
                stride,
                scales,
                sums: group_sums,
            });
        });
    }
}

struct Row<'a> {
    form: Form,
    layout: &'a Layout,
    x: &'a [f32],
    values: &'a mut [f32],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.prepare();
    }
}

impl Row<'_> {
    #[inline(always)]
    fn prepare(self) {
        for group in 0..self.layout.groups {
            let x = &self.x[self.layout.inputs(group)];
            let start = group * self.layout.padded_group;
            let padded = self.layout.steps(group) * STEP;
            match self.form {
                Form::F32 => {
                    let to = &mut self.values[start..][..padded];
                    to[x.len()..].fill(0.0);
                    to[..x.len()].copy_from_slice(x);
                }
                Form::Rounded => {
                    let to = &mut self.values[start..][..padded];
                    to[x.len()..].fill(0.0);
                    for (to, &x) in to.iter_mut().zip(x) {
                        *to = round_bf16(x).to_f32();
                    }
                }
                Form::Bf16 => {
                    let to = &mut self.values[start / 2..][..padded / 2];
                    self.sums[group] = bf16_pairs(x, bytemuck::cast_slice_mut(to));
                }
                Form::Int16 => {
                    let to = &mut self.values[start / 2..][..padded / 2];
                    let quantizer = Quantizer::words(x);
                    self.scales[group] = quantizer.scale();
                    let sum = quantizer.pairs(x, bytemuck::cast_slice_mut(to));
                    self.sums[group] = Sums::of_codes(self.layout).word(quantizer.scale(), sum);
                }
                Form::Int8 => {
                    let to = &mut self.values[start / 4..][..padded / 4];
                    let (scale, sum) = quantize(x, bytemuck::cast_slice_mut(to));
                    self.scales[group] = scale;
                    self.sums[group] = Sums::of_codes(self.layout).word(scale, sum);
                }
            }
        }
    }
}

/// Rounds to bf16, each 4 in the order 0, 2, 1, 3; returns their sum, in one order for each length.
#[inline(always)]
fn bf16_pairs(x: &[f32], to: &mut [[u16; 4]]) -> f32 {
    let mut sums = [0.0f32; 4];
    let (fours, rest) = x.as_chunks::<4>();
    let mut last = [0.0; 4];
    last[..rest.len()].copy_from_slice(rest);
    to.fill([0; 4]);
    for (at, to) in to.iter_mut().enumerate().take(fours.len() + 1) {
        let x = fours.get(at).unwrap_or(&last);
        for (lane, place) in [0, 2, 1, 3].into_iter().enumerate() {
            let x = round_bf16(x[lane]);
            to[place] = x.to_bits();
            sums[lane] += x.to_f32();
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// Rounds to 8-bit codes of `scale = max |x| / 127`, ties to even; returns the scale and the sum of
/// the codes.
#[inline(always)]
fn quantize(x: &[f32], to: &mut [u8]) -> (f32, i32) {
    let quantizer = Quantizer::bytes(x);
    (quantizer.scale(), quantizer.codes(x, to))
}

/// How the activations of a group are rounded. A NaN or an infinity makes the scale a NaN, and so every
/// product of the row.
#[derive(Clone, Copy)]
pub(super) struct Quantizer {
    largest: f32,
    /// The code of the largest.
    limit: f32,
}

/// Added to a number below 2²², this leaves it, rounded, in the lowest bits.
const ROUND: f32 = (3 << 22) as f32;

impl Quantizer {
    /// To 8 bits.
    #[inline(always)]
    pub(super) fn bytes(x: &[f32]) -> Quantizer {
        Quantizer::to(127.0, x)
    }

    /// To 16 bits.
    #[inline(always)]
    fn words(x: &[f32]) -> Quantizer {
        Quantizer::to(32767.0, x)
    }

    #[inline(always)]
    fn to(limit: f32, x: &[f32]) -> Quantizer {
        // As integers, magnitudes keep their order, and NaNs are the largest.
        let mut largest = 0;
        for x in x {
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
        }
        Quantizer {
            largest: f32::from_bits(largest),
            limit,
        }
    }

    #[inline(always)]
    pub(super) fn scale(self) -> f32 {
        if !self.largest.is_finite() {
            f32::NAN
        } else if self.largest < TINY {
            0.0
        } else {
            self.largest / self.limit
        }
    }

    /// Writes the codes of some activations of the group, then zeros; returns their sum.
    #[inline(always)]
    pub(super) fn codes(self, x: &[f32], to: &mut [u8]) -> i32 {
        if !self.largest.is_finite() || self.largest < TINY {
            to.fill(0);
            return 0;
        }
        let inverse = self.limit / self.largest;
        let mut sum = 0;
        if x.len() < to.len() {
            to[x.len()..].fill(0);
        }
        for (to, x) in to.iter_mut().zip(x) {
            *to = (x * inverse + ROUND).to_bits() as u8;
            sum += i32::from(*to as i8);
        }
        sum
    }

    /// Writes the codes of a group of 16 bits, each 8 in the order [`IN_PAIRS`], then zeros; returns their sum.
    #[inline(always)]
    fn pairs(self, x: &[f32], to: &mut [[u16; STEP]]) -> i32 {
        if !self.largest.is_finite() || self.largest < TINY {
            to.fill([0; STEP]);
            return 0;
        }
        let inverse = self.limit / self.largest;
        let (steps, rest) = x.as_chunks::<STEP>();
        let mut last = [0.0; STEP];
        last[..rest.len()].copy_from_slice(rest);
        let mut sums = [0; STEP];
        for (at, to) in to.iter_mut().enumerate() {
            let x = steps.get(at).unwrap_or(&last);
            let mut codes = [0; STEP];
            for lane in 0..STEP {
                codes[lane] = (x[lane] * inverse + ROUND).to_bits() as u16;
                sums[lane] += i32::from(codes[lane] as i16);
            }
            *to = IN_PAIRS.map(|lane| codes[lane]);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_within_half_a_scale() {
        let x: Vec<f32> = (0..20).map(|i| (i as f32 * 0.77).sin() * 3.0).collect();
        let mut codes = [1; 24];
        let (scale, sum) = quantize(&x, &mut codes);
        assert_eq!(codes[20..], [0; 4]);
        let codes = codes.map(|code| i32::from(code as i8));
        assert_eq!(codes.iter().sum::<i32>(), sum);
        for (code, x) in codes.into_iter().zip(&x) {
            assert!((code as f32 * scale - x).abs() <= 0.5001 * scale);
        }
    }

    #[test]
    fn pairs_are_filled_up_with_zeros() {
        for len in 0..=17usize {
            let x: Vec<f32> = (0..len).map(|i| i as f32 - 3.3).collect();
            let mut to = vec![[9; 4]; len.next_multiple_of(STEP) / 4 + 1];
            let sum = bf16_pairs(&x, &mut to);
            let mut total = 0.0;
            for (i, &code) in to.as_flattened().iter().enumerate() {
                let input = i / 4 * 4 + [0, 2, 1, 3][i % 4];
                let want = x.get(input).map_or(0.0, |&x| round_bf16(x).to_f32());
                assert_eq!(half::bf16::from_bits(code).to_f32(), want, "{i} of {len}");
                total += want;
            }
            assert!((sum - total).abs() < 1e-4, "{len}: {sum}, {total}");
        }
    }

    #[test]
    fn words_are_filled_up_with_zeros() {
        for len in 1..=17usize {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.77).sin() * 3.0).collect();
            let mut to = vec![[9; STEP]; len.div_ceil(STEP)];
            let quantizer = Quantizer::words(&x);
            let sum = quantizer.pairs(&x, &mut to);
            let mut total = 0;
            for (i, &code) in to.as_flattened().iter().enumerate() {
                let code = i32::from(code as i16);
                let want = x.get(i / STEP * STEP + IN_PAIRS[i % STEP]).unwrap_or(&0.0);
                let error = code as f32 * quantizer.scale() - want;
                assert!(error.abs() <= 0.5001 * quantizer.scale(), "{i} of {len}");
                total += code;
            }
            assert_eq!(sum, total, "{len}");
        }
        let mut to = [[9; STEP]];
        let extremes = [f32::MAX, f32::MIN, 0.0];
        assert_eq!(Quantizer::words(&extremes).pairs(&extremes, &mut to), 0);
        assert_eq!(to, [[32767, 0, 0, 0, 32769, 0, 0, 0]]);
        assert_eq!(Quantizer::words(&[2e-34]).pairs(&[2e-34], &mut to), 0);
        assert_eq!(to, [[0; STEP]]);
        assert!(Quantizer::words(&[1.0, f32::NAN]).scale().is_nan());
    }

    #[test]
    fn extremes_stay_in_range() {
        let mut codes = [1; 8];
        assert_eq!(quantize(&[-2.0, 2.0, 1.0], &mut codes), (2.0 / 127.0, 64));
        assert_eq!(codes, [129, 127, 64, 0, 0, 0, 0, 0]);
        assert_eq!(quantize(&[0.0; 3], &mut codes), (0.0, 0));
        assert_eq!(quantize(&[1e-40; 3], &mut codes), (0.0, 0));
        assert_eq!(codes, [0; 8]);
        let (scale, sum) = quantize(&[f32::MAX, f32::MIN, 0.0], &mut codes);
        assert!(scale.is_finite() && sum == 0);
        assert!(quantize(&[1.0, f32::NAN], &mut codes).0.is_nan());
        assert!(quantize(&[f32::NEG_INFINITY], &mut codes).0.is_nan());
    }
}
