//! The server, asked over real sockets. Numbers in names of tests are those of the project's checklist of bad
//! input.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test panics")]

mod chat;
mod client;
mod clients;
mod completions;
mod drain;
mod fixture;
mod guard;
mod leave;
mod limits;
mod other;
mod remote;
mod smollm2;
