//! Agents over any [`ChatModel`](internlm_core::ChatModel): protocols, tools, and a sandbox for what a model writes.
//!
//! There is no model here: the local engine, a server and a script of a test are all the same to an agent.

#![deny(unsafe_code)]

pub mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod lagent;
pub mod protocol;
pub mod python;
pub mod teval;
pub mod tool;

pub use error::{Error, Result};
pub use tool::tool;
