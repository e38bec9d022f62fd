//! A continuous-batching inference engine for the InternLM family, and a server over it.
//!
//! [`Engine`] owns a model and a thread. Requests join and leave its batch at every step; what comes of them are
//! [`Response`]s, each an iterator and a stream of events.

#![forbid(unsafe_code)]

// Tests of this crate share their models with those in `tests`, which name it from outside.
#[cfg(test)]
extern crate self as internlm_serve;

mod blocks;
pub mod chat;
pub mod config;
pub mod engine;
pub mod error;
mod guide;
#[cfg(feature = "http")]
pub mod http;
mod inbox;
mod memory;
pub mod metrics;
pub mod models;
mod prompt_logprobs;
pub mod request;
pub mod response;
mod schedule;
mod sequence;
mod speculate;
mod step;
mod worker;

pub use chat::Chat;
pub use config::EngineConfig;
pub use engine::Engine;
pub use error::{Error, Result};
pub use metrics::Metrics;
pub use models::Models;
pub use request::Request;
pub use response::{Answer, Response};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
