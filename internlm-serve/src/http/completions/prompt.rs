//! The forms that a prompt may have.

use internlm_core::Part;
use internlm_core::chat_model::TokenLogprob;
use serde::Deserialize;

use super::super::error::ApiError;
use super::super::fields::check_token;
use super::super::state::Server;
use super::PROMPT;
use crate::error::Error;

/// A prompt as it comes.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a string, a list of strings, a list of token ids or a list of lists of token ids"
)]
pub(super) enum Source {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    Lists(Vec<Vec<u32>>),
}

/// A prompt that is ready.
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    /// What `echo` shows.
    pub(super) text: String,
    /// Of all tokens but the first, where they were asked for.
    pub(super) logprobs: Vec<TokenLogprob>,
}

/// Tokenizes prompts.
///
/// # Errors
/// None, more than `most`, an empty or an over-long one, or an id outside of the vocabulary.
pub(super) fn read(
    server: &Server,
    source: Source,
    special: bool,
    most: usize,
) -> Result<Vec<Prompt>, ApiError> {
    let of_text = |text: String| -> Result<Prompt, ApiError> {
        let tokenizer = server.engine.tokenizer();
        let parts = match special {
            true => tokenizer.parse_markers(&text),
            false => vec![Part::text(&text)],
        };
        let ids = tokenizer.encode_parts(&parts, tokenizer.adds_bos());
        let ids = ids.map_err(|error| ApiError::of(error.into(), PROMPT))?;
        checked(server, ids, text)
    };
    let of_ids = |ids: Vec<u32>| -> Result<Prompt, ApiError> {
        ids.iter()
            .try_for_each(|&id| check_token(id, PROMPT, server))?;
        // Rows that the tokenizer has no token for say nothing.
        let text = server.engine.tokenizer().decode(&ids, true);
        checked(server, ids, text.unwrap_or_default())
    };
    let prompts: Vec<_> = match source {
        Source::Text(text) => vec![of_text(text)?],
        Source::Ids(ids) => vec![of_ids(ids)?],
        Source::Texts(texts) => {
            few(texts.len(), most)?;
            texts.into_iter().map(of_text).collect::<Result<_, _>>()?
        }
        Source::Lists(lists) => {
            few(lists.len(), most)?;
            lists.into_iter().map(of_ids).collect::<Result<_, _>>()?
        }
    };
    Ok(prompts)
}

fn few(len: usize, most: usize) -> Result<(), ApiError> {
    match (1..=most).contains(&len) {
        true => Ok(()),
        false => {
            let message = format!("`prompt` has {len} prompts, expected 1 to {most}.");
            Err(ApiError::field(PROMPT, message))
        }
    }
}

fn checked(server: &Server, ids: Vec<u32>, text: String) -> Result<Prompt, ApiError> {
    let context_length = server.engine.context_length();
    if ids.is_empty() {
        return Err(ApiError::field(PROMPT, "`prompt` has no tokens."));
    }
    if ids.len() > context_length {
        let error = Error::PromptTooLong {
            prompt_tokens: ids.len(),
            context_length,
        };
        return Err(ApiError::of(error, PROMPT));
    }
    Ok(Prompt {
        ids,
        text,
        logprobs: Vec::new(),
    })
}
