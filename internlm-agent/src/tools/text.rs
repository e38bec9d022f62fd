//! Facts of a text that models are bad at.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::catalog::CatalogEntry;
use crate::tool::{TypedTool, tool};

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
    tool("text_stats", |arguments: TextStats| {
        let text = &arguments.text;
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
        "it reads nothing but the text of the call.",
    );
    vec![entry.in_default_set()]
}
