//! The seam of the InternLM workspace: what a conversation, a request and a scoring job are,
//! and the traits that engines implement and applications use.
//!
//! There are no tensors here and no I/O beyond [`gguf`], so that evaluation and agents compile
//! without an inference engine, and any engine (the local one, a remote endpoint, a script in a
//! test) can stand behind [`ChatModel`] and [`Scorer`].

#![forbid(unsafe_code)]

pub mod chat_model;
pub mod code_executor;
pub mod error;
pub mod gguf;
pub mod message;
pub mod sampling;
pub mod scorer;
pub mod scripted;
pub mod tool;
pub mod tool_call;

pub use chat_model::{ChatModel, ChatRequest, Event};
pub use code_executor::CodeExecutor;
pub use error::{Error, Result};
pub use message::{Message, Part, Role};
pub use sampling::SamplingParams;
pub use scorer::Scorer;
pub use tool::{ToolCall, ToolSpec};
