//! The remote model against a scripted server on loopback: what is sent, and what is made of every
//! kind of answer.

#![allow(clippy::unwrap_used)] // Helpers outside of `#[test]` functions.

mod calls;
mod failures;
mod requests;
mod scores;
mod server;
mod streams;
