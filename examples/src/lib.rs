//! What the example programs share: arguments, input lines, output, progress, exit status.
//!
//! The programs themselves are the code to copy; this crate is the frame around them.

#![forbid(unsafe_code)]

pub mod error;
pub mod input;
pub mod model;
pub mod output;
pub mod program;
pub mod progress;
pub mod sampling;
pub mod source;

pub use error::{Error, Result};

/// The programs that the documents of the repository show, as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../docs/src/guide.md")]
    struct Guide;

    #[doc = include_str!("../../docs/src/agents.md")]
    struct Agents;
}
