//! The three ways in which Lagent reads arguments.

use std::sync::LazyLock;

use regex::Regex;

use super::description::ActionDescription;
use crate::error::Error;
use crate::python::{self, PyValue};

/// How the text of arguments is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArgumentParser {
    /// JSON, which may be fenced, or a dictionary.
    #[default]
    Json,
    /// A Python tuple of positional arguments.
    Tuple,
    /// The text is the first argument.
    Base,
}

/// Why arguments are not taken.
#[derive(Clone, Debug)]
pub enum ArgumentFault {
    /// The model is told so.
    Told(String),
    /// Lagent itself fails on them.
    Raised(Error),
}

static FENCE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?s)^\s*(```json\n)?(.*)\n```\s*$").expect("the pattern is valid")
});

impl ArgumentParser {
    /// The arguments by name.
    ///
    /// # Errors
    /// The words of Lagent in [`ArgumentFault::Told`]; names of several arguments are sorted, which Python's
    /// sets are not.
    pub fn parse(
        self,
        inputs: &PyValue,
        action: &ActionDescription,
        api: &str,
    ) -> Result<PyValue, ArgumentFault> {
        let parameters = action.parameters(api);
        let required = action.required(api);
        match self {
            Self::Json => json(inputs, &parameters, &required),
            Self::Tuple => tuple(inputs, &parameters, &required),
            Self::Base => match parameters.first() {
                Some(name) => Ok(PyValue::Dict(vec![(PyValue::str(*name), inputs.clone())])),
                None => Err(raised("IndexError", "list index out of range")),
            },
        }
    }
}

fn raised(exception: &'static str, what: impl Into<String>) -> ArgumentFault {
    ArgumentFault::Raised(Error::upstream(exception, what))
}

fn json(
    inputs: &PyValue,
    parameters: &[&str],
    required: &[&str],
) -> Result<PyValue, ArgumentFault> {
    let value = match inputs {
        PyValue::Dict(_) => inputs.clone(),
        PyValue::Str(text) => {
            let inside = FENCE.captures(text).and_then(|found| found.get(2));
            let text = inside.map_or(text.as_str(), |inside| python::strip(inside.as_str()));
            python::loads(text)
                .map_err(|_| ArgumentFault::Told(format!("invalid json format: {text}")))?
        }
        _ => return Err(raised("TypeError", "expected string or bytes-like object")),
    };
    // Python makes a set of it: keys of a dictionary, characters of a string, items of a list.
    let keys: Vec<String> = match &value {
        PyValue::Dict(entries) => entries.iter().map(|(key, _)| key.display()).collect(),
        PyValue::Str(text) => text.chars().map(String::from).collect(),
        PyValue::List(items) if items.iter().all(|i| matches!(i, PyValue::Str(_))) => {
            items.iter().map(PyValue::display).collect()
        }
        _ => return Err(raised("TypeError", "object is not iterable")),
    };
    let unknown = set(keys
        .iter()
        .map(String::as_str)
        .filter(|key| !parameters.contains(key)));
    if let Some(unknown) = unknown {
        return Err(ArgumentFault::Told(format!("unknown arguments: {unknown}")));
    }
    let missing = set(required
        .iter()
        .copied()
        .filter(|name| !keys.iter().any(|key| key == name)));
    if let Some(missing) = missing {
        return Err(ArgumentFault::Told(format!(
            "missing required arguments: {missing}"
        )));
    }
    Ok(value)
}

/// Python's `repr` of a set of strings, or nothing if it is empty.
fn set<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: std::collections::BTreeSet<&str> = names.collect();
    let names: Vec<PyValue> = names.into_iter().map(PyValue::str).collect();
    (!names.is_empty()).then(|| PyValue::Set(names).repr())
}

fn tuple(
    inputs: &PyValue,
    parameters: &[&str],
    required: &[&str],
) -> Result<PyValue, ArgumentFault> {
    let value = match inputs {
        PyValue::Tuple(_) => inputs.clone(),
        PyValue::Str(text) => python::literal(text)
            .map_err(|_| ArgumentFault::Told(format!("invalid tuple format: {text}")))?,
        other => {
            return Err(ArgumentFault::Told(format!(
                "invalid tuple format: {}",
                other.display()
            )));
        }
    };
    let items: Vec<PyValue> = match value {
        PyValue::Tuple(items) | PyValue::List(items) | PyValue::Set(items) => items,
        PyValue::Str(text) => text.chars().map(PyValue::str).collect(),
        PyValue::Dict(entries) => entries.into_iter().map(|(key, _)| key).collect(),
        _ => return Err(raised("TypeError", "object has no len()")),
    };
    let count = items.len();
    if count < required.len() {
        let takes = required.len();
        return Err(ArgumentFault::Told(format!(
            "API takes {takes} required positional arguments but {count} were given"
        )));
    }
    if count > parameters.len() {
        let takes = parameters.len();
        return Err(ArgumentFault::Told(format!(
            "API takes {takes} positional arguments but {count} were given"
        )));
    }
    let names = parameters.iter().map(|name| PyValue::str(*name));
    Ok(PyValue::Dict(names.zip(items).collect()))
}
