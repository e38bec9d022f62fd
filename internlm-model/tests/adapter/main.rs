//! LoRA adapters: files of PEFT, passes over one base, merging, gradients.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

#[path = "../load/checkpoint.rs"]
#[expect(dead_code, reason = "the tests of loading use the rest")]
mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod files;
mod forward;
mod goldens;
mod options;
mod training;

use candle_core::Tensor;
use internlm_model::batch::Logits;
use internlm_model::context::Mode;
use internlm_model::kv_cache::NoCache;
use internlm_model::{AdapterSet, Batch, CausalLm, Config, Context, LoraAdapter, LoraConfig};
use serde_json::{Value, json};

/// Every family: fused and separate q, k and v, with and without biases and grouped queries.
const FAMILIES: [&str; 5] = ["internlm", "internlm2", "internlm3", "llama", "qwen2"];

fn family(name: &str, more: Value) -> Config {
    let mut all = json!({"qkv_bias": true});
    for (key, value) in more.as_object().unwrap() {
        all[key] = value.clone();
    }
    checkpoint::config(name, all)
}

/// An adapter whose B is not zero.
fn adapter(base: &Config, config: LoraConfig, seed: u64) -> LoraAdapter {
    let mut adapter = LoraAdapter::new(base, config, seed).unwrap();
    for (name, var) in adapter.vars().unwrap() {
        if name.ends_with(".lora_B.weight") {
            let mut state = name
                .bytes()
                .fold(seed, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
            let values: Vec<f32> = (0..var.elem_count())
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (state >> 40) as f32 / (1 << 25) as f32 - 0.25
                })
                .collect();
            let values = Tensor::from_vec(values, var.dims(), var.device()).unwrap();
            var.set(&values).unwrap();
        }
    }
    adapter
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Logits of all positions of one sequence.
fn logits(model: &CausalLm, adapter: Option<&LoraAdapter>, ids: &[u32], mode: Mode) -> Vec<f32> {
    let mut batch = Batch::new();
    batch.push(0, ids, 0, ids.len(), Logits::All).unwrap();
    let set: AdapterSet = adapter.cloned().into_iter().collect();
    batch.set_adapter(0, adapter.map(|_| 0)).unwrap();
    let mut cache = NoCache;
    let mut context = Context::new(&mut cache).with_mode(mode).with_adapters(&set);
    floats(&model.forward(&batch, &mut context).unwrap())
}

/// Close beside the largest of what is wanted.
#[track_caller]
fn assert_close(got: &[f32], want: &[f32], tolerance: f32) {
    let scale = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    let diff = common::max_abs_diff(got, want);
    assert!(
        scale.is_finite() && diff <= tolerance * scale,
        "{diff} of {scale}"
    );
}
