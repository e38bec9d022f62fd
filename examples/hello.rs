//! A model answers one question: the shortest program there is.
//!
//! `cargo run --release --example hello -- PATH "What does a KV cache hold?"`
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program prints"
)]

use std::io::Write;
use std::process::ExitCode;

use internlm_model::LoadConfig;
use internlm_serve::{Engine, EngineConfig};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let question = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let engine = Engine::load(path, LoadConfig::default(), EngineConfig::default())?;
    for delta in engine.chat().say(question)? {
        print!("{}", delta?.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
