//! The InternLM model family over candle: one decoder for InternLM 1, 2, 2.5, 3 and the Llama and
//! Qwen2 checkpoints that share its shape; loading, caches, sampling and generation.
//!
//! Differences between the families are data ([`Config`]), never a second decoder. Weights are
//! immutable and shared between threads, all state is an argument ([`Context`]), and tokens are
//! flat, so one forward serves a chat, a scored batch and continuous batching alike.

#![deny(unsafe_code)]

pub mod adapter;
pub mod batch;
mod buffers;
pub mod causal_lm;
pub mod config;
pub mod context;
mod decoder;
pub mod error;
pub mod generate;
#[cfg(feature = "hub")]
pub mod hub;
pub mod kv_cache;
mod linear;
pub mod load;
mod ops;
pub mod quantize;
mod rope;
pub mod sampler;
pub mod save;
pub mod score;
#[cfg(feature = "text")]
pub mod text;

pub use candle_core as candle;

pub use adapter::{AdapterSet, LoraAdapter, LoraConfig};
pub use batch::Batch;
pub use causal_lm::CausalLm;
pub use config::Config;
pub use context::Context;
pub use error::{Error, Result};
pub use internlm_quant::QuantizationConfig;
pub use kv_cache::{ContiguousCache, KvCache, KvDtype, PagedCache};
pub use load::{LoadConfig, ModelDir};
#[cfg(feature = "text")]
pub use text::TextModel;

/// The examples of the README, as tests.
#[cfg(all(doctest, feature = "text"))]
#[doc = include_str!("../README.md")]
struct Readme;
