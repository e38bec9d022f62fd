//! The trait of everything that scores texts.

mod spans;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use spans::{ScoredIds, SpanEncoder};

use crate::error::Result;
use crate::message::{Message, Part, join};
use crate::tool::ToolSpec;

/// A text, token ids, or a text with special tokens in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Tokens {
    /// Encoded by the scorer, special tokens in it not recognised.
    Text(String),
    /// Taken as they are.
    Ids(Vec<u32>),
    /// Encoded by the scorer; markers become special tokens, texts never do. What a chat template makes of a
    /// conversation.
    Parts(Vec<Part>),
}

impl Tokens {
    /// The text with its markers spelled out; token ids as a list of numbers.
    pub fn spelled(&self) -> Cow<'_, str> {
        match self {
            Tokens::Text(text) => text.into(),
            Tokens::Ids(ids) => format!("{ids:?}").into(),
            Tokens::Parts(parts) => join(parts).into(),
        }
    }
}

impl From<&str> for Tokens {
    fn from(text: &str) -> Self {
        Tokens::Text(text.to_owned())
    }
}

impl From<String> for Tokens {
    fn from(text: String) -> Self {
        Tokens::Text(text)
    }
}

impl From<Vec<Part>> for Tokens {
    /// Neighbouring texts become one, and parts without a marker a text.
    fn from(parts: Vec<Part>) -> Self {
        let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
        for part in parts {
            match (joined.last_mut(), part) {
                (Some(Part::Text { text: before }), Part::Text { text }) => before.push_str(&text),
                (_, part) if part.as_str().is_empty() => {}
                (_, part) => joined.push(part),
            }
        }
        match &mut joined[..] {
            [] => Tokens::Text(String::new()),
            [Part::Text { text }] => Tokens::Text(std::mem::take(text)),
            _ => Tokens::Parts(joined),
        }
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(ids: Vec<u32>) -> Self {
        Tokens::Ids(ids)
    }
}

/// A continuation to be scored after a context.
///
/// For two texts, with special tokens or without, the border is lm-evaluation-harness's: white space at the context's end moves to
/// the continuation, both are encoded as one, and the whole is cut at the length of the encoded
/// context. An empty context is replaced by the prefix token (BOS, else EOS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreRequest {
    /// What the model has read.
    pub context: Tokens,
    /// What is scored.
    pub continuation: Tokens,
}

/// The score of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Its log-probability (natural logarithm, softmax in f32).
    pub logprob: f32,
    /// Whether it is the most likely token at its place.
    pub is_argmax: bool,
}

/// Facts about a model that rules of evaluation need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelFacts {
    /// A name for reports.
    pub name: String,
    /// The architecture, as `model_type` spells it.
    pub architecture: String,
    /// Most tokens of prompt and answer together.
    pub context_length: usize,
    /// Size of the vocabulary (columns of the logits).
    pub vocab_size: usize,
    /// The token that stands for "no context": BOS, else EOS.
    pub prefix_token: Option<u32>,
    /// A SHA-256 over the tokenizer's files, in hex.
    pub tokenizer_hash: Option<String>,
    /// A SHA-256 that identifies the weights, in hex.
    pub model_hash: Option<String>,
}

/// Log-likelihoods of given texts.
pub trait Scorer: Send + Sync {
    /// Scores each continuation; one list of tokens per request, in order.
    ///
    /// # Errors
    /// An empty continuation, ids outside of the vocabulary, or a continuation longer than the
    /// context length.
    fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Vec<TokenScore>>>;

    /// Scores every token of each text, the first one after the prefix token; texts longer than
    /// the context are scored in windows as lm-evaluation-harness does (`loglikelihood_rolling`).
    ///
    /// # Errors
    /// Ids outside of the vocabulary, or no prefix token.
    fn score_rolling(&self, texts: &[Tokens]) -> Result<Vec<Vec<TokenScore>>>;

    /// Token ids of a prompt: markers become special tokens, texts never do, whatever they spell. With `add_bos` a BOS
    /// token stands before them where the tokenizer wants one and the first marker is none, as servers and Hugging
    /// Face's `add_special_tokens` have it.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>>;

    /// Token ids of a text; special tokens in it are not recognised.
    ///
    /// # Errors
    /// As [`encode_parts`](Scorer::encode_parts).
    fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        self.encode_parts(&[Part::text(text)], add_bos)
    }

    /// The prompt that the chat template makes of a conversation, with its special tokens as markers.
    ///
    /// # Errors
    /// No template, or one that refuses the messages.
    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>>;

    /// Facts about the model.
    fn facts(&self) -> &ModelFacts;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_joined_and_markers_stay() {
        let parts = |parts: &[Part]| Tokens::from(parts.to_vec());
        assert_eq!(parts(&[]), Tokens::from(""));
        assert_eq!(
            parts(&[Part::text(""), Part::text("a"), Part::text("b")]),
            Tokens::from("ab")
        );
        let got = parts(&[
            Part::text("a"),
            Part::text("b"),
            Part::marker("<s>"),
            Part::text(""),
        ]);
        assert_eq!(
            got,
            Tokens::Parts(vec![Part::text("ab"), Part::marker("<s>")])
        );
        assert_eq!(got.spelled(), "ab<s>");
        assert_eq!(Tokens::from(vec![1, 2]).spelled(), "[1, 2]");
    }

    #[test]
    fn requests_are_texts_or_ids() {
        let request = ScoreRequest {
            context: "a".into(),
            continuation: vec![1, 2].into(),
        };
        let value = json!({"context": "a", "continuation": [1, 2]});
        assert_eq!(serde_json::to_value(&request).unwrap(), value);
        assert_eq!(
            serde_json::from_value::<ScoreRequest>(value).unwrap(),
            request
        );
        assert_eq!(Tokens::from(String::from("a")), Tokens::from("a"));
        let parts = vec![Part::marker("<s>"), Part::text("a")];
        let value = serde_json::to_value(Tokens::from(parts.clone())).unwrap();
        assert_eq!(
            serde_json::from_value::<Tokens>(value).unwrap(),
            Tokens::Parts(parts)
        );
        let negative = json!({"context": "a", "continuation": [-1]});
        assert!(serde_json::from_value::<ScoreRequest>(negative).is_err());
    }
}
