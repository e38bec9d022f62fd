//! Packed weights against the codes they are made of, and their products against candle's.

mod parts;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use internlm_kernels::{Activation, Compute, PackedShape, ScaleType, ZeroType};
use internlm_quant::{Codes, Error, PackedBuilder, PackedWeight, Weight, Zeros};
use parts::slice;
use proptest::prelude::*;

/// Reproducible codes with scales that half precision holds.
fn codes(rows: usize, columns: usize, bits: u32, group_size: usize, seed: usize) -> Codes {
    let number = |i: usize| (i * 7919 + seed * 104_729) % 10_007;
    let groups = rows * columns.div_ceil(group_size);
    let limit = 1 << bits;
    Codes {
        rows,
        columns,
        bits,
        group_size,
        codes: (0..rows * columns)
            .map(|i| (number(i) % limit) as u8)
            .collect(),
        scales: (0..groups)
            .map(|i| (number(i) % 63) as f32 / 256.0 - 0.125)
            .collect(),
        zeros: Zeros::Points((0..groups).map(|i| (number(i + 5) % limit) as u8).collect()),
        order: None,
    }
}

/// A permutation: steps of 7 through numbers that 7 does not divide, else the numbers backwards.
fn order(columns: usize) -> Vec<u32> {
    let feature = |k| {
        if columns.is_multiple_of(7) {
            columns - 1 - k
        } else {
            k * 7 % columns
        }
    };
    (0..columns).map(|k| feature(k) as u32).collect()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor
        .flatten_all()
        .and_then(|t| t.to_vec1())
        .expect("f32 values")
}

fn x(m: usize, k: usize) -> Tensor {
    let value = |i: usize| ((i * 7919) % 127) as f32 / 64.0 - 1.0;
    let values: Vec<f32> = (0..m * k).map(value).collect();
    Tensor::from_vec(values, (m, k), &Device::Cpu).expect("a tensor")
}

fn max_diff(a: &Tensor, b: &Tensor) -> f32 {
    let diff = (a - b).and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>());
    diff.expect("f32 of one shape")
}

proptest! {
    #[test]
    fn a_packed_weight_is_its_codes(
        (m, rows, columns) in (1usize..6, 1usize..40, 1usize..100),
        bits in prop::sample::select(&[4u32, 8]),
        group_size in prop::sample::select(&[8usize, 32, 1000]),
        minimums: bool, ordered: bool, wide_scales: bool,
    ) {
        let mut codes = codes(rows, columns, bits, group_size, 1);
        if minimums {
            codes.zeros = Zeros::Minimums(codes.scales.iter().map(|s| 0.3 - 2.0 * s).collect());
        }
        if ordered {
            codes.order = Some(order(columns));
        }
        if wide_scales {
            codes.scales[0] = 0.1;
        }
        let packed = PackedWeight::from_codes(&codes)?;
        prop_assert_eq!(packed.matrix().shape().scales == ScaleType::F16, !wide_scales);
        prop_assert_eq!(packed.order(), codes.order.as_deref());
        let weight = Weight::Packed(Arc::new(packed));
        prop_assert_eq!(weight.shape(), (rows, columns));
        prop_assert_eq!(values(&weight.dequantize()?), codes.dequantize());

        let compute = Compute::new(Some(2))?;
        let (x, bias) = (x(m, columns), Tensor::ones(rows, DType::F32, &Device::Cpu)?);
        let ours = weight.matmul(&x, Some(&bias), &compute, Activation::F32)?;
        let candles = weight.matmul_tensor(&x, Some(&bias))?;
        prop_assert_eq!(ours.dims(), &[m, rows]);
        prop_assert!(max_diff(&ours, &candles) <= 1e-4 * columns as f32);
        // A dense weight of the same values is the same weight.
        let dense = Weight::Dense(weight.dequantize()?);
        let theirs = dense.matmul(&x, Some(&bias), &compute, Activation::F32)?;
        prop_assert!(max_diff(&ours, &theirs) <= 1e-4 * columns as f32);
    }
}

#[test]
fn rows_may_come_in_parts() -> Result<(), Error> {
    let whole = codes(37, 50, 4, 16, 2);
    let part = |rows| slice(&whole, rows);
    let shape = PackedShape {
        n: 37,
        k: 50,
        bits: 4,
        group_size: 16,
        scales: ScaleType::F16,
        zeros: ZeroType::Points,
    };
    let mut builder = PackedBuilder::new(shape, None)?;
    builder.push(&part(0..5))?;
    builder.push(&part(5..36))?;
    assert!(matches!(builder.push(&part(0..2)), Err(Error::Kernel(_)))); // one row is left
    builder.push(&part(36..37))?;
    let packed = builder.finish()?;
    let want = PackedWeight::from_codes(&whole)?;
    assert!(packed.matrix().as_bytes() == want.matrix().as_bytes());
    assert_eq!(packed.bytes(), packed.matrix().bytes());

    let mut builder = PackedBuilder::new(shape, None)?;
    builder.push(&part(0..36))?;
    assert!(matches!(
        builder.finish(),
        Err(Error::Codes { what: "rows", .. })
    ));
    Ok(())
}

#[test]
fn threads_pack_the_same_matrix() -> Result<(), Error> {
    for (rows, columns) in [(37, 50), (600, 24), (16, 8), (0, 8)] {
        let whole = codes(rows, columns, 4, 16, 3);
        let part = |rows: std::ops::Range<usize>| slice(&whole, rows);
        let want = PackedWeight::from_codes(&whole)?;
        let shape = want.matrix().shape();
        for threads in [1, 3] {
            for split in [0, rows / 16 * 16 / 2 / 16 * 16, rows] {
                let mut builder = PackedBuilder::new(shape, None)?;
                builder.push_parallel::<Error>(split, threads, |range| Ok(part(range)))?;
                builder.push_parallel::<Error>(rows - split, threads, |range| {
                    assert!(range.len() <= 256);
                    Ok(part(range.start + split..range.end + split))
                })?;
                let packed = builder.finish()?;
                assert!(packed.matrix().as_bytes() == want.matrix().as_bytes());
            }
        }
    }
    Ok(())
}

#[test]
fn parallel_rows_must_be_whole_tiles_and_all_there() -> Result<(), Error> {
    let whole = codes(40, 32, 4, 16, 3);
    let shape = PackedWeight::from_codes(&whole)?.matrix().shape();
    let builder = || PackedBuilder::new(shape, None);
    let refused = |result: Result<(), Error>, field: &str| {
        assert!(
            matches!(&result, Err(Error::Codes { what, .. }) if *what == field),
            "{result:?}"
        );
    };
    let part = |rows: std::ops::Range<usize>| Ok(slice(&whole, rows));
    refused(builder()?.push_parallel(8, 2, part), "rows");
    refused(builder()?.push_parallel(48, 2, part), "rows");
    let mut begun = builder()?;
    begun.push(&slice(&whole, 0..8))?;
    refused(begun.push_parallel(32, 2, part), "rows");
    let fewer = |rows: std::ops::Range<usize>| Ok(slice(&whole, rows.start..rows.end - 1));
    refused(builder()?.push_parallel(40, 2, fewer), "rows");
    let other = |rows: std::ops::Range<usize>| Ok(codes(rows.len(), 32, 8, 16, 3));
    refused(builder()?.push_parallel(40, 2, other), "bits");
    let mut failed = builder()?;
    refused(failed.push_parallel(40, 2, fewer), "rows");
    refused(failed.finish().map(|_| ()), "rows");
    Ok(())
}

#[test]
fn rows_are_those_of_the_whole() -> Result<(), Error> {
    let mut codes = codes(20, 24, 4, 8, 4);
    codes.order = Some(order(24));
    let weight = Weight::Packed(Arc::new(PackedWeight::from_codes(&codes)?));
    let ids = [3u32, 19, 0, 3];
    let whole = weight.dequantize()?;
    let want = whole.index_select(&Tensor::new(&ids, &Device::Cpu)?, 0)?;
    assert_eq!(values(&weight.rows(&ids)?), values(&want));
    assert_eq!(values(&Weight::Dense(whole).rows(&ids)?), values(&want));
    assert!(matches!(weight.rows(&[20]), Err(Error::Kernel(_))));
    Ok(())
}

#[test]
fn parts_of_another_form_are_refused_by_field() -> Result<(), Error> {
    let whole = codes(4, 32, 4, 16, 3);
    let shape = PackedShape {
        n: 4,
        k: 32,
        bits: 4,
        group_size: 16,
        scales: ScaleType::F16,
        zeros: ZeroType::Points,
    };
    let push = |codes: &Codes| PackedBuilder::new(shape, None)?.push(codes);
    let refused = |field: &str, codes: Codes| {
        assert!(
            matches!(push(&codes), Err(Error::Codes { what, .. }) if what == field),
            "{field}"
        );
    };
    push(&whole)?;
    refused("columns", codes(4, 16, 4, 16, 3));
    refused("bits", codes(4, 32, 8, 16, 3));
    refused("group_size", codes(4, 32, 4, 32, 3));
    let minimums = Zeros::Minimums(whole.scales.clone());
    refused(
        "zeros",
        Codes {
            zeros: minimums,
            ..whole.clone()
        },
    );
    refused(
        "order",
        Codes {
            order: Some(order(32)),
            ..whole.clone()
        },
    );
    refused(
        "codes",
        Codes {
            codes: vec![0; 3],
            ..whole.clone()
        },
    );
    let scales = vec![0.1; whole.scales.len()];
    assert!(matches!(
        push(&Codes { scales, ..whole }),
        Err(Error::Kernel(_))
    ));
    let twice = PackedBuilder::new(shape, Some(vec![0; 32]));
    assert!(matches!(twice, Err(Error::Codes { what: "order", .. })));
    Ok(())
}

#[test]
fn gradients_pass_through_to_the_input() -> Result<(), Error> {
    let mut codes = codes(5, 24, 4, 8, 4);
    codes.order = Some(order(24));
    let weight = Weight::Packed(Arc::new(PackedWeight::from_codes(&codes)?));
    let x = Var::from_tensor(&x(3, 24))?;
    let y = weight.matmul_tensor(x.as_tensor(), None)?;
    let gradients = y.sum_all()?.backward()?;
    let got = gradients.get(x.as_tensor()).expect("has a gradient");
    // The derivative of the sum by x is the sum of the weight's rows.
    let want = weight.dequantize()?.sum_keepdim(0)?.broadcast_as((3, 24))?;
    assert!(max_diff(got, &want) < 1e-5);
    Ok(())
}

#[test]
fn wrong_operands_are_refused() -> Result<(), Error> {
    let weight = Weight::Packed(Arc::new(PackedWeight::from_codes(&codes(5, 24, 4, 8, 4))?));
    let compute = Compute::new(Some(1))?;
    let product = |x: &Tensor, bias: Option<&Tensor>| {
        weight.matmul(x, bias, &compute, Activation::Int8).err()
    };
    assert!(matches!(
        product(&x(3, 23), None),
        Some(Error::Shape { what: "x", .. })
    ));
    let bias = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
    let wrong_bias = product(&x(3, 24), Some(&bias));
    assert!(matches!(
        wrong_bias,
        Some(Error::Shape { what: "bias", .. })
    ));
    let half = x(3, 24).to_dtype(DType::F16)?;
    assert!(matches!(
        product(&half, None),
        Some(Error::Dtype { what: "x", .. })
    ));
    Ok(())
}
