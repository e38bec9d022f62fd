//! Packed products against sums in f64, over instruction sets, forms and odd shapes.
#![allow(clippy::unwrap_used, reason = "a test panics")]

mod case;
#[path = "../common/mod.rs"]
mod common;
mod matrix;

use case::Case;
use common::{bits, every_isa};
use internlm_kernels::half::bf16;
use internlm_kernels::{
    Activation, Compute, Isa, PackedMatrix, PackedShape, ScaleType, ZeroType, packed_matmul,
};
use proptest::prelude::*;

const ACTIVATIONS: [Activation; 3] = [Activation::F32, Activation::Bf16, Activation::Int8];
const SCALES: [ScaleType; 2] = [ScaleType::F16, ScaleType::F32];
const ZEROS: [ZeroType; 3] = [ZeroType::Points, ZeroType::Constant(7), ZeroType::Minimums];
const GROUPS: [usize; 6] = [16, 20, 32, 64, 128, usize::MAX];

fn shape(n: usize, k: usize, group_size: usize) -> PackedShape {
    PackedShape {
        n,
        k,
        bits: 4,
        group_size,
        scales: ScaleType::F16,
        zeros: ZeroType::Points,
    }
}

#[test]
fn odd_shapes_in_every_form_agree_with_f64() {
    let computes = every_isa();
    let mut count = 0;
    for n in [1, 15, 16, 17, 33, 70] {
        for k in [16, 24, 37, 100, 129, 200] {
            for group_size in GROUPS {
                for bits in [4, 8] {
                    count += 1;
                    let shape = PackedShape {
                        bits,
                        scales: SCALES[count / 2 % 2],
                        zeros: ZEROS[count / 4 % 3],
                        ..shape(n, k, group_size)
                    };
                    let case = Case::new(shape, [1, 2, 3, 5, 8, 17][count % 6], count % 3 == 0);
                    for compute in &computes {
                        for activation in ACTIVATIONS {
                            case.check(compute, activation);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn tasks_of_many_rows_agree_with_f64() {
    let case = Case::new(shape(520, 70, 32), 140, true);
    for compute in every_isa() {
        for activation in ACTIVATIONS {
            case.check(&compute, activation);
        }
    }
}

#[test]
fn long_sums_agree_with_f64() {
    for (bits, zeros) in [
        (4, ZeroType::Points),
        (4, ZeroType::Constant(8)),
        (4, ZeroType::Minimums),
        (8, ZeroType::Points),
        (8, ZeroType::Constant(128)),
    ] {
        let shape = PackedShape {
            bits,
            zeros,
            ..shape(34, 4100, 128)
        };
        let case = Case::new(shape, 13, true);
        for compute in every_isa() {
            for activation in ACTIVATIONS {
                case.check(&compute, activation);
            }
        }
    }
}

/// What [`Activation::Bf16`] computes once x is rounded is as near as f32 sums are, or as integers of 16 bits.
#[test]
fn bf16_is_f32_of_rounded_activations() {
    for (bits, zeros) in [
        (4, ZeroType::Points),
        (4, ZeroType::Constant(8)),
        (4, ZeroType::Minimums),
        (8, ZeroType::Minimums),
    ] {
        let shape = PackedShape {
            bits,
            zeros,
            ..shape(33, 400, 64)
        };
        let mut case = Case::new(shape, 5, true);
        case.x
            .iter_mut()
            .for_each(|x| *x = bf16::from_f32(*x).to_f32());
        for compute in every_isa() {
            let (wide, rounded) = (
                case.run(&compute, Activation::F32),
                case.run(&compute, Activation::Bf16),
            );
            for (index, (wide, rounded)) in wide.into_iter().zip(rounded).enumerate() {
                let (row, column) = (index / 33, index % 33);
                let sums = case.allowed(row, column, Activation::F32);
                let allowed = match compute.isa() {
                    Isa::Avx2 => sums + case.allowed_words(row, column),
                    _ => 2.0 * sums,
                };
                assert!(
                    f64::from((wide - rounded).abs()) <= allowed,
                    "{compute:?} {zeros:?}"
                );
            }
        }
    }
}

/// 8-bit activations give the same bits everywhere; f32 does so where multiply-adds are fused.
#[test]
fn instruction_sets_agree_bit_for_bit() {
    let computes = every_isa();
    for bits_of_code in [4, 8] {
        for zeros in ZEROS {
            for group_size in GROUPS {
                let shape = PackedShape {
                    bits: bits_of_code,
                    zeros,
                    ..shape(49, 333, group_size)
                };
                let case = Case::new(shape, 11, true);
                let want = bits(&case.run(&computes[0], Activation::Int8));
                for compute in &computes[1..] {
                    assert!(
                        bits(&case.run(compute, Activation::Int8)) == want,
                        "{compute:?} {shape:?}"
                    );
                }
                let fused: Vec<_> = computes[1..]
                    .iter()
                    .map(|c| bits(&case.run(c, Activation::F32)))
                    .collect();
                assert!(fused.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
            }
        }
    }
}

/// A constant is what equal points of all groups are.
#[test]
fn constant_zeros_are_equal_points() {
    for (bits_of_code, point) in [(4, 8), (4, 0), (8, 128), (8, 16)] {
        for group_size in GROUPS {
            let constant = PackedShape {
                bits: bits_of_code,
                zeros: ZeroType::Constant(point),
                ..shape(49, 333, group_size)
            };
            let constant = Case::new(constant, 9, true);
            let mut weights = constant.weights.clone();
            weights.shape.zeros = ZeroType::Points;
            let points = Case {
                matrix: weights.pack(),
                weights,
                bias: constant.bias.clone(),
                x: constant.x.clone(),
                m: constant.m,
            };
            assert!(constant.matrix.bytes() <= points.matrix.bytes());
            for compute in every_isa() {
                for activation in ACTIVATIONS {
                    let got = bits(&constant.run(&compute, activation));
                    let want = bits(&points.run(&compute, activation));
                    assert!(got == want, "{compute:?} {activation:?} {point}");
                }
            }
        }
    }
}

/// Rows are the same bit for bit whether alone or among others, on one thread or several.
#[test]
fn a_row_does_not_depend_on_the_others() {
    for isa in Isa::available() {
        let one = Compute::with_isa(isa, Some(1)).unwrap();
        let three = Compute::with_isa(isa, Some(3)).unwrap();
        for (code_bits, zeros) in [
            (4, ZeroType::Points),
            (4, ZeroType::Constant(8)),
            (4, ZeroType::Minimums),
            (8, ZeroType::Points),
            (8, ZeroType::Constant(128)),
        ] {
            let (n, k) = (131, 600);
            let shape = PackedShape {
                bits: code_bits,
                zeros,
                ..shape(n, k, 128)
            };
            let whole = Case::new(shape, 100, true);
            for activation in ACTIVATIONS {
                let want = bits(&whole.run(&three, activation));
                for m in [1, 2, 8, 17, 64] {
                    if isa == Isa::Amx && activation == Activation::Bf16 && m < 16 {
                        continue; // tiles from 16 rows on; see `tiles_and_vectors_agree_in_bf16`
                    }
                    for first in [0, 100 - m] {
                        let some = Case {
                            weights: whole.weights.clone(),
                            matrix: whole.matrix.clone(),
                            bias: whole.bias.clone(),
                            x: whole.x[first * k..(first + m) * k].to_vec(),
                            m,
                        };
                        for compute in [&one, &three] {
                            assert!(
                                bits(&some.run(compute, activation))
                                    == want[first * n..(first + m) * n],
                                "{compute:?} {shape:?} {activation:?} m {m} from {first}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// With bf16 activations AMX rounds weights to bf16 from 16 rows on: by at most 2⁻⁹ of each.
#[test]
fn tiles_and_vectors_agree_in_bf16() {
    let (n, k, m) = (50, 600, 70);
    for zeros in ZEROS {
        let shape = PackedShape {
            zeros,
            ..shape(n, k, 128)
        };
        let mut whole = Case::new(shape, m, true);
        whole
            .x
            .iter_mut()
            .for_each(|x| *x = bf16::from_f32(*x).to_f32());
        let part = |from: usize, m: usize| Case {
            weights: whole.weights.clone(),
            matrix: whole.matrix.clone(),
            bias: whole.bias.clone(),
            x: whole.x[from * k..(from + m) * k].to_vec(),
            m,
        };
        for compute in every_isa() {
            let many = whole.run(&compute, Activation::Bf16);
            for row in [0, 40, 69] {
                let one = part(row, 1).run(&compute, Activation::Bf16);
                for (column, one) in one.into_iter().enumerate() {
                    let many = many[row * n + column];
                    // The bound for activations is twice that for weights.
                    let allowed = whole.allowed(row, column, Activation::Bf16)
                        + whole.allowed(row, column, Activation::F32);
                    assert!(
                        f64::from((one - many).abs()) <= allowed,
                        "{compute:?} {zeros:?} ({row}, {column}): {one} and {many}"
                    );
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_stay_in_their_row() {
    for compute in every_isa() {
        for activation in ACTIVATIONS {
            for zeros in ZEROS {
                for broken in [f32::NAN, f32::INFINITY] {
                    let shape = PackedShape {
                        zeros,
                        ..shape(20, 70, 32)
                    };
                    let mut case = Case::new(shape, 5, false);
                    case.x[3 * 70 + 69] = broken;
                    let out = case.run(&compute, activation);
                    for (index, y) in out.into_iter().enumerate() {
                        assert_eq!(
                            y.is_finite(),
                            index / 20 != 3,
                            "{compute:?} {activation:?} {y}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn zeros_give_zeros_and_the_bias() {
    let mut case = Case::new(shape(18, 64, 32), 3, true);
    case.x.fill(0.0);
    let want = case.bias.clone().unwrap().repeat(3);
    for compute in every_isa() {
        for activation in ACTIVATIONS {
            assert_eq!(case.run(&compute, activation), want);
        }
    }
}

proptest! {
    #[test]
    fn any_shape_agrees_with_f64(
        (m, n, k) in (1usize..20, 1usize..60, 0usize..300),
        group_size in prop::sample::select(&GROUPS),
        code_bits in prop::sample::select(&[4u32, 8]),
        scales in prop::sample::select(&SCALES),
        zeros in prop::sample::select(&ZEROS),
        activation in prop::sample::select(&ACTIVATIONS),
        with_bias: bool,
    ) {
        let shape = PackedShape { n, k, bits: code_bits, group_size, scales, zeros };
        let case = Case::new(shape, m, with_bias);
        for compute in every_isa() {
            case.check(&compute, activation);
        }
    }
}

#[test]
fn nothing_to_do_is_no_error() {
    for compute in every_isa() {
        for activation in ACTIVATIONS {
            let none = PackedMatrix::new(shape(0, 5, 16)).unwrap();
            packed_matmul(&compute, &[0.0; 10], &none, None, activation, &mut [], 2).unwrap();
            let empty = PackedMatrix::new(shape(2, 0, 16)).unwrap();
            let mut out = [7.0; 4];
            let bias = Some(&[1.0, 2.0][..]);
            packed_matmul(&compute, &[], &empty, bias, activation, &mut out, 2).unwrap();
            assert_eq!(out, [1.0, 2.0, 1.0, 2.0]);
            packed_matmul(&compute, &[], &empty, None, activation, &mut [], 0).unwrap();
        }
    }
}
