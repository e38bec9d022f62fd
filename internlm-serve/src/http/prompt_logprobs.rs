//! Log-probabilities of the tokens of a prompt, for `echo`.

use internlm_core::chat_model::TokenLogprob;
use internlm_model::batch::Logits;
use internlm_model::{Batch, CausalLm, Context};

use crate::error::Result;

/// Rows of logits that exist at a time.
const ROWS: usize = 64;

/// The log-probability of each token but the first, with those of the `top` most likely tokens at its place.
///
/// # Errors
/// An id outside of the vocabulary, a failed pass.
pub(super) fn score(model: &CausalLm, ids: &[u32], top: usize) -> Result<Vec<TokenLogprob>> {
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
            scores.push(of_row(row, id, top));
        }
        start += chunk.len();
    }
    Ok(scores)
}

fn of_row(logits: &[f32], id: u32, top: usize) -> TokenLogprob {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let total = largest + sum.ln();
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    let value = |id: u32| {
        logits
            .get(id as usize)
            .copied()
            .unwrap_or(f32::NEG_INFINITY)
    };
    let falling = |a: &u32, b: &u32| value(*b).total_cmp(&value(*a)).then(a.cmp(b));
    if top > 0 && top < order.len() {
        order.select_nth_unstable_by(top - 1, falling);
    }
    order.truncate(top);
    order.sort_by(falling);
    TokenLogprob {
        id,
        logprob: value(id) - total,
        top: order
            .into_iter()
            .map(|id| (id, value(id) - total))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_distribution() {
        let logits = [0.0, 1.0, 3.0, 1.0];
        let scored = of_row(&logits, 3, 3);
        let top: Vec<_> = scored.top.iter().map(|&(id, _)| id).collect();
        assert_eq!(top, [2, 1, 3]);
        assert_eq!(scored.logprob, scored.top[2].1);
        let all = of_row(&logits, 0, 4);
        let sum: f32 = all.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert!(of_row(&logits, 0, 0).top.is_empty());
    }
}
