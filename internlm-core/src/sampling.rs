//! How the next token is chosen and when generation stops.

use serde::{Deserialize, Serialize};

/// Parameters of sampling and stopping.
///
/// The steps are applied in Hugging Face's order: logit bias, repetition, frequency and presence
/// penalties, temperature, top-k, top-p, min-p. The default is greedy, without penalties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SamplingParams {
    /// Divides the logits; `0` takes the largest (the first of equals).
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; `0` keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probabilities reach this sum; in `(0, 1]`.
    pub top_p: f32,
    /// Keeps tokens at least this many times as likely as the most likely one; in `[0, 1]`.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer
    /// (CTRL, arXiv 1909.05858); `1` is off.
    pub repetition_penalty: f32,
    /// Subtracted once per earlier occurrence in the answer (OpenAI).
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred in the answer (OpenAI).
    pub presence_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed of the generator; without one every run draws anew.
    pub seed: Option<u64>,
    /// Most tokens to generate; without a limit generation ends with the context.
    pub max_new_tokens: Option<usize>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer, besides those of the model; they are not part of it.
    pub stop_token_ids: Vec<u32>,
    /// Go on past the model's own end tokens (for benchmarks).
    pub ignore_eos: bool,
    /// Report the chosen token's log-probability and those of this many most likely tokens.
    pub logprobs: Option<usize>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
            max_new_tokens: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
        }
    }
}

impl SamplingParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self::default()
    }

    /// Sets the temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets top-k.
    #[must_use]
    pub fn with_top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets top-p.
    #[must_use]
    pub fn with_top_p(mut self, top_p: f32) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets min-p.
    #[must_use]
    pub fn with_min_p(mut self, min_p: f32) -> Self {
        self.min_p = min_p;
        self
    }

    /// Sets the repetition penalty.
    #[must_use]
    pub fn with_repetition_penalty(mut self, repetition_penalty: f32) -> Self {
        self.repetition_penalty = repetition_penalty;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the most tokens to generate.
    #[must_use]
    pub fn with_max_new_tokens(mut self, max_new_tokens: usize) -> Self {
        self.max_new_tokens = Some(max_new_tokens);
        self
    }

    /// Adds a stop text.
    #[must_use]
    pub fn with_stop(mut self, stop: impl Into<String>) -> Self {
        self.stop.push(stop.into());
        self
    }
}
