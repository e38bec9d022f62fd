//! Small models with a tokenizer of bytes.
#![allow(dead_code, reason = "not every test uses all of it")]

mod bytes;

use internlm_core::chat_model::{Completion, Input};
use internlm_core::{ChatModel, ChatRequest, SamplingParams};
use internlm_model::{CausalLm, Config, LoadConfig, TextModel};
use internlm_serve::config::CacheBudget;
use internlm_serve::{Engine, EngineConfig};

pub(crate) const SPECIAL: [&str; 9] = [
    "<unk>",
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
];

/// A decoder with random weights: `"internlm2"` with grouped queries, or `"internlm"` (1), which keeps raw keys.
/// Its context is 600 tokens, those past 100 by dynamic NTK.
pub(crate) fn model(model_type: &str, seed: u64) -> TextModel {
    model_of(model_type, seed, 265)
}

/// The same with more columns of logits than there are tokens.
pub(crate) fn padded_model() -> TextModel {
    model_of("internlm2", 7, 320)
}

fn model_of(model_type: &str, seed: u64, vocab_size: usize) -> TextModel {
    let json = serde_json::json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": if model_type == "internlm2" { 2 } else { 4 },
        "vocab_size": vocab_size, "bias": model_type == "internlm", "max_position_embeddings": 100,
        "rope_scaling": {"type": "dynamic", "factor": 6.0}, "rotary": {"type": "dynamic", "base": 10000},
        "eos_token_id": 258, "bos_token_id": 257, "tie_word_embeddings": false,
    });
    let json = json.to_string();
    let config = Config::from_json("config.json".as_ref(), json.as_bytes()).expect("a config");
    let options = LoadConfig::default().with_threads(2);
    let model = CausalLm::random(config, seed, options).expect("a model");
    TextModel::new(model, bytes::tokenizer(&SPECIAL, &[])).expect("a text model")
}

pub(crate) fn engine(config: EngineConfig) -> Engine {
    Engine::new(model("internlm2", 7), config).expect("an engine")
}

/// A cache of this many blocks for [`model`] `"internlm2"`.
pub(crate) fn blocks(count: usize) -> CacheBudget {
    // layers * keys and values * heads * tokens * head_dim * f32
    CacheBudget::Bytes(count * 2 * 2 * 2 * 64 * 16 * 4)
}

/// Waits until nothing runs or waits.
pub(crate) fn settle(engine: &Engine) -> internlm_serve::Metrics {
    loop {
        let metrics = engine.metrics();
        if metrics.running == 0 && metrics.waiting == 0 && metrics.blocks_in_use == 0 {
            return metrics;
        }
        std::thread::yield_now();
    }
}

/// Some text of `len` tokens, another for each seed.
pub(crate) fn ids(len: usize, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32 % 256
        })
        .collect()
}

pub(crate) fn sampled(seed: u64, max_new_tokens: usize) -> SamplingParams {
    SamplingParams::default()
        .with_temperature(1.5)
        .with_seed(seed)
        .with_max_new_tokens(max_new_tokens)
        .with_logprobs(2)
}

pub(crate) fn request(ids: &[u32], sampling: SamplingParams) -> ChatRequest {
    ChatRequest::new(Input::Ids(ids.to_vec())).with_sampling(sampling)
}

/// An answer without what it took to make it.
pub(crate) fn said(mut completion: Completion) -> Completion {
    completion.usage.cached_tokens = 0;
    completion
}

/// What the model says without an engine.
pub(crate) fn alone(model: &TextModel, request: &ChatRequest) -> Completion {
    model.complete(request).expect("an answer")
}

/// Hands in all requests at once; their answers in order.
#[track_caller]
pub(crate) fn together(engine: &Engine, requests: &[ChatRequest]) -> Vec<Completion> {
    let running: Vec<_> = requests
        .iter()
        .map(|request| engine.submit(request.clone()).expect("it is taken in"))
        .collect();
    let answers = running.into_iter().map(|response| response.complete());
    answers
        .map(|answer| said(answer.expect("an answer")))
        .collect()
}

/// Hands in all requests at once: each must hear what it would hear from the model alone.
#[track_caller]
pub(crate) fn check_together(engine: &Engine, reference: &TextModel, requests: &[ChatRequest]) {
    let answers = together(engine, requests);
    for (index, (request, got)) in requests.iter().zip(answers).enumerate() {
        assert_eq!(got, alone(reference, request), "request {index}");
    }
}
