//! `hub` against a hub of our own on loopback.
#![cfg(feature = "hub")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on stdout why it is skipped"
)]

mod cache;
mod download;
mod hostile;
mod model;
mod python;
mod refusal;
mod server;
mod tls;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use internlm_model::hub::Fetch;
use server::Hub;

/// A cache folder of a test.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn repo(&self) -> PathBuf {
        self.path().join("models--org--name")
    }

    fn blob(&self, hash: &str) -> PathBuf {
        self.repo().join("blobs").join(hash)
    }

    fn partial(&self, hash: &str) -> PathBuf {
        self.blob(&format!("{hash}.incomplete"))
    }

    /// Every file and link below the folder, locks left out.
    fn listing(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), root, out);
                } else {
                    let path = entry.path();
                    let name = path
                        .strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned();
                    if !name.ends_with(".lock") {
                        out.push(name);
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk(self.path(), self.path(), &mut out);
        out.sort();
        out
    }
}

/// A fetch that the environment has no part in, with four quick repetitions.
fn fetch(id: &str, hub: &Hub, cache: &Cache) -> Fetch {
    Fetch::new(id)
        .with_endpoint(&hub.url)
        .with_token("")
        .with_cache_dir(cache.path())
        .with_offline(false)
        .with_retries(4)
        .with_backoff(Duration::from_millis(1))
        .with_timeout(Duration::from_secs(20))
}

/// Runs in a process of its own, which [`in_child`] gives its variables.
#[test]
fn child() {
    if let Ok(id) = std::env::var("INTERNLM_HUB_CHILD") {
        match internlm_model::hub::fetch(&id) {
            Ok(path) => println!("<path {}>", path.display()),
            Err(error) => println!("<error {error:?}>"),
        }
    }
}

/// What `hub::fetch` prints in a process with these variables.
fn in_child(id: &str, vars: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    without_settings(&mut command);
    command
        .env("INTERNLM_HUB_CHILD", id)
        .envs(vars.iter().copied());
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Takes away what the developer's environment says of hubs and proxies.
fn without_settings(command: &mut Command) {
    let others = [
        "HUGGINGFACE_HUB_CACHE",
        "TRANSFORMERS_OFFLINE",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
    ];
    for (name, _) in std::env::vars() {
        let proxy = name.to_ascii_uppercase().ends_with("_PROXY");
        if name.starts_with("HF_") || proxy || others.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
}

/// Bytes that differ from place to place.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

const CONFIG: &[u8] = b"{\"model_type\": \"internlm2\"}\n";

/// A repository with two shards, a tokenizer and what must stay away.
fn model() -> Hub {
    let (one, two) = shards();
    Hub::start(&[
        ("config.json", CONFIG),
        ("tokenizer.model", b"pieces"),
        ("model.safetensors.index.json", b"{}"),
        ("model-00001-of-00002.safetensors", &one),
        ("model-00002-of-00002.safetensors", &two),
        ("pytorch_model.bin", b"pickle"),
        ("modeling_internlm2.py", b"import os"),
        ("README.md", b"# name"),
        ("original/params.json", b"{}"),
    ])
}

fn shards() -> (Vec<u8>, Vec<u8>) {
    (noise(700_001, 1), noise(300_000, 2))
}

const FILES: [&str; 5] = [
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.model",
];
