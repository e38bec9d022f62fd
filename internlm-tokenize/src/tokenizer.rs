//! The tokenizer that users hold.

use std::path::Path;
use std::sync::Arc;

use internlm_core::Part;

use crate::error::{Error, Result};

/// How to encode a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the BOS token first.
    pub add_bos: bool,
    /// Recognise special tokens that the text spells. Off for whatever a person typed.
    pub special: bool,
}

/// A tokenizer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer(Arc<()>);

impl Tokenizer {
    /// Loads.
    ///
    /// # Errors
    /// Always, for now.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Err(Error::NoTokenizer {
            path: path.as_ref().to_path_buf(),
            expected: "",
        })
    }

    /// The id of a token.
    pub fn token_to_id(&self, _token: &str) -> Option<u32> {
        None
    }

    /// The spelling of a token.
    pub fn id_to_token(&self, _id: u32) -> Option<String> {
        None
    }

    /// BOS.
    pub fn bos_token_id(&self) -> Option<u32> {
        None
    }

    /// EOS.
    pub fn eos_token_id(&self) -> Option<u32> {
        None
    }

    /// Padding.
    pub fn pad_token_id(&self) -> Option<u32> {
        None
    }

    /// Unknown.
    pub fn unk_token_id(&self) -> Option<u32> {
        None
    }

    /// Special tokens and ids.
    pub fn special_tokens(&self) -> impl Iterator<Item = (&str, u32)> {
        std::iter::empty()
    }

    /// The checkpoint's chat template.
    pub fn chat_template(&self) -> Option<&str> {
        None
    }

    /// Encodes parts.
    ///
    /// # Errors
    /// Never, for now.
    pub fn encode_parts(&self, _parts: &[Part], _add_bos: bool) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
