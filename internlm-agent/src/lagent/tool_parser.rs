//! Calls in the text of InternLM2, as the two lines of Lagent find them.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::python::{self, PyValue};

/// Values of [`ParsedReply::status`].
pub mod status {
    /// No call.
    pub const NO_TOOL: i64 = 0;
    /// A call.
    pub const VALID_TOOL: i64 = 1;
    /// A call that can't be read.
    pub const PARSING_ERROR: i64 = -1;
}

/// What the parsers of 0.5 make of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParsedReply {
    /// `plugin` or `interpreter`.
    pub tool_type: Option<String>,
    /// The text before the call, or all of it.
    pub thought: String,
    /// The call: a dictionary, or a text if it is code or can't be read.
    pub action: PyValue,
    /// One of [`status`].
    pub status: i64,
}

/// The parsers of 0.5. Line breaks are part of their markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolParser {
    /// Calls of tools.
    Plugin,
    /// Code.
    Interpreter,
    /// Calls of tools, else code.
    Mixed,
}

const END: &str = "<|action_end|>\n";

impl ToolParser {
    /// Finds the first call.
    pub fn parse(self, reply: &str) -> ParsedReply {
        let (kind, begin) = match self {
            Self::Plugin => ("plugin", "<|action_start|><|plugin|>\n"),
            Self::Interpreter => ("interpreter", "<|action_start|><|interpreter|>\n"),
            Self::Mixed => {
                let plugin = Self::Plugin.parse(reply);
                return match plugin.tool_type {
                    Some(_) => plugin,
                    None => Self::Interpreter.parse(reply),
                };
            }
        };
        let Some((thought, rest)) = reply.split_once(begin) else {
            return ParsedReply {
                tool_type: None,
                thought: reply.to_owned(),
                action: PyValue::None,
                status: status::NO_TOOL,
            };
        };
        // What follows a second call is dropped, as is what follows the end.
        let action = rest.split(begin).next().unwrap_or(rest);
        let action = action.split(END).next().unwrap_or(action);
        let read = match self {
            Self::Plugin => read_plugin(action),
            _ => Some(PyValue::str(action)),
        };
        ParsedReply {
            tool_type: Some(kind.to_owned()),
            thought: thought.to_owned(),
            status: if read.is_some() {
                status::VALID_TOOL
            } else {
                status::PARSING_ERROR
            },
            action: read.unwrap_or_else(|| PyValue::str(action)),
        }
    }

    /// The text of a parsed reply.
    ///
    /// # Errors
    /// [`Error::Upstream`] if the parser does not know the type.
    pub fn format(self, parsed: &ParsedReply) -> Result<String> {
        let action = match &parsed.action {
            PyValue::None => return Ok(parsed.thought.clone()),
            action @ PyValue::Dict(_) => action.dumps(),
            action => action.display(),
        };
        let kind = match (self, parsed.tool_type.as_deref()) {
            (Self::Plugin | Self::Mixed, Some("plugin")) => "plugin",
            (Self::Interpreter | Self::Mixed, Some("interpreter")) => "interpreter",
            _ => return Err(Error::upstream("AssertionError", "")),
        };
        let thought = &parsed.thought;
        Ok(format!(
            "{thought}<|action_start|><|{kind}|>\n{action}{END}"
        ))
    }
}

fn read_plugin(action: &str) -> Option<PyValue> {
    let action = python::strip(action);
    let braces = action.starts_with('{') && action.ends_with('}');
    braces.then(|| python::loads(action).ok()).flatten()
}

/// What the parser of 0.2 makes of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct V024Reply {
    /// `plugin`, `interpreter` or none.
    pub name: Option<String>,
    /// The text before the call.
    pub language: String,
    /// The text of the call, unread; code without white space around it.
    pub action: Option<String>,
}

/// The parser of `Internlm2Protocol` in 0.2: line breaks do not matter, and a plugin's marker anywhere makes the
/// reply a call.
///
/// # Errors
/// [`Error::Upstream`] for two calls of plugins and for a marker without its start.
pub fn parse_v024(reply: &str) -> Result<V024Reply> {
    const START: &str = "<|action_start|>";
    let until_end = |text: &str| {
        text.split("<|action_end|>")
            .next()
            .unwrap_or(text)
            .to_owned()
    };
    if reply.contains("<|plugin|>") {
        let parts: Vec<&str> = reply.split("<|action_start|><|plugin|>").collect();
        return match parts[..] {
            [language, action] => Ok(V024Reply {
                name: Some("plugin".to_owned()),
                language: language.to_owned(),
                action: Some(until_end(action)),
            }),
            [_] => {
                let what = "not enough values to unpack (expected 2, got 1)";
                Err(Error::upstream("ValueError", what))
            }
            _ => Err(Error::upstream(
                "ValueError",
                "too many values to unpack (expected 2)",
            )),
        };
    }
    if !reply.contains("<|interpreter|>") {
        return Ok(V024Reply {
            name: None,
            language: until(reply, START).to_owned(),
            action: None,
        });
    }
    let (language, code) = match reply.split_once("<|action_start|><|interpreter|>") {
        Some((language, rest)) => (language, until(rest, "<|action_start|><|interpreter|>")),
        None => {
            let (language, rest) = reply.split_once("<|interpreter|>").unwrap_or((reply, ""));
            let language = language.rfind(START).map_or(language, |at| &language[..at]);
            (python::strip(language), until(rest, "<|interpreter|>"))
        }
    };
    Ok(V024Reply {
        name: Some("interpreter".to_owned()),
        language: language.to_owned(),
        action: Some(python::strip(&until_end(code)).to_owned()),
    })
}

fn until<'a>(text: &'a str, end: &str) -> &'a str {
    text.split(end).next().unwrap_or(text)
}
