//! AVX-512 as on processors without its products of bytes, which tests from outside can't ask for.

use super::*;
use crate::{Activation, Compute, Isa};

/// Codes and activations at their extremes, where 16-bit sums of products would overflow.
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
            if i * 7 % 11 < 9 {
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
        if i * 5 % 13 < 11 {
            -2.5
        } else {
            2.5 - i as f32 * 1e-3
        }
    });
    (matrix, x.collect())
}

#[test]
fn eight_bits_are_the_same_without_vnni() {
    if !Isa::available().contains(&Isa::Avx512) {
        println!("skipped: no AVX-512 here");
        return;
    }
    let scalar = Compute::with_isa(Isa::Scalar, Some(1)).unwrap();
    let plain = Compute::with_isa(Isa::Avx512, Some(2))
        .unwrap()
        .without_dots();
    for bits in [4, 8] {
        let constant = ZeroType::Constant(7);
        for zeros in [ZeroType::Points, constant, ZeroType::Minimums] {
            let (matrix, x) = extremes(bits, zeros);
            let run = |compute: &Compute| {
                let mut out = vec![f32::NAN; 11 * 21];
                packed_matmul(compute, &x, &matrix, None, Activation::Int8, &mut out, 11).unwrap();
                out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            assert!(run(&plain) == run(&scalar), "{bits} bits, {zeros:?}");
        }
    }
}
