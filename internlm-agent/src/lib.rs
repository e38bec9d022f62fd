//! Agents over any [`ChatModel`](internlm_core::ChatModel): protocols, tools, and a sandbox for what a model writes.
//!
//! There is no model here: the local engine, a server and a script of a test are all the same to an agent.
//!
//! - [`Agent`] drives a run: limits, hooks, approval, retries, traces.
//! - [`protocol`] has the state machines that it drives, without I/O, and Lagent's in compatibility modes.
//! - [`tool`](mod@tool) is how a Rust function becomes something that a model may call; [`tools`] has ready ones.
//! - [`container`] puts agents together.
//! - [`trace`] writes down what happened, and shows it.
//! - [`lagent`], [`python`] and [`teval`] read and write the texts of Lagent, Python and T-Eval.

#![forbid(unsafe_code)]

pub mod agent;
pub mod container;
pub mod error;
#[cfg(feature = "fetch")]
pub mod fetch;
pub mod lagent;
#[cfg(feature = "mcp")]
pub mod mcp;
pub mod protocol;
pub mod python;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod teval;
pub mod tool;
pub mod tools;
pub mod trace;

pub use agent::Agent;
pub use error::{Error, Result};
pub use tool::tool;

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
