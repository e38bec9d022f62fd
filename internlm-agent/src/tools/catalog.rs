//! The list of all ready tools, with what a model is told of each, its feature and its limits.
//!
//! A module of tools has a function `entries`, and [`entries`] here a line for it. `docs/src/tools.md` is
//! [`markdown`] of the list; a test compares them.

mod markdown;

use std::sync::Arc;

use internlm_core::ToolSpec;

use super::dates::{self, DateConfig};
use super::files::{self, FileLimits};
use super::query::{self, QueryLimits};
use super::{calculator, root::Root, text};
use crate::tool::{Tool, ToolSet, TypedTool, spec_of};

pub use markdown::{markdown, section};

/// A tool as the list knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CatalogEntry {
    /// What a model is told, with the limits that are set by default.
    pub spec: ToolSpec,
    /// The path in this crate of what makes it, such as `tools::calculator`.
    pub made_by: &'static str,
    /// The feature that it needs, if any.
    pub feature: Option<&'static str>,
    /// What it may use up, in a sentence or two, with the numbers of the defaults.
    pub limits: String,
    /// Whether a person is asked before each call.
    pub approval: bool,
    /// Whether [`default_set`] has it.
    pub in_default_set: bool,
}

impl CatalogEntry {
    /// A tool without a feature, that asks nobody and is not in the default set.
    pub fn new(spec: ToolSpec, made_by: &'static str, limits: impl Into<String>) -> Self {
        Self {
            spec,
            made_by,
            feature: None,
            limits: limits.into(),
            approval: false,
            in_default_set: false,
        }
    }

    /// The entry of a tool whose arguments are a `T`, as [`tool`](crate::tool()) would describe it.
    pub fn of<T: schemars::JsonSchema>(
        name: &str,
        made_by: &'static str,
        limits: impl Into<String>,
    ) -> Self {
        Self::new(spec_of::<T>(name), made_by, limits)
    }

    /// The entry of a tool that needs nothing to be made.
    pub(crate) fn from_tool(
        tool: &TypedTool,
        made_by: &'static str,
        limits: impl Into<String>,
    ) -> Self {
        let entry = Self::new(tool.spec().clone(), made_by, limits);
        match tool.needs_approval() {
            true => entry.with_approval(),
            false => entry,
        }
    }

    /// Says that it needs a feature.
    #[must_use]
    pub fn with_feature(mut self, feature: &'static str) -> Self {
        self.feature = Some(feature);
        self
    }

    /// Says that a person is asked before each call.
    #[must_use]
    pub fn with_approval(mut self) -> Self {
        self.approval = true;
        self
    }

    /// Says that it is in the default set.
    #[must_use]
    pub(crate) fn in_default_set(mut self) -> Self {
        self.in_default_set = true;
        self
    }
}

/// All tools of the features that this crate was built with, by name.
pub fn entries() -> Vec<CatalogEntry> {
    // One line a module, sorted.
    #[rustfmt::skip]
    let modules: &[fn() -> Vec<CatalogEntry>] = &[
        calculator::entries,
        #[cfg(all(feature = "sandbox", target_os = "linux"))]
        super::code::entries,
        dates::entries,
        #[cfg(feature = "documents")]
        super::documents::entries,
        files::entries,
        #[cfg(feature = "images")]
        super::images::entries,
        #[cfg(feature = "documents")]
        super::ppt::entries,
        query::entries,
        #[cfg(feature = "fetch")]
        super::services::entries,
        text::entries,
        #[cfg(feature = "fetch")]
        super::web::entries,
    ];
    let mut entries: Vec<_> = modules.iter().flat_map(|module| module()).collect();
    entries.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    entries
}

/// Tools for any agent: they need no feature, change nothing and read only what is below a folder. A feature adds
/// none to them; what does more is added by name.
pub fn default_set(root: &Root) -> ToolSet {
    let mut tools = vec![super::calculator(), super::text_stats()];
    tools.extend(dates::tools(&DateConfig::default()));
    tools.extend(files::reading_tools(root, FileLimits::default()));
    tools.extend(query::tools(root, QueryLimits::default()));
    let mut set = ToolSet::new();
    for tool in tools {
        set.replace(Arc::new(tool));
    }
    set
}

/// A number of bytes as people read it, such as `12 KiB`; exact.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0 => "0 bytes".to_owned(),
        count if count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        count if count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        count => format!("{count} bytes"),
    }
}
