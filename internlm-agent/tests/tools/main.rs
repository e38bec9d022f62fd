//! Each ready tool with what it can do, an argument that does not fit, and a limit that is reached.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and one that is skipped says so"
)]

// One line a module, sorted.
#[cfg(feature = "fetch")]
mod arxiv;
mod calculator;
mod catalog;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
mod code;
mod dates;
#[cfg(feature = "documents")]
mod documents;
#[cfg(feature = "fetch")]
mod fetch_page;
mod files;
#[cfg(feature = "documents")]
mod hostile_documents;
#[cfg(feature = "fetch")]
mod http_request;
#[cfg(feature = "images")]
mod image_limits;
#[cfg(feature = "images")]
mod images;
#[cfg(feature = "fetch")]
mod openapi;
#[cfg(feature = "documents")]
mod ppt;
mod query;
mod root;
#[cfg(feature = "fetch")]
mod services;
#[cfg(feature = "fetch")]
mod stand_in;
mod support;
mod text;
#[cfg(feature = "fetch")]
mod web_search;
#[cfg(feature = "fetch")]
mod wikipedia;
