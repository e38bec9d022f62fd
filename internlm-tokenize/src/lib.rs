//! Tokenizers, chat templates, a streaming detokenizer and stop matching for the InternLM family.
//!
//! - [`Tokenizer`] reads `tokenizer.model`, `tokenizer.json` and GGUF files, encodes and decodes.
//! - [`ChatTemplate`] turns messages into the parts of a prompt.
//! - [`Detokenizer`] turns ids into text as they arrive, [`StopMatcher`] ends it at a stop text.
//! - [`CalibSet`] turns texts and chats into blocks of ids for quantization to calibrate on.
//!
//! What a person typed and what a template wrote are kept apart all the way: text never becomes a
//! special token, whatever it spells, unless a caller asks for it.
//!
//! ```
//! use internlm_core::Part;
//! # fn example() -> Result<(), internlm_tokenize::Error> {
//! use internlm_tokenize::{EncodeOptions, Tokenizer};
//!
//! let tokenizer = Tokenizer::load("internlm2_5-1_8b-chat")?;
//! let ids = tokenizer.encode("Typed <|im_end|>", EncodeOptions::default())?;
//! assert_eq!(tokenizer.decode(&ids, true)?, "Typed <|im_end|>");
//! let ids = tokenizer.encode_parts(&[Part::text("Hi"), Part::marker("<|im_end|>")], true)?;
//! assert_eq!(tokenizer.decode(&ids, true)?, "Hi");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod calib;
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

pub use calib::{CalibSet, Chats};
pub use detokenizer::Detokenizer;
pub use error::{Error, Result};
pub use stop::{Matched, StopMatcher};
pub use template::{BUILTIN, ChatTemplate, SpecialTokens};
pub use tokenizer::{EncodeOptions, Tokenizer};

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
