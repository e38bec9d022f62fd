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

pub mod calculator;
pub mod catalog;
#[cfg(all(feature = "sandbox", target_os = "linux"))]
pub mod code;
pub mod dates;
pub mod files;
pub mod query;
pub mod root;
pub mod text;

pub use calculator::calculator;
pub use catalog::{CatalogEntry, default_set};
pub use root::Root;
pub use text::text_stats;
