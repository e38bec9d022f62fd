//! Peak resident memory while loading stays near the weights, pages of mapped files included.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use candle_core::DType;
use internlm_kernels::Compute;
use internlm_model::config::Config;
use internlm_model::load::Prepared;
use internlm_model::save::SaveConfig;
use internlm_model::{CausalLm, LoadConfig, ModelDir};
use safetensors::tensor::Dtype;
use serde_json::json;

/// Bytes beside the weights that do not grow with them: windows of files, threads, tables.
const CONSTANT: u64 = 24 << 20;

/// A line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("has the line");
    let kib = line.split_whitespace().nth(1).expect("has a number");
    kib.parse::<u64>().expect("is a number") << 10
}

/// Not a test of its own: loads what the environment says and prints how memory grew.
#[test]
fn child() {
    let Some(path) = std::env::var_os("LOAD_MEMORY_PATH") else {
        return;
    };
    let var = |key: &str| std::env::var(key).unwrap_or_default();
    let compute = Arc::new(Compute::new(Some(2)).expect("two threads"));
    let mut options = LoadConfig::default().with_compute(compute).with_threads(2);
    options = options.with_mmap(var("LOAD_MEMORY_MMAP") == "true");
    if var("LOAD_MEMORY_DTYPE") == "bf16" {
        options = options.with_dtype(DType::BF16);
    }
    if let Some(file) = std::env::var_os("LOAD_MEMORY_PREPARED") {
        options = options.with_prepared(Prepared::At(file.into()));
    }
    let before = status("VmRSS:");
    let model = CausalLm::load(&ModelDir::open(path).expect("opens"), options).expect("loads");
    let peak = status("VmHWM:");
    println!("grown {} weights {}", peak - before, model.weight_bytes());
}

/// `most`: bytes that may be resident beside the weights, by their bytes.
#[track_caller]
fn check(path: &Path, dtype: &str, mmap: bool, most: fn(u64) -> u64) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    check_command(&mut command, path, dtype, mmap, most);
}

#[track_caller]
fn check_command(
    command: &mut Command,
    path: &Path,
    dtype: &str,
    mmap: bool,
    most: fn(u64) -> u64,
) {
    let output = command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LOAD_MEMORY_PATH", path)
        .env("LOAD_MEMORY_DTYPE", dtype)
        .env("LOAD_MEMORY_MMAP", mmap.to_string())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.split_once("grown "))
        .expect("prints")
        .1;
    let numbers: Vec<u64> = line
        .split(" weights ")
        .map(|n| n.trim().parse().expect("a number"))
        .collect();
    let (grown, weights) = (numbers[0], numbers[1]);
    println!(
        "{}, dtype {dtype:?}, mmap {mmap}: grew by {grown}, weights {weights}",
        path.display()
    );
    assert!(weights > 90 << 20, "{weights}");
    assert!(grown <= weights + most(weights), "{grown} for {weights}");
}

fn dense(weights: u64) -> u64 {
    weights / 5 + CONSTANT
}

/// A module of words is mapped or read as a whole, and nothing else grows with it.
fn packed(weights: u64) -> u64 {
    weights / 10
}

#[test]
fn peak_stays_near_the_weights() {
    let at = tempfile::tempdir().expect("a folder");
    // Half of the parameters are one embedding: the worst case for tensor-by-tensor reading.
    let config = json!({
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6,
        "num_attention_heads": 8, "vocab_size": 52_000, "tie_word_embeddings": true,
    });
    let config =
        Config::from_json(Path::new("config.json"), config.to_string().as_bytes()).expect("valid");
    let path = at.path().join("f32");
    let options = LoadConfig::default().with_threads(2);
    let model = CausalLm::random(config, 1, options).expect("a model");
    model.save(&path, &SaveConfig::default()).expect("saves");
    drop(model);
    check(&path, "", true, dense);
    check(&path, "", false, dense);
    check(&path, "bf16", true, dense);
    check(&path, "bf16", false, dense);
}

#[test]
fn packed_peak_stays_near_the_packed_weights() {
    const GROUP: usize = 128;
    let at = tempfile::tempdir().expect("a folder");
    let (hidden, inner, layers, vocab) = (2048, 8192, 6, 512);
    let config = json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": 16, "vocab_size": vocab,
        "tie_word_embeddings": true,
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": GROUP},
    });
    std::fs::write(at.path().join("config.json"), config.to_string()).expect("writes");
    let mut tensors = Vec::new();
    let mut put = |name: String, dtype, shape: Vec<usize>, element: &[u8]| {
        let bytes = element.repeat(shape.iter().product());
        tensors.push((
            name,
            TensorData {
                dtype,
                shape,
                bytes,
            },
        ));
    };
    let one = half::f16::ONE.to_le_bytes();
    let mut modules = Vec::new();
    for layer in 0..layers {
        let name = |module: &str| format!("model.layers.{layer}.{module}");
        for module in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            modules.push((name(&format!("self_attn.{module}")), hidden, hidden));
        }
        modules.push((name("mlp.gate_proj"), hidden, inner));
        modules.push((name("mlp.up_proj"), hidden, inner));
        modules.push((name("mlp.down_proj"), inner, hidden));
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            put(
                name(&format!("{norm}.weight")),
                Dtype::F16,
                vec![hidden],
                &one,
            );
        }
    }
    for (module, inputs, outputs) in modules {
        let (groups, words) = (inputs / GROUP, outputs / 8);
        let name = |suffix: &str| format!("{module}.{suffix}");
        put(
            name("qweight"),
            Dtype::I32,
            vec![inputs, words],
            &[0x12, 0x34, 0x56, 0x78],
        );
        put(name("qzeros"), Dtype::I32, vec![groups, words], &[0x88; 4]);
        put(name("scales"), Dtype::F16, vec![groups, outputs], &one);
    }
    put(
        "model.norm.weight".to_owned(),
        Dtype::F16,
        vec![hidden],
        &one,
    );
    put(
        "model.embed_tokens.weight".to_owned(),
        Dtype::F16,
        vec![vocab, hidden],
        &one,
    );
    let file = at.path().join("model.safetensors");
    safetensors::serialize_to_file(tensors, None, &file).expect("writes");
    check(at.path(), "", true, packed);
    check(at.path(), "", false, packed);
    // While a prepared file is made, and from it.
    let file = at.path().join("kept");
    for _ in 0..2 {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env("LOAD_MEMORY_PREPARED", &file);
        check_command(&mut command, at.path(), "", true, packed);
        assert!(file.is_file());
    }
}

/// A tensor to be written.
struct TensorData {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl safetensors::View for TensorData {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
