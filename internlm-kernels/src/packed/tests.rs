//! Sums at their limits, and AVX-512 as on processors without its products of bytes, which tests from outside can't
//! ask for.

use super::activations::Form;
use super::product::product;
use super::*;
use crate::{Activation, Compute, Isa};

/// Codes and activations at their extremes, where 16-bit sums of too many products would overflow: of every other
/// output and row all of them.
fn extremes(bits: u32, zeros: ZeroType) -> (PackedMatrix, Vec<f32>) {
    let (n, k, group_size) = (21, 150, 64);
    let shape = PackedShape {
        n,
        k,
        bits,
        group_size,
        scales: ScaleType::F32,
        zeros,
    };
    let groups = n * shape.groups();
    let limit = ((1u32 << bits) - 1) as u8;
    let codes: Vec<u8> = (0..n * k)
        .map(|i| {
            if (i / k).is_multiple_of(2) || i * 7 % 11 < 9 {
                limit
            } else {
                (i % 16) as u8
            }
        })
        .collect();
    let scales: Vec<f32> = (0..groups).map(|i| 0.01 + 0.003 * i as f32).collect();
    let points = (0..groups).map(|i| limit * u8::from(i % 3 == 0));
    let points: Vec<u8> = match zeros {
        ZeroType::Constant(point) => vec![point; groups],
        _ => points.collect(),
    };
    let minimums: Vec<f32> = scales.iter().map(|scale| -7.3 * scale).collect();
    let zeros = match zeros {
        ZeroType::Points | ZeroType::Constant(_) => PackedZeros::Points(&points),
        ZeroType::Minimums => PackedZeros::Minimums(&minimums),
    };
    let mut matrix = PackedMatrix::new(shape).unwrap();
    let rows = PackedRows {
        codes: &codes,
        scales: &scales,
        zeros,
    };
    matrix.fill(0, rows).unwrap();
    let x = (0..11 * k).map(|i| {
        if (i / k).is_multiple_of(2) || i * 5 % 13 < 11 {
            -2.5
        } else {
            2.5 - i as f32 * 1e-3
        }
    });
    (matrix, x.collect())
}

#[test]
fn extremes_are_the_same_at_every_level() {
    let scalar = Compute::with_isa(Isa::Scalar, Some(1)).unwrap();
    let mut levels: Vec<(String, Compute)> = Isa::available()
        .into_iter()
        .map(|isa| (isa.to_string(), Compute::with_isa(isa, Some(2)).unwrap()))
        .collect();
    if Isa::available().contains(&Isa::Avx512) {
        let plain = Compute::with_isa(Isa::Avx512, Some(2)).unwrap();
        levels.push(("avx512 without VNNI".to_owned(), plain.without_dots()));
    } else {
        println!("not run without VNNI: no AVX-512 here");
    }
    for bits in [4, 8] {
        let constant = ZeroType::Constant(7);
        for zeros in [ZeroType::Points, constant, ZeroType::Minimums] {
            let (matrix, x) = extremes(bits, zeros);
            let run = |compute: &Compute, m: usize| {
                let mut out = vec![f32::NAN; m * 21];
                let x = &x[..m * 150];
                packed_matmul(compute, x, &matrix, None, Activation::Int8, &mut out, m).unwrap();
                out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            for m in [1, 3, 11] {
                let want = run(&scalar, m);
                for (level, compute) in &levels {
                    assert!(
                        run(compute, m) == want,
                        "{level}, {m} rows, {bits} bits, {zeros:?}"
                    );
                }
            }
        }
    }
}

/// Of 16-bit activations, which one level has.
#[test]
fn sums_of_words_are_those_of_plain_loops() {
    if !Isa::available().contains(&Isa::Avx2) {
        return println!("not run: no AVX2 here");
    }
    let scalar = Compute::with_isa(Isa::Scalar, Some(1)).unwrap();
    let vectors = Compute::with_isa(Isa::Avx2, Some(2)).unwrap();
    let check = |matrix: &PackedMatrix, x: &[f32], bias: Option<&[f32]>, m: usize| {
        let run = |compute: &Compute| {
            let mut out = vec![f32::NAN; m * matrix.shape().n];
            product(compute, x, matrix, bias, Form::Int16, &mut out, m);
            out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        };
        assert!(
            run(&vectors) == run(&scalar),
            "{m} rows, {:?}",
            matrix.shape()
        );
    };
    for bits in [4, 8] {
        let constant = ZeroType::Constant(7);
        for zeros in [ZeroType::Points, constant, ZeroType::Minimums] {
            let (matrix, x) = extremes(bits, zeros);
            for m in [1, 3, 11] {
                check(&matrix, &x[..m * 150], None, m);
            }
        }
    }
    tiles::each(|matrix, x, bias, m| {
        // Whatever the inputs: `usize::MAX` in one group is 150 here, which fits both.
        assert!(matrix.layout().fits_int16());
        check(matrix, x, bias, m);
    });
}

/// The largest groups that fit, all at their limits.
#[test]
fn the_longest_sums_of_words_fit() {
    for (bits, k) in [(4, 4096), (8, 256)] {
        let limit = ((1u32 << bits) - 1) as u8;
        for point in [0, limit] {
            let shape = PackedShape {
                n: 17,
                k,
                bits,
                group_size: usize::MAX,
                scales: ScaleType::F32,
                zeros: ZeroType::Constant(point),
            };
            let mut matrix = PackedMatrix::new(shape).unwrap();
            assert!(matrix.layout().fits_int16());
            let rows = PackedRows {
                codes: &vec![limit - point; 17 * k],
                scales: &[1.0; 17],
                zeros: PackedZeros::Points(&[point; 17]),
            };
            matrix.fill(0, rows).unwrap();
            let want = (f32::from(limit) - 2.0 * f32::from(point)) * k as f32;
            for compute in Isa::available() {
                let compute = Compute::with_isa(compute, Some(1)).unwrap();
                let mut out = [f32::NAN; 9 * 17];
                let x = vec![1.0; 9 * k];
                product(&compute, &x, &matrix, None, Form::Int16, &mut out, 9);
                for y in out {
                    assert!(
                        (y - want).abs() <= 1e-6 * want.abs(),
                        "{compute:?}: {y}, {want}"
                    );
                }
            }
            let longer = PackedShape { k: k + 1, ..shape };
            assert!(!PackedMatrix::new(longer).unwrap().layout().fits_int16());
        }
    }
}

/// Kernels for tiles, run on the model of tiles.
mod tiles {
    use super::super::amx::{bf16, int8};
    use super::*;
    use crate::amx::model::Model;

    const SHAPES: [(usize, usize, usize); 12] = [
        // n, k, group
        (1, 1, 32),
        (16, 32, 32),
        (17, 64, 64),
        (33, 100, 32),
        (48, 128, 128),
        (31, 257, 128),
        (70, 200, 64),
        (20, 150, usize::MAX),
        (35, 72, 72),
        (40, 61, 20),
        (18, 96, 48),
        (130, 300, 16),
    ];

    /// A matrix of codes, points or minimums that look random.
    fn matrix(shape: PackedShape, seed: u64) -> PackedMatrix {
        let PackedShape { n, k, bits, .. } = shape;
        let groups = n * shape.groups();
        let limit = (1u32 << bits) - 1;
        let number = |i: usize| {
            let word = (i as u64 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            (word ^ word >> 15) as u32
        };
        let codes: Vec<u8> = (0..n * k).map(|i| (number(i) & limit) as u8).collect();
        let scale = |i| half::f16::from_f32(0.01 + (number(i + 7) % 99) as f32 * 1e-3).to_f32();
        let scales: Vec<f32> = (0..groups)
            .map(|i| match shape.scales {
                ScaleType::F16 => scale(i),
                ScaleType::F32 => scale(i) * 1.01,
            })
            .collect();
        let points: Vec<u8> = (0..groups)
            .map(|i| match shape.zeros {
                ZeroType::Constant(point) => point,
                _ => (number(i + 3) & limit) as u8,
            })
            .collect();
        let minimums: Vec<f32> = (0..groups)
            .map(|i| (number(i) % 200) as f32 * 1e-2 - 1.0)
            .collect();
        let zeros = match shape.zeros {
            ZeroType::Points | ZeroType::Constant(_) => PackedZeros::Points(&points),
            ZeroType::Minimums => PackedZeros::Minimums(&minimums),
        };
        let mut matrix = PackedMatrix::new(shape).unwrap();
        matrix
            .fill(
                0,
                PackedRows {
                    codes: &codes,
                    scales: &scales,
                    zeros,
                },
            )
            .unwrap();
        matrix
    }

    /// Calls `check` with matrices of all forms and shapes, activations and a bias.
    pub(super) fn each(mut check: impl FnMut(&PackedMatrix, &[f32], Option<&[f32]>, usize)) {
        let mut count = 0;
        for (n, k, group_size) in SHAPES {
            for bits in [4, 8] {
                for zeros in [ZeroType::Points, ZeroType::Minimums, ZeroType::Constant(9)] {
                    for scales in [ScaleType::F16, ScaleType::F32] {
                        count += 1;
                        let shape = PackedShape {
                            n,
                            k,
                            bits,
                            group_size,
                            scales,
                            zeros,
                        };
                        let matrix = matrix(shape, count);
                        // Rows from 1 to 70, around whole tiles and blocks.
                        let m = [1, 15, 16, 17, 31, 32, 33, 47, 64, 65, 70, 2][count as usize % 12];
                        let x: Vec<f32> = (0..m * k)
                            .map(|i| ((i * i + 3 * i) as f32 * 0.37).sin() * 2.0)
                            .collect();
                        let bias: Vec<f32> = (0..n).map(|i| (i as f32).cos()).collect();
                        check(&matrix, &x, (count % 3 > 0).then_some(&bias), m);
                    }
                }
            }
        }
    }

    fn computes() -> Vec<Compute> {
        let compute = |isa| Compute::with_isa(isa, Some(2)).unwrap();
        Isa::available().into_iter().map(compute).collect()
    }

    fn words(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn eight_bits_are_those_of_every_other_kernel() {
        let computes = computes();
        each(|matrix, x, bias, m| {
            let n = matrix.shape().n;
            let mut want = vec![f32::NAN; m * n];
            packed_matmul(
                &computes[0],
                x,
                matrix,
                bias,
                Activation::Int8,
                &mut want,
                m,
            )
            .unwrap();
            for compute in &computes {
                let mut got = vec![f32::NAN; m * n];
                int8::matmul::<Model>(compute, x, matrix, bias, &mut got, m);
                assert!(
                    words(&got) == words(&want),
                    "{compute:?} {:?} m {m}",
                    matrix.shape()
                );
            }
        });
    }

    /// Products are those of both operands rounded to bf16, but for the rounding of sums.
    #[test]
    fn bf16_agrees_with_f64() {
        let computes = computes();
        each(|matrix, x, bias, m| {
            let PackedShape { n, k, .. } = matrix.shape();
            let mut w = vec![0.0; n * k];
            matrix.dequantize(0..n, &mut w).unwrap();
            let round = |x: f32| half::bf16::from_f32(x).to_f64();
            for compute in &computes {
                let mut got = vec![f32::NAN; m * n];
                bf16::matmul::<Model>(compute, x, matrix, bias, &mut got, m);
                for (index, got) in got.into_iter().enumerate() {
                    let (row, column) = (index / n, index % n);
                    let mut want = bias.map_or(0.0, |bias| f64::from(bias[column]));
                    let mut magnitude = want.abs();
                    for (x, w) in x[row * k..][..k].iter().zip(&w[column * k..][..k]) {
                        want += round(*x) * round(*w);
                        magnitude += (round(*x) * round(*w)).abs();
                    }
                    assert!(
                        (f64::from(got) - want).abs() <= 1e-5 * magnitude,
                        "{compute:?} {:?} m {m} at ({row}, {column}): {got} is not {want}",
                        matrix.shape()
                    );
                }
            }
        });
    }

    /// Extreme codes, long groups and several stages of columns.
    #[test]
    fn long_sums_are_the_same() {
        let compute = Compute::new(Some(2)).unwrap();
        for (bits, group_size) in [(4, 128), (8, 5000), (8, 128)] {
            let shape = PackedShape {
                n: 40,
                k: 5000,
                bits,
                group_size,
                scales: ScaleType::F16,
                zeros: ZeroType::Points,
            };
            let matrix = matrix(shape, 5);
            let (m, k) = (20, shape.k);
            let x: Vec<f32> = (0..m * k)
                .map(|i| if i % 9 == 0 { 0.3 } else { -1.5 })
                .collect();
            let run = |product: &dyn Fn(&mut [f32])| {
                let mut out = vec![f32::NAN; m * shape.n];
                product(&mut out);
                words(&out)
            };
            let want = run(&|out| {
                packed_matmul(&compute, &x, &matrix, None, Activation::Int8, out, m).unwrap();
            });
            let got = run(&|out| int8::matmul::<Model>(&compute, &x, &matrix, None, out, m));
            assert!(got == want, "{shape:?}");
        }
    }

    #[test]
    fn nan_stays_in_its_row() {
        let compute = Compute::new(Some(1)).unwrap();
        let shape = PackedShape {
            n: 20,
            k: 70,
            bits: 4,
            group_size: 32,
            scales: ScaleType::F16,
            zeros: ZeroType::Points,
        };
        let matrix = matrix(shape, 1);
        for broken in [f32::NAN, f32::INFINITY] {
            let mut x = vec![0.5; 18 * 70];
            x[17 * 70 + 69] = broken;
            for product in [int8::matmul::<Model>, bf16::matmul::<Model>] {
                let mut out = vec![0.0; 18 * 20];
                product(&compute, &x, &matrix, None, &mut out, 18);
                for (index, y) in out.into_iter().enumerate() {
                    assert_eq!(y.is_finite(), index / 20 != 17, "{y}");
                }
            }
        }
    }
}
