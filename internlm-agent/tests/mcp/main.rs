//! MCP: our client and our server, with each other, with servers that misbehave, with the official SDKs.
//! Nothing here connects to another machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod both;
mod door;
mod misbehaved;
mod peers;
mod support;
mod web;
