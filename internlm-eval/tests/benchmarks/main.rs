//! Every built-in benchmark on the data at hand and in the hub's columns; the README's table of them.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "../common/mod.rs"]
mod common;
mod hub;
mod lm_eval;
mod made_up;
mod opencompass;
#[cfg(feature = "langdetect")]
mod table;
