//! Dense products against sums in f64, over instruction sets, stored types and odd shapes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

mod common;

use common::{DTYPES, Dtype, Stored, bits, every_isa, numbers};
use internlm_kernels::half::bf16;
use internlm_kernels::{Activation, Compute, Elements, Error, Isa, matmul};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 2] = [Activation::F32, Activation::Bf16];

struct Case {
    x: Vec<f32>,
    w: Stored,
    bias: Option<Vec<f32>>,
    m: usize,
    n: usize,
    k: usize,
}

impl Case {
    fn new(dtype: Dtype, m: usize, n: usize, k: usize, with_bias: bool) -> Case {
        let w = Stored::new(dtype, &numbers(n * k, 2));
        let bias = with_bias.then(|| numbers(n, 3));
        Case {
            x: numbers(m * k, 1),
            w,
            bias,
            m,
            n,
            k,
        }
    }

    fn run(&self, compute: &Compute, activation: Activation) -> Vec<f32> {
        let Case {
            x,
            w,
            bias,
            m,
            n,
            k,
        } = self;
        // Leftovers in the result must not matter.
        let mut out = vec![f32::NAN; m * n];
        matmul(
            compute,
            x,
            w.elements(),
            bias.as_deref(),
            activation,
            &mut out,
            *m,
            *n,
            *k,
        )
        .unwrap();
        out
    }

    /// Largest error, as a share of the sum of magnitudes: 1e-5 for sums in f32 of a few thousand terms.
    #[track_caller]
    fn check(&self, compute: &Compute, activation: Activation) {
        let got = self.run(compute, activation);
        let (w, k) = (self.w.wide(), self.k);
        let round = |x: f32| match activation {
            Activation::F32 | Activation::Int8 => x,
            Activation::Bf16 => bf16::from_f32(x).to_f32(),
        };
        for (index, got) in got.into_iter().enumerate() {
            let (row, column) = (index / self.n, index % self.n);
            let mut sum = self
                .bias
                .as_ref()
                .map_or(0.0, |bias| f64::from(bias[column]));
            let mut magnitude = sum.abs();
            for (x, w) in self.x[row * k..][..k].iter().zip(&w[column * k..][..k]) {
                let product = f64::from(round(*x)) * f64::from(*w);
                sum += product;
                magnitude += product.abs();
            }
            let error = (f64::from(got) - sum).abs();
            assert!(
                error <= 1e-5 * magnitude + 1e-30,
                "{compute:?} {activation:?} ({}, {}, {k}) at ({row}, {column}): {got} is not {sum}",
                self.m,
                self.n,
            );
        }
    }
}

#[test]
fn shapes_around_every_tile_agree_with_f64() {
    let shapes = [
        (1, 1, 1),
        (1, 6, 32),
        (2, 7, 33),
        (3, 5, 31),
        (4, 24, 64),
        (5, 13, 100),
        (8, 49, 576),
        (9, 6, 1024),
        (9, 97, 1030),
        (17, 25, 2055),
        (33, 12, 96),
        (130, 31, 65),
        (131, 3, 4100),
    ];
    for compute in every_isa() {
        for (m, n, k) in shapes {
            for dtype in DTYPES {
                for activation in ACTIVATIONS {
                    Case::new(dtype, m, n, k, (m + n) % 2 == 0).check(&compute, activation);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_f64(
        (m, n, k) in (1usize..24, 1usize..60, 0usize..300),
        dtype in prop::sample::select(&DTYPES),
        activation in prop::sample::select(&ACTIVATIONS),
        with_bias: bool,
    ) {
        let case = Case::new(dtype, m, n, k, with_bias);
        for compute in every_isa() {
            case.check(&compute, activation);
        }
    }
}

/// Rows are the same bit for bit whether alone or among others, on one thread or several.
#[test]
fn a_row_does_not_depend_on_the_others() {
    let (n, k) = (131, 2115);
    for isa in Isa::available() {
        let one = Compute::with_isa(isa, Some(1)).unwrap();
        let three = Compute::with_isa(isa, Some(3)).unwrap();
        for dtype in DTYPES {
            for activation in ACTIVATIONS {
                let tiles =
                    isa == Isa::Amx && activation == Activation::Bf16 && dtype == Dtype::Bf16;
                let whole = Case::new(dtype, 200, n, k, true);
                let want = bits(&whole.run(&three, activation));
                for m in [1, 2, 8, 17, 64] {
                    if tiles && m < 16 {
                        continue; // see `shapes_around_every_tile_agree_with_f64`
                    }
                    for first in [0, 200 - m] {
                        let x = whole.x[first * k..(first + m) * k].to_vec();
                        let w = Stored::new(dtype, &whole.w.wide());
                        let some = Case {
                            x,
                            w,
                            bias: whole.bias.clone(),
                            m,
                            n,
                            k,
                        };
                        for compute in [&one, &three] {
                            assert!(
                                bits(&some.run(compute, activation))
                                    == want[first * n..(first + m) * n],
                                "{compute:?} {dtype:?} {activation:?} m {m} from {first}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Weights that are not packed have no group to quantize activations by.
#[test]
fn eight_bit_activations_are_f32_for_dense_weights() {
    for compute in every_isa() {
        for dtype in DTYPES {
            let case = Case::new(dtype, 5, 30, 70, true);
            let want = bits(&case.run(&compute, Activation::F32));
            assert!(
                bits(&case.run(&compute, Activation::Int8)) == want,
                "{compute:?} {dtype:?}"
            );
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row_and_column() {
    for compute in every_isa() {
        for dtype in DTYPES {
            for activation in ACTIVATIONS {
                for m in [1, 5, 20] {
                    let (n, k) = (9, 70);
                    let mut case = Case::new(dtype, m, n, k, false);
                    case.x[(m - 1) * k + 69] = f32::NAN;
                    let mut w = case.w.wide();
                    w[4 * k + 3] = f32::INFINITY;
                    case.w = Stored::new(dtype, &w);
                    for (index, y) in case.run(&compute, activation).into_iter().enumerate() {
                        let (row, column) = (index / n, index % n);
                        let what =
                            format!("{compute:?} {dtype:?} {activation:?} {row} {column}: {y}");
                        match (row == m - 1, column == 4) {
                            (true, _) => assert!(y.is_nan(), "{what}"),
                            (false, true) => assert!(y.is_infinite(), "{what}"),
                            (false, false) => assert!(y.is_finite(), "{what}"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_to_do_is_no_error() {
    for compute in every_isa() {
        let w = Elements::F32(&[]);
        let mut out = [7.0; 2];
        matmul(&compute, &[], w, None, Activation::F32, &mut [], 0, 0, 5).unwrap();
        matmul(
            &compute,
            &[],
            w,
            Some(&[1.0, 2.0]),
            Activation::F32,
            &mut out,
            1,
            2,
            0,
        )
        .unwrap();
        assert_eq!(out, [1.0, 2.0]);
        matmul(&compute, &[], w, None, Activation::Bf16, &mut out, 2, 1, 0).unwrap();
        assert_eq!(out, [0.0; 2]);
    }
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let compute = Compute::new(Some(1)).unwrap();
    let (x, w, bias) = ([0.0; 6], [0.0; 12], [0.0; 4]);
    let run = |x: &[f32], w: &[f32], bias: &[f32], out: usize, m, n, k| {
        let mut out = vec![0.0; out];
        let w = Elements::F32(w);
        match matmul(
            &compute,
            x,
            w,
            Some(bias),
            Activation::F32,
            &mut out,
            m,
            n,
            k,
        ) {
            Err(Error::Shape {
                operation: "matmul",
                argument,
                ..
            }) => argument,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(&x[1..], &w, &bias, 8, 2, 4, 3), "x");
    assert_eq!(run(&x, &w[..11], &bias, 8, 2, 4, 3), "w");
    assert_eq!(run(&x, &w, &bias[..3], 8, 2, 4, 3), "bias");
    assert_eq!(run(&x, &w, &bias, 9, 2, 4, 3), "out");
    assert_eq!(run(&x, &w, &bias, 8, usize::MAX, 4, 3), "x");
    assert_eq!(run(&[], &w, &bias, 8, 0, usize::MAX, usize::MAX), "w");
}
