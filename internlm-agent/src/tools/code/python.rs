//! The Python interpreter.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use internlm_core::ToolSpec;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::handed::hand_out;
use super::{CodeConfig, limited};
use crate::sandbox::{CallOutput, CallStatus, PythonSession, Sandbox};
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, read_arguments, spec_of};

/// Runs Python in a lasting session: what one call defines, the next one finds. Gives what is printed and the value of
/// the last expression. Figures of matplotlib and files that are written to the current folder come back. There is no
/// network.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RunPython {
    /// The program.
    pub code: String,
}

/// The tool `python`: one session of one interpreter, which starts with the first call and ends with the tool.
///
/// Agents that must not see each other's variables get tools of their own, made from one sandbox. The time of a call is
/// the shorter one of the configuration's and of what is left to the run, and it ends when the run is cancelled.
///
/// ```no_run
/// use std::sync::Arc;
/// use internlm_agent::Agent;
/// use internlm_agent::sandbox::{self, Sandbox, SandboxConfig};
/// use internlm_agent::tools::code::Python;
/// # use internlm_core::scripted::{Reply, ScriptedModel};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     sandbox::init();
///     let sandbox = Arc::new(Sandbox::new(SandboxConfig::default())?);
/// #   let model = ScriptedModel::new([Reply::text("541")]);
///     let agent = Agent::new(model).with_tool(Python::new(sandbox));
///     println!("{}", agent.run("What is the 100th prime?")?.answer);
///     Ok(())
/// }
/// ```
pub struct Python {
    spec: ToolSpec,
    sandbox: Arc<Sandbox>,
    config: CodeConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<PythonSession>,
    /// Whether there was one before.
    is_next: bool,
}

impl std::fmt::Debug for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Python")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Python {
    /// With a session of its own.
    pub fn new(sandbox: Arc<Sandbox>) -> Self {
        Self {
            spec: spec_of::<RunPython>("python"),
            sandbox,
            config: CodeConfig::default(),
            state: Mutex::default(),
        }
    }

    /// Sets the limits of a call, and where files go.
    #[must_use]
    pub fn with_config(mut self, config: CodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Puts a file into the session's folder, for the code to read. It is gone when the session dies.
    ///
    /// # Errors
    /// If the session can't be started, or has no room for it.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), ToolError> {
        let mut state = self.state();
        let (session, _) = state.session(&self.sandbox)?;
        session
            .folder()
            .write(path, bytes)
            .map_err(ToolError::failed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A session that a panic left behind is no worse than one that a timeout did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, code: &str, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        context.check()?;
        let mut state = self.state();
        let (session, is_new) = state.session(&self.sandbox)?;
        // After the wait for others and for the start.
        context.check()?;
        let left = context.remaining().unwrap_or(Duration::MAX);
        let timeout = self.config.timeout.min(left);
        let most = self.config.output_bytes;
        let output = session
            .call_cancellable(
                program(code),
                timeout,
                most.saturating_add(1),
                &context.cancel,
            )
            .map_err(ToolError::failed)?;
        let text = told(&output, is_new, most);
        match &output.status {
            CallStatus::Finished => {
                let result = ToolOutput::text(match (text.is_empty(), output.files.is_empty()) {
                    (true, true) => "[it printed nothing and has no value]".to_owned(),
                    (true, false) => "[done]".to_owned(),
                    (false, _) => text,
                });
                hand_out(result, session.folder(), &output.files, &self.config)
            }
            CallStatus::Raised(error) => {
                let begin = error.traceback.len().saturating_sub(most);
                let trace = &error.traceback[error.traceback.ceil_char_boundary(begin)..];
                let trace = match trace.trim_end() {
                    // Without one there is the error itself.
                    "" => format!("{}: {}", error.kind, error.message),
                    trace => trace.to_owned(),
                };
                Err(ToolError::failed(joined(&text, &trace)))
            }
            CallStatus::Cancelled { .. } => Err(ToolError::Cancelled),
            CallStatus::TimedOut { session_kept } => {
                let fate = match session_kept {
                    true => "variables and files are still there",
                    false => "so the interpreter was ended; the next call starts a new one",
                };
                let what = format!(
                    "the code was stopped after {:.1} s; {fate}",
                    timeout.as_secs_f64()
                );
                Err(ToolError::Limit {
                    what: joined(&text, &what),
                })
            }
            other => {
                let why = match other {
                    CallStatus::Ended(end) => format!("{end:?}"),
                    _ => "something that was no answer came in place of one".to_owned(),
                };
                let what = format!("the interpreter ended ({why}); the next call starts a new one");
                Err(ToolError::failed(joined(&text, &what)))
            }
        }
    }
}

impl State {
    /// The session, and whether it took the place of one that died.
    fn session(&mut self, sandbox: &Sandbox) -> Result<(&mut PythonSession, bool), ToolError> {
        let alive = self.session.take().filter(PythonSession::is_alive);
        let is_new = alive.is_none() && self.is_next;
        let session = match alive {
            Some(session) => session,
            None => sandbox.session().map_err(ToolError::failed)?,
        };
        self.is_next = true;
        Ok((self.session.insert(session), is_new))
    }
}

/// What is printed and the value, and whether there was another session before.
fn told(output: &CallOutput, is_new: bool, most: usize) -> String {
    let mut pieces = Vec::new();
    if is_new {
        pieces.push(
            "[this is a new interpreter: variables, imports and files of before are gone]"
                .to_owned(),
        );
    }
    let printed = limited(&output.stdout, most);
    let errors = limited(&output.stderr, most);
    if !printed.is_empty() {
        pieces.push(printed);
    }
    if !errors.is_empty() {
        pieces.push(format!("[errors]\n{errors}"));
    }
    if let Some(value) = &output.value {
        pieces.push(limited(value, most));
    }
    pieces.join("\n")
}

fn joined(first: &str, second: &str) -> String {
    match first {
        "" => second.to_owned(),
        first => format!("{first}\n{second}"),
    }
}

/// A program without the fence that models put around it.
fn program(code: &str) -> &str {
    let Some(fenced) = code.trim().strip_prefix("```") else {
        return code;
    };
    let inner = fenced.split_once('\n').map_or("", |(_, inner)| inner);
    inner.strip_suffix("```").unwrap_or(inner)
}

impl Tool for Python {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let RunPython { code } = read_arguments(&self.spec.name, &self.spec.parameters, arguments)?;
        self.run(&code, context)
    }
}
