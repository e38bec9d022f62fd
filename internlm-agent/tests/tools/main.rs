//! Each ready tool with what it can do, an argument that does not fit, and a limit that is reached.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and one that is skipped says so"
)]

// One line a module, sorted.
mod calculator;
mod catalog;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
mod code;
mod dates;
mod files;
mod query;
mod root;
mod support;
mod text;
