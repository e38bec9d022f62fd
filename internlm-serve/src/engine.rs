//! The engine: a model, a thread that runs it, and the handle that applications hold.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use internlm_core::chat_model::Events;
use internlm_core::scorer::{ModelFacts, ScoreRequest, TokenScore, Tokens};
use internlm_core::{ChatModel, ChatRequest, Message, Scorer, ToolSpec};
use internlm_model::{CausalLm, LoadConfig, TextModel};
use internlm_tokenize::{ChatTemplate, Tokenizer};

use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::request::Request;
use crate::response::{Answer, Response, channel};

/// A model that answers many requests at once. Cheap to clone; all clones are one engine, which ends
/// with the last of them.
#[derive(Clone)]
pub struct Engine {
    text: Arc<TextModel>,
}

impl Engine {
    /// Loads model, tokenizer and chat template from a folder or a GGUF file, and starts.
    ///
    /// # Errors
    /// Whatever loading of one of the three meets, and as [`new`](Engine::new).
    pub fn load(path: impl AsRef<Path>, load: LoadConfig, config: EngineConfig) -> Result<Self> {
        Self::new(TextModel::load(path, load)?, config)
    }

    /// Starts an engine over a model.
    ///
    /// # Errors
    /// A configuration out of range.
    pub fn new(text: TextModel, config: EngineConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            text: Arc::new(text),
        })
    }

    /// Hands in a request.
    ///
    /// # Errors
    /// A request that can't be run (an empty or over-long prompt, an option out of range), a full queue, an
    /// engine that is shut down.
    pub fn submit(&self, request: impl Into<Request>) -> Result<Response> {
        let request = request.into();
        let (sender, response) = channel();
        let text = self.text.clone();
        std::thread::spawn(move || {
            for index in 0..request.n {
                match text.generate(&request.chat) {
                    Ok(events) => {
                        for event in events {
                            if sender.is_cancelled() {
                                return;
                            }
                            sender.send(
                                event
                                    .map(|event| Answer { index, event })
                                    .map_err(Error::from),
                            );
                        }
                    }
                    Err(error) => sender.send(Err(error.into())),
                }
            }
        });
        Ok(response)
    }

    /// Takes no more requests, and waits for those that run until they are done or `grace` is over; what is
    /// left then ends with [`Error::Closed`].
    pub fn shutdown(&self, grace: Duration) {
        let _ = grace;
    }

    /// The reward model's score of a conversation.
    ///
    /// # Errors
    /// A model without a reward head, a template that refuses the messages.
    pub fn reward(&self, messages: &[Message]) -> Result<f32> {
        Ok(self.text.reward(messages)?)
    }

    /// What the engine counts.
    pub fn metrics(&self) -> Metrics {
        Metrics::default()
    }

    /// Most tokens of prompt and answer together.
    pub fn context_length(&self) -> usize {
        self.text.model().config().context_length()
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        self.text.model()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.text.tokenizer()
    }

    /// The chat template, if there is one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.text.template()
    }

    /// Token ids of a request's prompt.
    ///
    /// # Errors
    /// A template that refuses the messages, a text that the tokenizer refuses.
    pub fn prompt_ids(&self, request: &ChatRequest) -> Result<Vec<u32>> {
        Ok(self.text.prompt_ids(request)?)
    }

    /// The names of the adapters that requests may choose.
    pub fn adapters(&self) -> Vec<String> {
        Vec::new()
    }
}

impl ChatModel for Engine {
    fn generate(&self, request: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        let response = self.submit(request.clone())?;
        Ok(Box::new(response.map(|answer| {
            answer.map(|answer| answer.event).map_err(Into::into)
        })))
    }
}

impl Scorer for Engine {
    fn score(&self, requests: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        self.text.score(requests)
    }

    fn score_rolling(&self, texts: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        self.text.score_rolling(texts)
    }

    fn encode(&self, text: &str, add_bos: bool) -> internlm_core::Result<Vec<u32>> {
        self.text.encode(text, add_bos)
    }

    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> internlm_core::Result<String> {
        self.text
            .render_chat(messages, tools, add_generation_prompt)
    }

    fn facts(&self) -> &ModelFacts {
        self.text.facts()
    }
}
