//! Matrices of small integer codes, whatever file they come from or go to.

use crate::error::{Error, Result};

/// Rows of a matrix in which `group_size` neighbouring inputs of a row share a scale and a zero:
/// the form between every 4- and 8-bit file format and the layout that kernels read.
///
/// `w[o, order[k]] = codes[o, k] · scale + min`, with `min = -zero · scale` for integer zeros. With
/// integer zeros the difference `code - zero` is taken first, as AWQ's and GPTQ's readers do.
///
/// # Shapes
/// - codes: `(rows, columns)`, row-major, one code a byte
/// - scales, zeros: `(rows, columns / group_size)`, the last group may be short
/// - order: `(columns)`
#[derive(Clone, Debug, PartialEq)]
pub struct Codes {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Bits of a code: 4, or 8.
    pub bits: u32,
    /// Inputs that share a scale.
    pub group_size: usize,
    /// `(rows, columns)`
    pub codes: Vec<u8>,
    /// `(rows, groups)`
    pub scales: Vec<f32>,
    /// `(rows, groups)`
    pub zeros: Zeros,
    /// The input feature of each column, where columns are not in the order of the features (GPTQ with
    /// `desc_act`).
    pub order: Option<Vec<u32>>,
}

/// What a code of zero stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Zeros {
    /// The code of 0.0.
    Points(Vec<u8>),
    /// The value of code 0.
    Minimums(Vec<f32>),
}

impl Codes {
    /// Groups of a row.
    pub fn groups(&self) -> usize {
        self.columns.div_ceil(self.group_size.max(1))
    }

    /// Checks that lengths agree, codes fit their bits, scales are finite and `order` is a permutation.
    ///
    /// # Errors
    /// [`Error::Codes`], naming the field.
    pub fn check(&self) -> Result<()> {
        let fail = |what: &'static str, message: String| Err(Error::Codes { what, message });
        if !matches!(self.bits, 4 | 8) {
            return fail("bits", format!("{} bits, 4 and 8 are known", self.bits));
        }
        if self.group_size == 0 {
            return fail("group_size", "must not be 0".to_owned());
        }
        let groups = self.rows.checked_mul(self.groups());
        let zeros = match &self.zeros {
            Zeros::Points(points) => points.len(),
            Zeros::Minimums(minimums) => minimums.len(),
        };
        for (what, got, want) in [
            (
                "codes",
                self.codes.len(),
                self.rows.checked_mul(self.columns),
            ),
            ("scales", self.scales.len(), groups),
            ("zeros", zeros, groups),
        ] {
            if Some(got) != want {
                return fail(what, format!("{got} elements, expected {want:?}"));
            }
        }
        let limit = ((1u32 << self.bits) - 1) as u8;
        // The union of all codes is found with vectors, a first offender would not be.
        let all = self.codes.iter().fold(0, |all, code| all | code);
        if all > limit {
            let most = self.codes.iter().max().unwrap_or(&all);
            return fail("codes", format!("{most} does not fit {} bits", self.bits));
        }
        let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        if !is_finite(&self.scales) {
            return fail("scales", "a scale is not finite".to_owned());
        }
        match &self.zeros {
            Zeros::Points(points) => {
                if let Some(point) = points.iter().find(|&&point| point > limit) {
                    return fail("zeros", format!("{point} does not fit {} bits", self.bits));
                }
            }
            Zeros::Minimums(minimums) => {
                if !is_finite(minimums) {
                    return fail("zeros", "a minimum is not finite".to_owned());
                }
            }
        }
        if let Some(order) = &self.order {
            let mut seen = vec![false; self.columns];
            for &column in order {
                match seen.get_mut(column as usize) {
                    Some(seen) if !*seen => *seen = true,
                    _ => return fail("order", format!("{column} is not there or comes twice")),
                }
            }
            if order.len() != self.columns {
                return fail(
                    "order",
                    format!("{} of {} columns", order.len(), self.columns),
                );
            }
        }
        Ok(())
    }

    /// The matrix in f32, columns in the order of the features.
    ///
    /// # Shapes
    /// - out: `(rows, columns)`
    pub fn dequantize(&self) -> Vec<f32> {
        let (groups, group_size) = (self.groups(), self.group_size.max(1));
        let mut out = vec![0.0; self.codes.len()];
        for row in 0..self.rows {
            for column in 0..self.columns {
                let at = row * groups + column / group_size;
                let code = self.codes[row * self.columns + column];
                let scale = self.scales[at];
                let value = match &self.zeros {
                    Zeros::Points(points) => {
                        (i32::from(code) - i32::from(points[at])) as f32 * scale
                    }
                    Zeros::Minimums(minimums) => f32::from(code) * scale + minimums[at],
                };
                let feature = match &self.order {
                    Some(order) => order[column] as usize,
                    None => column,
                };
                out[row * self.columns + feature] = value;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes() -> Codes {
        Codes {
            rows: 2,
            columns: 3,
            bits: 4,
            group_size: 2,
            codes: vec![0, 15, 8, 1, 2, 3],
            scales: vec![0.5, 2.0, 1.0, -1.0],
            zeros: Zeros::Points(vec![8, 0, 1, 2]),
            order: None,
        }
    }

    #[test]
    fn values_follow_their_group() {
        assert_eq!(codes().dequantize(), [-4.0, 3.5, 16.0, 0.0, 1.0, -1.0]);
        let zeros = Zeros::Minimums(vec![1.0, 2.0, 3.0, 4.0]);
        let order = Some(vec![2, 0, 1]);
        let codes = Codes {
            zeros,
            order,
            ..codes()
        };
        codes.check().unwrap();
        assert_eq!(codes.dequantize(), [8.5, 18.0, 1.0, 5.0, 1.0, 4.0]);
    }

    #[track_caller]
    fn refused(change: impl Fn(&mut Codes), field: &str) {
        let mut codes = codes();
        change(&mut codes);
        assert!(matches!(codes.check(), Err(Error::Codes { what, .. }) if what == field));
    }

    #[test]
    fn contradictions_are_refused_by_field() {
        codes().check().unwrap();
        refused(|c| c.bits = 3, "bits");
        refused(|c| c.group_size = 0, "group_size");
        refused(|c| c.rows = usize::MAX, "codes");
        refused(|c| c.codes[0] = 16, "codes");
        refused(|c| c.scales[1] = f32::NAN, "scales");
        refused(|c| c.scales.truncate(1), "scales");
        refused(|c| c.zeros = Zeros::Points(vec![0, 0, 0, 16]), "zeros");
        refused(
            |c| c.zeros = Zeros::Minimums(vec![f32::INFINITY; 4]),
            "zeros",
        );
        refused(|c| c.order = Some(vec![0, 1, 1]), "order");
        refused(|c| c.order = Some(vec![0, 1]), "order");
    }
}
