//! Hostile and ordinary programs in the sandbox, each with what it is to get.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and one that is skipped says so"
)]

mod files;
mod layers;
mod limits;
mod network;
mod processes;
mod scientific;
mod session;
mod shell;
mod support;
mod system_calls;
mod users;
