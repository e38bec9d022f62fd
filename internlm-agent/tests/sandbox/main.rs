//! Hostile and ordinary programs in the sandbox, each with what it is to get.

#![cfg(target_os = "linux")]

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
