//! NF4 against bitsandbytes, bit for bit.

use std::collections::BTreeMap;

use internlm_quant::nf4::{Absmax, DoubleAbsmax, NF4_VALUES, Nf4Tensor};
use internlm_quant::{Error, RawDtype, RawTensor};
use proptest::prelude::*;

use crate::common::{Numbers, bits, cases, f32s, shared, tensors};

type Tensors = BTreeMap<String, RawTensor<'static>>;

fn golden() -> Option<Tensors> {
    Some(tensors(&shared("goldens/nf4/nf4.safetensors")?))
}

#[test]
fn plain_goldens_are_reached_both_ways() -> Result<(), Error> {
    let Some(golden) = golden() else {
        return Ok(());
    };
    assert_eq!(bits(&f32s(&golden["code"])), bits(&NF4_VALUES));
    let weight = f32s(&golden["weight_f32"]);
    for (name, dtype) in [("float32", RawDtype::F32), ("bfloat16", RawDtype::Bf16)] {
        let values: Vec<f32> = weight.iter().map(|x| dtype.round(*x)).collect();
        let ours = Nf4Tensor::quantize(&values, &[64, 256], dtype)?;
        let want = |part: &str| &golden[&format!("{name}.{part}")];
        assert_eq!(ours.packed, *want("packed").bytes, "{name}");
        let Absmax::Plain(absmax) = &ours.absmax else {
            panic!("{:?}", ours.absmax);
        };
        assert_eq!(bits(absmax), bits(&f32s(want("absmax"))), "{name}");
        assert_eq!(
            bits(&ours.dequantize()?),
            bits(&f32s(want("dequant"))),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn the_double_golden_is_reached_both_ways() -> Result<(), Error> {
    let Some(golden) = golden() else {
        return Ok(());
    };
    let ours = Nf4Tensor::quantize_double(&f32s(&golden["weight_f32"]), &[64, 256], RawDtype::F32)?;
    let want = |part: &str| &golden[&format!("dq.{part}")];
    let Absmax::Double(double) = &ours.absmax else {
        panic!("{:?}", ours.absmax);
    };
    assert_eq!(bits(&double.values), bits(&f32s(want("nested_code"))));
    assert_eq!(bits(&[double.offset]), bits(&f32s(want("offset"))));
    assert_eq!(bits(&double.absmax), bits(&f32s(want("nested_absmax"))));
    assert_eq!(double.codes, *want("absmax_q").bytes);
    assert_eq!(ours.packed, *want("packed").bytes);
    assert_eq!(bits(&ours.dequantize()?), bits(&f32s(want("dequant"))));
    Ok(())
}

/// The widest gap between neighbouring values, halved: between -1 and -0.696.
const LARGEST_ERROR: f32 = 0.152;

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_value_goes_to_its_nearest(rows in 1usize..5, columns in 1usize..130, seed: u64) {
        let mut numbers = Numbers::new(seed);
        let values: Vec<f32> = (0..rows * columns).map(|_| numbers.unit()).collect();
        let packed = Nf4Tensor::quantize(&values, &[rows, columns], RawDtype::F32)?;
        prop_assert_eq!(packed.packed.len(), values.len().div_ceil(2));
        let got = packed.dequantize()?;
        for (block, got) in values.chunks(64).zip(got.chunks(64)) {
            let absmax = block.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (x, y) in block.iter().zip(got) {
                let best = NF4_VALUES.iter().map(|v| (v * absmax - x).abs()).fold(f32::MAX, f32::min);
                prop_assert!((x - y).abs() <= best + 1e-6 * absmax, "{} {}", x, y);
            }
        }
        // What is dequantized is a fixed point.
        let again = Nf4Tensor::quantize(&got, &[rows, columns], RawDtype::F32)?;
        prop_assert_eq!(bits(&again.dequantize()?), bits(&got));
    }

    #[test]
    fn names_are_read_as_they_are_written(
        elements in 1usize..40_000, double: bool, dtype in 0usize..3, seed: u64,
    ) {
        let dtype = [RawDtype::F32, RawDtype::F16, RawDtype::Bf16][dtype];
        let mut numbers = Numbers::new(seed);
        let values: Vec<f32> = (0..elements).map(|_| numbers.unit()).collect();
        let packed = match double {
            true => Nf4Tensor::quantize_double(&values, &[elements], dtype)?,
            false => Nf4Tensor::quantize(&values, &[elements], dtype)?,
        };
        let tensors: Tensors = packed.named("a.weight").into_iter().collect();
        let read = Nf4Tensor::from_named("a.weight", |name| tensors.get(name).cloned())?;
        prop_assert_eq!(&read, &packed);
        for (x, y) in values.iter().zip(read.dequantize()?) {
            prop_assert!((x - y).abs() <= LARGEST_ERROR + 0.01, "{} {}", x, y);
        }
    }
}

#[test]
fn the_middle_of_two_values_goes_to_the_lower() -> Result<(), Error> {
    // The first element makes the block's scale 1.
    let middles = NF4_VALUES.windows(2).map(|v| (v[0] + v[1]) / 2.0);
    let mut values: Vec<f32> = std::iter::once(1.0).chain(middles).collect();
    values.resize(64, 0.0);
    let codes = |values: &[f32]| -> Result<Vec<u8>, Error> {
        let packed = Nf4Tensor::quantize(values, &[64], RawDtype::F32)?.packed;
        Ok(packed[..8].iter().flat_map(|b| [b >> 4, b & 15]).collect())
    };
    let lower: Vec<u8> = std::iter::once(15).chain(0..15).collect();
    assert_eq!(codes(&values)?, lower);
    for value in &mut values[1..16] {
        *value = value.next_up();
    }
    let upper: Vec<u8> = std::iter::once(15).chain(1..16).collect();
    assert_eq!(codes(&values)?, upper);
    Ok(())
}

#[test]
fn names_are_those_of_bitsandbytes() -> Result<(), Error> {
    let tensor = Nf4Tensor::quantize_double(&[0.5; 128], &[2, 64], RawDtype::Bf16)?;
    let tensors: Tensors = tensor.named("up.weight").into_iter().collect();
    let want = [
        "up.weight",
        "up.weight.absmax",
        "up.weight.nested_absmax",
        "up.weight.nested_quant_map",
        "up.weight.quant_map",
        "up.weight.quant_state.bitsandbytes__nf4",
    ];
    assert_eq!(tensors.keys().collect::<Vec<_>>(), want);
    assert_eq!(tensors["up.weight"].shape, [64, 1]);
    let state: serde_json::Value =
        serde_json::from_slice(&tensors[want[5]].bytes).expect("is JSON");
    assert_eq!(
        state,
        serde_json::json!({
            "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2, 64],
            "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5,
        })
    );
    Ok(())
}

#[test]
fn blocks_of_zeros_and_odd_ends_come_back() -> Result<(), Error> {
    let mut values = vec![0.0; 129];
    values[128] = -3.0;
    for pack in [Nf4Tensor::quantize, Nf4Tensor::quantize_double] {
        let packed = pack(&values, &[129], RawDtype::F32)?;
        assert_eq!(packed.packed.last(), Some(&0x07));
        let got = packed.dequantize()?;
        assert!(got[..128].iter().all(|x| *x == 0.0));
        assert!((got[128] + 3.0).abs() < 1e-6);
    }
    assert!(
        Nf4Tensor::quantize_double(&[], &[0, 4], RawDtype::F32)?
            .dequantize()?
            .is_empty()
    );
    Ok(())
}

#[test]
fn contradictions_are_refused() -> Result<(), Error> {
    let quantize =
        |values: &[f32], shape: &[usize], dtype| Nf4Tensor::quantize(values, shape, dtype).err();
    assert!(matches!(
        quantize(&[0.0; 4], &[5], RawDtype::F32),
        Some(Error::Shape { .. })
    ));
    assert!(matches!(
        quantize(&[0.0; 4], &[4], RawDtype::U8),
        Some(Error::Dtype { .. })
    ));
    for x in [f32::NAN, f32::INFINITY] {
        assert!(matches!(
            quantize(&[0.0, x], &[2], RawDtype::F32),
            Some(Error::NotFinite { .. })
        ));
    }
    let sound = Nf4Tensor::quantize_double(&[0.5; 128], &[128], RawDtype::F32)?;
    let field = |change: &dyn Fn(&mut Nf4Tensor, &mut DoubleAbsmax)| {
        let mut tensor = sound.clone();
        let Absmax::Double(mut double) = tensor.absmax.clone() else {
            panic!("{tensor:?}");
        };
        change(&mut tensor, &mut double);
        tensor.absmax = Absmax::Double(double);
        match tensor.dequantize() {
            Err(Error::Codes { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(&|t, _| t.packed.push(0)), "packed");
    assert_eq!(field(&|t, _| t.block_size = 0), "blocksize");
    assert_eq!(field(&|t, _| t.block_size = 32), "absmax");
    assert_eq!(field(&|t, _| t.shape = vec![usize::MAX, 2]), "shape");
    assert_eq!(field(&|t, _| t.values[3] = f32::NAN), "quant_map");
    assert_eq!(field(&|_, d| d.values.truncate(9)), "nested_quant_map");
    assert_eq!(field(&|_, d| d.block_size = 0), "nested_blocksize");
    assert_eq!(field(&|_, d| d.block_size = 1), "nested_absmax");
    assert_eq!(field(&|_, d| d.offset = f32::INFINITY), "nested_offset");

    let tensors: Tensors = sound.named("w").into_iter().collect();
    for name in tensors.keys() {
        let read = Nf4Tensor::from_named("w", |n| tensors.get(n).filter(|_| n != name).cloned());
        assert!(matches!(read, Err(Error::Missing { what, .. }) if what == *name));
        let wrong = |n: &str| {
            let mut tensor = tensors.get(n)?.clone();
            if n == name {
                tensor.dtype = RawDtype::I32;
            }
            Some(tensor)
        };
        assert!(
            matches!(Nf4Tensor::from_named("w", wrong), Err(Error::Dtype { .. })),
            "{name}"
        );
    }
    for state in [
        "",
        "[]",
        "{}",
        r#"{"quant_type": "fp4"}"#,
        r#"{"quant_type": "nf4", "dtype": "float32", "shape": [-1]}"#,
    ] {
        let with = |n: &str| match n.ends_with("nf4") {
            true => Some(RawTensor::new(
                RawDtype::U8,
                [state.len()],
                state.as_bytes(),
            )),
            false => tensors.get(n).cloned(),
        };
        assert!(
            matches!(
                Nf4Tensor::from_named("w", with),
                Err(Error::Codes {
                    what: "quant_state",
                    ..
                })
            ),
            "{state}"
        );
    }
    Ok(())
}
