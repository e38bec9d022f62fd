//! OpenCompass's rules against what OpenCompass itself made of the same rows.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "../common/mod.rs"]
mod common;
mod configs;
mod evaluators;
mod infer;
mod ppl;
mod prompts;
mod rendered;
mod task_files;
