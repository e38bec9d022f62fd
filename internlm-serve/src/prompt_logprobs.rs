//! Log-probabilities of the tokens of a prompt.

use internlm_core::chat_model::TokenLogprob;
use internlm_model::batch::Logits;
use internlm_model::sampler::token_logprob;
use internlm_model::{Batch, CausalLm, Context};

use crate::error::Result;

/// Rows of logits that exist at a time.
const ROWS: usize = 64;

/// The log-probability of each token but the first, with those of the `top` most likely tokens at its place.
///
/// # Errors
/// An id outside of the vocabulary, a failed pass.
pub(crate) fn score(model: &CausalLm, ids: &[u32], top: usize) -> Result<Vec<TokenLogprob>> {
    let mut cache = model.new_cache()?;
    let mut scores = Vec::with_capacity(ids.len().saturating_sub(1));
    // The last token predicts what is no part of the prompt.
    let read = ids.len().saturating_sub(1);
    let mut start = 0;
    for chunk in ids[..read].chunks(ROWS) {
        let mut batch = Batch::new();
        batch.push(0, chunk, start, ids.len(), Logits::All)?;
        let logits = model.forward(&batch, &mut Context::new(&mut cache))?;
        let rows = logits
            .to_vec2::<f32>()
            .map_err(internlm_model::Error::from)?;
        for (row, &id) in rows.iter().zip(&ids[start + 1..]) {
            scores.push(token_logprob(row, id, top));
        }
        start += chunk.len();
    }
    Ok(scores)
}
