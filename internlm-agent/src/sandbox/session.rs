//! A Python session: one interpreter behind the walls, call after call.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use internlm_core::code_executor::CodeStatus;
use serde::{Deserialize, Serialize};

use super::exchange::{Exchange, Streams, Terms};
use super::fault::Fault;
use super::folder::{FileEntry, Folder};
use super::host::{self, Running, START};
use super::run::Sandbox;
use crate::tool::CancelToken;

/// The script that serves a session.
const DRIVER: &str = include_str!("driver.py");

/// How a call ended. All but an error's text is seen from outside; what the code says of itself is
/// its own word.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallStatus {
    /// It came to its end.
    Finished,
    /// It raised an exception.
    Raised(PythonError),
    /// The time was up.
    TimedOut {
        /// Whether it stopped when told to; else the session ended with it.
        session_kept: bool,
    },
    /// It was cancelled.
    Cancelled {
        /// Whether it stopped when told to; else the session ended with it.
        session_kept: bool,
    },
    /// The interpreter ended, and with it the session.
    Ended(CodeStatus),
    /// Something that is no answer came where answers come from; the session is ended.
    Forged,
}

/// An exception that code did not catch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PythonError {
    /// Its class, such as `ValueError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its text.
    pub message: String,
    /// The stack, as Python prints it, from the code on; its end, if it is long.
    pub traceback: String,
}

/// What a call left.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallOutput {
    /// How it ended.
    pub status: CallStatus,
    /// The `repr` of its last expression, if that is one and not `None`.
    pub value: Option<String>,
    /// What was printed, cut at the limit.
    pub stdout: String,
    /// What went to standard error, cut at the limit.
    pub stderr: String,
    /// Files of the folder that are new or changed, figures among them.
    pub files: Vec<FileEntry>,
    /// Wall-clock time.
    pub elapsed: Duration,
}

/// A lasting Python interpreter. It ends, with everything that it started, when this is dropped.
#[derive(Debug)]
pub struct PythonSession {
    running: Option<Running>,
    streams: Streams,
    folder: Folder,
    known: BTreeMap<PathBuf, (u64, (u64, i64, i64))>,
    value_bytes: usize,
    output_bytes: u64,
    grace: Duration,
    ended: String,
    _plain: Option<tempfile::TempDir>,
}

#[derive(Deserialize)]
struct Answer {
    token: String,
    value: Option<String>,
    error: Option<PythonError>,
}

impl PythonSession {
    pub(crate) fn start(sandbox: &Sandbox) -> Result<Self, Fault> {
        let interpreter = sandbox.python()?;
        let args = ["-I", "-B", "-Xutf8", "{script}"];
        let program = sandbox.program(&interpreter, &args, ("session.py", DRIVER));
        let plain = sandbox.plain_folder()?;
        let spec = sandbox.spec(&interpreter, Some(program), plain.as_ref());
        let (input, requests) = host::pipe_to_write()?;
        let (answers, results) = host::pipe_to_read()?;
        let (stdout, out) = host::pipe_to_read()?;
        let (stderr, err) = host::pipe_to_read()?;
        // Standard input is empty: the other end is closed at once.
        let (_, stdin) = host::pipe_to_write()?;
        let fds = [
            stdin.as_fd(),
            out.as_fd(),
            err.as_fd(),
            requests.as_fd(),
            results.as_fd(),
        ];
        let running = Running::start(sandbox.launcher(), &spec, &fds)?;
        let root = running
            .folder
            .try_clone()
            .map_err(|e| Fault::system("the folder", e))?;
        let limits = &sandbox.config().limits;
        let mut session = Self {
            running: Some(running),
            streams: Streams {
                input: Some(input),
                stdout,
                stderr,
                answers: Some(answers),
            },
            folder: Folder::new(root),
            known: BTreeMap::new(),
            value_bytes: limits.value_bytes,
            output_bytes: limits.output_bytes,
            grace: limits.grace,
            ended: String::new(),
            _plain: plain,
        };
        drop((stdin, out, err, requests, results));
        // An empty call: the interpreter is up when it is answered.
        let first = session.call_with("", START, 1 << 16)?;
        match first.status {
            CallStatus::Finished => Ok(session),
            status => Err(Fault::Start {
                what: format!(
                    "the interpreter did not come up: {status:?} {}",
                    first.stderr
                ),
            }),
        }
    }

    /// Runs code, and keeps a mebibyte of each output stream.
    ///
    /// # Errors
    /// If the session has ended with an earlier call, or if the code has four gibibytes. Whatever it does is in
    /// the output.
    pub fn call(&mut self, code: &str, timeout: Duration) -> Result<CallOutput, Fault> {
        self.call_with(code, timeout, 1 << 20)
    }

    /// Runs code, and keeps so many bytes of each output stream.
    ///
    /// # Errors
    /// As [`PythonSession::call`].
    pub fn call_with(
        &mut self,
        code: &str,
        timeout: Duration,
        max_output_bytes: usize,
    ) -> Result<CallOutput, Fault> {
        self.exchange(code, timeout, max_output_bytes, None)
    }

    /// The same until it is cancelled, which is noticed within 20 ms and ends the code as the end of its time does.
    ///
    /// # Errors
    /// As [`PythonSession::call`].
    pub fn call_cancellable(
        &mut self,
        code: &str,
        timeout: Duration,
        max_output_bytes: usize,
        cancel: &CancelToken,
    ) -> Result<CallOutput, Fault> {
        self.exchange(code, timeout, max_output_bytes, Some(cancel))
    }

    fn exchange(
        &mut self,
        code: &str,
        timeout: Duration,
        max_output_bytes: usize,
        cancel: Option<&CancelToken>,
    ) -> Result<CallOutput, Fault> {
        let begin = Instant::now();
        let Some(running) = &mut self.running else {
            return Err(Fault::Ended {
                what: self.ended.clone(),
            });
        };
        let token = token()?;
        let length =
            u32::try_from(code.len()).map_err(|_| Fault::CodeTooLong { bytes: code.len() })?;
        let value_bytes = u32::try_from(self.value_bytes).unwrap_or(u32::MAX);
        let mut input = length.to_be_bytes().to_vec();
        input.extend_from_slice(&value_bytes.to_be_bytes());
        input.extend_from_slice(code.as_bytes());
        input.extend_from_slice(token.as_bytes());
        let terms = Terms {
            input: &input,
            timeout,
            cancel,
            keep: max_output_bytes,
            drain: self.output_bytes,
            // Every byte of value, message and trace may become six in JSON, and be one of four of a character.
            answer: self
                .value_bytes
                .saturating_mul(3 * 4 * 6)
                .saturating_add(1 << 14),
            grace: Some(self.grace),
        };
        // What lies there before a question is no answer to it.
        let early = self.streams.answers.as_ref().is_some_and(has_bytes);
        let exchange = match early {
            true => None,
            false => Some(Exchange::run(running, &mut self.streams, &terms)?),
        };
        let answer = exchange
            .as_ref()
            .and_then(|exchange| exchange.answer.as_deref())
            .and_then(|bytes| serde_json::from_slice::<Answer>(bytes).ok())
            .filter(|answer| answer.token == token);
        let (mut value, mut stdout, mut stderr) = (None, String::new(), String::new());
        let mut status = CallStatus::Forged;
        if let Some(exchange) = exchange {
            stdout = exchange.stdout.text();
            stderr = exchange.stderr.text();
            let silent = exchange.answer.is_none() && !exchange.malformed;
            let stopped = |session_kept| match exchange.cancelled {
                true => CallStatus::Cancelled { session_kept },
                false => CallStatus::TimedOut { session_kept },
            };
            status = match (answer, exchange.end) {
                (Some(_), _) if exchange.timed_out => stopped(true),
                (Some(answer), _) => {
                    value = answer.value;
                    answer
                        .error
                        .map_or(CallStatus::Finished, CallStatus::Raised)
                }
                (None, _) if silent && exchange.timed_out => stopped(false),
                (None, Some(end)) if silent => CallStatus::Ended(end),
                (None, None) if silent => {
                    CallStatus::Ended(CodeStatus::Killed("it ended without a report".into()))
                }
                _ => CallStatus::Forged,
            };
        }
        match status {
            CallStatus::Finished
            | CallStatus::Raised(_)
            | CallStatus::TimedOut { session_kept: true }
            | CallStatus::Cancelled { session_kept: true } => {}
            _ => {
                self.ended = format!("{status:?}");
                // Everything inside is dead when this returns.
                self.running = None;
            }
        }
        Ok(CallOutput {
            status,
            value,
            stdout,
            stderr,
            files: self.changed()?,
            elapsed: begin.elapsed(),
        })
    }

    /// The session's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Whether the interpreter still runs.
    pub fn is_alive(&self) -> bool {
        self.running.is_some()
    }

    /// Files that were not there, or not so, after the last call.
    fn changed(&mut self) -> Result<Vec<FileEntry>, Fault> {
        let now = self.folder.list()?;
        let before = std::mem::take(&mut self.known);
        self.known = now
            .iter()
            .map(|file| (file.path.clone(), (file.size, file.version)))
            .collect();
        Ok(now
            .into_iter()
            .filter(|file| before.get(&file.path) != Some(&(file.size, file.version)))
            .collect())
    }
}

/// Whether a stream that never blocks has something to read.
fn has_bytes(fd: &OwnedFd) -> bool {
    let mut byte = [0; 1];
    matches!(rustix::io::read(fd, &mut byte), Ok(count) if count > 0)
}

/// Sixteen random bytes in hexadecimal.
fn token() -> Result<String, Fault> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Fault::system("random bytes", error))?;
    let mut text = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    Ok(text)
}
