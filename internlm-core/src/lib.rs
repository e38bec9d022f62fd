//! The seam of the InternLM workspace: what a conversation, a request and a scoring job are,
//! and the traits that engines implement and applications use.
//!
//! There are no tensors here and no I/O beyond [`gguf`] and the feature `remote`, so that evaluation and agents compile
//! without an inference engine, and any engine (the local one, a remote endpoint, a script in a
//! test) can stand behind [`ChatModel`] and [`Scorer`].
//!
//! - A conversation is a list of [`Message`]s, and their content a list of [`Part`]s. A part is text
//!   or a marker, and only a marker can become a special token: what a person typed can't.
//! - [`ChatModel::generate`] takes a [`ChatRequest`] and gives [`Event`]s as they happen.
//! - [`Scorer`] gives log-likelihoods of given texts, [`RewardModel`] scores of conversations.
//! - [`tool_call`] writes and reads InternLM2's protocol of tool calls.
//! - [`scripted`] has a model and a scorer that follow a script, for tests.
//! - `remote` (a feature, off by default) has a model and a scorer behind an OpenAI-compatible server.
//! - [`gguf`] reads the head of GGUF files that are not trusted, and writes such files.
//!
//! Errors are one enum, [`Error`]. Every type of a request or an answer is plain data with serde.

#![forbid(unsafe_code)]

pub mod chat_model;
pub mod code_executor;
pub mod error;
pub mod gguf;
pub mod message;
#[cfg(feature = "remote")]
pub mod remote;
pub mod reward_model;
pub mod sampling;
pub mod scorer;
pub mod scripted;
pub mod tool;
pub mod tool_call;

pub use chat_model::{ChatModel, ChatRequest, Event};
pub use code_executor::CodeExecutor;
pub use error::{Error, Result};
pub use message::{Message, Part, Role};
pub use reward_model::RewardModel;
pub use sampling::SamplingParams;
pub use scorer::Scorer;
pub use tool::{ToolCall, ToolSpec};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
