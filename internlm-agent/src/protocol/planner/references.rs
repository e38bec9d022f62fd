//! Citations `[[n]]` in answers, numbered anew so that answers of several searches can stand side by side.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::python::{self, PyValue, PythonError, int_set};

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

/// Numbers the citations of an answer from `offset + 1` on, in the order of a Python set of their old numbers, as
/// MindSearch does: ascending where these are below 8, and else as their hashes fall.
pub fn renumber(text: &str, sources: &Map<String, Value>, offset: usize) -> Renumbered {
    let number = |found: &Captures<'_>| found[1].parse::<u64>().ok();
    let old = int_set(
        CITATION
            .captures_iter(text)
            .filter_map(|found| number(&found)),
    );
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
/// [`Error::Upstream`] if a node that was to be searched has no such message, no question or no answer, or if
/// a source's key is no whole number.
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
        let (Some(content), Some(answer)) = (content, node["response"]["content"].as_str()) else {
            let what = format!("the node `{name}` was not searched");
            return Err(Error::upstream("AssertionError", what));
        };
        let renumbered = renumber(answer, &sources(content)?, offset);
        offset += renumbered.used;
        let question = node
            .get("content")
            .ok_or_else(|| Error::upstream("KeyError", "'content'"))?;
        let question = PyValue::from(question).display();
        texts.push(format!("## {question}\n\n{}", renumbered.text));
        all.extend(renumbered.sources);
    }
    Ok((texts.join("\n\n"), all))
}

/// The sources in a message, by their numbers without blanks, signs and zeros before them.
fn sources(content: &str) -> Result<Map<String, Value>> {
    let read = python::loads(content).map_err(|error| match error {
        PythonError::Json { .. } => Error::upstream("JSONDecodeError", error.to_string()),
        error => Error::upstream("RecursionError", error.to_string()),
    })?;
    let Value::Object(read) = read.to_json() else {
        let what = "the sources are not an object";
        return Err(Error::upstream("AttributeError", what));
    };
    let whole = |(key, source): (String, Value)| {
        let number = python::strip(&key).parse::<u64>();
        let invalid = |_| {
            let what = format!(
                "invalid literal for int() with base 10: {}",
                PyValue::str(&key).repr()
            );
            Error::upstream("ValueError", what)
        };
        Ok((number.map_err(invalid)?.to_string(), source))
    };
    read.into_iter().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sources(json: Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap_or_default()
    }

    /// MindSearch's `_update_ref` under CPython 3.11.
    #[test]
    fn numbers_follow_a_python_set() {
        let new = renumber("b[[11]][[6]]", &sources(json!({"6": "u6"})), 6);
        assert_eq!(new.text, "b[[7]][[8]]");
        assert_eq!((new.sources, new.used), (sources(json!({"8": "u6"})), 3));
        let new = renumber(
            "[[3]] [[1]] [[3]]",
            &sources(json!({"1": "a", "3": "c"})),
            0,
        );
        assert_eq!(new.text, "[[2]] [[1]] [[2]]");
        assert_eq!(new.sources, sources(json!({"1": "a", "2": "c"})));
    }

    #[test]
    fn nodes_that_python_can_not_read_are_errors() {
        let graph = |content: &str| {
            let message = json!({"sender": "ActionExecutor", "content": content});
            json!({"n": {
                "content": null, "response": {"content": "see [[1]]"},
                "memory": {"agent.memory": [0, 1, message]},
            }})
        };
        let read = |graph: Value| references_from_graph(&sources(graph));
        let (text, all) = read(graph(r#"{" +01 ": {"x": 0.1}}"#)).unwrap();
        assert_eq!(text, "## None\n\nsee [[1]]");
        assert_eq!(all, sources(json!({"1": {"x": 0.1}})));
        let exception = |graph: Value| match read(graph) {
            Err(Error::Upstream { exception, .. }) => exception,
            other => panic!("{other:?}"),
        };
        assert_eq!(exception(graph(r#"{"0": "u", "x": "v"}"#)), "ValueError");
        assert_eq!(exception(graph("{")), "JSONDecodeError");
        let mut nameless = graph("{}");
        nameless["n"].as_object_mut().unwrap().remove("content");
        assert_eq!(exception(nameless), "KeyError");
    }
}
