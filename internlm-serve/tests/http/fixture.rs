//! A server over a small model.

#[path = "../common/bytes.rs"]
mod bytes;

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use internlm_core::SamplingParams;
use internlm_model::{CausalLm, Config, LoadConfig, TextModel};
use internlm_serve::http::{self, ServerConfig};
use internlm_serve::{Engine, EngineConfig};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client::{Reply, ask};

/// Tokens after the 256 bytes.
const SPECIAL: [&str; 8] = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
];

/// Tokens of more than a byte, so that a bias can make the model say something. The line feeds keep the calls
/// from looking like markup, which has no text.
const WORDS: [&str; 4] = [
    "Hello",
    "书",
    "\n<|action_start|><|plugin|>\n{\"name\": \"weather\", \"parameters\": {\"city\": \"Paris\"}}<|action_end|>",
    "\n<|action_start|><|plugin|>\n{\"name\": \"time\", \"parameters\": {}}<|action_end|>",
];

pub(crate) const END: u32 = 259;
pub(crate) const HELLO: u32 = 264;
pub(crate) const BOOK: u32 = 265;
pub(crate) const WEATHER: u32 = 266;
pub(crate) const TIME: u32 = 267;
pub(crate) const VOCAB_SIZE: u32 = 268;

/// Tokens that fit the small model's context.
pub(crate) const CONTEXT: usize = 1 << 16;

fn model(reward: bool) -> TextModel {
    let mut json = json!({
        "model_type": "internlm2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB_SIZE, "bias": false,
        "max_position_embeddings": CONTEXT, "eos_token_id": [257, END], "bos_token_id": 256,
    });
    if reward {
        json["architectures"] = json!(["InternLM2ForRewardModel"]);
        json["reward_token_id"] = json!(257);
    }
    let config = Config::from_json("config.json".as_ref(), json.to_string().as_bytes()).unwrap();
    let model = CausalLm::random(config, 7, LoadConfig::default().with_threads(1)).unwrap();
    TextModel::new(model, bytes::tokenizer(&SPECIAL, &WORDS)).unwrap()
}

/// An engine with a cache of this many tokens.
pub(crate) fn engine_config(tokens: usize) -> EngineConfig {
    // Layers, keys and values, heads, elements, bytes of an f32.
    let bytes = tokens * 2 * 2 * 2 * 8 * 4;
    EngineConfig::default().with_cache(internlm_serve::config::CacheBudget::Bytes(bytes))
}

/// A server that ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<internlm_serve::Result<()>>>,
}

/// Answers are greedy unless they say otherwise.
pub(crate) fn config() -> ServerConfig {
    ServerConfig::default()
        .with_default_sampling(Some(SamplingParams::greedy()))
        .with_model_name("tiny")
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(engine_config(4 * CONTEXT), config())
    }

    pub(crate) fn with(engine: EngineConfig, config: ServerConfig) -> Self {
        Self::over(model(false), engine, config)
    }

    pub(crate) fn reward() -> Self {
        Self::over(model(true), engine_config(CONTEXT), config())
    }

    pub(crate) fn over(model: TextModel, engine: EngineConfig, config: ServerConfig) -> Self {
        let engine = Engine::new(model, engine).unwrap();
        let listener = http::bind("127.0.0.1:0".parse().unwrap(), &config).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let served = engine.clone();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(http::serve(listener, served, config, async {
                // A test that is over drops its end.
                let _ = stopped.await;
            }))
        });
        Self {
            address,
            engine,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        ask(self.address, "GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        ask(self.address, "POST", path, &[], body.to_string().as_bytes())
    }

    /// A chat with one message.
    pub(crate) fn chat(&self, fields: Value) -> Reply {
        self.post("/v1/chat/completions", &chat(fields))
    }

    /// A completion.
    pub(crate) fn complete(&self, fields: Value) -> Reply {
        self.post("/v1/completions", &fields)
    }

    /// Tells the server to end.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Whether the server ended well.
    #[track_caller]
    pub(crate) fn join(mut self) {
        self.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }

    /// Waits until nothing runs and no sequence holds a block.
    #[track_caller]
    pub(crate) fn wait_until_free(&self) {
        let start = Instant::now();
        loop {
            let metrics = self.engine.metrics();
            if metrics.running + metrics.waiting + metrics.blocks_in_use == 0 {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{metrics:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The body of a chat with one message, and these fields.
pub(crate) fn chat(fields: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4});
    body.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    body
}

/// A request that is answered until somebody stops it.
pub(crate) fn endless() -> Value {
    chat(json!({"stream": true, "ignore_eos": true, "max_tokens": 1_000_000}))
}
