//! Log-likelihoods of given tokens.

mod tree;

use std::sync::OnceLock;

use internlm_core::scorer::{ScoredIds, TokenScore};

use crate::batch::{Batch, Logits};
use crate::causal_lm::CausalLm;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::kv_cache::{Branches, ContiguousCache, KvCache};
use crate::sampler::{argmax, log_sum_exp};
use tree::{PASS_ROWS, TOKENS_PER_PASS, Tree, WORTH};

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

/// Spans that ask for the same tokens but the last one, which is not read.
struct Input<'a> {
    ids: &'a [u32],
    /// Rows of logits at the end, enough for each member.
    rows: usize,
    /// Places in the list of spans.
    members: Vec<usize>,
}

impl<'a> Input<'a> {
    /// Where the rows of logits begin.
    fn first_row(&self) -> usize {
        self.ids.len() - self.rows
    }

    /// The spans by what is read for them, sorted, so that neighbours have the longest beginnings in common.
    fn sorted(spans: &[ScoreSpan<'a>]) -> Vec<Self> {
        let read = |i: usize| &spans[i].ids[..spans[i].ids.len() - 1];
        let mut order: Vec<usize> = (0..spans.len()).collect();
        order.sort_by(|&a, &b| read(a).cmp(read(b)));
        let inputs = order.chunk_by(|&a, &b| read(a) == read(b));
        let input = |members: &[usize]| Input {
            ids: read(members[0]),
            rows: members.iter().map(|&i| spans[i].scored).max().unwrap_or(1),
            members: members.to_vec(),
        };
        inputs.map(input).collect()
    }
}

/// What it takes to compute inputs one after the other, each from where it parts from the one before, in rows.
/// `held` is before the first of them.
fn rows_one_by_one<'a>(mut held: &'a [u32], family: &[Input<'a>]) -> usize {
    let rows = family.iter().map(|input| {
        let known = in_common(held, input.ids).min(input.first_row());
        held = input.ids;
        PASS_ROWS + input.ids.len() - known
    });
    rows.sum()
}

/// The same of trees, as many a pass as fit.
fn rows_of_trees(trees: &[Tree<'_>]) -> usize {
    let rows: usize = trees.iter().map(Tree::rows).sum();
    rows + PASS_ROWS * rows / TOKENS_PER_PASS
}

/// What was read last by [`CausalLm::score_after`], for sequences that begin alike.
#[derive(Debug)]
pub struct Scored {
    ids: Vec<u32>,
    cache: ContiguousCache,
}

fn in_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl CausalLm {
    /// Scores the last tokens of each sequence, softmax in f32.
    ///
    /// What sequences begin with in common is computed once, whether it is their context, the examples before it or
    /// all that is read of them; the others share passes. The scores are the same either way.
    ///
    /// # Errors
    /// A span without scored tokens or without context, ids outside of the vocabulary, logits that
    /// are not finite, or a reward head.
    pub fn score(&self, spans: &[ScoreSpan<'_>]) -> Result<Vec<Vec<TokenScore>>> {
        self.score_after(&mut None, spans)
    }

    /// The same in pieces: `last` is what the piece before left, from which the first sequences of this one may
    /// begin. Pieces of a sorted list share most.
    ///
    /// # Errors
    /// As [`score`](CausalLm::score).
    pub fn score_after(
        &self,
        last: &mut Option<Scored>,
        spans: &[ScoreSpan<'_>],
    ) -> Result<Vec<Vec<TokenScore>>> {
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
        let inputs = Input::sorted(spans);
        // Under dynamic NTK a longer sequence rotates its context with another base.
        let limit = self.config().max_position_embeddings;
        let alike = |a: &[u32], b: &[u32]| a.len().max(b.len()) < limit && in_common(a, b) >= WORTH;
        let mut scores = vec![Vec::new(); spans.len()];
        let mut forest = Vec::new();
        for family in inputs.chunk_by(|a, b| alike(a.ids, b.ids)) {
            let before = last.take_if(|last| alike(&last.ids, family[0].ids));
            let held = before.as_ref().map_or(&[][..], |before| &before.ids);
            let trees = Tree::of(family);
            if rows_one_by_one(held, family) < rows_of_trees(&trees) {
                *last = Some(self.score_family(before, family, spans, &mut scores)?);
            } else {
                forest.extend(trees);
                *last = before.or(last.take());
            }
        }
        self.score_forest(&forest, spans, &mut scores)?;
        Ok(scores)
    }

    /// Sorted inputs that begin alike, one after the other in one cache: what the cache holds of the next one stays.
    fn score_family(
        &self,
        before: Option<Scored>,
        inputs: &[Input<'_>],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<Scored> {
        let (first, mut cache) = match before {
            Some(before) => (before.ids, before.cache),
            None => (Vec::new(), self.new_cache()?),
        };
        let mut held = &first[..];
        for input in inputs {
            let ids = input.ids;
            let first_row = input.first_row();
            let mut start = in_common(held, ids).min(first_row);
            while start < first_row {
                let end = first_row.min(start + self.prefill_chunk());
                // The rest of a short one goes with the rows.
                if ids.len() - start <= self.prefill_chunk() {
                    break;
                }
                let mut batch = Batch::new();
                batch.push(0, &ids[start..end], start, ids.len(), Logits::None)?;
                self.hidden_states(&batch, &mut Context::new(&mut cache))?;
                start = end;
            }
            let mut batch = Batch::new();
            let rows = Logits::LastRows(input.rows);
            batch.push(0, &ids[start..], start, ids.len(), rows)?;
            self.score_batch(&batch, &mut cache, &[input], spans, scores)?;
            held = ids;
        }
        Ok(Scored {
            ids: held.to_vec(),
            cache,
        })
    }

    /// Trees, as many a pass as fit.
    fn score_forest(
        &self,
        trees: &[Tree<'_>],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let mut rest = trees;
        while let Some(first) = rest.first() {
            let mut rows = first.rows();
            let mut count = 1;
            while let Some(next) = rest.get(count) {
                rows += next.rows();
                if rows > TOKENS_PER_PASS {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let (mut batch, mut parents, mut inputs) = (Batch::new(), Vec::new(), Vec::new());
            for tree in now {
                let first = parents.len();
                for branch in &tree.branches {
                    let logits = match branch.input {
                        Some(input) => Logits::LastRows(input.rows),
                        None => Logits::None,
                    };
                    let (ids, start) = (branch.ids, branch.start);
                    batch.push(parents.len(), &ids[start..], start, ids.len(), logits)?;
                    parents.push(branch.parent.map(|parent| first + parent));
                    inputs.extend(branch.input);
                }
            }
            self.score_batch(&batch, &mut Branches::new(parents), &inputs, spans, scores)?;
            rest = later;
        }
        Ok(())
    }

    /// Runs a batch whose logit rows are the last ones of `inputs`, in order.
    fn score_batch(
        &self,
        batch: &Batch,
        cache: &mut dyn KvCache,
        inputs: &[&Input<'_>],
        spans: &[ScoreSpan<'_>],
        scores: &mut [Vec<TokenScore>],
    ) -> Result<()> {
        let hidden = self.hidden_states(batch, &mut Context::new(cache))?;
        // Of each row: its input, and how many rows of the input come after it.
        let mut places = inputs
            .iter()
            .flat_map(|input| (0..input.rows).rev().map(move |after| (input, after)));
        let rows = hidden.dim(0)?;
        for start in (0..rows).step_by(ROWS_PER_HEAD) {
            let hidden = hidden.narrow(0, start, ROWS_PER_HEAD.min(rows - start))?;
            let logits = self.logits(&hidden)?.to_vec2::<f32>()?;
            // A row has as many values as there are tokens: the sums take a good part of the time.
            let norms: Vec<OnceLock<(usize, f32, u32)>> = vec![OnceLock::new(); logits.len()];
            self.compute().run(logits.len(), |place| {
                let row = &logits[place];
                norms[place].get_or_init(|| {
                    let count = row.iter().filter(|x| !x.is_finite()).count();
                    (count, log_sum_exp(row), argmax(row))
                });
            });
            let norms = norms.into_iter().filter_map(OnceLock::into_inner);
            for ((row, norm), (input, after)) in logits.iter().zip(norms).zip(&mut places) {
                let (count, sum, best) = norm;
                if count > 0 {
                    return Err(Error::NonFiniteLogits { count });
                }
                for &i in &input.members {
                    if after < spans[i].scored {
                        let id = spans[i].ids[spans[i].ids.len() - 1 - after];
                        scores[i].push(TokenScore {
                            id,
                            logprob: row[id as usize] - sum,
                            is_argmax: best == id,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}
