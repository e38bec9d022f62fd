//! What is asked of a model, and what it answered.

use internlm_core::chat_model::Input;
use internlm_core::scorer::{TokenScore, Tokens};
use internlm_core::{Message, SamplingParams};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A row of a data file: its columns by name, in the file's order where the format has one.
pub type Row = Map<String, Value>;

/// One item of a task, ready to be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The row's number in its file's split, from 0.
    pub index: usize,
    /// The row, after the task's own preparation.
    pub row: Row,
    /// What is asked, in an order that the task's rule of judging knows.
    pub requests: Vec<Request>,
    /// The right answer, as the task's metrics want it: an index, a text, a list of texts.
    pub gold: Value,
}

/// One question to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// The log-likelihood of a continuation after a context, by lm-evaluation-harness's rule of the border
    /// ([`ScoreRequest`](internlm_core::scorer::ScoreRequest)).
    Loglikelihood {
        /// What the model has read; may be empty. Special tokens of a chat template are markers in it.
        context: Tokens,
        /// What is scored.
        continuation: String,
    },
    /// The log-likelihood of a whole text in windows (lm-evaluation-harness's `loglikelihood_rolling`).
    Rolling {
        /// The text.
        text: String,
    },
    /// The mean cross entropy of a whole text in nats, as OpenCompass's `PPLInferencer` has it: the tokens from the
    /// second on are scored, their sum is divided by the number of all tokens, and what exceeds the context is cut
    /// from the right.
    Perplexity {
        /// The text, encoded with a BOS token if the tokenizer wants one. Special tokens of a meta template are
        /// markers in it.
        text: Tokens,
        /// Tokens at the front whose loss does not count, with OpenCompass's meaning of `mask_length`: the first
        /// `mask_length - 1` losses are dropped and the divisor is smaller by `mask_length`. None counts all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mask_length: Option<usize>,
    },
    /// A reward model's score of a conversation.
    Reward {
        /// The conversation, with the answer that is scored as its last message.
        messages: Vec<Message>,
    },
    /// A generated text, or several.
    Generate {
        /// The prompt or the conversation.
        input: Input,
        /// Sampling, stop texts and the most new tokens.
        sampling: SamplingParams,
        /// How many answers, drawn independently.
        samples: usize,
        /// Further turns of the user, each said after the model's answer to the one before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        follow_ups: Vec<String>,
    },
}

/// What came back for one [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Response {
    /// For [`Request::Loglikelihood`] and [`Request::Rolling`].
    Scores {
        /// Of each scored token.
        tokens: Vec<TokenScore>,
    },
    /// For [`Request::Perplexity`].
    Perplexity {
        /// Mean cross entropy, nats.
        value: f64,
        /// Tokens of the text.
        tokens: usize,
    },
    /// For [`Request::Reward`].
    Reward {
        /// The score; higher is better.
        value: f64,
    },
    /// For [`Request::Generate`].
    Texts {
        /// One list per answer asked for, with a text per turn (one if there are no follow-ups).
        answers: Vec<Vec<String>>,
    },
    /// The request failed; the item is counted as failed.
    Failed {
        /// Why, in one line.
        error: String,
    },
}

impl Response {
    /// The sum of the scored tokens' log-probabilities in nats and whether each is the most likely one.
    pub fn loglikelihood(&self) -> Option<(f64, bool)> {
        let Response::Scores { tokens } = self else {
            return None;
        };
        let sum = tokens.iter().map(|token| f64::from(token.logprob)).sum();
        Some((sum, tokens.iter().all(|token| token.is_argmax)))
    }
}
