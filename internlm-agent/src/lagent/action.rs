//! What an action of Lagent returns.

use encoding_rs::{EncoderResult, GBK};
use serde::{Deserialize, Serialize};

use crate::python::PyValue;

/// Values of [`ActionReturn::state`].
pub mod state {
    /// Still running.
    pub const ING: i64 = 1;
    /// It went well.
    pub const SUCCESS: i64 = 0;
    /// A server answered with an error.
    pub const HTTP_ERROR: i64 = -1000;
    /// The arguments are wrong.
    pub const ARGS_ERROR: i64 = -1001;
    /// The tool failed.
    pub const API_ERROR: i64 = -1002;
}

/// Values of [`ActionReturn::valid`].
pub mod valid {
    /// The answer of the run.
    pub const FINISH: i64 = 1;
    /// A call as any.
    pub const OPEN: i64 = 0;
    /// A tool that is switched off.
    pub const CLOSED: i64 = -1;
    /// No such tool.
    pub const INVALID: i64 = -2;
    /// No call at all.
    pub const ABSENT: i64 = -3;
}

/// A piece of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultItem {
    /// `text`, `image`, `audio`, `video` or `file`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, or the path of a file.
    pub content: String,
}

/// Lagent's record of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActionReturn {
    /// The arguments as they were understood.
    pub args: PyValue,
    /// A page that belongs to it.
    #[serde(default)]
    pub url: Option<String>,
    /// The action's name, without the API.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it returned.
    pub result: Option<Vec<ResultItem>>,
    /// What went wrong: a text, but for [an unknown tool](super::Executor::forward) whatever its arguments were.
    pub errmsg: Option<PyValue>,
    /// One of [`state`].
    pub state: i64,
    /// What the model said before the call.
    pub thought: Option<String>,
    /// One of [`valid`].
    pub valid: i64,
}

impl ActionReturn {
    /// A success.
    pub fn success(kind: impl Into<String>, args: PyValue, result: Vec<ResultItem>) -> Self {
        Self {
            args,
            url: None,
            kind: kind.into(),
            result: Some(result),
            errmsg: None,
            state: state::SUCCESS,
            thought: None,
            valid: valid::OPEN,
        }
    }

    /// A failure.
    pub fn failure(kind: impl Into<String>, args: PyValue, state: i64, errmsg: PyValue) -> Self {
        Self {
            args,
            url: None,
            kind: kind.into(),
            result: None,
            errmsg: Some(errmsg),
            state,
            thought: None,
            valid: valid::OPEN,
        }
    }

    /// The result as text: texts as they are, the rest as `[type](content)`, one per line. Empty after a failure.
    pub fn format_result(&self) -> String {
        let items = self.result.iter().flatten();
        let texts: Vec<String> = items
            .map(|item| match item.kind.as_str() {
                "text" => item.content.clone(),
                kind => format!("[{kind}]({})", item.content),
            })
            .collect();
        texts.join("\n")
    }

    /// What the model is told: the result, or the error.
    pub fn response(&self) -> PyValue {
        match &self.errmsg {
            Some(errmsg) if self.state != state::SUCCESS => errmsg.clone(),
            _ => PyValue::Str(self.format_result()),
        }
    }
}

/// Makes a result of what a function returned: dictionaries as JSON, the rest as `str()`; characters that GBK
/// lacks (emoji) are dropped, as Lagent drops them.
pub fn parse_outputs(output: &PyValue) -> Vec<ResultItem> {
    let text = match output {
        PyValue::Dict(_) => output.dumps(),
        other => other.display(),
    };
    vec![ResultItem {
        kind: "text".to_owned(),
        content: text.chars().filter(|c| in_gbk(*c)).collect(),
    }]
}

fn in_gbk(c: char) -> bool {
    if c.is_ascii() {
        return true;
    }
    // The encoder of the web also knows what GB 18030 added; Python's table of GBK lacks it: ǹ, ḿ, the euro sign,
    // radicals, parts of characters, extension A, later ideographs, vertical
    // forms and private characters.
    if matches!(c, 'ǹ' | 'ḿ' | '€' | '\u{2e80}'..='\u{2eff}' | '\u{2ff0}'..='\u{2fff}' | '\u{303e}'
        | '\u{3400}'..='\u{4dbf}' | '\u{9fa6}'..='\u{9fff}' | '\u{fe10}'..='\u{fe1f}' | '\u{e000}'..='\u{f8ff}')
    {
        return false;
    }
    let mut bytes = [0; 8];
    let text = c.to_string();
    let (result, ..) = GBK
        .new_encoder()
        .encode_from_utf8_without_replacement(&text, &mut bytes, true);
    result == EncoderResult::InputEmpty
}
