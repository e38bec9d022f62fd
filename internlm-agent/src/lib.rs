//! Agents over any [`ChatModel`](internlm_core::ChatModel): protocols, tools, and a sandbox for what a model writes.
//!
//! There is no model here: the local engine, a server and a script of a test are all the same to an agent.

#![deny(unsafe_code)]

pub mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
#[cfg(feature = "sandbox")]
pub mod sandbox;

pub use error::{Error, Result};
