//! Blocks of GGUF that stay packed, against the same blocks dequantized.

use half::f16;
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::config::Config;
use internlm_model::{Batch, CausalLm, Context};
use internlm_quant::ggml::GgmlType;
use serde_json::json;

use crate::checkpoint::*;

/// Type of the matrices of a file, by tensor name.
type TypeOf = fn(&str) -> GgmlType;

/// Reproducible blocks with scales that keep weights small.
pub(crate) fn blocks(ggml_type: GgmlType, elements: usize, name: &str) -> (u32, Vec<u8>) {
    // Number in the file, and where the scales in half precision are.
    let (id, halves): (u32, &[usize]) = match ggml_type {
        GgmlType::Q4_0 => (2, &[0]),
        GgmlType::Q4_1 => (3, &[0, 2]),
        GgmlType::Q5_0 => (6, &[0]),
        GgmlType::Q5_1 => (7, &[0, 2]),
        GgmlType::Q8_0 => (8, &[0]),
        GgmlType::Q4K => (12, &[0, 2]),
        GgmlType::Q5K => (13, &[0, 2]),
        GgmlType::Q6K => (14, &[208]),
        other => panic!("{other:?}"),
    };
    let mut state = name.bytes().fold(0x9e37_79b9u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes: Vec<u8> = (0..ggml_type.bytes(elements).unwrap())
        .map(|_| next())
        .collect();
    for block in bytes.chunks_exact_mut(ggml_type.block_bytes()) {
        for &at in halves {
            let scale = f16::from_f32((1.0 + f32::from(block[at]) / 256.0) / 4096.0);
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    (id, bytes)
}

pub(crate) fn logits(model: &CausalLm) -> Vec<f32> {
    let ids = [1, 5, 9, 30, 2, 17, 8];
    let mut cache = model.new_cache().unwrap();
    let mut batch = Batch::new();
    batch.push(0, &ids, 0, ids.len(), Logits::All).unwrap();
    let out = model.forward(&batch, &mut Context::new(&mut cache));
    out.unwrap().to_vec2::<f32>().unwrap().concat()
}

pub(crate) fn write(at: &std::path::Path, config: &Config, type_of: TypeOf) {
    let tensors = random(config).tensors().unwrap();
    write_gguf(at, config, &tensors, |name, shape, values| match shape {
        [_] => plain(name, shape, values),
        _ => blocks(type_of(name), values.len(), name),
    });
}

pub(crate) fn wide(class: &str, more: serde_json::Value) -> Config {
    let mut sizes =
        json!({"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "bias": false});
    sizes
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config(class, sizes)
}

/// `exact`: whether packed weights are the dequantized ones bit for bit.
#[track_caller]
fn check(config: &Config, type_of: TypeOf, exact: bool) -> (CausalLm, CausalLm) {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    write(&file, config, type_of);
    let options = || options().with_packed_activation(Activation::F32);
    let packed = load_with(&file, options()).unwrap();
    let dense = load_with(&file, options().with_packed(false)).unwrap();
    assert!(packed.is_packed() && !dense.is_packed());
    assert!(packed.weight_bytes() < dense.weight_bytes() / 2);
    let (got, want) = (logits(&packed), logits(&dense));
    let scale = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    assert!(scale.is_finite() && scale > 0.0);
    let tolerance = if exact { 1e-4 } else { 1e-2 } * scale;
    let diff = crate::common::max_abs_diff(&got, &want);
    assert!(diff <= tolerance, "{diff} of {scale}");
    if exact {
        assert!(bits(&packed) == bits(&dense));
    }
    let tensors = load_with(&file, options().with_packed_tensors(true)).unwrap();
    assert!(tensors.is_packed() && bits(&tensors) == bits(&packed));
    let diff = crate::common::max_abs_diff(&logits(&tensors), &want);
    assert!(diff <= tolerance, "{diff} of {scale}");
    // Maps and threads change nothing.
    let alone = load_with(&file, options().with_mmap(false).with_threads(1)).unwrap();
    assert!(bits(&alone) == bits(&packed));
    assert_eq!(logits(&alone), got);
    (packed, dense)
}

#[test]
fn every_type_with_codes_stays_packed_in_every_row_order() {
    const TYPES: [TypeOf; 8] = [
        |_| GgmlType::Q4_0,
        |_| GgmlType::Q4_1,
        |_| GgmlType::Q5_0,
        |_| GgmlType::Q5_1,
        |_| GgmlType::Q8_0,
        |_| GgmlType::Q4K,
        |_| GgmlType::Q5K,
        |_| GgmlType::Q6K,
    ];
    for type_of in TYPES {
        check(&wide("llama", json!({})), type_of, true); // pairs
        check(&wide("internlm2", json!({})), type_of, true); // pairs, interleaved by group
        check(&wide("qwen2", json!({})), type_of, true); // rows as they are, biases
    }
}

#[test]
fn heads_that_are_no_multiple_of_a_tile_and_tied_embeddings() {
    let more = json!({"head_dim": 24, "num_attention_heads": 4, "num_key_value_heads": 1,
        "tie_word_embeddings": true, "hidden_size": 96, "intermediate_size": 160});
    check(&wide("llama", more.clone()), |_| GgmlType::Q8_0, true);
    check(&wide("qwen2", more), |_| GgmlType::Q4_0, true);
}

pub(crate) fn finer_values(name: &str) -> GgmlType {
    match name {
        name if name.contains("attn_v") || name.contains("ffn_down") => GgmlType::Q6K,
        _ => GgmlType::Q4K,
    }
}

/// As files of the kind Q4_K_M: v is packed beside q and k.
#[test]
fn neighbours_of_other_types_are_segments() {
    check(&wide("llama", json!({})), finer_values, true);
    check(&wide("qwen2", json!({})), finer_values, true);
}

/// Rows of InternLM2's `wqkv` alternate between the types, so this one matrix is f16.
#[test]
fn interleaved_rows_of_several_types_are_dense() {
    let config = wide("internlm2", json!({}));
    let (packed, dense) = check(&config, finer_values, false);
    let (packed, dense) = (bits(&packed), bits(&dense));
    for (name, tensor) in &packed {
        if name.contains("wqkv") {
            assert_eq!(tensor.1, candle_core::DType::F16, "{name}");
        } else {
            assert!(*tensor == dense[name], "{name}");
        }
    }
}

#[test]
fn a_dtype_makes_blocks_dense() {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    write(&file, &wide("llama", json!({})), |_| GgmlType::Q4_0);
    let dense = load_with(&file, options().with_dtype(candle_core::DType::BF16)).unwrap();
    assert!(!dense.is_packed());
    assert!(load(&file).unwrap().is_packed());
}

/// One embedding row, one head: a pass over several rows is the same as over each alone.
#[test]
fn a_rounded_activation_is_near_the_exact_one() {
    let at = tempfile::tempdir().unwrap();
    let file = at.path().join("model.gguf");
    write(&file, &wide("llama", json!({})), |_| GgmlType::Q4K);
    let run = |activation| {
        logits(&load_with(&file, options().with_packed_activation(activation)).unwrap())
    };
    let exact = run(Activation::F32);
    let scale = exact.iter().fold(0f32, |most, v| most.max(v.abs()));
    for (activation, tolerance) in [(Activation::Bf16, 0.05), (Activation::Int8, 0.1)] {
        let diff = crate::common::max_abs_diff(&run(activation), &exact);
        assert!(
            diff > 0.0 && diff < tolerance * scale,
            "{activation:?}: {diff} of {scale}"
        );
    }
    assert_eq!(logits(&load(&file).unwrap()), run(Activation::Bf16));
}
