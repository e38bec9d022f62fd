//! A real model behind the server.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::path::PathBuf;

use internlm_model::{LoadConfig, TextModel};
use internlm_serve::EngineConfig;
use internlm_serve::http::ServerConfig;
use serde_json::json;

use crate::fixture::Server;

/// SmolLM2-135M-Instruct; `None` with a printed reason, or a panic where `CI=true`.
fn smollm2() -> Option<PathBuf> {
    let fetched = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/SmolLM2-135M-Instruct.Q4_1.gguf"
    );
    let file = std::env::var_os("INTERNLM_SMOLLM2_GGUF").map_or(fetched.into(), PathBuf::from);
    if file.exists() {
        return Some(file);
    }
    let ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!ci, "{} is absent and CI=true", file.display());
    println!(
        "skipped: {} is absent; set INTERNLM_SMOLLM2_GGUF",
        file.display()
    );
    None
}

#[test]
fn it_answers_and_scores() {
    let Some(file) = smollm2() else { return };
    let model = TextModel::load(file, LoadConfig::default()).unwrap();
    let server = Server::over(model, EngineConfig::default(), ServerConfig::default());
    let id = server.get("/v1/models").ok()["data"][0]["id"].clone();
    let fields = json!({"model": id, "temperature": 0, "max_tokens": 16, "logprobs": true,
        "messages": [{"role": "user", "content": "What is the capital of France?"}]});
    let reply = server.chat(fields).ok();
    let choice = &reply["choices"][0];
    let content = choice["message"]["content"].as_str().unwrap();
    assert!(content.contains("Paris"), "{content}");
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    let text: String = tokens
        .iter()
        .map(|t| t["token"].as_str().unwrap())
        .collect();
    assert!(text.starts_with(content), "{text}");
    // As lm-evaluation-harness asks for log-likelihoods.
    let score = |text: &str| {
        let fields = json!({"prompt": text, "max_tokens": 0, "echo": true, "logprobs": 1});
        let reply = server.complete(fields).ok();
        let logprobs = reply["choices"][0]["logprobs"]["token_logprobs"].clone();
        logprobs
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .as_f64()
            .unwrap()
    };
    assert!(score("The capital of France is Paris") > score("The capital of France is Rome"));
}
