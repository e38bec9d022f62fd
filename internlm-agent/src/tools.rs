//! Ready tools. [`catalog`] lists them all; `docs/src/tools.md` is made from it.
//!
//! ```
//! use internlm_agent::tool::ToolContext;
//! use internlm_agent::tools::{self, Root};
//!
//! let set = tools::catalog::default_set(&Root::open(".")?);
//! let output = set.call("calculator", &serde_json::json!({"expression": "37*12+5"}), &ToolContext::default())?;
//! assert_eq!(output.to_text(), "449");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "documents")]
mod archive;
pub mod calculator;
pub mod catalog;
#[cfg(any(feature = "documents", feature = "fetch"))]
mod charset;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
pub mod code;
pub mod dates;
#[cfg(feature = "documents")]
pub mod documents;
pub mod files;
#[cfg(any(feature = "documents", feature = "fetch"))]
mod html;
#[cfg(feature = "images")]
pub mod images;
#[cfg(any(feature = "documents", feature = "fetch"))]
mod passage;
#[cfg(feature = "documents")]
pub mod ppt;
pub mod query;
pub mod root;
#[cfg(feature = "fetch")]
pub mod services;
pub mod text;
#[cfg(feature = "fetch")]
pub mod web;
#[cfg(any(feature = "documents", feature = "fetch"))]
mod xml;

pub use calculator::calculator;
pub use catalog::{CatalogEntry, default_set};
pub use root::Root;
pub use text::text_stats;
