//! From texts to the token ids that are scored, by lm-evaluation-harness's rules.

use std::borrow::Cow;

use super::{ScoreRequest, Tokens};
use crate::error::{Error, Result};
use crate::message::Part;

/// Token ids of which the last ones are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredIds {
    /// All tokens, context first.
    pub ids: Vec<u32>,
    /// How many of the last ones are scored; fewer than all, for the first has no context.
    pub scored: usize,
}

/// What the rules ask of a model.
pub trait SpanEncoder {
    /// What encoding fails with.
    type Error: From<Error>;

    /// Token ids of a text in which markers are special tokens, with a BOS token before it if `begins` and the
    /// tokenizer wants one.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    fn encode(&mut self, parts: &[Part], begins: bool) -> Result<Vec<u32>, Self::Error>;

    /// The token that stands for "no context".
    ///
    /// # Errors
    /// There is none.
    fn prefix_token(&self) -> Result<u32, Self::Error>;

    /// Most tokens of prompt and answer together.
    fn context_length(&self) -> usize;

    /// Most tokens that can be scored at a time, the one before them not counted.
    fn most_scored(&self) -> usize {
        self.context_length()
    }
}

impl ScoredIds {
    /// The border rule of `_encode_pair` and the empty context of `loglikelihood` (lm-evaluation-harness:
    /// `lm_eval/api/model.py`), then the truncation from the left of `_loglikelihood_tokens`
    /// (`lm_eval/models/huggingface.py`).
    ///
    /// # Errors
    /// [`Error::Request`] for a continuation without tokens, [`Error::PromptTooLong`] for one with more than
    /// can be scored, and what the encoder fails with.
    pub fn of<E: SpanEncoder>(encoder: &mut E, request: &ScoreRequest) -> Result<Self, E::Error> {
        let ScoreRequest {
            context,
            continuation,
        } = request;
        let (mut ids, scored) = if context.is_empty() {
            let mut ids = continuation.ids(encoder, false)?;
            let prefix = encoder.prefix_token()?;
            if ids.first() != Some(&prefix) {
                ids.insert(0, prefix);
            }
            let scored = ids.len() - 1;
            (ids, scored)
        } else if let (Some(context), Some(continuation)) = (context.parts(), continuation.parts())
        {
            let whole = encoder.encode(&[&context[..], &continuation].concat(), true)?;
            let context = encoder.encode(&trim_end(context.into_owned()), true)?;
            let scored = whole.len().saturating_sub(context.len());
            (whole, scored)
        } else {
            let mut ids = context.ids(encoder, true)?;
            let continuation = continuation.ids(encoder, false)?;
            ids.extend_from_slice(&continuation);
            (ids, continuation.len())
        };
        if scored == 0 {
            let what = "has no tokens".to_owned();
            let field = "continuation";
            return Err(Error::Request { field, what }.into());
        }
        if scored == ids.len() {
            // A context of white space only: all of it went to the continuation.
            ids.insert(0, encoder.prefix_token()?);
        }
        let most = encoder.most_scored();
        if scored > most {
            return Err(Error::PromptTooLong {
                prompt_tokens: scored,
                context_length: encoder.context_length(),
            }
            .into());
        }
        let excess = ids.len().saturating_sub(most.saturating_add(1));
        ids.drain(..excess);
        Ok(Self { ids, scored })
    }

    /// The windows in which every token of a text is scored once: the first one after the prefix token, the
    /// last one moved back so that it is full (`get_rolling_token_windows` with a context of one,
    /// lm-evaluation-harness: `lm_eval/utils.py`).
    ///
    /// # Errors
    /// [`Error::Request`] where the context leaves no room, and what the encoder fails with.
    pub fn rolling<E: SpanEncoder>(encoder: &mut E, text: &Tokens) -> Result<Vec<Self>, E::Error> {
        let prefix = encoder.prefix_token()?;
        let most = encoder.most_scored();
        if most == 0 {
            let what = "leaves no room for a token that is scored".to_owned();
            let field = "context_length";
            return Err(Error::Request { field, what }.into());
        }
        Ok(windows(&text.ids(encoder, false)?, prefix, most))
    }
}

impl Tokens {
    fn is_empty(&self) -> bool {
        match self {
            Tokens::Text(text) => text.is_empty(),
            Tokens::Ids(ids) => ids.is_empty(),
            Tokens::Parts(parts) => parts.iter().all(|part| part.as_str().is_empty()),
        }
    }

    /// None for token ids.
    fn parts(&self) -> Option<Cow<'_, [Part]>> {
        match self {
            Tokens::Text(text) => Some(vec![Part::text(text)].into()),
            Tokens::Ids(_) => None,
            Tokens::Parts(parts) => Some(parts.into()),
        }
    }

    fn ids<E: SpanEncoder>(&self, encoder: &mut E, begins: bool) -> Result<Vec<u32>, E::Error> {
        match (self, self.parts()) {
            (Tokens::Ids(ids), _) => Ok(ids.clone()),
            (_, parts) => encoder.encode(&parts.unwrap_or_default(), begins),
        }
    }
}

/// Takes white space off the end, which is none where a marker stands there.
fn trim_end(mut parts: Vec<Part>) -> Vec<Part> {
    while let Some(Part::Text { text }) = parts.last_mut() {
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            break;
        }
        parts.pop();
    }
    parts
}

fn windows(ids: &[u32], prefix: u32, most: usize) -> Vec<ScoredIds> {
    let first = ids.len().min(most);
    if first == 0 {
        return Vec::new();
    }
    let mut window = vec![prefix];
    window.extend_from_slice(&ids[..first]);
    let mut windows = vec![ScoredIds {
        ids: window,
        scored: first,
    }];
    let mut end = first;
    while end < ids.len() {
        let scored = (ids.len() - end).min(most);
        end += scored;
        windows.push(ScoredIds {
            ids: ids[end - most - 1..end].to_vec(),
            scored,
        });
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each byte of text, 300 for each marker, 256 at the beginning.
    struct Bytes;

    impl SpanEncoder for Bytes {
        type Error = Error;

        fn encode(&mut self, parts: &[Part], begins: bool) -> Result<Vec<u32>> {
            let mut ids = if begins { vec![256] } else { Vec::new() };
            for part in parts {
                match part {
                    Part::Text { text } => ids.extend(text.bytes().map(u32::from)),
                    Part::Marker { .. } => ids.push(300),
                }
            }
            Ok(ids)
        }

        fn prefix_token(&self) -> Result<u32> {
            Ok(256)
        }

        fn context_length(&self) -> usize {
            64
        }
    }

    #[test]
    fn markers_are_tokens_and_white_space_before_the_border_is_scored() {
        let context = vec![Part::marker("<u>"), Part::text("<u> \n")];
        let of = |context: Vec<Part>, continuation: &str| {
            let request = ScoreRequest {
                context: context.into(),
                continuation: continuation.into(),
            };
            let got = ScoredIds::of(&mut Bytes, &request).unwrap();
            (got.ids, got.scored)
        };
        let want = vec![256, 300, 60, 117, 62, 32, 10, 97];
        assert_eq!(of(context, "a"), (want, 3));
        let marker_last = vec![Part::text("b "), Part::marker("<u>"), Part::text("\n")];
        assert_eq!(of(marker_last, "a"), (vec![256, 98, 32, 300, 10, 97], 2));
        // Nothing but white space: the prefix token is what stands before.
        assert_eq!(
            of(vec![Part::text("\n"), Part::text("")], "a"),
            (vec![256, 10, 97], 2)
        );
    }

    #[test]
    fn rolling_windows_score_each_token_once() {
        let ids: Vec<u32> = (1..=10).collect();
        let parts = |ids: &[u32], most| -> Vec<_> {
            let windows = windows(ids, 0, most);
            windows.into_iter().map(|w| (w.ids, w.scored)).collect()
        };
        let got = parts(&ids, 4);
        assert_eq!(got[0], (vec![0, 1, 2, 3, 4], 4));
        assert_eq!(got[1], (vec![4, 5, 6, 7, 8], 4));
        assert_eq!(got[2], (vec![6, 7, 8, 9, 10], 2));
        assert_eq!(got.len(), 3);
        assert_eq!(parts(&ids[..3], 4), [(vec![0, 1, 2, 3], 3)]);
        assert!(parts(&[], 4).is_empty());
    }
}
