//! Checkpoints from and to disk.

mod bad_input;
mod checkpoint;
#[path = "../common/mod.rs"]
mod common;
mod formats;
mod fuzz;
mod pickles;
mod saving;
mod torch_writer;
