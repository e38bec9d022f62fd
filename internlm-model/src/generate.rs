//! Generation as an iterator over tokens.

use candle_core::Device;
use internlm_core::SamplingParams;
use internlm_core::chat_model::{FinishReason, TokenLogprob, Usage};

use crate::batch::{Batch, Logits};
use crate::causal_lm::CausalLm;
use crate::context::Context;
use crate::error::Result;
use crate::kv_cache::{ContiguousCache, KvCache};
use crate::ops::with_f32;
use crate::sampler::{Choice, Sampler};

/// What happens while tokens are generated.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TokenEvent {
    /// Another token of the answer.
    Token {
        /// The token.
        id: u32,
        /// Its log-probability, if asked for.
        logprob: Option<TokenLogprob>,
    },
    /// The end; nothing follows.
    Finish {
        /// Why.
        reason: FinishReason,
        /// Token counts; the end token counts.
        usage: Usage,
    },
}

/// An answer in the making: the prompt is read on the first call of `next`, then each call makes
/// one token. Dropping it ends the work.
///
/// It owns its cache and may share one across turns: see [`CausalLm::generate_with`].
pub struct Generation<'m, C: KvCache = ContiguousCache> {
    model: &'m CausalLm,
    cache: C,
    slot: usize,
    prompt: Vec<u32>,
    sampler: Sampler,
    stop_token_ids: Vec<u32>,
    max_new_tokens: usize,
    /// The token that was sampled last and is not in the cache yet.
    last: Option<u32>,
    generated: usize,
    finished: bool,
}

impl CausalLm {
    /// Continues a prompt of token ids.
    ///
    /// # Errors
    /// An empty prompt, one that leaves no room in the context, an id outside of the vocabulary,
    /// parameters out of range, or a checkpoint with a reward head.
    pub fn generate(&self, prompt: &[u32], params: &SamplingParams) -> Result<Generation<'_>> {
        self.generate_with(self.new_cache()?, prompt, params)
    }

    /// Continues a prompt over a cache of which slot 0 may hold a beginning of the prompt, as it
    /// does after an earlier turn; only the rest is computed. The caller vouches that the cached
    /// tokens are the prompt's first ones.
    ///
    /// # Errors
    /// As [`generate`](CausalLm::generate).
    pub fn generate_with<C: KvCache>(
        &self,
        cache: C,
        prompt: &[u32],
        params: &SamplingParams,
    ) -> Result<Generation<'_, C>> {
        let room = self.check_prompt(prompt, self.config().context_length())?;
        let mut stop_token_ids = params.stop_token_ids.clone();
        if !params.ignore_eos {
            stop_token_ids.extend_from_slice(&self.generation_config().eos_token_ids);
        }
        Ok(Generation {
            model: self,
            cache,
            slot: 0,
            prompt: prompt.to_vec(),
            sampler: Sampler::new(params.clone(), prompt)?,
            stop_token_ids,
            max_new_tokens: params.max_new_tokens.map_or(room, |max| max.min(room)),
            last: None,
            generated: 0,
            finished: false,
        })
    }
}

impl<C: KvCache> Generation<'_, C> {
    /// Token counts so far.
    pub fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt.len(),
            completion_tokens: self.generated,
        }
    }

    /// Gives the cache back. It holds the prompt and all tokens that were returned but the last.
    pub fn into_cache(self) -> C {
        self.cache
    }

    /// Adds tokens that end the answer.
    pub fn stop_at(&mut self, ids: &[u32]) {
        self.stop_token_ids.extend_from_slice(ids);
    }

    fn finish(&mut self, reason: FinishReason) -> TokenEvent {
        self.finished = true;
        TokenEvent::Finish {
            reason,
            usage: self.usage(),
        }
    }

    /// Reads what is not in the cache yet, and chooses the next token.
    fn choose_next(&mut self) -> Result<Choice> {
        let prompt_len = self.prompt.len();
        let last = self.last.map(|id| [id]);
        let (ids, mut start) = match &last {
            Some(id) => (&id[..], prompt_len + self.generated - 1),
            None => {
                let cached = self.cache.len(self.slot).min(prompt_len - 1);
                (&self.prompt[cached..], cached)
            }
        };
        let mut pass = |ids: &[u32], wanted| {
            let mut batch = Batch::new();
            batch.push(self.slot, ids, start, prompt_len, wanted)?;
            start += ids.len();
            let mut context = Context::new(&mut self.cache);
            self.model.forward(&batch, &mut context)
        };
        let chunk_size = self.model.prefill_chunk();
        let (before, rest) = ids.split_at((ids.len() - 1) / chunk_size * chunk_size);
        for chunk in before.chunks(chunk_size) {
            pass(chunk, Logits::None)?;
        }
        let logits = pass(rest, Logits::Last)?; // (1, vocab_size)
        with_f32(&logits.to_device(&Device::Cpu)?, |logits| {
            self.sampler.sample(logits)
        })
    }

    fn step(&mut self) -> Result<TokenEvent> {
        if self.generated >= self.max_new_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        let choice = self.choose_next()?;
        self.generated += 1;
        if self.stop_token_ids.contains(&choice.id) {
            return Ok(self.finish(FinishReason::Stop));
        }
        self.last = Some(choice.id);
        Ok(TokenEvent::Token {
            id: choice.id,
            logprob: choice.logprob,
        })
    }
}

impl<C: KvCache> Iterator for Generation<'_, C> {
    type Item = Result<TokenEvent>;

    /// An error ends the answer too.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let event = self.step();
        self.finished |= event.is_err();
        Some(event)
    }
}
