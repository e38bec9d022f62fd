//! Checkpoints from and to disk.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

mod adapters;
mod bad_input;
mod blocks;
mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod formats;
mod fuzz;
mod goldens;
mod head;
mod int8;
mod mutated;
mod packed_tensors;
mod pickles;
mod prepared;
mod saving;
mod torch_writer;
mod words;
mod words_writer;
