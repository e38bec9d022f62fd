//! Rounding to nearest: a matrix of f32 to integer codes, group by group, without any data.
//!
//! The formulas are those of AutoAWQ (`awq/quantize/quantizer.py`, `pseudo_quantize_tensor`) and
//! LMDeploy (`lite/quantization/awq.py`), in f32, operation by operation, so that codes agree with
//! theirs exactly.

use half::f16;
use internlm_kernels::Compute;

use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::parallel;

/// Rows that one task quantizes.
const ROWS_PER_TASK: usize = 16;

/// The type that scales are stored in.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ScaleType {
    /// Not rounded, as LMDeploy writes for a model of f32.
    F32,
    /// Rounded to f16, and codes formed again from the rounded scale, as AutoAWQ does.
    #[default]
    F16,
}

/// How the inputs of a row are grouped and what a group may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Bits of a code: 4, or 8.
    pub bits: u32,
    /// Inputs that share a scale; divides the number of inputs.
    pub group_size: usize,
    /// How scales are stored.
    pub scales: ScaleType,
}

impl Grouping {
    /// 4 bits and scales of f16: what AWQ files hold.
    pub fn awq(group_size: usize) -> Self {
        Self {
            bits: 4,
            group_size,
            scales: ScaleType::F16,
        }
    }

    /// The largest code.
    pub(crate) fn levels(self) -> f32 {
        ((1u32 << self.bits.min(8)) - 1) as f32
    }

    /// Refuses what rows of this length can't be cut into.
    ///
    /// # Errors
    /// [`Error::GroupSize`], with sizes that would do; [`Error::Codes`] for other bits than 4 and 8.
    pub fn check(self, columns: usize) -> Result<()> {
        if !matches!(self.bits, 4 | 8) {
            return Err(Error::Codes {
                what: "bits",
                message: format!("{} bits, 4 and 8 are known", self.bits),
            });
        }
        crate::nibbles::groups(columns, self.group_size)?;
        Ok(())
    }
}

/// The numbers that a group can hold: `(code - zero) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    pub(crate) scale: f32,
    pub(crate) zero: f32,
    levels: f32,
}

impl Grid {
    /// `s = max(max - min, 1e-5) / levels; z = clamp(-round(min / s), 0, levels)`.
    ///
    /// The minimum is not forced below zero: a group of positive numbers only gets `z = 0` and
    /// saturates at the top, as upstream.
    pub(crate) fn asymmetric(min: f32, max: f32, levels: f32) -> Self {
        let scale = (max - min).max(1e-5) / levels;
        let zero = (-(min / scale).round_ties_even()).clamp(0.0, levels);
        Self {
            scale,
            zero,
            levels,
        }
    }

    /// The grid of these values.
    pub(crate) fn of(values: &[f32], levels: f32) -> Self {
        let (min, max) = range(values);
        Self::asymmetric(min, max, levels)
    }

    /// The same with the scale as it will be stored. A scale that f16 can't hold becomes 0 or
    /// infinite, which [`check_scales`] refuses.
    pub(crate) fn stored(self, scales: ScaleType) -> Self {
        let scale = match scales {
            ScaleType::F32 => self.scale,
            ScaleType::F16 => f16::from_f32(self.scale).to_f32(),
        };
        Self { scale, ..self }
    }

    /// `clamp(round(w / s) + z, 0, levels)`, half to even.
    pub(crate) fn code(self, value: f32) -> f32 {
        ((value / self.scale).round_ties_even() + self.zero).clamp(0.0, self.levels)
    }

    /// What a code stands for.
    pub(crate) fn value(self, code: f32) -> f32 {
        (code - self.zero) * self.scale
    }

    /// The value nearest to this one.
    pub(crate) fn round(self, value: f32) -> f32 {
        self.value(self.code(value))
    }
}

/// Smallest and largest value.
pub(crate) fn range(values: &[f32]) -> (f32, f32) {
    let start = (f32::INFINITY, f32::NEG_INFINITY);
    values
        .iter()
        .fold(start, |(min, max), &v| (min.min(v), max.max(v)))
}

/// Quantizes with a zero point per group: 4 bits for linear layers, 4 or 8 for heads.
///
/// # Shapes
/// - weight: `(rows, columns)`, row-major
/// - out: the same
///
/// # Errors
/// [`Error::GroupSize`] where groups don't divide a row, [`Error::NotFinite`] for weights that are
/// NaN or infinite or so large that a scale does not fit its type, [`Error::Length`] for values
/// that are not whole rows.
pub fn asymmetric(
    compute: &Compute,
    weight: &[f32],
    columns: usize,
    grouping: Grouping,
) -> Result<Codes> {
    quantize(compute, weight, columns, grouping, |group| {
        Grid::of(group, grouping.levels())
    })
}

/// Quantizes symmetrically: `s = max|w| / 127` and codes around 128, for W8A8 (`group_size` =
/// `columns`: a scale per output channel, as LMDeploy's `smooth_quant`) and for heads.
///
/// # Shapes
/// - weight: `(rows, columns)`, row-major
/// - out: the same, 8 bits, every zero point 128
///
/// # Errors
/// As [`asymmetric`].
pub fn symmetric_int8(
    compute: &Compute,
    weight: &[f32],
    columns: usize,
    group_size: usize,
    scales: ScaleType,
) -> Result<Codes> {
    let grouping = Grouping {
        bits: 8,
        group_size,
        scales,
    };
    quantize(compute, weight, columns, grouping, |group| {
        let largest = group.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        Grid {
            scale: largest.max(1e-5) / 127.0,
            zero: 128.0,
            levels: 255.0,
        }
    })
}

/// Codes of one task's rows, with their scales and zeros.
#[derive(Default)]
struct Part {
    codes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<u8>,
}

impl Part {
    /// Adds a group. AutoAWQ rounds with the exact scale first and forms the code again from the
    /// value and the stored scale: `round((w_q + z * s) / s16)` (`awq/modules/linear/gemm.py`).
    fn push(&mut self, group: &[f32], grid: Grid, scales: ScaleType) {
        let stored = grid.stored(scales);
        let codes = group.iter().map(|&w| {
            let code = grid.code(w);
            match scales {
                ScaleType::F32 => code as u8,
                ScaleType::F16 => {
                    let again = (grid.value(code) + grid.zero * grid.scale) / stored.scale;
                    again.round_ties_even().clamp(0.0, grid.levels) as u8
                }
            }
        });
        self.codes.extend(codes);
        self.scales.push(stored.scale);
        self.zeros.push(grid.zero as u8);
    }
}

fn quantize(
    compute: &Compute,
    weight: &[f32],
    columns: usize,
    grouping: Grouping,
    grid: impl Fn(&[f32]) -> Grid + Sync,
) -> Result<Codes> {
    grouping.check(columns)?;
    let rows = rows(weight, columns)?;
    check_finite("weight", weight)?;
    let tasks = rows.div_ceil(ROWS_PER_TASK);
    let parts = parallel::map(compute, tasks, |task| {
        let mut part = Part::default();
        let end = rows.min((task + 1) * ROWS_PER_TASK);
        let rows = &weight[task * ROWS_PER_TASK * columns..end * columns];
        for group in rows.chunks_exact(grouping.group_size) {
            part.push(group, grid(group), grouping.scales);
        }
        part
    });
    let mut all = Part::default();
    for part in parts {
        all.codes.extend(part.codes);
        all.scales.extend(part.scales);
        all.zeros.extend(part.zeros);
    }
    check_scales(&all.scales)?;
    Ok(Codes {
        rows,
        columns,
        bits: grouping.bits,
        group_size: grouping.group_size,
        codes: all.codes,
        scales: all.scales,
        zeros: Zeros::Points(all.zeros),
        order: None,
    })
}

/// Number of rows of values that are whole rows.
pub(crate) fn rows(weight: &[f32], columns: usize) -> Result<usize> {
    match weight.len().checked_div(columns) {
        Some(rows) if rows * columns == weight.len() => Ok(rows),
        _ => Err(Error::Length {
            what: "weight",
            got: weight.len(),
            want: format!("rows of {columns}"),
        }),
    }
}

/// Refuses NaN and infinity.
pub(crate) fn check_finite(what: &'static str, values: &[f32]) -> Result<()> {
    match values.iter().all(|v| v.is_finite()) {
        true => Ok(()),
        false => Err(Error::NotFinite { what }),
    }
}

/// Refuses scales that left the range of their type.
pub(crate) fn check_scales(scales: &[f32]) -> Result<()> {
    match scales.iter().all(|s| s.is_finite() && *s > 0.0) {
        true => Ok(()),
        false => Err(Error::NotFinite {
            what: "a scale, in the type that it is stored in,",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute() -> Compute {
        Compute::new(Some(2)).unwrap()
    }

    fn f32_codes(weight: &[f32], group_size: usize) -> Codes {
        let grouping = Grouping {
            scales: ScaleType::F32,
            ..Grouping::awq(group_size)
        };
        asymmetric(&compute(), weight, weight.len(), grouping).unwrap()
    }

    #[track_caller]
    fn check(weight: &[f32], codes: &[u8], zero: u8) {
        let got = f32_codes(weight, weight.len());
        assert_eq!(
            (got.codes, got.zeros),
            (codes.to_vec(), Zeros::Points(vec![zero]))
        );
    }

    #[test]
    fn a_group_of_both_signs_uses_all_codes() {
        check(&[-7.0, 8.0, 0.0, 1.2], &[0, 15, 7, 8], 7);
    }

    #[test]
    fn ties_go_to_the_even_neighbour() {
        // The scale is 1.
        check(&[-7.0, 8.0, 0.5, 1.5, 2.5, -0.5], &[0, 15, 7, 9, 9, 7], 7);
    }

    #[test]
    fn positive_groups_saturate_as_upstream() {
        check(&[15.0, 30.0], &[15, 15], 0);
        check(&[-30.0, -15.0], &[0, 0], 15);
    }

    #[test]
    fn constant_groups_have_the_least_scale() {
        let codes = f32_codes(&[0.0; 4], 4);
        assert_eq!(codes.scales, [1e-5 / 15.0]);
        assert_eq!(codes.dequantize(), [0.0; 4]);
    }

    #[test]
    fn f16_scales_never_move_a_code_out_of_range() {
        let weight: Vec<f32> = (0..4096)
            .map(|i| ((i * 7919 % 4001) as f32 / 2000.0 - 1.0) * 10f32.powi(i / 512 - 4))
            .collect();
        let codes = asymmetric(&compute(), &weight, 512, Grouping::awq(64)).unwrap();
        codes.check().unwrap();
        assert!(codes.scales.iter().all(|&s| f16::from_f32(s).to_f32() == s));
        for (row, dequantized) in weight.chunks(64).zip(codes.dequantize().chunks(64)) {
            let (min, max) = range(row);
            let step = (max - min) / 15.0;
            for (w, d) in row.iter().zip(dequantized) {
                assert!(
                    (w - d).abs() <= step * 1.05 + 1e-6,
                    "{w} became {d}, step {step}"
                );
            }
        }
    }

    #[test]
    fn symmetric_codes_keep_sign_and_zero() {
        let weight = [1.27, -1.27, 0.0, 0.01];
        let codes = symmetric_int8(&compute(), &weight, 4, 4, ScaleType::F32).unwrap();
        assert_eq!(codes.codes, [255, 1, 128, 129]);
        assert_eq!(codes.zeros, Zeros::Points(vec![128]));
    }

    #[test]
    fn threads_do_not_change_codes() {
        let weight: Vec<f32> = (0..100 * 32).map(|i| (i as f32 * 0.37).sin()).collect();
        let of = |threads| {
            let compute = Compute::new(Some(threads)).unwrap();
            asymmetric(&compute, &weight, 32, Grouping::awq(16)).unwrap()
        };
        assert_eq!(of(1), of(3));
    }

    #[test]
    fn bad_input_is_refused_by_kind() {
        let compute = compute();
        let of = |weight: &[f32], columns, grouping| {
            asymmetric(&compute, weight, columns, grouping).unwrap_err()
        };
        match of(&[0.0; 576], 576, Grouping::awq(128)) {
            Error::GroupSize { offers, .. } => assert_eq!(offers, [64, 32]),
            other => panic!("{other}"),
        }
        assert!(matches!(
            of(&[0.0; 4], 4, Grouping::awq(0)),
            Error::GroupSize { .. }
        ));
        assert!(matches!(
            of(&[0.0; 5], 4, Grouping::awq(4)),
            Error::Length { .. }
        ));
        assert!(matches!(of(&[], 0, Grouping::awq(4)), Error::Length { .. }));
        let nan = [0.0, f32::NAN, 1.0, 1.0];
        assert!(matches!(
            of(&nan, 4, Grouping::awq(4)),
            Error::NotFinite { what: "weight" }
        ));
        let huge = [-3e38, 3e38, 1.0, 1.0];
        assert!(matches!(
            of(&huge, 4, Grouping::awq(4)),
            Error::NotFinite { .. }
        ));
        let bits = Grouping {
            bits: 3,
            ..Grouping::awq(4)
        };
        assert!(matches!(
            of(&[0.0; 4], 4, bits),
            Error::Codes { what: "bits", .. }
        ));
    }
}
