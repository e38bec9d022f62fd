//! The object in `config.json`.

use internlm_quant::gptq::GptqZeros;
use internlm_quant::{Error, QuantizationConfig, QuantizationMethod};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::cases;

fn with(mut base: Value, change: Value) -> Value {
    for (key, value) in change.as_object().expect("is an object") {
        base[key] = value.clone();
    }
    base
}

fn awq() -> Value {
    json!({"quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 64, "zero_point": true})
}

fn gptq() -> Value {
    json!({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": true, "sym": false})
}

#[track_caller]
fn read(value: Value) -> QuantizationConfig {
    QuantizationConfig::from_json(&value).unwrap_or_else(|e| panic!("{value}: {e}"))
}

#[test]
fn both_spellings_are_read() {
    let want = QuantizationConfig::awq(64);
    assert_eq!(read(awq()), want);
    // llm-awq's quant_config.json, and null for nothing, as AutoAWQ writes it.
    assert_eq!(
        read(json!({"zero_point": true, "q_group_size": 64, "w_bit": 4, "version": "GEMM"})),
        want
    );
    assert_eq!(
        read(with(awq(), json!({"modules_to_not_convert": null}))),
        want
    );
    assert_eq!(
        read(with(
            awq(),
            json!({"w_bit": 4, "q_group_size": 64, "do_fuse": false})
        )),
        want
    );
    let symmetric = read(with(awq(), json!({"zero_point": false})));
    assert_eq!(
        symmetric.method,
        QuantizationMethod::Awq { zero_point: false }
    );
}

#[test]
fn gptq_says_how_its_zeros_are_stored() {
    let method = |change| read(with(gptq(), change)).method;
    let want = |zeros| QuantizationMethod::Gptq {
        desc_act: true,
        sym: false,
        zeros,
    };
    assert_eq!(method(json!({})), want(GptqZeros::LessOne));
    assert_eq!(
        method(json!({"checkpoint_format": "gptq"})),
        want(GptqZeros::LessOne)
    );
    assert_eq!(
        method(json!({"checkpoint_format": "gptq_v2"})),
        want(GptqZeros::Plain)
    );
    assert_eq!(
        method(json!({"dynamic": {}, "is_marlin_format": false})),
        want(GptqZeros::LessOne)
    );
}

#[track_caller]
fn refused(value: Value, want_key: &str, want: &str) {
    match QuantizationConfig::from_json(&value) {
        Err(Error::QuantizationUnsupported { key, got, .. }) => {
            assert_eq!((key, &*got), (want_key, want))
        }
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    for version in ["gemv", "gemv_fast", "marlin", "exllama", "ipex"] {
        refused(with(awq(), json!({"version": version})), "version", version);
    }
    for method in ["bitsandbytes", "fp8", "smooth_quant", "aqlm"] {
        refused(
            json!({"quant_method": method, "bits": 4, "group_size": 64}),
            "quant_method",
            method,
        );
    }
    refused(
        json!({"load_in_4bit": true}),
        "quant_method",
        "bitsandbytes",
    );
    refused(
        with(awq(), json!({"backend": "llm-awq"})),
        "backend",
        "llm-awq",
    );
    for bits in [2, 3, 8] {
        refused(
            with(awq(), json!({"bits": bits})),
            "bits",
            &bits.to_string(),
        );
        refused(
            with(gptq(), json!({"bits": bits})),
            "bits",
            &bits.to_string(),
        );
    }
    refused(
        with(gptq(), json!({"checkpoint_format": "marlin"})),
        "checkpoint_format",
        "marlin",
    );
    refused(
        with(gptq(), json!({"is_marlin_format": true})),
        "is_marlin_format",
        "true",
    );
    refused(
        with(gptq(), json!({"dynamic": {"-:.*down": {}}})),
        "dynamic",
        r#"{"-:.*down":{}}"#,
    );
}

#[track_caller]
fn wrong(value: Value, want_key: &str) {
    match QuantizationConfig::from_json(&value) {
        Err(Error::QuantizationConfig { key, .. }) => assert_eq!(key, want_key),
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn wrong_values_are_refused_by_key() {
    wrong(json!([]), "quantization_config");
    wrong(json!({}), "quant_method");
    wrong(json!({"quant_method": 4}), "quant_method");
    wrong(json!({"quant_method": "awq", "group_size": 64}), "bits");
    wrong(json!({"quant_method": "awq", "bits": 4}), "group_size");
    wrong(with(awq(), json!({"w_bit": 8})), "bits");
    wrong(with(awq(), json!({"q_group_size": 128})), "group_size");
    wrong(with(awq(), json!({"bits": "4"})), "bits");
    for size in [0, -2] {
        wrong(with(awq(), json!({"group_size": size})), "group_size");
    }
    wrong(with(awq(), json!({"zero_point": "yes"})), "zero_point");
    wrong(
        with(awq(), json!({"modules_to_not_convert": "lm_head"})),
        "modules_to_not_convert",
    );
    wrong(
        with(awq(), json!({"modules_to_not_convert": [1]})),
        "modules_to_not_convert",
    );
    wrong(with(gptq(), json!({"desc_act": 1})), "desc_act");
}

#[test]
fn modules_are_left_out_by_a_part_of_their_path() {
    let config = read(with(
        awq(),
        json!({"modules_to_not_convert": ["lm_head", "layers.1."]}),
    ));
    assert!(config.converts("model.layers.10.mlp.up_proj"));
    assert!(!config.converts("model.layers.1.mlp.up_proj"));
    assert!(!config.converts("lm_head"));
}

#[test]
fn group_sizes_that_do_not_fit_come_with_those_that_do() {
    let offers = |config: &QuantizationConfig, inputs| match config.group_size_of(inputs) {
        Err(Error::GroupSize {
            in_features,
            offers,
            ..
        }) => {
            assert_eq!(in_features, inputs);
            offers
        }
        other => panic!("{other:?}"),
    };
    let config = QuantizationConfig::awq(128);
    assert_eq!(config.group_size_of(2048).ok(), Some(128));
    // SmolLM2-135M
    assert_eq!(offers(&config, 576), [64, 32]);
    assert_eq!(offers(&config, 96), [32]);
    assert_eq!(offers(&config, 100), [0; 0]);
    let error = |inputs| {
        config
            .group_size_of(inputs)
            .map_err(|e| e.to_string())
            .err()
    };
    assert_eq!(
        error(576).as_deref(),
        Some("groups of 128 do not divide 576 inputs; 64 and 32 do")
    );
    assert_eq!(
        error(96).as_deref(),
        Some("groups of 128 do not divide 96 inputs; 32 does")
    );
    let whole = read(with(awq(), json!({"group_size": -1})));
    assert_eq!(
        (whole.group_size, whole.group_size_of(576).ok()),
        (None, Some(576))
    );
}

#[test]
fn the_written_object_is_that_of_lmdeploy() {
    assert_eq!(QuantizationConfig::awq(64).to_json(), awq());
    let some = QuantizationConfig::awq(64).with_modules_to_not_convert(vec!["wo".to_owned()]);
    assert_eq!(
        some.to_json(),
        with(awq(), json!({"modules_to_not_convert": ["wo"]}))
    );
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_written_is_read(
        group_size in proptest::option::of(1usize..300), modules: Vec<String>,
        flags: [bool; 4],
    ) {
        let zeros = if flags[2] { GptqZeros::LessOne } else { GptqZeros::Plain };
        let mut config = QuantizationConfig::awq(1).with_modules_to_not_convert(modules);
        config.group_size = group_size;
        config.method = match flags[3] {
            true => QuantizationMethod::Awq { zero_point: flags[0] },
            false => QuantizationMethod::Gptq { desc_act: flags[0], sym: flags[1], zeros },
        };
        prop_assert_eq!(QuantizationConfig::from_json(&config.to_json())?, config);
    }
}
