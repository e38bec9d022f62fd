//! Log-likelihoods of texts, by lm-evaluation-harness's rules.

use internlm_core::scorer::{ModelFacts, ScoreRequest, TokenScore, Tokens};
use internlm_core::{Message, Scorer, ToolSpec, message};
use internlm_tokenize::{EncodeOptions, Tokenizer};

use super::{TextModel, to_core};
use crate::causal_lm::CausalLm;
use crate::error::{Error, Result};
use crate::score::ScoreSpan;

pub(super) fn facts(model: &CausalLm, tokenizer: &Tokenizer) -> ModelFacts {
    let config = model.config();
    let mut facts = ModelFacts::default();
    facts.name = model.name().to_owned();
    facts.architecture = config.architecture.as_str().to_owned();
    facts.context_length = config.max_position_embeddings;
    facts.vocab_size = config.vocab_size;
    facts.prefix_token = tokenizer.bos_token_id().or(tokenizer.eos_token_id());
    facts.tokenizer_hash = Some(tokenizer.hash().to_owned());
    facts
}

/// Token ids of which the last ones are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredIds {
    /// All tokens, context first.
    pub ids: Vec<u32>,
    /// How many of the last ones are scored.
    pub scored: usize,
}

impl ScoredIds {
    /// As [`CausalLm::score`] takes it.
    pub fn span(&self) -> ScoreSpan<'_> {
        ScoreSpan {
            ids: &self.ids,
            scored: self.scored,
        }
    }
}

impl TextModel {
    fn ids(&self, tokens: &Tokens) -> Result<Vec<u32>> {
        match tokens {
            Tokens::Text(text) => self.encode_text(text, self.tokenizer.adds_bos()),
            Tokens::Ids(ids) => Ok(ids.clone()),
        }
    }

    fn encode_text(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        let options = EncodeOptions {
            add_bos,
            ..EncodeOptions::default()
        };
        Ok(self.tokenizer.encode(text, options)?)
    }

    fn prefix(&self) -> Result<u32> {
        self.facts.prefix_token.ok_or_else(|| Error::Batch {
            what: "the tokenizer has neither a BOS nor an EOS token to stand for no context"
                .to_owned(),
        })
    }

    /// Token ids of a request, and how many of the last ones are scored.
    ///
    /// The border rule of `_encode_pair` and the empty context of `loglikelihood`
    /// (lm-evaluation-harness: `lm_eval/api/model.py`), then the truncation from the left of
    /// `_loglikelihood_tokens` (`lm_eval/models/huggingface.py`).
    ///
    /// # Errors
    /// An empty continuation, or one longer than the context; no token to stand for an empty context.
    pub fn scored_ids(&self, request: &ScoreRequest) -> Result<ScoredIds> {
        let empty = |tokens: &Tokens| match tokens {
            Tokens::Text(text) => text.is_empty(),
            Tokens::Ids(ids) => ids.is_empty(),
        };
        let (mut ids, scored) = if empty(&request.context) {
            let mut ids = match &request.continuation {
                Tokens::Text(text) => self.encode_text(text, false)?,
                Tokens::Ids(ids) => ids.clone(),
            };
            let prefix = self.prefix()?;
            if ids.first() != Some(&prefix) {
                ids.insert(0, prefix);
            }
            let scored = ids.len() - 1;
            (ids, scored)
        } else if let (Tokens::Text(context), Tokens::Text(continuation)) =
            (&request.context, &request.continuation)
        {
            let kept = context.trim_end();
            let whole = self.ids(&Tokens::Text(format!("{context}{continuation}")))?;
            let context = self.ids(&Tokens::Text(kept.to_owned()))?;
            let scored = whole.len().saturating_sub(context.len());
            (whole, scored)
        } else {
            let mut ids = self.ids(&request.context)?;
            let continuation = match &request.continuation {
                Tokens::Text(text) => self.encode_text(text, false)?,
                Tokens::Ids(ids) => ids.clone(),
            };
            ids.extend_from_slice(&continuation);
            (ids, continuation.len())
        };
        if scored == 0 {
            return Err(Error::Batch {
                what: "the continuation has no tokens".to_owned(),
            });
        }
        if scored == ids.len() {
            // A context of white space only: all of it went to the continuation.
            let prefix = self.prefix()?;
            ids.insert(0, prefix);
        }
        let context_length = self.facts.context_length;
        if scored > context_length {
            return Err(Error::PromptTooLong {
                prompt_tokens: scored,
                context_length,
            });
        }
        let excess = ids.len().saturating_sub(context_length + 1);
        ids.drain(..excess);
        Ok(ScoredIds { ids, scored })
    }

    /// The windows in which every token of a text is scored.
    ///
    /// # Errors
    /// A text that the tokenizer refuses; no token to stand for an empty context.
    pub fn rolling_ids(&self, text: &Tokens) -> Result<Vec<ScoredIds>> {
        let ids = match text {
            Tokens::Text(text) => self.encode_text(text, false)?,
            Tokens::Ids(ids) => ids.clone(),
        };
        let windows = rolling_windows(&ids, self.prefix()?, self.facts.context_length);
        Ok(windows
            .into_iter()
            .map(|(ids, scored)| ScoredIds { ids, scored })
            .collect())
    }

    fn score_spans(&self, spans: &[ScoredIds]) -> Result<Vec<Vec<TokenScore>>> {
        let spans: Vec<_> = spans.iter().map(ScoredIds::span).collect();
        self.model.score(&spans)
    }
}

/// Windows over a text's tokens: each token is scored once, the first window after the prefix
/// token, the last one re-anchored so that it is full (`get_rolling_token_windows` with a context
/// of one, lm-evaluation-harness: `lm_eval/utils.py`).
fn rolling_windows(ids: &[u32], prefix: u32, max_length: usize) -> Vec<(Vec<u32>, usize)> {
    let first = ids.len().min(max_length);
    if first == 0 {
        return Vec::new();
    }
    let mut window = vec![prefix];
    window.extend_from_slice(&ids[..first]);
    let mut windows = vec![(window, first)];
    let mut scored = first;
    while scored < ids.len() {
        let new = (ids.len() - scored).min(max_length);
        let end = scored + new;
        windows.push((ids[end - max_length - 1..end].to_vec(), new));
        scored = end;
    }
    windows
}

impl Scorer for TextModel {
    fn score(&self, requests: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let spans: Result<Vec<_>> = requests.iter().map(|r| self.scored_ids(r)).collect();
        spans
            .and_then(|spans| self.score_spans(&spans))
            .map_err(|e| to_core("scoring", e))
    }

    fn score_rolling(&self, texts: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        let run = || {
            let mut scores = Vec::new();
            for text in texts {
                let windows = self.rolling_ids(text)?;
                scores.push(self.score_spans(&windows)?.concat());
            }
            Ok(scores)
        };
        run().map_err(|e| to_core("scoring", e))
    }

    fn encode(&self, text: &str, add_bos: bool) -> internlm_core::Result<Vec<u32>> {
        self.encode_text(text, add_bos)
            .map_err(|e| to_core("encoding", e))
    }

    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> internlm_core::Result<String> {
        self.render(messages, tools, add_generation_prompt)
            .map(|parts| message::join(&parts))
            .map_err(|e| to_core("rendering a conversation", e))
    }

    fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolling_windows_score_each_token_once() {
        let ids: Vec<u32> = (1..=10).collect();
        let windows = rolling_windows(&ids, 0, 4);
        assert_eq!(windows[0], (vec![0, 1, 2, 3, 4], 4));
        assert_eq!(windows[1], (vec![4, 5, 6, 7, 8], 4));
        assert_eq!(windows[2], (vec![6, 7, 8, 9, 10], 2));
        assert_eq!(windows.len(), 3);
        assert_eq!(rolling_windows(&ids[..3], 0, 4), [(vec![0, 1, 2, 3], 3)]);
        assert!(rolling_windows(&[], 0, 4).is_empty());
    }
}
