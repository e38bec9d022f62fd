//! The engine: whatever it does to be fast, the answers are those of the model alone.
#![allow(clippy::unwrap_used, reason = "a test panics")]

#[path = "../common/mod.rs"]
mod common;

mod adapters;
mod equal;
#[cfg(feature = "guided")]
mod forms;
mod life;
mod limits;
