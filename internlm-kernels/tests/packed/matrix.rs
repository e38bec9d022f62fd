//! The matrix itself: what it holds, what it refuses.

use internlm_kernels::{
    Activation, Compute, Error, PackedMatrix, PackedShape, ScaleType, ZeroType, packed_matmul,
};
use proptest::prelude::*;

use crate::case::Weights;
use crate::common::bits;
use crate::{GROUPS, SCALES, ZEROS, shape};

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
