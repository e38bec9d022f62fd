//! Texts and chats as blocks of token ids, for quantization to calibrate on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use internlm_core::{Message, Part};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::template::ChatTemplate;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 30;

/// A small text in English and Chinese, with some code and arithmetic, written for this crate. Better
/// than nothing; a text of the kind that the model will see is better than this.
const BUILTIN: &str = include_str!("calib/builtin.txt");

/// Calibration data: the ids of documents, which are cut into blocks of one length.
///
/// ```no_run
/// use internlm_tokenize::{CalibSet, Chats, Tokenizer};
///
/// let tokenizer = Tokenizer::load("internlm2_5-1_8b-chat")?;
/// let blocks = CalibSet::from_jsonl("calib.jsonl", &tokenizer, Chats::Template)?.blocks(128, 512)?;
/// assert!(blocks.iter().all(|block| block.len() == 512));
/// # Ok::<(), internlm_tokenize::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalibSet {
    /// All documents, one after another.
    ids: Vec<u32>,
}

/// What becomes of chats in calibration data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chats {
    /// They go through the tokenizer's chat template, as the model will see them.
    #[default]
    Template,
    /// Only what was said, a message a line: for models without a template.
    Text,
}

/// A line of a JSONL file.
#[derive(Deserialize)]
struct Line {
    text: Option<String>,
    messages: Option<Vec<Message>>,
}

impl CalibSet {
    /// One text. Special tokens that it spells are text.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn from_text(text: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let ids = tokenizer.encode(text, EncodeOptions::default())?;
        Ok(Self { ids })
    }

    /// The text that comes with this crate.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub fn builtin(tokenizer: &Tokenizer) -> Result<Self> {
        Self::from_text(BUILTIN, tokenizer)
    }

    /// A file: `.jsonl` as [`from_jsonl`](CalibSet::from_jsonl), anything else as one text.
    ///
    /// # Errors
    /// As those.
    pub fn from_file(file: impl AsRef<Path>, tokenizer: &Tokenizer, chats: Chats) -> Result<Self> {
        let file = file.as_ref();
        match file
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("jsonl"))
        {
            true => Self::from_jsonl(file, tokenizer, chats),
            false => Self::from_text(&read(file)?, tokenizer),
        }
    }

    /// A file with an object a line: `{"text"}`, or `{"messages"}` in OpenAI's form. Each begins with BOS
    /// where the tokenizer adds one. Markers in messages are taken as text.
    ///
    /// # Errors
    /// A file that can't be read; a line that is not such an object, by its number; with
    /// [`Chats::Template`] messages that the template refuses, and chats for a tokenizer without one.
    pub fn from_jsonl(file: impl AsRef<Path>, tokenizer: &Tokenizer, chats: Chats) -> Result<Self> {
        let file = file.as_ref();
        let mut template = None;
        let mut ids = Vec::new();
        for (number, line) in read(file)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let fail = |what: String| Error::Json {
                file: file.to_path_buf(),
                field: format!("line {}", number + 1),
                what,
            };
            let parts = match serde_json::from_str(line).map_err(|e| fail(e.to_string()))? {
                Line {
                    text: Some(text),
                    messages: None,
                } => vec![Part::text(text)],
                Line {
                    text: None,
                    messages: Some(messages),
                } if chats == Chats::Text => {
                    let said: Vec<_> = messages.iter().map(Message::text).collect();
                    vec![Part::text(said.join("\n"))]
                }
                Line {
                    text: None,
                    messages: Some(messages),
                } => {
                    let template = match &template {
                        Some(template) => template,
                        None => template.insert(ChatTemplate::for_tokenizer(tokenizer)?),
                    };
                    let messages: Vec<_> =
                        messages.into_iter().map(Message::without_markers).collect();
                    template.render(&messages, &[], false)?
                }
                _ => return Err(fail("expected either `text` or `messages`".to_owned())),
            };
            // A template may write BOS itself.
            let bos = tokenizer.bos_token_id().filter(|_| tokenizer.adds_bos());
            let own = tokenizer.encode_parts(&parts, false)?;
            ids.extend(bos.filter(|&bos| own.first() != Some(&bos)));
            ids.extend(own);
        }
        Ok(Self { ids })
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Up to `samples` blocks of `seq_len` tokens: documents back to back, cut without overlap, the
    /// remainder dropped (as AutoAWQ, `awq/utils/calib_data.py`). Where there are more blocks than
    /// are asked for, they are taken evenly from the whole.
    ///
    /// # Errors
    /// [`Error::CalibTooShort`] where there is no whole block, or none is asked for.
    pub fn blocks(&self, samples: usize, seq_len: usize) -> Result<Vec<Vec<u32>>> {
        let all: Vec<&[u32]> = match seq_len {
            0 => Vec::new(),
            _ => self.ids.chunks_exact(seq_len).collect(),
        };
        let count = samples.min(all.len());
        if count == 0 {
            return Err(Error::CalibTooShort {
                tokens: self.ids.len(),
                seq_len,
            });
        }
        Ok((0..count)
            .map(|i| all[i * all.len() / count].to_vec())
            .collect())
    }
}

fn read(file: &Path) -> Result<String> {
    let io = |source| Error::Io {
        file: PathBuf::from(file),
        source: Arc::new(source),
    };
    let bytes = std::fs::metadata(file).map_err(io)?.len();
    if bytes > MAX_BYTES {
        return Err(Error::TooLarge {
            file: file.to_path_buf(),
            bytes,
            most: MAX_BYTES,
        });
    }
    std::fs::read_to_string(file).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(tokens: u32) -> CalibSet {
        CalibSet {
            ids: (0..tokens).collect(),
        }
    }

    #[test]
    fn blocks_are_whole_and_taken_from_everywhere() -> Result<()> {
        assert_eq!(set(7).blocks(9, 3)?, [[0, 1, 2], [3, 4, 5]]);
        assert_eq!(set(12).blocks(2, 2)?, [[0, 1], [6, 7]]);
        Ok(())
    }

    #[test]
    fn too_little_is_refused() {
        for (tokens, samples, seq_len) in [(0, 1, 4), (3, 1, 4), (9, 0, 4), (9, 1, 0)] {
            let blocks = set(tokens).blocks(samples, seq_len);
            assert!(matches!(blocks, Err(Error::CalibTooShort { .. })));
        }
    }

    #[test]
    fn the_builtin_text_is_bilingual() {
        let chinese = BUILTIN
            .chars()
            .filter(|c| ('\u{4e00}'..'\u{a000}').contains(c));
        assert!(chinese.count() > 400);
        assert!(BUILTIN.is_char_boundary(0) && BUILTIN.len() > 4000);
    }
}
