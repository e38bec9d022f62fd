//! Packed products against sums in f64, over instruction sets, forms and odd shapes.
#![allow(clippy::unwrap_used, reason = "a test panics")]

mod common;

use common::{bits, every_isa, numbers};
use internlm_kernels::half::{bf16, f16};
use internlm_kernels::{
    Activation, Compute, Error, Isa, PackedMatrix, PackedRows, PackedShape, PackedZeros, ScaleType,
    ZeroType, packed_matmul,
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

/// A matrix as a file has it.
#[derive(Clone)]
struct Weights {
    shape: PackedShape,
    codes: Vec<u8>,
    scales: Vec<f32>,
    points: Vec<u8>,
    minimums: Vec<f32>,
}

impl Weights {
    fn new(shape: PackedShape, seed: u64) -> Weights {
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

    fn rows(&self, rows: std::ops::Range<usize>) -> PackedRows<'_> {
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

    fn pack(&self) -> PackedMatrix {
        let mut matrix = PackedMatrix::new(self.shape).unwrap();
        matrix.fill(0, self.rows(0..self.shape.n)).unwrap();
        matrix
    }

    /// A value as the definition gives it, and the sum of the magnitudes of its terms.
    fn value(&self, row: usize, k: usize) -> (f32, f32) {
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

    fn values(&self) -> Vec<f32> {
        let PackedShape { n, k, .. } = self.shape;
        (0..n * k).map(|at| self.value(at / k, at % k).0).collect()
    }
}

struct Case {
    weights: Weights,
    matrix: PackedMatrix,
    bias: Option<Vec<f32>>,
    x: Vec<f32>,
    m: usize,
}

impl Case {
    fn new(shape: PackedShape, m: usize, with_bias: bool) -> Case {
        let weights = Weights::new(shape, 7);
        Case {
            matrix: weights.pack(),
            weights,
            bias: with_bias.then(|| numbers(shape.n, 3)),
            x: numbers(m * shape.k, 1),
            m,
        }
    }

    fn run(&self, compute: &Compute, activation: Activation) -> Vec<f32> {
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
    fn allowed(&self, row: usize, column: usize, activation: Activation) -> f64 {
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
    fn allowed_words(&self, row: usize, column: usize) -> f64 {
        self.within(row, column, |x, largest| (largest / 65534.0, x))
    }

    /// `each` says of the magnitude of an activation and of the largest in its group how far it may be off, and what
    /// the error of sums is relative to.
    fn within(&self, row: usize, column: usize, each: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
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
    fn check(&self, compute: &Compute, activation: Activation) {
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
    fn packing_loses_nothing(
        (n, k) in (1usize..40, 1usize..150),
        group_size in prop::sample::select(&GROUPS),
        code_bits in prop::sample::select(&[4u32, 8]),
        scales in prop::sample::select(&SCALES),
        zeros in prop::sample::select(&ZEROS),
        seed in 0u64..1000,
        split: prop::sample::Index,
    ) {
        let shape = PackedShape { n, k, bits: code_bits, group_size, scales, zeros };
        let weights = Weights::new(shape, seed);
        let want = bits(&weights.values());
        let matrix = weights.pack();
        let mut got = vec![f32::NAN; n * k];
        matrix.dequantize(0..n, &mut got).unwrap();
        prop_assert!(bits(&got) == want);

        // By any ranges of rows, by tiles, and through bytes.
        let mut other = PackedMatrix::new(shape).unwrap();
        let middle = split.index(n);
        other.fill(middle, weights.rows(middle..n)).unwrap();
        other.fill(0, weights.rows(0..middle)).unwrap();
        prop_assert!(other.as_bytes() == matrix.as_bytes());
        let mut tiled = PackedMatrix::new(shape).unwrap();
        for mut tile in tiled.tiles() {
            let rows = tile.rows();
            tile.fill(weights.rows(rows)).unwrap();
        }
        prop_assert!(tiled.as_bytes() == matrix.as_bytes());
        let copy = PackedMatrix::from_bytes(shape, matrix.as_bytes()).unwrap();
        let read = PackedMatrix::read(shape, 3, |start, to| {
            assert!(start.is_multiple_of(64) && to.len().is_multiple_of(64));
            to.copy_from_slice(&matrix.as_bytes()[start..start + to.len()]);
            Ok::<(), Error>(())
        });
        prop_assert!(read.unwrap().as_bytes() == matrix.as_bytes());
        let mut part = vec![f32::NAN; (n - middle) * k];
        copy.dequantize(middle..n, &mut part).unwrap();
        prop_assert!(bits(&part) == want[middle * k..]);
    }

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

#[test]
fn a_new_matrix_is_zeros_of_the_promised_size() {
    let shape = shape(2048, 2048, 128);
    let matrix = PackedMatrix::new(shape).unwrap();
    assert_eq!(matrix.shape(), shape);
    assert_eq!(matrix.bytes() * 8 * 16, 67 * 2048 * 2048); // 4.19 bits a weight
    assert_eq!(shape.bytes().unwrap(), matrix.bytes());
    assert_eq!(matrix.as_bytes().len(), matrix.bytes());
    assert_eq!(matrix.as_bytes().as_ptr() as usize % 64, 0);
    let mut row = [1.0; 2048];
    matrix.dequantize(2047..2048, &mut row).unwrap();
    assert_eq!(row, [0.0; 2048]);
}

#[test]
fn scales_that_half_precision_holds_are_recognised() {
    assert_eq!(ScaleType::of(&[]), ScaleType::F16);
    assert_eq!(
        ScaleType::of(&[0.5, -1.0 / 1024.0, 65504.0]),
        ScaleType::F16
    );
    for scale in [0.1, 65536.0, 1e-9] {
        assert_eq!(ScaleType::of(&[0.5, scale]), ScaleType::F32);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let compute = Compute::new(Some(1)).unwrap();
    let matrix = PackedMatrix::new(shape(4, 3, 16)).unwrap();
    let product = |x: usize, bias: usize, out: usize, m| {
        let (x, bias, mut out) = (vec![0.0; x], vec![0.0; bias], vec![0.0; out]);
        let activation = Activation::Int8;
        match packed_matmul(&compute, &x, &matrix, Some(&bias), activation, &mut out, m) {
            Err(Error::Shape {
                operation: "packed_matmul",
                argument,
                ..
            }) => argument,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(product(5, 4, 8, 2), "x");
    assert_eq!(product(6, 3, 8, 2), "bias");
    assert_eq!(product(6, 4, 9, 2), "out");
    assert_eq!(product(6, 4, 8, usize::MAX), "x");
    let length = |argument: &str, result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::Shape { argument: a, .. }) if a == argument));
    };
    length("out", matrix.dequantize(0..2, &mut [0.0; 5]));
    let rows = matrix.dequantize(3..5, &mut [0.0; 6]);
    assert!(matches!(rows, Err(Error::Packed { what: "rows", .. })));
    let bytes = PackedMatrix::from_bytes(matrix.shape(), &matrix.as_bytes()[1..]);
    length("bytes", bytes.map(|_| ()));
    for (wrong, what) in [
        (
            PackedShape {
                bits: 5,
                ..shape(4, 3, 16)
            },
            "bits",
        ),
        (shape(4, 3, 0), "group_size"),
        (shape(4, 1 << 17, usize::MAX), "group_size"),
        (shape(usize::MAX, 3, 16), "n"),
    ] {
        assert!(
            matches!(PackedMatrix::new(wrong), Err(Error::Packed { what: w, .. }) if w == what)
        );
    }
}

#[test]
fn rows_that_a_matrix_cannot_hold_are_errors() {
    let weights = Weights::new(shape(20, 40, 16), 1);
    let fill = |start: usize, change: &dyn Fn(&mut Weights)| {
        let mut weights = weights.clone();
        change(&mut weights);
        let mut matrix = PackedMatrix::new(shape(20, 40, 16)).unwrap();
        let result = matrix.fill(start, weights.rows(0..20));
        if result.is_err() {
            assert!(
                matrix.as_bytes().iter().all(|&byte| byte == 0),
                "nothing is written"
            );
        }
        result
    };
    fill(0, &|_| ()).unwrap();
    let value = |argument: &str, row: usize, result: Result<(), Error>| {
        assert!(
            matches!(result, Err(Error::PackedValue { argument: a, row: r, .. }) if a == argument && r == row)
        );
    };
    value("codes", 3, fill(0, &|w| w.codes[3 * 40 + 5] = 16));
    value("scales", 1, fill(0, &|w| w.scales[4] = f32::NAN));
    value("scales", 1, fill(0, &|w| w.scales[4] = 0.1));
    value("points", 2, fill(0, &|w| w.points[6] = 16));
    let constant = PackedShape {
        zeros: ZeroType::Constant(8),
        ..shape(20, 40, 16)
    };
    let mut weights_of_eights = weights.clone();
    weights_of_eights.points.fill(8);
    let mut matrix = PackedMatrix::new(constant).unwrap();
    matrix.fill(0, weights_of_eights.rows(0..20)).unwrap();
    weights_of_eights.points[7] = 9;
    value("points", 2, matrix.fill(0, weights_of_eights.rows(0..20)));
    let other = fill(0, &|w| w.shape.zeros = ZeroType::Minimums);
    assert!(matches!(other, Err(Error::Packed { what: "zeros", .. })));
    assert!(matches!(
        fill(1, &|_| ()),
        Err(Error::Packed { what: "rows", .. })
    ));
    assert!(matches!(
        fill(usize::MAX, &|_| ()),
        Err(Error::Packed { what: "rows", .. })
    ));

    let mut matrix = weights.pack();
    let mut tile = matrix.tiles().nth(1).unwrap();
    assert_eq!(tile.rows(), 16..20);
    assert!(tile.fill(weights.rows(0..3)).is_err());
    assert!(tile.fill(weights.rows(0..16)).is_err());
    let mut bytes = matrix.as_bytes().to_vec();
    bytes[3] = 0x7e; // the upper half of an f16 scale: NaN
    let read = PackedMatrix::from_bytes(matrix.shape(), &bytes);
    value("scales", 1, read.map(|_| ()));
    let mut bytes = matrix.as_bytes().to_vec();
    bytes[32 + 5] = 16;
    let read = PackedMatrix::from_bytes(matrix.shape(), &bytes);
    value("points", 5, read.map(|_| ()));
}
