//! The contract of every program: arguments, lines in, objects out, exit status.
//!
//! The programs are run as a user runs them. `cargo test -p internlm-examples` builds them; where
//! they or the goldens are missing a test prints why it is skipped, and fails with `CI=true`.

mod agent;
mod agent_mcp;
mod agent_protocols;
mod embed;
mod errors;
mod evaluate;
#[cfg(unix)]
mod interrupted;
mod models;
mod pipeline;
mod quantize;
mod scripted;
#[cfg(unix)]
mod serve;
mod smollm2;
mod support;
mod text;
