//! Facts of a text that models are bad at.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::catalog::{CatalogEntry, bytes};
use crate::tool::{ToolError, TypedTool, tool};

/// What a call may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextLimits {
    /// Most bytes of the text and of the part.
    pub max_bytes: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        Self { max_bytes: 1 << 20 }
    }
}

impl TextLimits {
    /// Sets the most bytes of a text.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    fn check(self, name: &str, text: &str) -> Result<(), ToolError> {
        let (bytes, most) = (text.len(), self.max_bytes);
        match bytes > most {
            true => Err(ToolError::Limit {
                what: format!("`{name}` has {bytes} bytes; {most} are allowed"),
            }),
            false => Ok(()),
        }
    }
}

/// Counts the characters, words and lines of a text, and how often a part occurs in it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct TextStats {
    /// The text.
    pub text: String,
    /// A part to count.
    #[serde(default)]
    pub part: Option<String>,
}

/// The tool `text_stats`.
pub fn text_stats() -> TypedTool {
    text_stats_within(TextLimits::default())
}

/// The tool `text_stats` with other limits.
pub fn text_stats_within(limits: TextLimits) -> TypedTool {
    tool("text_stats", move |arguments: TextStats| {
        let text = &arguments.text;
        limits.check("text", text)?;
        limits.check("part", arguments.part.as_deref().unwrap_or_default())?;
        let mut facts = json!({
            "characters": text.chars().count(),
            "words": text.split_whitespace().count(),
            "lines": text.lines().count(),
        });
        if let Some(part) = arguments.part.filter(|part| !part.is_empty()) {
            facts["occurrences"] = text.matches(&part).count().into();
        }
        Ok(facts)
    })
}

/// What the catalog says of it.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let entry = CatalogEntry::from_tool(
        &text_stats(),
        "tools::text_stats",
        format!(
            "texts of {}; it reads nothing but the text of the call.",
            bytes(TextLimits::default().max_bytes as u64)
        ),
    );
    vec![entry.in_default_set()]
}
