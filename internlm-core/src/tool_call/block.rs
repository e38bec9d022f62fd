//! One block of a message: what stands between its markers, and what it means.

use serde_json::{Map, Value, json};

use super::{Action, INTERPRETER_TOOL};
use crate::error::{Error, Result};
use crate::tool::ToolCall;

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The payload is not JSON; the text is the JSON parser's.
    #[error("not JSON: {0}")]
    Json(String),
    /// The payload is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// No `name`, or one that is empty or not a string.
    #[error("no `name`")]
    NoName,
    /// No `parameters`. Only strict reading minds.
    #[error("no `parameters`")]
    NoParameters,
    /// The parameters are not an object.
    #[error("the parameters are not a JSON object")]
    ParametersNotAnObject,
    /// A key other than `name` and `parameters`. Only strict reading minds.
    #[error("unknown key `{0}`")]
    UnknownKey(String),
    /// A block of code without code. Only strict reading minds.
    #[error("no code")]
    NoCode,
    /// No line break after the block's kind, or something else between its start and its kind.
    /// Only strict reading minds.
    #[error("white space other than one line break after the block's markers")]
    WhiteSpace,
    /// A start without a kind. Only strict reading minds.
    #[error("the start of a block is not followed by its kind")]
    NoKind,
    /// A marker where the protocol has none. Only strict reading minds.
    #[error("stray `{0}`")]
    StrayMarker(&'static str),
    /// The text ended inside of a block. Only strict reading minds.
    #[error("the block is not terminated")]
    Unterminated,
}

/// A block between its markers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ActionBlock {
    /// What it is.
    pub action: Action,
    /// Everything between the markers, white space included.
    pub raw: String,
    /// Whether its end marker was seen.
    pub complete: bool,
}

impl ActionBlock {
    /// The text between the markers, without white space around it.
    pub fn payload(&self) -> &str {
        self.raw.trim()
    }

    /// The call that the block makes. Code is a call of [`INTERPRETER_TOOL`].
    ///
    /// Reads leniently: a fence around the JSON is taken off, `arguments` stands for `parameters`,
    /// parameters may be a string that holds JSON, and if they are missing or null there are
    /// none. A block whose end marker is missing is read all the same.
    ///
    /// # Errors
    /// [`Error::ToolCall`] with the [`Fault`] and the payload if it is not a JSON object, has no
    /// name, or has parameters that are not an object.
    pub fn tool_call(&self) -> Result<ToolCall> {
        self.lenient().map_err(|fault| self.malformed(fault))
    }

    pub(super) fn lenient(&self) -> Result<ToolCall, Fault> {
        match self.action {
            Action::Interpreter => Ok(self.code_call()),
            Action::Plugin => {
                let payload = self.payload();
                let json = if payload.starts_with("```") {
                    fenced(payload).unwrap_or(payload)
                } else {
                    payload
                };
                lenient_call(json)
            }
        }
    }

    fn code_call(&self) -> ToolCall {
        ToolCall::new(INTERPRETER_TOOL, json!({"code": self.code()}))
    }

    /// The same, but only the protocol's own form is taken: a complete block with a line break
    /// after its markers that holds code, or an object of `name` and `parameters` and nothing else.
    ///
    /// # Errors
    /// [`Error::ToolCall`] with the [`Fault`] and the payload.
    pub fn strict_tool_call(&self) -> Result<ToolCall> {
        self.strict().map_err(|fault| self.malformed(fault))
    }

    pub(super) fn strict(&self) -> Result<ToolCall, Fault> {
        if !self.complete {
            return Err(Fault::Unterminated);
        }
        if !self.raw.starts_with('\n') {
            return Err(Fault::WhiteSpace);
        }
        match self.action {
            Action::Interpreter if self.code().trim().is_empty() => Err(Fault::NoCode),
            Action::Interpreter => Ok(self.code_call()),
            Action::Plugin => strict_call(self.payload()),
        }
    }

    /// The code of a block for the interpreter: the inside of the first fence, or the payload
    /// itself if there is none.
    pub fn code(&self) -> &str {
        fenced(self.payload()).unwrap_or(self.payload())
    }

    fn malformed(&self, what: Fault) -> Error {
        Error::ToolCall {
            what,
            payload: self.payload().to_owned(),
        }
    }
}

/// The inside of the first fence of three backticks, which may lack its end.
fn fenced(text: &str) -> Option<&str> {
    let (_, inside) = text.split_once("```")?;
    match inside.split_once('\n') {
        // The rest of the opening line is the language.
        Some((language, body)) if !language.contains("```") => {
            if body.starts_with("```") {
                return Some("");
            }
            let end = body.find("\n```").unwrap_or(body.len());
            let body = &body[..end];
            Some(body.strip_suffix('\r').unwrap_or(body))
        }
        _ => Some(inside.split_once("```").map_or(inside, |(code, _)| code)),
    }
}

fn object(payload: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(payload) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Fault::NotAnObject),
        Err(error) => Err(Fault::Json(error.to_string())),
    }
}

fn name(object: &mut Map<String, Value>) -> Result<String, Fault> {
    match object.remove("name") {
        Some(Value::String(name)) if !name.is_empty() => Ok(name),
        _ => Err(Fault::NoName),
    }
}

fn lenient_call(payload: &str) -> Result<ToolCall, Fault> {
    let mut object = object(payload)?;
    let name = name(&mut object)?;
    let arguments = object
        .remove("parameters")
        .or_else(|| object.remove("arguments"))
        .unwrap_or_default();
    let arguments = match arguments {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|_| Fault::ParametersNotAnObject)?
        }
        other => other,
    };
    match arguments {
        Value::Null => Ok(ToolCall::new(name, json!({}))),
        Value::Object(_) => Ok(ToolCall::new(name, arguments)),
        _ => Err(Fault::ParametersNotAnObject),
    }
}

fn strict_call(payload: &str) -> Result<ToolCall, Fault> {
    let mut object = object(payload)?;
    let name = name(&mut object)?;
    let parameters = object.remove("parameters").ok_or(Fault::NoParameters)?;
    if !parameters.is_object() {
        return Err(Fault::ParametersNotAnObject);
    }
    match object.keys().next() {
        Some(key) => Err(Fault::UnknownKey(key.clone())),
        None => Ok(ToolCall::new(name, parameters)),
    }
}
