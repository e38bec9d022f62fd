//! How T-Eval reads answers (open-compass/T-Eval): values that may be Python or JSON, and texts of a template.

use std::sync::LazyLock;

use regex::{Captures, Regex, RegexBuilder};

use crate::python::{self, PyValue};

/// Why an answer can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TevalError {
    /// It is neither Python nor JSON.
    #[error("Cannot parse raw data")]
    Unreadable,
    /// A template is not one.
    #[error("the template is not valid: {template}")]
    Template {
        /// The template.
        template: String,
    },
}

/// Reads a value in an answer: what follows a fence of JSON, cut from the first `start` to the last `end` (either
/// may be empty), as a Python literal, as JSON, or as JSON with single quotes taken for double ones.
///
/// # Errors
/// [`TevalError::Unreadable`].
pub fn format_load(answer: &str, start: &str, end: &str) -> Result<PyValue, TevalError> {
    let mut text = answer;
    if let Some((_, inside)) = text.split_once("```json") {
        text = inside.trim_matches('`');
    }
    if !start.is_empty() {
        // As Python's slice with `find`: -1 is the last character.
        text = match text.find(start) {
            Some(at) => &text[at..],
            None => text
                .char_indices()
                .next_back()
                .map_or("", |(at, _)| &text[at..]),
        };
    }
    if !end.is_empty() {
        // Here -1 and the length of `end` make the end of the slice.
        text = match text.rfind(end) {
            Some(at) => &text[..at + end.len()],
            None => {
                let count = end.chars().count() - 1;
                text.char_indices()
                    .nth(count)
                    .map_or(text, |(at, _)| &text[..at])
            }
        };
    }
    python::literal(text)
        .or_else(|_| python::loads(text))
        .or_else(|_| python::loads(&text.replace('\'', "\"")))
        .map_err(|_| TevalError::Unreadable)
}

static FIELD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\{\{|\}\}|\{([^{}]*)\}|[{}]").expect("the pattern is valid"));

static BRACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(\{[0-9]+(?:,[0-9]*)?\}|\\\{)|\{").expect("the pattern is valid")
});

/// Finds the fields of a template such as `goal: {goal}\n\nname: {name}` in a text; the rest of the template is
/// a regular expression. A field that occurs twice gets a list. Nothing, if the text is of another form.
///
/// # Errors
/// [`TevalError::Template`].
pub fn parse_string(
    template: &str,
    text: &str,
    allow_newline: bool,
) -> Result<Option<PyValue>, TevalError> {
    let invalid = || TevalError::Template {
        template: template.to_owned(),
    };
    let mut keys = Vec::new();
    for found in FIELD.captures_iter(template) {
        match (found.get(0).map(|m| m.as_str()), found.get(1)) {
            (_, Some(field)) => {
                let name = field.as_str().split(['!', ':']).next().unwrap_or_default();
                keys.push(name.to_owned());
            }
            (Some("{{" | "}}"), _) => {}
            _ => return Err(invalid()),
        }
    }
    let mut pattern = template.to_owned();
    for key in &keys {
        pattern = pattern.replace(&format!("{{{key}}}"), "(.*)");
    }
    // Python takes a brace that begins no repetition for itself.
    let pattern = BRACE.replace_all(&pattern, |found: &Captures<'_>| match found.get(1) {
        Some(repetition) => repetition.as_str().to_owned(),
        None => "\\{".to_owned(),
    });
    // Python's end is before a last line feed, too.
    let pattern = match pattern.strip_suffix('$') {
        Some(before) if !before.ends_with('\\') => format!("{before}\\n?$"),
        _ => pattern.into_owned(),
    };
    let pattern = RegexBuilder::new(&pattern)
        .dot_matches_new_line(allow_newline)
        .build()
        .map_err(|_| invalid())?;
    let Some(found) = pattern.captures(text) else {
        return Ok(None);
    };
    let groups: Vec<&str> = found
        .iter()
        .skip(1)
        .map(|group| group.map_or("", |m| m.as_str()))
        .collect();
    let values: Vec<String> = match &groups[..] {
        // With one group Python's `findall` gives strings, and the template's key gets a character of it.
        [only] => only.chars().map(String::from).collect(),
        groups => groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let mut entries: Vec<(PyValue, PyValue)> = Vec::new();
    for (key, value) in keys.iter().zip(values) {
        let (key, value) = (PyValue::str(key), PyValue::Str(value));
        match entries.iter_mut().find(|(k, _)| *k == key) {
            None => entries.push((key, value)),
            Some((_, PyValue::List(values))) => values.push(value),
            Some((_, first)) => *first = PyValue::List(vec![first.clone(), value]),
        }
    }
    Ok(Some(PyValue::Dict(entries)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_before_the_last_line_feed_too() {
        let read = |template: &str, text: &str| {
            let value = parse_string(template, text, false).unwrap();
            value.map(|value| value.dumps())
        };
        let both = r#"{"a": " b", "b": "c"}"#;
        assert_eq!(read("^{a} {b}$", " b c\n").as_deref(), Some(both));
        assert_eq!(read("^{a} {b}$", " b c").as_deref(), Some(both));
        assert_eq!(read("^{a} {b}$", " b c\n\n"), None);
        assert_eq!(
            read(r"{a}-{b}\$", "1-2$").as_deref(),
            Some(r#"{"a": "1", "b": "2"}"#)
        );
    }
}
