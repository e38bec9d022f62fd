//! What happened in runs, for people: a file of JSON lines, and a page that shows it.
//!
//! Programs watch runs through `tracing`: spans `invoke_agent`, `chat` and `execute_tool` with the fields of
//! OpenTelemetry's conventions for generative AI (`gen_ai.operation.name`, `gen_ai.agent.name`,
//! `gen_ai.request.model` and `gen_ai.provider.name` where the model says them
//! ([`ChatModel::identity`](internlm_core::ChatModel::identity)), `gen_ai.tool.name`, `gen_ai.tool.call.id`,
//! `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`, `gen_ai.response.finish_reasons`).
//!
//! A file has one [`TraceLine`] per event. Pieces of text while the model speaks are left out; the whole of it
//! comes with the end of its turn.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::agent::AgentEvent;
use crate::error::{Error, Result};

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceLine {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The agent's name.
    pub agent: String,
    /// A number that the lines of a run share; unique in a file but for chance.
    pub run: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AgentEvent,
}

/// Writes lines to the end of a file.
#[derive(Debug)]
pub struct TraceWriter {
    path: PathBuf,
    file: File,
    run: u64,
}

impl TraceWriter {
    /// Opens a file, or makes it.
    ///
    /// # Errors
    /// If that can't be done.
    pub fn append(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| Error::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            // Within what a page can read as a number.
            run: u64::try_from(since_1970().as_micros()).unwrap_or(0) % (1 << 53),
        })
    }

    /// Writes an event, if it is one that traces keep.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, agent: &str, event: &AgentEvent) -> Result<()> {
        if matches!(event, AgentEvent::Delta { .. }) {
            return Ok(());
        }
        let line = TraceLine {
            time_ms: u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX),
            agent: agent.to_owned(),
            run: self.run,
            event: event.clone(),
        };
        let mut text = serde_json::to_string(&line).map_err(|error| Error::State {
            what: error.to_string(),
        })?;
        text.push('\n');
        // One call for the line, so that lines of several runs do not mix.
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| Error::io(&self.path, error))
    }
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Reads a trace. A last line that was cut, because its writer was killed, is left out.
///
/// # Errors
/// If a line is not of a trace, or the file can't be read.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<TraceLine>> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = complete.lines().enumerate().map(|(i, line)| {
        serde_json::from_str(line).map_err(|error| Error::State {
            what: format!("{}: line {}: {error}", path.display(), i + 1),
        })
    });
    lines.collect()
}

const VIEWER: &str = include_str!("trace/viewer.html");

/// A page that shows a trace. It is one file and loads nothing.
pub fn html(lines: &[TraceLine]) -> String {
    let data = serde_json::to_string(lines).unwrap_or_else(|_| "[]".to_owned());
    // Inside of a script element only `<` could end it; in JSON it can only be in strings.
    let data = data.replace('<', "\\u003c");
    VIEWER.replace("/*TRACE*/[]", &data)
}
