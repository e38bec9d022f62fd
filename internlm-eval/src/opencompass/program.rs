//! Programs around code that a model wrote.

use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};

use crate::error::Result;
use crate::item::Row;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Timeout,
    /// An assertion did not hold.
    WrongAnswer,
    /// Anything else.
    Failed,
}

impl Outcome {
    pub(crate) const ALL: [Outcome; 4] = [
        Outcome::Pass,
        Outcome::Timeout,
        Outcome::Failed,
        Outcome::WrongAnswer,
    ];

    /// The name in MBPP's results.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Timeout => "timeout",
            Outcome::WrongAnswer => "wrong_answer",
            Outcome::Failed => "failed",
        }
    }
}

/// HumanEval's program: the prompt goes on with the completion, then come the tests.
pub(crate) fn human_eval(row: &Row, completion: &str) -> String {
    let column = |name: &str| {
        row.get(name)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
    };
    format!(
        "{}{completion}\n{}\ncheck({})",
        column("prompt"),
        column("test"),
        column("entry_point")
    )
}

/// Runs a Python program.
pub(crate) fn run(code: &dyn CodeExecutor, program: String, seconds: u64) -> Result<Outcome> {
    let request = CodeRequest::new("python", program).with_timeout(Duration::from_secs(seconds));
    let output = code.run(&request)?;
    Ok(match output.status {
        CodeStatus::Exited(0) => Outcome::Pass,
        CodeStatus::TimedOut => Outcome::Timeout,
        CodeStatus::Exited(_) => {
            let last = output
                .stderr
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty());
            if last.is_some_and(|line| line.starts_with("AssertionError")) {
                Outcome::WrongAnswer
            } else {
                Outcome::Failed
            }
        }
        CodeStatus::Killed(_) => Outcome::Failed,
    })
}
