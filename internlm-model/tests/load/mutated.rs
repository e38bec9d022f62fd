//! Mutated checkpoints whose weights stay packed: an error or a model that runs, never a panic.

use std::path::Path;

use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::config::Config;
use internlm_model::{Batch, CausalLm, Context, QuantizationConfig};
use internlm_quant::ggml::GgmlType;
use serde_json::{Value, json};

use crate::blocks::blocks;
use crate::checkpoint::*;
use crate::fuzz;
use crate::int8;
use crate::words_writer::{Format, Raw, awq_json, tensors, words_folder};

fn small() -> Config {
    config("llama", json!({"num_hidden_layers": 1}))
}

/// Loads what is at a path, packed in most cases, and runs what loads: whether it did.
fn loads_and_runs(path: &Path, case: usize) -> bool {
    let activation = [Activation::F32, Activation::Bf16, Activation::Int8][case % 3];
    let options = options()
        .with_packed_activation(activation)
        .with_packed(case % 8 != 7)
        .with_mmap(case.is_multiple_of(2));
    load_with(path, options).is_ok_and(|model| runs(&model))
}

/// Whether a pass of three tokens is not an error. Values may be anything.
fn runs(model: &CausalLm) -> bool {
    let Ok(mut cache) = model.new_cache() else {
        return false;
    };
    let mut batch = Batch::new();
    let pushed = batch.push(0, &[1, 0, 2], 0, 3, Logits::Last);
    pushed.is_ok() && model.forward(&batch, &mut Context::new(&mut cache)).is_ok()
}

/// One to four changes that leave the length as it is.
fn flipped(random: &mut fuzz::Random, bytes: &[u8]) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        flipped[at] = match random.below(3) {
            0 => flipped[at] ^ (1 << random.below(8)),
            1 => 0xff,
            _ => random.below(256) as u8,
        };
    }
    flipped
}

/// Changes the configuration, the header or the data of a folder, one after the other.
fn check_folder(seed: u64, quantization: Value, tensors: &[Raw]) {
    let at = tempfile::tempdir().unwrap();
    let folder = words_folder(at.path(), &small(), Some(quantization), tensors);
    let (config_path, path) = (folder.join("config.json"), folder.join("model.safetensors"));
    let config = std::fs::read(&config_path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (header, data) =
        whole[8..].split_at(u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize);
    let file =
        |header: &[u8], data: &[u8]| [&(header.len() as u64).to_le_bytes(), header, data].concat();
    assert!((0..8).all(|case| loads_and_runs(&folder, case)));
    let (mut random, mut ran) = (fuzz::Random(seed), [0; 3]);
    for case in 0..fuzz::cases() {
        let part = random.below(3);
        let (new_config, bytes) = match part {
            0 => (random.mutate(&config), whole.clone()),
            1 => (config.clone(), file(&random.mutate(header), data)),
            _ => (config.clone(), file(header, &flipped(&mut random, data))),
        };
        std::fs::write(&config_path, new_config).unwrap();
        std::fs::write(&path, bytes).unwrap();
        ran[part] += usize::from(loads_and_runs(&folder, case));
    }
    // Other codes are a model too; most other headers are none.
    assert!(
        ran[2] > 0 && ran.iter().sum::<usize>() < fuzz::cases(),
        "{ran:?}"
    );
}

#[test]
fn awq_folders() {
    let tensors = tensors(&small(), Format::Awq, |_| true);
    check_folder(21, awq_json(json!({})), &tensors);
}

#[test]
fn gptq_folders() {
    let json =
        |desc_act| awq_json(json!({"quant_method": "gptq", "desc_act": desc_act, "sym": false}));
    for desc_act in [false, true] {
        let tensors = tensors(&small(), Format::Gptq { desc_act }, |_| true);
        check_folder(22 + u64::from(desc_act), json(desc_act), &tensors);
    }
}

#[test]
fn folders_of_8_bits() {
    let (tensors, _) = int8::tensors(&small(), safetensors::tensor::Dtype::F32);
    check_folder(24, QuantizationConfig::int8().to_json(), &tensors);
}

/// GGUF files with blocks of every type that stays packed.
#[test]
fn gguf_blocks() {
    const TYPES: [GgmlType; 8] = [
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
    ];
    // 256 inputs, as the K types need, and few rows.
    let sizes = json!({"hidden_size": 256, "intermediate_size": 32, "num_attention_heads": 2,
        "num_key_value_heads": 1, "num_hidden_layers": 1, "vocab_size": 3});
    let (config, at) = (config("llama", sizes), tempfile::tempdir().unwrap());
    let source = random(&config).tensors().unwrap();
    let path = at.path().join("m.gguf");
    let (mut random, mut ran) = (fuzz::Random(25), 0);
    let mut seeds = Vec::new();
    for ggml_type in TYPES {
        write_gguf(&path, &config, &source, |name, shape, values| match shape {
            [_, 256] => blocks(ggml_type, values.len(), name),
            _ => plain(name, shape, values),
        });
        assert!(load(&path).unwrap().is_packed() && loads_and_runs(&path, 0));
        seeds.push(std::fs::read(&path).unwrap());
    }
    for case in 0..fuzz::cases() {
        let whole = &seeds[case % seeds.len()];
        // The header and its tensor table are the first few hundred bytes: half of the changes go there.
        let bytes = match random.below(3) {
            0 => [&random.mutate(&whole[..1024]), &whole[1024..]].concat(),
            1 => [&flipped(&mut random, &whole[..1024]), &whole[1024..]].concat(),
            _ => flipped(&mut random, whole),
        };
        std::fs::write(&path, bytes).unwrap();
        ran += usize::from(loads_and_runs(&path, case));
    }
    assert!(ran > 0 && ran < fuzz::cases(), "{ran}");
}
