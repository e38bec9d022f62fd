//! A model answers one question: the shortest program there is.
//!
//! `cargo run --release --example hello -- PATH "What does a KV cache hold?"`

use internlm_core::{ChatModel, ChatRequest, Message};
use internlm_model::{LoadConfig, TextModel};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let question = arguments.next().ok_or("usage: hello PATH QUESTION")?;
    let model = TextModel::load(path, LoadConfig::default())?;
    let request = ChatRequest::messages(vec![Message::user(question)]);
    std::io::Write::write_all(
        &mut std::io::stdout(),
        model.complete(&request)?.text.as_bytes(),
    )?;
    Ok(())
}
