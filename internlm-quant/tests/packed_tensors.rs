//! Packed tensors against the codes that they are made of, packed weights and dense ones. On the CPU, and
//! with the features `cuda` and `metal` on such a device too, if there is one.

mod parts;

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use half::{bf16, f16};
use internlm_kernels::{Activation, Compute, PackedShape, ScaleType, ZeroType};
use internlm_quant::ggml::GgmlType;
use internlm_quant::{
    Codes, Error, PackedBuilder, PackedTensors, PackedTensorsBuilder, PackedWeight, Weight, Zeros,
};
use parts::slice;
use proptest::prelude::*;

/// What a file stores scales as.
#[derive(Clone, Copy, Debug)]
enum Stored {
    F16,
    Bf16,
    F32,
}

#[derive(Clone, Copy, Debug)]
enum ZeroKind {
    Points,
    Constant,
    Minimums,
}

fn number(i: usize, seed: usize) -> usize {
    (i * 7919 + seed * 104_729) % 10_007
}

/// Reproducible codes.
fn codes(
    (rows, columns): (usize, usize),
    bits: u32,
    group_size: usize,
    stored: Stored,
    zeros: ZeroKind,
) -> Codes {
    let groups = rows * columns.div_ceil(group_size);
    let limit = 1 << bits;
    let scale = |i: usize| {
        let scale = (number(i, 2) as f32 - 5000.0) / 77_777.0;
        match stored {
            Stored::F16 => f16::from_f32(scale).to_f32(),
            Stored::Bf16 => bf16::from_f32(scale).to_f32(),
            Stored::F32 => scale,
        }
    };
    let scales: Vec<f32> = (0..groups).map(scale).collect();
    Codes {
        rows,
        columns,
        bits,
        group_size,
        codes: (0..rows * columns)
            .map(|i| (number(i, 1) % limit) as u8)
            .collect(),
        zeros: match zeros {
            ZeroKind::Points => {
                Zeros::Points((0..groups).map(|i| (number(i, 3) % limit) as u8).collect())
            }
            ZeroKind::Constant => Zeros::Points(vec![1 << (bits - 1); groups]),
            ZeroKind::Minimums => Zeros::Minimums(scales.iter().map(|s| 0.3 - 2.0 * s).collect()),
        },
        scales,
        order: None,
    }
}

/// A permutation: steps of 7 through numbers that 7 does not divide, else the numbers backwards.
fn order(columns: usize) -> Vec<u32> {
    let feature = |k| match columns.is_multiple_of(7) {
        true => columns - 1 - k,
        false => k * 7 % columns,
    };
    (0..columns).map(|k| feature(k) as u32).collect()
}

fn weight(codes: &Codes) -> Result<Weight, Error> {
    weight_on(&Device::Cpu, codes)
}

fn weight_on(device: &Device, codes: &Codes) -> Result<Weight, Error> {
    let packed = PackedTensors::from_codes(codes, device)?;
    Ok(Weight::PackedTensors(Arc::new(packed)))
}

/// The CPU, and what else is built in and there.
fn devices() -> impl Iterator<Item = Device> {
    let others = [Device::new_cuda(0), Device::new_metal(0)];
    std::iter::once(Device::Cpu).chain(others.into_iter().flatten())
}

/// The bits of all elements, exactly.
fn bits(tensor: &Tensor) -> Vec<u32> {
    let flat = tensor.flatten_all().and_then(|t| t.to_device(&Device::Cpu));
    let flat = flat.expect("elements");
    match tensor.dtype() {
        DType::F16 => {
            let values = flat.to_vec1::<f16>().expect("f16");
            values.iter().map(|v| v.to_bits().into()).collect()
        }
        DType::BF16 => {
            let values = flat.to_vec1::<bf16>().expect("bf16");
            values.iter().map(|v| v.to_bits().into()).collect()
        }
        _ => {
            let values = flat.to_vec1::<f32>().expect("f32");
            values.iter().map(|v| v.to_bits()).collect()
        }
    }
}

fn x(m: usize, k: usize) -> Tensor {
    let value = |i: usize| ((i * 7919) % 127) as f32 / 64.0 - 1.0;
    let values: Vec<f32> = (0..m * k).map(value).collect();
    Tensor::from_vec(values, (m, k), &Device::Cpu).expect("a tensor")
}

fn max_diff(a: &Tensor, b: &Tensor) -> f32 {
    let diff = (a - b).and_then(|d| {
        let wide = d.abs()?.to_dtype(DType::F32)?;
        wide.flatten_all()?.max(0)?.to_scalar::<f32>()
    });
    diff.expect("values of one shape")
}

/// Checks values, rows and products against those of the codes.
#[track_caller]
fn check(codes: &Codes, m: usize) -> Result<(), Error> {
    for device in devices() {
        check_on(&device, codes, m)?;
    }
    Ok(())
}

#[track_caller]
fn check_on(device: &Device, codes: &Codes, m: usize) -> Result<(), Error> {
    let Codes { rows, columns, .. } = *codes;
    let weight = weight_on(device, codes)?;
    assert_eq!(weight.shape(), (rows, columns));
    let values = weight.dequantize()?;
    assert_eq!(values.dims(), &[rows, columns]);
    let want: Vec<u32> = codes.dequantize().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits(&values), want);
    let packed = Weight::Packed(Arc::new(PackedWeight::from_codes(codes)?));
    assert_eq!(bits(&packed.dequantize()?), want);

    let ids = [rows as u32 - 1, 0, rows as u32 / 2, 0];
    assert_eq!(bits(&weight.rows(&ids)?), bits(&packed.rows(&ids)?));

    let dense = Weight::Dense(values);
    let bias = Tensor::arange(0f32, rows as f32, device)?;
    for (dtype, step) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
        let x = x(m, columns).to_device(device)?.to_dtype(dtype)?;
        for bias in [None, Some(&bias)] {
            let got = weight.matmul_tensor(&x, bias)?;
            let want = dense.matmul_tensor(&x, bias)?;
            assert_eq!((got.dims(), got.dtype()), (want.dims(), dtype));
            if codes.order.is_none() {
                assert_eq!(bits(&got), bits(&want), "{dtype:?}");
                continue;
            }
            // Products are summed in the order of the columns. No sum has more than 255 · 0.07 a column.
            let most = 20.0 * columns as f32 + rows as f32;
            assert!(max_diff(&got, &want) <= step * most, "{dtype:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn values_rows_and_products_are_those_of_the_codes(
        (m, rows, columns) in (1usize..6, 1usize..40, 1usize..200),
        bits in prop::sample::select(&[4u32, 8]),
        group_size in prop::sample::select(&[1usize, 8, 17, 32, 64, 128, 1000]),
        stored in prop::sample::select(&[Stored::F16, Stored::Bf16, Stored::F32]),
        zeros in prop::sample::select(&[ZeroKind::Points, ZeroKind::Constant, ZeroKind::Minimums]),
        ordered: bool,
    ) {
        let mut codes = codes((rows, columns), bits, group_size, stored, zeros);
        if ordered {
            codes.order = Some(order(columns));
        }
        check(&codes, m)?;
    }
}

/// Sizes that models have: whole groups of each usual size.
#[test]
fn groups_of_files() -> Result<(), Error> {
    for group_size in [32, 64, 128, 256] {
        for stored in [Stored::F16, Stored::Bf16, Stored::F32] {
            for zeros in [ZeroKind::Points, ZeroKind::Constant, ZeroKind::Minimums] {
                for bits in [4, 8] {
                    check(&codes((33, 256), bits, group_size, stored, zeros), 3)?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn values_in_half_precision_are_rounded_once() -> Result<(), Error> {
    for stored in [Stored::F16, Stored::Bf16, Stored::F32] {
        for zeros in [ZeroKind::Points, ZeroKind::Constant, ZeroKind::Minimums] {
            for bits_of_code in [4, 8] {
                let mut codes = codes((9, 96), bits_of_code, 32, stored, zeros);
                if let Stored::F16 = stored {
                    // The ends of f16: a subnormal scale, and one whose products overflow.
                    codes.scales[0] = f16::from_bits(3).to_f32();
                    codes.scales[1] = f16::MAX.to_f32();
                }
                let packed = PackedTensors::from_codes(&codes, &Device::Cpu)?;
                let exact = packed.dequantize(DType::F32)?;
                for dtype in [DType::F16, DType::BF16] {
                    let got = packed.dequantize(dtype)?;
                    assert_eq!(got.dtype(), dtype);
                    assert_eq!(
                        bits(&got),
                        bits(&exact.to_dtype(dtype)?),
                        "{stored:?} {zeros:?}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// 255 is what candle's `index_select` reads as "no row" where indices are bytes.
#[test]
fn every_byte_is_two_codes() -> Result<(), Error> {
    let mut all = codes((16, 32), 4, 32, Stored::F16, ZeroKind::Constant);
    all.codes = (0..=u8::MAX)
        .flat_map(|byte| [byte >> 4, byte & 15])
        .collect();
    check(&all, 1)?;
    all.codes = vec![15; 512];
    check(&all, 1)
}

#[test]
fn blocks_of_ggml() -> Result<(), Error> {
    for ggml_type in [
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
    ] {
        let (rows, columns) = (5, 512);
        let count = ggml_type.bytes(rows * columns).expect("whole blocks");
        // The upper byte of each half precision number keeps it small and finite.
        let bytes: Vec<u8> = (0..count).map(|i| (number(i, 9) % 0x2c) as u8).collect();
        let codes = ggml_type.codes(&bytes, rows, columns)?;
        let weight = weight(&codes)?;
        let want = PackedWeight::from_codes(&codes)?.dequantize()?;
        assert_eq!(bits(&weight.dequantize()?), bits(&want), "{ggml_type:?}");
    }
    Ok(())
}

#[test]
fn memory_is_that_of_the_codes() -> Result<(), Error> {
    let (rows, columns) = (64, 1024);
    let bytes = |zeros, bits, stored| -> Result<f32, Error> {
        let codes = codes((rows, columns), bits, 128, stored, zeros);
        let table = if bits == 4 { 2048 } else { 0 };
        let bytes = weight(&codes)?.bytes() - table;
        Ok((8 * bytes) as f32 / (rows * columns) as f32)
    };
    assert_eq!(bytes(ZeroKind::Constant, 4, Stored::F16)?, 4.125);
    assert_eq!(bytes(ZeroKind::Points, 4, Stored::F16)?, 4.1875);
    assert_eq!(bytes(ZeroKind::Minimums, 4, Stored::F32)?, 4.5);
    assert_eq!(bytes(ZeroKind::Points, 8, Stored::F32)?, 8.3125);
    let mut ordered = codes((rows, columns), 8, 128, Stored::F32, ZeroKind::Constant);
    let without = weight(&ordered)?.bytes();
    ordered.order = Some(order(columns));
    assert_eq!(weight(&ordered)?.bytes(), without + 8 * columns);
    Ok(())
}

#[test]
fn gradients_pass_through_to_the_input() -> Result<(), Error> {
    for ordered in [false, true] {
        let mut codes = codes((5, 24), 4, 8, Stored::F16, ZeroKind::Points);
        codes.order = ordered.then(|| order(24));
        let weight = weight(&codes)?;
        let x = Var::from_tensor(&x(3, 24))?;
        let y = weight.matmul_tensor(x.as_tensor(), None)?;
        let gradients = y.sum_all()?.backward()?;
        let got = gradients.get(x.as_tensor()).expect("has a gradient");
        // The derivative of the sum by x is the sum of the weight's rows.
        let want = weight.dequantize()?.sum_keepdim(0)?.broadcast_as((3, 24))?;
        assert!(max_diff(got, &want) < 1e-5);
    }
    Ok(())
}

fn form(n: usize, k: usize) -> PackedShape {
    PackedShape {
        n,
        k,
        bits: 4,
        group_size: 16,
        scales: ScaleType::F16,
        zeros: ZeroType::Points,
    }
}

#[test]
fn rows_may_come_in_parts_and_on_threads() -> Result<(), Error> {
    let whole = codes((700, 50), 4, 16, Stored::F16, ZeroKind::Points);
    let want = bits(&weight(&whole)?.dequantize()?);
    for threads in [1, 3] {
        let mut builder = PackedTensorsBuilder::new(form(700, 50), None)?;
        builder.push(&slice(&whole, 0..5))?;
        builder.push_parallel::<Error>(694, threads, |rows| {
            assert!(rows.len() <= 256);
            Ok(slice(&whole, rows.start + 5..rows.end + 5))
        })?;
        builder.push(&slice(&whole, 699..700))?;
        let packed = builder.finish(&Device::Cpu)?;
        assert_eq!(bits(&packed.dequantize(DType::F32)?), want);
    }
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_by_field() -> Result<(), Error> {
    let whole = codes((4, 32), 4, 16, Stored::F16, ZeroKind::Points);
    #[track_caller]
    fn refused(result: Result<(), Error>, field: &str) {
        assert!(
            matches!(&result, Err(Error::Codes { what, .. }) if *what == field),
            "{result:?}"
        );
    }
    let begin = |shape| PackedTensorsBuilder::new(shape, None);
    let new = |shape| begin(shape).map(|_| ());
    refused(
        new(PackedShape {
            bits: 3,
            ..form(4, 32)
        }),
        "bits",
    );
    let group_size = 0;
    refused(
        new(PackedShape {
            group_size,
            ..form(4, 32)
        }),
        "group_size",
    );
    let twice = PackedTensorsBuilder::new(form(4, 32), Some(vec![0; 32]));
    refused(twice.map(|_| ()), "order");

    let push = |codes: &Codes| begin(form(4, 32))?.push(codes);
    push(&whole)?;
    let of = |size, bits, group| codes(size, bits, group, Stored::F16, ZeroKind::Points);
    refused(push(&of((4, 16), 4, 16)), "columns");
    refused(push(&of((4, 32), 8, 16)), "bits");
    refused(push(&of((4, 32), 4, 32)), "group_size");
    refused(push(&of((5, 32), 4, 16)), "rows");
    let minimums = codes((4, 32), 4, 16, Stored::F16, ZeroKind::Minimums);
    refused(push(&minimums), "zeros");
    let wide = codes((4, 32), 4, 16, Stored::F32, ZeroKind::Points);
    refused(push(&wide), "scales");
    let order = Some(order(32));
    refused(
        push(&Codes {
            order,
            ..whole.clone()
        }),
        "order",
    );
    let short = vec![0; 3];
    refused(
        push(&Codes {
            codes: short,
            ..whole.clone()
        }),
        "codes",
    );
    let zeros = ZeroType::Constant(8);
    let constant = begin(PackedShape {
        zeros,
        ..form(4, 32)
    })?
    .push(&whole);
    refused(constant, "zeros");

    let mut fewer = begin(form(4, 32))?;
    let one_less = |rows: std::ops::Range<usize>| Ok(slice(&whole, rows.start..rows.end - 1));
    refused(fewer.push_parallel(4, 2, one_less), "rows");
    refused(fewer.finish(&Device::Cpu).map(|_| ()), "rows");
    Ok(())
}

#[test]
fn rows_that_are_not_there_and_kernels_are_refused() -> Result<(), Error> {
    let weight = weight(&codes((20, 24), 4, 8, Stored::F16, ZeroKind::Points))?;
    assert_eq!(weight.rows(&[])?.dims(), &[0, 24]);
    let error = weight.rows(&[3, 20]).expect_err("there are 20");
    assert!(matches!(
        error,
        Error::Shape {
            what: "the row",
            ..
        }
    ));
    let wrong = weight.matmul_tensor(&x(3, 23), None);
    assert!(matches!(wrong, Err(Error::Shape { what: "x", .. })));
    let compute = Compute::new(Some(1))?;
    let product = weight.matmul(&x(3, 24), None, &compute, Activation::F32);
    assert!(matches!(product, Err(Error::Layout { what: "weight" })));
    Ok(())
}

/// Both builders take the same forms.
#[test]
fn shapes_of_packed_builders_are_those_of_packed_tensors() -> Result<(), Error> {
    let whole = codes((16, 50), 4, 16, Stored::F16, ZeroKind::Points);
    let (mut kernels, mut tensors) = (
        PackedBuilder::new(form(16, 50), None)?,
        PackedTensorsBuilder::new(form(16, 50), None)?,
    );
    kernels.push(&whole)?;
    tensors.push(&whole)?;
    let (kernels, tensors) = (kernels.finish()?, tensors.finish(&Device::Cpu)?);
    assert_eq!(kernels.shape(), tensors.shape());
    assert_eq!(
        bits(&kernels.dequantize()?),
        bits(&tensors.dequantize(DType::F32)?)
    );
    Ok(())
}
