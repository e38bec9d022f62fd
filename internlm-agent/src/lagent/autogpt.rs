//! AutoGPT's answers, which Lagent read until 0.2.4.

use crate::error::{Error, Result};
use crate::python::{self, PyValue, PythonError};

/// What an answer asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum AutoGptCall {
    /// A command.
    Command {
        /// Its name.
        name: String,
        /// Its arguments, a dictionary.
        args: PyValue,
    },
    /// The answer is not of the form; the model is told this.
    Malformed(String),
}

/// Reads an answer, a Python literal of `thoughts` and `command`. A language after an opening fence is not
/// skipped, as it is not in Lagent.
///
/// # Errors
/// [`Error::Upstream`] if the answer is Python, but no literal: JSON's `true` and `null`, for instance.
pub fn parse_autogpt(reply: &str) -> Result<AutoGptCall> {
    let mut text = reply.to_owned();
    if reply.starts_with("```") && reply.ends_with("```") {
        let parts: Vec<&str> = reply.split("```").collect();
        let inside = parts.get(1..parts.len() - 1).unwrap_or_default();
        text = inside.join("```");
    }
    let value = match python::literal(&text) {
        Ok(value) => value,
        Err(error @ PythonError::NotLiteral { .. }) => {
            return Err(Error::upstream("ValueError", error.to_string()));
        }
        Err(error) => {
            let what = format!(
                "Your response could not be parsed: {error} \n\
                 Remember to only respond using the specified format above!"
            );
            return Ok(AutoGptCall::Malformed(what));
        }
    };
    let malformed = |what: String| {
        Ok(AutoGptCall::Malformed(format!(
            "Validation of response failed:\n  {what}"
        )))
    };
    if let Some(what) = fault(&value, &["thoughts", "command"]) {
        return malformed(what);
    }
    let thoughts = value.get("thoughts").unwrap_or(&PyValue::None);
    let words = ["text", "reasoning", "plan", "criticism", "speak"];
    if let Some(what) = fault(thoughts, &words) {
        return malformed(what);
    }
    if words
        .iter()
        .any(|word| thoughts.get(word).and_then(PyValue::as_str).is_none())
    {
        return malformed("a thought is not of type 'string'".to_owned());
    }
    let command = value.get("command").unwrap_or(&PyValue::None);
    if let Some(what) = fault(command, &["name", "args"]) {
        return malformed(what);
    }
    match (command.get("name"), command.get("args")) {
        (Some(PyValue::Str(name)), Some(args @ PyValue::Dict(_))) => Ok(AutoGptCall::Command {
            name: name.clone(),
            args: args.clone(),
        }),
        _ => malformed("the command is not of a name and arguments".to_owned()),
    }
}

/// What keeps a value from being an object of exactly these keys.
fn fault(value: &PyValue, keys: &[&str]) -> Option<String> {
    let PyValue::Dict(entries) = value else {
        return Some(format!("{} is not of type 'object'", value.repr()));
    };
    if let Some(missing) = keys.iter().find(|key| value.get(key).is_none()) {
        return Some(format!("'{missing}' is a required property"));
    }
    let unknown = entries
        .iter()
        .find(|(k, _)| !k.as_str().is_some_and(|k| keys.contains(&k)));
    unknown.map(|(key, _)| format!("additional property {} was unexpected", key.repr()))
}
