//! A model answers one question: the shortest program there is.
//!
//! `cargo run --release --example hello -- PATH "What does a KV cache hold?"`
#![allow(clippy::print_stdout, reason = "a program prints")]

use internlm_core::{ChatModel, ChatRequest, Message};
use internlm_model::{LoadConfig, TextModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let question = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let model = TextModel::load(path, LoadConfig::default())?;
    let request = ChatRequest::messages(vec![Message::user(question)]);
    println!("{}", model.complete(&request)?.text);
    Ok(())
}
