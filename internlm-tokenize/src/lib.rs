//! Tokenizers, chat templates, a streaming detokenizer and stop matching for the InternLM family.

#![forbid(unsafe_code)]

mod detokenizer;
mod error;
mod gguf;
mod hf;
mod load;
mod matcher;
mod overlay;
mod proto;
mod sentencepiece;
mod spm;
mod stop;
mod template;
mod tokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use error::{Error, Result};
pub use stop::{Matched, StopMatcher};
pub use template::{BUILTIN, ChatTemplate, SpecialTokens};
pub use tokenizer::{EncodeOptions, Tokenizer};
