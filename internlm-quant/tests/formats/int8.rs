//! The layout of 8 bits with a scale per output: signed bytes, read by plain arithmetic.

use internlm_kernels::Compute;
use internlm_quant::int8::{Int8Tensors, MAX_COLUMNS};
use internlm_quant::rtn::{ScaleType, symmetric_int8};
use internlm_quant::{
    Codes, Error, QuantizationConfig, QuantizationMethod, RawDtype, RawTensor, Result, Zeros,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::cases;

fn tensor(dtype: RawDtype, shape: &[usize], bytes: &[u8]) -> RawTensor<'static> {
    RawTensor::new(dtype, shape, bytes.to_vec())
}

fn scales(dtype: RawDtype, shape: &[usize], values: &[f32]) -> RawTensor<'static> {
    let bytes: Vec<u8> = match dtype {
        RawDtype::F16 => values
            .iter()
            .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
            .collect(),
        RawDtype::Bf16 => values
            .iter()
            .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
            .collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    };
    tensor(dtype, shape, &bytes)
}

proptest! {
    #![proptest_config(cases())]

    /// Every byte is its signed value times the row's scale, -128 too, whatever range is asked for.
    #[test]
    fn bytes_are_signed(
        rows in 1usize..9, columns in 1usize..20, seed: u64, flat: bool, dtype in 0usize..3,
        range in (0usize..9, 0usize..9),
    ) {
        let dtype = [RawDtype::F32, RawDtype::F16, RawDtype::Bf16][dtype];
        let mut state = seed;
        let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(99); (state >> 33) as u8 };
        let bytes: Vec<u8> = (0..rows * columns).map(|_| next()).collect();
        let steps: Vec<f32> = (0..rows).map(|row| 0.25 * (row + 1) as f32).collect();
        let shape: &[usize] = if flat { &[rows] } else { &[rows, 1] };
        let all = Int8Tensors::new(
            tensor(RawDtype::I8, &[rows, columns], &bytes),
            scales(dtype, shape, &steps),
        )?;
        prop_assert_eq!((all.out_features(), all.in_features()), (rows, columns));
        let range = range.0.min(rows)..range.1.clamp(range.0.min(rows), rows);
        let codes = all.codes(range.clone())?;
        codes.check()?;
        let want: Vec<f32> = range
            .flat_map(|row| (0..columns).map(move |k| (row, k)))
            .map(|(row, k)| f32::from(bytes[row * columns + k] as i8) * steps[row])
            .collect();
        prop_assert_eq!(codes.dequantize(), want);
    }

    /// What is written is what was rounded: the largest of a row is ±127, its scale a 127th of it.
    #[test]
    fn rounded_matrices_are_written(rows in 1usize..6, columns in 1usize..40, seed in 1u32..1000) {
        let values: Vec<f32> = (0..rows * columns)
            .map(|i| ((i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_mul(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let compute = Compute::new(Some(1))?;
        let codes = symmetric_int8(&compute, &values, columns, columns, ScaleType::F32)?;
        let written = Int8Tensors::from_codes(&codes, RawDtype::F32)?;
        prop_assert_eq!(&written.codes(0..rows)?, &codes);
        let named = written.named("m");
        let (weight, scale) = (&named[0].1, &named[1].1);
        prop_assert_eq!((&*named[0].0, &*named[1].0), ("m.weight", "m.weight_scale"));
        prop_assert_eq!((&*weight.shape, &*scale.shape), (&[rows, columns][..], &[rows, 1][..]));
        prop_assert_eq!((weight.dtype, scale.dtype), (RawDtype::I8, RawDtype::F32));
        for (row, values) in values.chunks(columns).enumerate() {
            let most = values.iter().fold(0f32, |m, v| m.max(v.abs()));
            let step = f32::from_le_bytes(scale.bytes[4 * row..][..4].try_into().expect("four bytes"));
            prop_assert!((step * 127.0 - most).abs() <= 1e-6 * most, "{} of {}", step, most);
            let row = &weight.bytes[row * columns..][..columns];
            let largest = row.iter().map(|b| (*b as i8).unsigned_abs()).max();
            prop_assert_eq!(largest, Some(127));
            for (value, byte) in values.iter().zip(row) {
                prop_assert!((value - f32::from(*byte as i8) * step).abs() <= 0.5001 * step);
            }
        }
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let weight = || tensor(RawDtype::I8, &[2, 3], &[1; 6]);
    let scale = |values: &[f32]| scales(RawDtype::F32, &[2, 1], values);
    let sound = Int8Tensors::new(weight(), scale(&[1.0, -0.5]));
    assert!(sound.is_ok_and(|t| t.codes(0..2).is_ok()));
    let refused = |weight, scale| Int8Tensors::new(weight, scale).expect_err("must be refused");
    let u8s = tensor(RawDtype::U8, &[2, 3], &[1; 6]);
    assert!(matches!(
        refused(u8s, scale(&[1.0; 2])),
        Error::Dtype { what: "weight", .. }
    ));
    let short = tensor(RawDtype::I8, &[2, 3], &[1; 5]);
    assert!(matches!(
        refused(short, scale(&[1.0; 2])),
        Error::RawLength { .. }
    ));
    for shape in [&[6][..], &[0, 3], &[2, 0], &[1, 2, 3]] {
        let bytes = vec![1; shape.iter().product()];
        let error = refused(tensor(RawDtype::I8, shape, &bytes), scale(&[1.0; 2]));
        assert!(
            matches!(error, Error::Shape { what: "weight", .. }),
            "{error}"
        );
    }
    for shape in [&[3][..], &[1, 2], &[2, 2], &[]] {
        let values = vec![1.0; shape.iter().product()];
        let error = refused(weight(), scales(RawDtype::F32, shape, &values));
        assert!(
            matches!(
                error,
                Error::Shape {
                    what: "weight_scale",
                    ..
                }
            ),
            "{error}"
        );
    }
    let ints = tensor(RawDtype::I32, &[2, 1], &[1; 8]);
    assert!(matches!(
        refused(weight(), ints),
        Error::Dtype {
            what: "weight_scale",
            ..
        }
    ));
    for bad in [0.0, f32::NAN, f32::INFINITY] {
        let tensors = Int8Tensors::new(weight(), scale(&[1.0, bad])).expect("shapes fit");
        assert!(tensors.codes(0..1).is_ok());
        assert!(matches!(
            tensors.codes(0..2),
            Err(Error::Codes { what: "scales", .. })
        ));
        assert!(matches!(tensors.codes(0..3), Err(Error::Shape { .. })));
    }
    let wide = tensor(
        RawDtype::I8,
        &[1, MAX_COLUMNS + 1],
        &vec![0; MAX_COLUMNS + 1],
    );
    let error = refused(wide, scales(RawDtype::F32, &[1, 1], &[1.0]));
    assert!(
        error.to_string().contains("at most 65536 inputs"),
        "{error}"
    );
}

#[test]
fn codes_that_the_layout_cannot_say_are_refused() -> Result<()> {
    let sound = || Codes {
        rows: 2,
        columns: 4,
        bits: 8,
        group_size: 4,
        codes: vec![128; 8],
        scales: vec![0.1, 1.0],
        zeros: Zeros::Points(vec![128; 2]),
        order: None,
    };
    Int8Tensors::from_codes(&sound(), RawDtype::F32)?;
    let refused = |change: &dyn Fn(&mut Codes), dtype| {
        let mut codes = sound();
        change(&mut codes);
        match Int8Tensors::from_codes(&codes, dtype) {
            Err(Error::Codes { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    let f32 = RawDtype::F32;
    let nibbles = |c: &mut Codes| {
        (c.bits, c.codes) = (4, vec![8; 8]);
        c.zeros = Zeros::Points(vec![8; 2]);
    };
    assert_eq!(refused(&nibbles, f32), "bits");
    assert_eq!(
        refused(&|c| c.zeros = Zeros::Points(vec![128, 127]), f32),
        "zeros"
    );
    assert_eq!(
        refused(&|c| c.zeros = Zeros::Minimums(vec![0.0; 2]), f32),
        "zeros"
    );
    assert_eq!(refused(&|c| c.order = Some(vec![1, 0, 2, 3]), f32), "order");
    assert_eq!(refused(&|c| c.scales[0] = 0.0, f32), "scales");
    assert_eq!(refused(&|_| (), RawDtype::F16), "scales");
    let halves = |c: &mut Codes| {
        c.group_size = 2;
        c.scales = vec![1.0; 4];
        c.zeros = Zeros::Points(vec![128; 4]);
    };
    assert_eq!(refused(&halves, f32), "group_size");
    Ok(())
}

fn written() -> Value {
    let ignore = vec!["lm_head".to_owned()];
    QuantizationConfig::int8()
        .with_modules_to_not_convert(ignore)
        .to_json()
}

/// With one value changed, by JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut config = written();
    *config.pointer_mut(pointer).expect("is there") = value;
    config
}

#[test]
fn the_configuration_is_that_of_compressed_tensors() -> Result<()> {
    let config = QuantizationConfig::from_json(&written())?;
    assert_eq!(config.method, QuantizationMethod::Int8);
    assert!(config.converts("model.layers.0.mlp.up_proj") && !config.converts("lm_head"));
    assert_eq!(config.to_json(), written());
    // As llm-compressor writes it.
    let scheme = |strategy: &str, dynamic: bool| {
        json!({"actorder": null, "block_structure": null, "dynamic": dynamic, "group_size": null,
            "num_bits": 8, "observer": "minmax", "observer_kwargs": {}, "strategy": strategy,
            "symmetric": true, "type": "int"})
    };
    let theirs = json!({
        "quant_method": "compressed-tensors", "format": "int-quantized",
        "config_groups": {"group_0": {
            "input_activations": scheme("token", true), "output_activations": null,
            "targets": ["Linear"], "weights": scheme("channel", false),
        }},
        "global_compression_ratio": 1.5, "ignore": ["re:.*lm_head"], "kv_cache_scheme": null,
        "quantization_status": "compressed", "sparsity_config": {}, "version": "0.9.0",
    });
    let config = QuantizationConfig::from_json(&theirs)?;
    assert_eq!(config.method, QuantizationMethod::Int8);
    assert_eq!(config.modules_to_not_convert, ["re:.*lm_head"]);
    Ok(())
}

#[test]
fn other_schemes_are_refused_by_name() {
    let unsupported = |pointer: &str, value: Value, want: &str| match QuantizationConfig::from_json(
        &with(pointer, value),
    ) {
        Err(Error::QuantizationUnsupported { key, .. }) => assert_eq!(key, want),
        other => panic!("{pointer}: {other:?}"),
    };
    unsupported("/format", json!("pack-quantized"), "format");
    unsupported("/format", json!("float-quantized"), "format");
    let weights = |key: &str| format!("/config_groups/group_0/weights/{key}");
    unsupported(&weights("num_bits"), json!(4), "num_bits");
    unsupported(&weights("type"), json!("float"), "type");
    unsupported(&weights("strategy"), json!("tensor"), "strategy");
    unsupported(&weights("symmetric"), json!(false), "symmetric");
    let inputs = |key: &str| format!("/config_groups/group_0/input_activations/{key}");
    unsupported(&inputs("dynamic"), json!(false), "dynamic");
    unsupported(&inputs("strategy"), json!("tensor"), "strategy");
    let wrong = |pointer: &str, value: Value, want: &str| match QuantizationConfig::from_json(
        &with(pointer, value),
    ) {
        Err(Error::QuantizationConfig { key, .. }) => assert_eq!(key, want),
        other => panic!("{pointer}: {other:?}"),
    };
    wrong("/format", Value::Null, "format");
    wrong("/config_groups", json!({}), "config_groups");
    wrong("/config_groups", Value::Null, "config_groups");
    wrong("/config_groups/group_0", json!(1), "config_groups");
    wrong("/config_groups/group_0/weights", Value::Null, "weights");
    wrong(&weights("num_bits"), json!("8"), "num_bits");
    wrong(&weights("strategy"), Value::Null, "strategy");
    wrong("/ignore", json!("lm_head"), "ignore");
}
