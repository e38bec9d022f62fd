//! The trait of everything that runs code for a model.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Code to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CodeRequest {
    /// The language, such as `python`.
    pub language: String,
    /// The program.
    pub code: String,
    /// What it reads from standard input.
    #[serde(default)]
    pub stdin: String,
    /// Wall-clock limit.
    pub timeout: Duration,
    /// Most bytes kept of each output stream.
    pub max_output_bytes: usize,
}

impl CodeRequest {
    /// A program with ten seconds and a mebibyte of output.
    pub fn new(language: impl Into<String>, code: impl Into<String>) -> Self {
        Self {
            language: language.into(),
            code: code.into(),
            stdin: String::new(),
            timeout: Duration::from_secs(10),
            max_output_bytes: 1 << 20,
        }
    }

    /// Sets what it reads from standard input.
    #[must_use]
    pub fn with_stdin(mut self, stdin: impl Into<String>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Sets the most bytes kept of each output stream.
    #[must_use]
    pub fn with_max_output_bytes(mut self, max_output_bytes: usize) -> Self {
        self.max_output_bytes = max_output_bytes;
        self
    }

    /// Sets the wall-clock limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeStatus {
    /// It ran to its end with this exit status.
    Exited(i32),
    /// The time was up.
    TimedOut,
    /// A limit other than time was hit, or a signal ended it.
    Killed(String),
}

/// What a run left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeOutput {
    /// How it ended.
    pub status: CodeStatus,
    /// Standard output, cut at the limit.
    pub stdout: String,
    /// Standard error, cut at the limit.
    pub stderr: String,
    /// Wall-clock time.
    pub elapsed: Duration,
}

/// Runs code that a model wrote. Implementations decide how well it is confined; callers must not
/// run untrusted code through one that does not say.
pub trait CodeExecutor: Send + Sync {
    /// Runs a program to its end or limit.
    ///
    /// # Errors
    /// Only if the program could not be started; whatever it does itself is in the output.
    fn run(&self, request: &CodeRequest) -> Result<CodeOutput>;

    /// One line on how runs are confined, for reports.
    fn confinement(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_outputs_survive_json() {
        let request = CodeRequest::new("python", "print(1)")
            .with_stdin("x")
            .with_timeout(Duration::from_millis(1500))
            .with_max_output_bytes(10);
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<CodeRequest>(&text).unwrap(), request);
        for status in [
            CodeStatus::Exited(-1),
            CodeStatus::TimedOut,
            CodeStatus::Killed("memory".into()),
        ] {
            let output = CodeOutput {
                status,
                stdout: "1".into(),
                stderr: String::new(),
                elapsed: Duration::from_nanos(7),
            };
            let text = serde_json::to_string(&output).unwrap();
            assert_eq!(serde_json::from_str::<CodeOutput>(&text).unwrap(), output);
        }
    }
}
