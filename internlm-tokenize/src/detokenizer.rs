//! From ids back to text, all at once or token by token.

use std::fmt;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::vocabulary::{FirstSpace, Invalid, Output};

/// Decodes a growing sequence of ids into pieces of text.
///
/// A piece never ends inside of a character: bytes that may still become one are held back. The
/// pieces and the last [`flush`](Detokenizer::flush) join to exactly what
/// [`Tokenizer::decode`] makes of all ids. It owns a clone of its tokenizer, which is cheap.
///
/// Tokenizers whose `tokenizer.json` asks for a decoder other than byte-level, SentencePiece-like
/// or Metaspace decode the whole sequence at each token. What such a decoder takes back of text
/// that was handed out already can't be followed.
#[derive(Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    skip_special_tokens: bool,
    state: State,
}

#[derive(Clone)]
enum State {
    Table(Stream),
    /// All ids so far, and bytes of text handed out.
    Whole {
        ids: Vec<u32>,
        emitted: String,
    },
}

/// The state of decoding by a table of outputs.
#[derive(Clone, Debug)]
struct Stream {
    invalid: Invalid,
    first_space: FirstSpace,
    joins_over_skipped: bool,
    /// The beginning of a character that may still be completed: at most three bytes.
    held: Vec<u8>,
}

impl fmt::Debug for Detokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detokenizer")
            .field("skip_special_tokens", &self.skip_special_tokens)
            .finish_non_exhaustive()
    }
}

impl Detokenizer {
    pub(crate) fn new(tokenizer: Tokenizer, skip_special_tokens: bool) -> Self {
        let state = match tokenizer.outputs() {
            Some(table) => State::Table(Stream {
                invalid: table.invalid,
                first_space: table.first_space,
                joins_over_skipped: table.joins_over_skipped,
                held: Vec::new(),
            }),
            None => State::Whole {
                ids: Vec::new(),
                emitted: String::new(),
            },
        };
        Self {
            tokenizer,
            skip_special_tokens,
            state,
        }
    }

    /// Takes one token and returns the text that has become certain; it may be empty.
    ///
    /// # Errors
    /// [`Error::UnknownId`]; the state does not change then.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let mut text = String::new();
        self.push_to(id, &mut text)?;
        Ok(text)
    }

    pub(crate) fn push_to(&mut self, id: u32, out: &mut String) -> Result<()> {
        self.tokenizer.check_id(id)?;
        match &mut self.state {
            State::Table(stream) => {
                if !self.tokenizer.has_token(id) {
                    return Ok(());
                }
                if self.skip_special_tokens && self.tokenizer.is_special(id) {
                    if !stream.joins_over_skipped {
                        stream.end_run(out);
                    }
                    return Ok(());
                }
                let output = self
                    .tokenizer
                    .outputs()
                    .and_then(|table| table.get(id))
                    .ok_or(Error::UnknownId {
                        id,
                        vocab_size: self.tokenizer.vocab_size(),
                    })?;
                stream.push(output, out);
            }
            State::Whole { ids, emitted } => {
                ids.push(id);
                let text = self.tokenizer.decode_whole(ids, self.skip_special_tokens)?;
                // An unfinished character shows as U+FFFD at the end.
                let certain = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
                if let Some(new) = certain.strip_prefix(emitted.as_str()) {
                    out.push_str(new);
                    emitted.push_str(new);
                }
            }
        }
        Ok(())
    }

    /// Ends the sequence: returns what was held back, a U+FFFD for each byte that is no character
    /// now. The detokenizer is then as new.
    pub fn flush(&mut self) -> String {
        let mut out = String::new();
        match &mut self.state {
            State::Table(stream) => stream.end_run(&mut out),
            State::Whole { ids, emitted } => {
                // The same ids were decoded at the last push.
                let text = self.tokenizer.decode_whole(ids, self.skip_special_tokens);
                if let Some(rest) = text.unwrap_or_default().strip_prefix(emitted.as_str()) {
                    out.push_str(rest);
                }
            }
        }
        *self = Self::new(self.tokenizer.clone(), self.skip_special_tokens);
        out
    }
}

impl Stream {
    fn push(&mut self, output: Output<'_>, out: &mut String) {
        let first_space = std::mem::replace(&mut self.first_space, FirstSpace::Keep);
        match output {
            Output::Text(text) => {
                self.end_run(out);
                out.push_str(&first_space.of(text));
            }
            Output::Bytes(bytes) => {
                self.held.extend_from_slice(bytes);
                self.settle(out);
            }
        }
    }

    /// Hands out the characters that are complete and the bytes that can't become one.
    fn settle(&mut self, out: &mut String) {
        let mut at = 0;
        loop {
            let rest = &self.held[at..];
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    at = self.held.len();
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    out.push_str(&String::from_utf8_lossy(valid));
                    at += valid.len();
                    let Some(broken) = error.error_len() else {
                        break; // incomplete, not broken
                    };
                    let broken = broken.min(after.len());
                    self.replace(broken, out);
                    at += broken;
                }
            }
        }
        self.held.drain(..at);
    }

    /// Bytes that were held back are no character.
    fn end_run(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            self.replace(self.held.len(), out);
            self.held.clear();
        }
    }

    fn replace(&self, bytes: usize, out: &mut String) {
        let signs = match self.invalid {
            Invalid::PerByte => bytes,
            Invalid::PerSubpart => 1,
        };
        out.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, signs));
    }
}
