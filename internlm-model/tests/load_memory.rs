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
use internlm_model::save::SaveConfig;
use internlm_model::{CausalLm, LoadConfig, ModelDir};
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
    let before = status("VmRSS:");
    let model = CausalLm::load(&ModelDir::open(path).expect("opens"), options).expect("loads");
    let peak = status("VmHWM:");
    println!("grown {} weights {}", peak - before, model.weight_bytes());
}

#[track_caller]
fn check(path: &Path, dtype: &str, mmap: bool) {
    let output = Command::new(std::env::current_exe().expect("this program"))
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
    assert!(
        grown <= weights + weights / 5 + CONSTANT,
        "{grown} for {weights}"
    );
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
    check(&path, "", true);
    check(&path, "", false);
    check(&path, "bf16", true);
    check(&path, "bf16", false);
}
