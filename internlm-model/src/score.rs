//! Log-likelihoods of given tokens.

use std::collections::BTreeMap;

use internlm_core::scorer::{ScoredIds, TokenScore};

use crate::batch::{Batch, Logits};
use crate::causal_lm::CausalLm;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kv_cache::{KvCache, NoCache};
use crate::sampler::{argmax, log_sum_exp};

/// Tokens of one forward pass when short sequences are scored together.
const TOKENS_PER_PASS: usize = 512;
/// Rows of logits that exist at a time.
const ROWS_PER_HEAD: usize = 64;

/// A sequence of which the last tokens are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScoreSpan<'a> {
    /// All tokens, context first.
    pub ids: &'a [u32],
    /// How many of the last ones are scored; fewer than all, for the first has no context.
    pub scored: usize,
}

impl<'a> From<&'a ScoredIds> for ScoreSpan<'a> {
    fn from(ids: &'a ScoredIds) -> Self {
        Self {
            ids: &ids.ids,
            scored: ids.scored,
        }
    }
}

impl CausalLm {
    /// Scores the last tokens of each sequence, softmax in f32.
    ///
    /// A context that several sequences share is computed once; the others share passes. The
    /// scores are the same either way.
    ///
    /// # Errors
    /// A span without scored tokens or without context, ids outside of the vocabulary, logits that
    /// are not finite, or a reward head.
    pub fn score(&self, spans: &[ScoreSpan<'_>]) -> Result<Vec<Vec<TokenScore>>> {
        self.expect_head("language model")?;
        for span in spans {
            self.check_ids(span.ids)?;
            if span.scored == 0 || span.scored >= span.ids.len() {
                return Err(Error::Batch {
                    what: format!(
                        "{} of {} tokens are to be scored; at least one must be, and one must not",
                        span.scored,
                        span.ids.len()
                    ),
                });
            }
        }
        let mut groups: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (i, span) in spans.iter().enumerate() {
            groups
                .entry(&span.ids[..span.ids.len() - span.scored])
                .or_default()
                .push(i);
        }
        let mut scores = vec![Vec::new(); spans.len()];
        let mut alone = Vec::new();
        for (context, members) in groups {
            // Under dynamic NTK a longer sequence rotates its context with another base.
            let limit = self.config().max_position_embeddings;
            let shared = members.len() > 1
                && context.len() > 1
                && members.iter().all(|&i| spans[i].ids.len() <= limit);
            if shared {
                self.score_shared(context, &members, spans, &mut scores)?;
            } else {
                alone.extend(members);
            }
        }
        self.score_alone(&alone, spans, &mut scores)?;
        Ok(scores)
    }

    /// Sequences after one context, which is computed once.
    fn score_shared(
        &self,
        context: &[u32],
        members: &[usize],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let mut cache = self.new_cache()?;
        let prefix = context.len() - 1;
        let mut start = 0;
        for chunk in context[..prefix].chunks(self.prefill_chunk()) {
            let mut batch = Batch::new();
            batch.push(0, chunk, start, prefix, Logits::None)?;
            self.hidden_states(&batch, &mut Context::new(&mut cache))?;
            start += chunk.len();
        }
        for &i in members {
            let ids = spans[i].ids;
            let mut batch = Batch::new();
            batch.push(
                0,
                &ids[prefix..ids.len() - 1],
                prefix,
                ids.len() - 1,
                Logits::All,
            )?;
            self.score_batch(&batch, &mut cache, &[i], spans, scores)?;
        }
        Ok(())
    }

    /// Whole sequences, as many a pass as fit.
    fn score_alone(
        &self,
        members: &[usize],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let mut rest = members;
        while let Some(first) = rest.first() {
            let mut tokens = spans[*first].ids.len();
            let mut count = 1;
            while let Some(&next) = rest.get(count) {
                tokens += spans[next].ids.len();
                if tokens > TOKENS_PER_PASS {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let mut batch = Batch::new();
            for (slot, &i) in now.iter().enumerate() {
                let input = &spans[i].ids[..spans[i].ids.len() - 1];
                batch.push(
                    slot,
                    input,
                    0,
                    input.len(),
                    Logits::LastRows(spans[i].scored),
                )?;
            }
            self.score_batch(&batch, &mut NoCache, now, spans, scores)?;
            rest = later;
        }
        Ok(())
    }

    /// Runs a batch whose logit rows are those of the scored tokens of `members`, in order.
    fn score_batch(
        &self,
        batch: &Batch,
        cache: &mut dyn KvCache,
        members: &[usize],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let hidden = self.hidden_states(batch, &mut Context::new(cache))?;
        let mut targets = members.iter().flat_map(|&i| {
            let ids = spans[i].ids;
            ids[ids.len() - spans[i].scored..]
                .iter()
                .map(move |&id| (i, id))
        });
        let rows = hidden.dim(0)?;
        for start in (0..rows).step_by(ROWS_PER_HEAD) {
            let hidden = hidden.narrow(0, start, ROWS_PER_HEAD.min(rows - start))?;
            let logits = self.logits(&hidden)?;
            for row in logits.to_vec2::<f32>()? {
                let count = row.iter().filter(|x| !x.is_finite()).count();
                if count > 0 {
                    return Err(Error::NonFiniteLogits { count });
                }
                if let Some((i, id)) = targets.next() {
                    scores[i].push(TokenScore {
                        id,
                        logprob: row[id as usize] - log_sum_exp(&row),
                        is_argmax: argmax(&row) == id,
                    });
                }
            }
        }
        Ok(())
    }
}
