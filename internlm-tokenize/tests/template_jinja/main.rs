//! Jinja templates of checkpoints: as Python's Jinja2, safe against what is typed, and bounded.
#![allow(clippy::unwrap_used)]

use internlm_core::{Message, Part, ToolSpec};
use internlm_tokenize::{ChatTemplate, SpecialTokens};
use serde::Deserialize;

mod limits;
mod python;
#[path = "../support/mod.rs"]
mod support;
mod trust;

/// Tokens that some template of the fixture writes.
const SPECIAL: [&str; 24] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|user|>",
    "<|system|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<eoa>",
    "<|start|>",
    "<|message|>",
    "<|call|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[INST]",
    "[/INST]",
    "<|plugin|>",
    "<|im_sep|>",
];

fn special() -> SpecialTokens {
    SpecialTokens {
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        all: SPECIAL.iter().map(|&token| token.to_owned()).collect(),
        ..SpecialTokens::default()
    }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::jinja(source, special()).unwrap()
}

fn markers(parts: &[Part]) -> Vec<&str> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Marker { text } => Some(text.as_str()),
            Part::Text { .. } => None,
        })
        .collect()
}

#[derive(Deserialize)]
struct Fixture {
    now: i64,
    templates: std::collections::BTreeMap<String, String>,
    requests: std::collections::BTreeMap<String, Request>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<ToolSpec>,
    add_generation_prompt: Option<bool>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    case: String,
    prompt: Option<String>,
    raised: Option<String>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/jinja.json")).unwrap()
}
