//! Benchmarks for language models, item by item as lm-evaluation-harness or OpenCompass score them.
//!
//! A task turns rows of a data file into [`Item`]s: requests to a model, and what the right answer is. A run sends
//! the requests of all tasks through one queue to a [`Scorer`](internlm_core::Scorer) or a
//! [`ChatModel`](internlm_core::ChatModel), keeps every [`Response`] in a journal, and makes the report from it.
//!
//! There is no model here: whatever implements the traits of `internlm-core` can be evaluated.

#![forbid(unsafe_code)]

pub mod benchmark;
mod bm25;
pub mod child;
pub mod data;
pub mod error;
pub mod extract;
mod hash;
pub mod ifeval;
pub mod item;
pub mod judge;
pub mod math;
pub mod metric;
pub mod opencompass;
pub mod pattern;
pub mod python;
mod python_text;
pub mod report;
pub mod run;
pub mod task;
mod template;

pub use benchmark::{Benchmark, Sample, Score};
pub use error::{Error, Result};
pub use item::{Item, Request, Response, Row};
pub use report::Report;
pub use run::{Run, RunConfig};
pub use task::{Task, TaskOptions, TaskSpec};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
