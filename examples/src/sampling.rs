//! `--greedy`, `--temperature` and their like.

use clap::Args;
use internlm_core::SamplingParams;

/// How tokens are chosen. What is not given comes from the checkpoint's `generation_config.json`.
#[derive(Args, Clone, Debug)]
pub struct SamplingArgs {
    /// Always take the most likely token
    #[arg(long, conflicts_with_all = ["temperature", "top_p", "top_k", "min_p"])]
    pub greedy: bool,
    /// Divide the logits by this; 0 is greedy
    #[arg(long)]
    pub temperature: Option<f32>,
    /// Keep the most likely tokens up to this sum of probabilities
    #[arg(long)]
    pub top_p: Option<f32>,
    /// Keep this many of the most likely tokens; 0 keeps all
    #[arg(long)]
    pub top_k: Option<usize>,
    /// Keep tokens at least this many times as likely as the most likely one
    #[arg(long)]
    pub min_p: Option<f32>,
    /// Make tokens that occurred less likely; 1 is off
    #[arg(long)]
    pub repetition_penalty: Option<f32>,
    /// Seed of the random numbers; without it every run draws anew
    #[arg(long)]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// Parameters: what was given, over `defaults`. `--greedy` also drops the defaults' penalties.
    pub fn params(&self, defaults: SamplingParams) -> SamplingParams {
        let mut params = defaults;
        if self.greedy {
            let max_new_tokens = params.max_new_tokens;
            params = SamplingParams::greedy();
            params.max_new_tokens = max_new_tokens;
        }
        let drawn = self.top_p.is_some() || self.top_k.is_some() || self.min_p.is_some();
        if drawn && self.temperature.is_none() && params.temperature == 0.0 {
            // Without a temperature these would have nothing to choose from.
            params.temperature = 1.0;
        }
        params.temperature = self.temperature.unwrap_or(params.temperature);
        params.top_p = self.top_p.unwrap_or(params.top_p);
        params.top_k = self.top_k.unwrap_or(params.top_k);
        params.min_p = self.min_p.unwrap_or(params.min_p);
        params.repetition_penalty = self.repetition_penalty.unwrap_or(params.repetition_penalty);
        params.seed = self.seed.or(params.seed);
        params
    }
}
