//! Tokenizers, chat templates, a streaming detokenizer and stop matching for the InternLM family.

#![forbid(unsafe_code)]

mod added;
mod detokenizer;
mod error;
mod gguf;
mod hf;
mod load;
mod pieces;
mod proto;
mod spm;
mod stop;
mod template;
mod tokenizer;

pub use error::{Error, Result};
pub use stop::*;
pub use template::*;
pub use tokenizer::{EncodeOptions, Tokenizer};
