//! Log-probabilities of the tokens of a prompt.

use internlm_core::chat_model::TokenLogprob;
use internlm_model::batch::Logits;
use internlm_model::sampler::token_logprob;
use internlm_model::{Batch, CausalLm, Context, ContiguousCache};

use crate::error::Result;

/// Tokens that are read before others get their turn, and rows of logits that exist at a time.
pub(crate) const ROWS: usize = 64;

/// A prompt that is being read.
pub(crate) struct Reading {
    ids: Vec<u32>,
    top: usize,
    cache: ContiguousCache,
    scores: Vec<TokenLogprob>,
}

impl Reading {
    pub(crate) fn new(model: &CausalLm, ids: Vec<u32>, top: usize) -> Result<Self> {
        Ok(Self {
            scores: Vec::with_capacity(ids.len().saturating_sub(1)),
            cache: model.new_cache()?,
            ids,
            top,
        })
    }

    /// Whether all is read that predicts: the last token predicts what is no part of the prompt.
    pub(crate) fn is_done(&self) -> bool {
        self.scores.len() + 1 >= self.ids.len()
    }

    /// The log-probability of each token but the first, with those of the most likely tokens at its place.
    pub(crate) fn into_scores(self) -> Vec<TokenLogprob> {
        self.scores
    }

    /// Reads some more.
    ///
    /// # Errors
    /// An id outside of the vocabulary, a failed pass.
    pub(crate) fn read(&mut self, model: &CausalLm) -> Result<()> {
        let start = self.scores.len();
        let rest = &self.ids[start..];
        let rows = ROWS.min(rest.len().saturating_sub(1));
        let mut batch = Batch::new();
        batch.push(0, &rest[..rows], start, self.ids.len(), Logits::All)?;
        let logits = model.forward(&batch, &mut Context::new(&mut self.cache))?;
        let logits = logits
            .to_vec2::<f32>()
            .map_err(internlm_model::Error::from)?;
        for (row, &id) in logits.iter().zip(&rest[1..]) {
            self.scores.push(token_logprob(row, id, self.top));
        }
        Ok(())
    }
}
