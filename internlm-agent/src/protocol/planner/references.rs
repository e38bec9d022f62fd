//! Citations `[[n]]` in answers, numbered anew so that answers of several searches can stand side by side.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// An answer with new numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Renumbered {
    /// The answer.
    pub text: String,
    /// Its sources by their new numbers.
    pub sources: Map<String, Value>,
    /// How many numbers are used up: one more than there are citations, as in MindSearch, so numbers have gaps.
    pub used: usize,
}

static CITATION: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\[\[(\d+)\]\]").expect("the pattern is valid"));

/// Numbers the citations of an answer from `offset + 1` on, in the order of their old numbers.
pub fn renumber(text: &str, sources: &Map<String, Value>, offset: usize) -> Renumbered {
    let number = |found: &Captures<'_>| found[1].parse::<u64>().ok();
    let old: BTreeSet<u64> = CITATION
        .captures_iter(text)
        .filter_map(|found| number(&found))
        .collect();
    let new = |n: u64| {
        old.iter()
            .position(|o| *o == n)
            .map(|place| place + 1 + offset)
    };
    let replaced = CITATION.replace_all(text, |found: &Captures<'_>| {
        match number(found).and_then(new) {
            Some(new) => format!("[[{new}]]"),
            None => found[0].to_owned(),
        }
    });
    let sources = old.iter().filter_map(|n| {
        let source = sources.get(&n.to_string())?;
        Some((new(*n)?.to_string(), source.clone()))
    });
    Renumbered {
        text: replaced.to_string(),
        sources: sources.collect(),
        used: old.len() + 1,
    }
}

/// All answers of a graph in MindSearch's form, an object of nodes, under their questions, and their sources.
/// A node's own sources are the JSON in its third message.
///
/// # Errors
/// [`Error::Upstream`] if a node that was to be searched has no such message.
pub fn references_from_graph(graph: &Map<String, Value>) -> Result<(String, Map<String, Value>)> {
    let mut texts = Vec::new();
    let mut all = Map::new();
    let mut offset = 0;
    for (name, node) in graph {
        if name == "root" || name == "response" {
            continue;
        }
        let message = &node["memory"]["agent.memory"][2];
        let from_tool = message["sender"]
            .as_str()
            .is_some_and(|s| s.ends_with("ActionExecutor"));
        let content = message["content"].as_str().filter(|_| from_tool);
        let sources =
            content.and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
        let (Some(sources), Some(answer)) = (sources, node["response"]["content"].as_str()) else {
            let what = format!("the node `{name}` was not searched");
            return Err(Error::upstream("AssertionError", what));
        };
        let renumbered = renumber(answer, &sources, offset);
        offset += renumbered.used;
        let question = node["content"].as_str().unwrap_or_default();
        texts.push(format!("## {question}\n\n{}", renumbered.text));
        all.extend(renumbered.sources);
    }
    Ok((texts.join("\n\n"), all))
}
