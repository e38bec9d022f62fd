//! Matrices and products as definitions in f64 have them.

use internlm_kernels::half::f16;
use internlm_kernels::{
    Activation, Compute, PackedMatrix, PackedRows, PackedShape, PackedZeros, ScaleType, ZeroType,
    packed_matmul,
};

use crate::common::numbers;

/// A matrix as a file has it.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(crate) shape: PackedShape,
    pub(crate) codes: Vec<u8>,
    pub(crate) scales: Vec<f32>,
    pub(crate) points: Vec<u8>,
    pub(crate) minimums: Vec<f32>,
}

impl Weights {
    pub(crate) fn new(shape: PackedShape, seed: u64) -> Weights {
        let groups = shape.n * shape.groups();
        let codes = |len, seed| -> Vec<u8> {
            let levels = (1 << shape.bits) as f32;
            let code = |x: f32| ((x + 1.0) / 2.0 * levels) as u8;
            numbers(len, seed).into_iter().map(code).collect()
        };
        let round = |x: f32| match shape.scales {
            ScaleType::F16 => f16::from_f32(x).to_f32(),
            ScaleType::F32 => x,
        };
        let scales = numbers(groups, seed + 1).into_iter();
        Weights {
            shape,
            codes: codes(shape.n * shape.k, seed),
            scales: scales.map(|x| round(x * 0.1)).collect(),
            points: match shape.zeros {
                ZeroType::Constant(point) => vec![point; groups],
                _ => codes(groups, seed + 2),
            },
            minimums: numbers(groups, seed + 3),
        }
    }

    pub(crate) fn rows(&self, rows: std::ops::Range<usize>) -> PackedRows<'_> {
        let (k, groups) = (self.shape.k, self.shape.groups());
        let of_groups = rows.start * groups..rows.end * groups;
        PackedRows {
            codes: &self.codes[rows.start * k..rows.end * k],
            scales: &self.scales[of_groups.clone()],
            zeros: match self.shape.zeros {
                ZeroType::Points | ZeroType::Constant(_) => {
                    PackedZeros::Points(&self.points[of_groups])
                }
                ZeroType::Minimums => PackedZeros::Minimums(&self.minimums[of_groups]),
            },
        }
    }

    pub(crate) fn pack(&self) -> PackedMatrix {
        let mut matrix = PackedMatrix::new(self.shape).unwrap();
        matrix.fill(0, self.rows(0..self.shape.n)).unwrap();
        matrix
    }

    /// A value as the definition gives it, and the sum of the magnitudes of its terms.
    pub(crate) fn value(&self, row: usize, k: usize) -> (f32, f32) {
        let group = row * self.shape.groups() + k / self.shape.group_size;
        let code = self.codes[row * self.shape.k + k];
        let scale = self.scales[group];
        match self.shape.zeros {
            ZeroType::Points | ZeroType::Constant(_) => {
                let value = (i32::from(code) - i32::from(self.points[group])) as f32 * scale;
                (value, value.abs())
            }
            ZeroType::Minimums => {
                let (value, minimum) = (f32::from(code) * scale, self.minimums[group]);
                (value + minimum, value.abs() + minimum.abs())
            }
        }
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        let PackedShape { n, k, .. } = self.shape;
        (0..n * k).map(|at| self.value(at / k, at % k).0).collect()
    }
}

pub(crate) struct Case {
    pub(crate) weights: Weights,
    pub(crate) matrix: PackedMatrix,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) x: Vec<f32>,
    pub(crate) m: usize,
}

impl Case {
    pub(crate) fn new(shape: PackedShape, m: usize, with_bias: bool) -> Case {
        let weights = Weights::new(shape, 7);
        Case {
            matrix: weights.pack(),
            weights,
            bias: with_bias.then(|| numbers(shape.n, 3)),
            x: numbers(m * shape.k, 1),
            m,
        }
    }

    pub(crate) fn run(&self, compute: &Compute, activation: Activation) -> Vec<f32> {
        // Leftovers in the result must not matter.
        let mut out = vec![f32::NAN; self.m * self.weights.shape.n];
        let bias = self.bias.as_deref();
        packed_matmul(
            compute,
            &self.x,
            &self.matrix,
            bias,
            activation,
            &mut out,
            self.m,
        )
        .unwrap();
        out
    }

    /// The largest error that the documentation allows: of the activation, and of sums in f32 as a
    /// share of the sum of magnitudes, 1e-5 for a few thousand terms.
    pub(crate) fn allowed(&self, row: usize, column: usize, activation: Activation) -> f64 {
        match activation {
            Activation::F32 => self.within(row, column, |x, _| (0.0, x)),
            Activation::Bf16 => self
                .within(row, column, |x, _| (x / 256.0, x))
                .max(self.allowed_words(row, column)),
            // 8-bit activations of small x are sums of larger ones.
            Activation::Int8 => self.within(row, column, |_, largest| (largest / 254.0, largest)),
        }
    }

    /// The same of activations as integers of 16 bits, which the AVX2 level has for [`Activation::Bf16`].
    pub(crate) fn allowed_words(&self, row: usize, column: usize) -> f64 {
        self.within(row, column, |x, largest| (largest / 65534.0, x))
    }

    /// `each` says of the magnitude of an activation and of the largest in its group how far it may be off, and what
    /// the error of sums is relative to.
    pub(crate) fn within(
        &self,
        row: usize,
        column: usize,
        each: impl Fn(f64, f64) -> (f64, f64),
    ) -> f64 {
        let PackedShape { k, group_size, .. } = self.weights.shape;
        let x = &self.x[row * k..][..k];
        let mut allowed = 1e-30;
        for (index, group) in x.chunks(group_size.min(k.max(1))).enumerate() {
            let largest = group.iter().fold(0.0f32, |a, x| a.max(x.abs()));
            for (offset, x) in group.iter().enumerate() {
                let (value, magnitude) = self
                    .weights
                    .value(column, index * group_size.min(k) + offset);
                let (rounding, x) = each(x.abs().into(), largest.into());
                allowed += rounding * f64::from(value.abs()) * 1.0001;
                allowed += 1e-5 * x * f64::from(magnitude);
            }
        }
        allowed
    }

    #[track_caller]
    pub(crate) fn check(&self, compute: &Compute, activation: Activation) {
        let PackedShape { n, k, .. } = self.weights.shape;
        let got = self.run(compute, activation);
        let values = self.weights.values();
        for (index, got) in got.into_iter().enumerate() {
            let (row, column) = (index / n, index % n);
            let bias = self
                .bias
                .as_ref()
                .map_or(0.0, |bias| f64::from(bias[column]));
            let products = self.x[row * k..][..k]
                .iter()
                .zip(&values[column * k..][..k]);
            let want = bias
                + products
                    .map(|(&x, &w)| f64::from(x) * f64::from(w))
                    .sum::<f64>();
            let allowed = self.allowed(row, column, activation) + 1e-6 * bias.abs();
            assert!(
                (f64::from(got) - want).abs() <= allowed,
                "{compute:?} {activation:?} {:?} m {} at ({row}, {column}): {got} is not {want} by {allowed}",
                self.weights.shape,
                self.m,
            );
        }
    }
}
