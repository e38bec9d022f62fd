//! Code in the text of a model.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::python::{self, PyValue};

static FENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?s)```[^\n]*\n(.+?)```").expect("the pattern is valid"));
static TICKS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"`([^`]*)`").expect("the pattern is valid"));

/// The inside of the first fence or else of the first pair of backticks.
pub(crate) fn fenced(text: &str) -> Option<&str> {
    let found = FENCE.captures(text).or_else(|| TICKS.captures(text))?;
    Some(found.get(1)?.as_str())
}

/// The code in a text, as Lagent's IPython interpreters find it: the first fence, else the first pair of
/// backticks, else the value of `code` in JSON5, else everything.
pub fn extract_code(text: &str) -> String {
    if let Some(code) = fenced(text) {
        return code.to_owned();
    }
    let value = python::json5(text).ok();
    let code = value.as_ref().and_then(|value| value.get("code"));
    code.map_or_else(|| text.to_owned(), PyValue::display)
}

/// The program that Lagent's `PythonInterpreter` runs for a command, and where its answer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PythonProgram {
    /// A variable that holds the answer.
    pub answer_symbol: Option<String>,
    /// An expression that is the answer; without one, the last line is.
    pub answer_expr: Option<String>,
    /// Whether the answer is what was printed.
    pub answer_from_stdout: bool,
}

impl Default for PythonProgram {
    fn default() -> Self {
        Self {
            answer_symbol: None,
            answer_expr: Some("solution()".to_owned()),
            answer_from_stdout: false,
        }
    }
}

impl PythonProgram {
    /// The code in a command: what is in a fence of Python or in any fence, else all of it.
    pub fn code(command: &str) -> &str {
        let inside = |open: &str| {
            let (_, rest) = command.split_once(open)?;
            Some(rest.split("```").next().unwrap_or(rest))
        };
        inside("```python")
            .or_else(|| inside("```"))
            .unwrap_or(command)
    }

    /// The arguments that are reported: the code in a fence.
    pub fn args(command: &str) -> PyValue {
        let text = format!("```python\n{}\n```", Self::code(command));
        PyValue::Dict(vec![(PyValue::str("text"), PyValue::Str(text))])
    }

    /// A program that runs the command's code and then prints one line of JSON, the last of its output:
    /// `{"ok": true, "text": …}` or `{"ok": false, "error": repr}`. Before it stands what the code printed, if
    /// that is not the answer. It is for a [`CodeExecutor`](internlm_core::CodeExecutor).
    pub fn program(&self, command: &str) -> String {
        let code = PyValue::str(Self::code(command)).repr();
        let optional =
            |text: &Option<String>| text.as_ref().map_or(PyValue::None, PyValue::str).repr();
        let (symbol, expr) = (optional(&self.answer_symbol), optional(&self.answer_expr));
        let stdout = PyValue::Bool(self.answer_from_stdout).repr();
        format!(
            "import ast, contextlib, io, json\n\
             def answer(code, symbol, expr, from_stdout):\n\
             \x20   space, out = {{}}, io.StringIO()\n\
             \x20   if from_stdout:\n\
             \x20       with contextlib.redirect_stdout(out):\n\
             \x20           exec(code, space)\n\
             \x20       return io.StringIO(out.getvalue()).readlines()[-1]\n\
             \x20   if symbol:\n\
             \x20       exec(code, space)\n\
             \x20       return space[symbol]\n\
             \x20   if expr:\n\
             \x20       exec(code, space)\n\
             \x20       return eval(expr, space)\n\
             \x20   *head, last = code.split('\\n')\n\
             \x20   exec('\\n'.join(head), space)\n\
             \x20   return eval(last, space)\n\
             try:\n\
             \x20   value = answer({code}, {symbol}, {expr}, {stdout})\n\
             \x20   line = {{'ok': True, 'text': str(value)}}\n\
             except Exception as error:\n\
             \x20   line = {{'ok': False, 'error': repr(error)}}\n\
             print(json.dumps(line))\n"
        )
    }
}
