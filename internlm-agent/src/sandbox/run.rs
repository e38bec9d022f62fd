//! The sandbox, and programs that run in it from start to end.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeOutput, CodeRequest, CodeStatus};

use super::config::SandboxConfig;
use super::exchange::{Exchange, Streams, Terms};
use super::fault::Fault;
use super::folder::Folder;
use super::host::{self, Running};
use super::interpreter::Interpreter;
use super::layers::{Layer, Layers};
use super::session::PythonSession;
use super::spec::{NOBODY, Program, Spec};
use crate::tool::CancelToken;

/// Runs Python and shell programs, each behind walls of its own.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    launcher: PathBuf,
    layers: Layers,
    confinement: String,
    python: OnceLock<Result<Interpreter, Fault>>,
}

/// What a program left.
#[derive(Debug)]
#[non_exhaustive]
pub struct Run {
    /// How it ended and what it printed.
    pub output: CodeOutput,
    /// Its files. Nothing inside runs any more.
    pub folder: Folder,
}

impl Sandbox {
    /// Raises the layers once, without a program, to see which hold here.
    ///
    /// # Errors
    /// If a layer that isn't [optional](SandboxConfig::optional) does not hold, or if there is no launcher.
    pub fn new(config: SandboxConfig) -> Result<Self, Fault> {
        let mut sandbox = Self {
            launcher: host::launcher(config.launcher.as_deref())?,
            config,
            layers: Layers::default(),
            confinement: String::new(),
            python: OnceLock::new(),
        };
        let plain = sandbox.plain_folder()?;
        let spec = sandbox.spec(&Interpreter::default(), None, plain.as_ref());
        sandbox.layers = Running::start(&sandbox.launcher, &spec, &[])?
            .layers
            .clone();
        sandbox.confinement = format!("own process behind {}", sandbox.layers);
        Ok(sandbox)
    }

    /// Which layers hold.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Starts a Python session: what one call defines, the next one finds.
    ///
    /// # Errors
    /// If there is no interpreter, or if it can't be started behind the walls.
    pub fn session(&self) -> Result<PythonSession, Fault> {
        PythonSession::start(self)
    }

    /// Runs a program to its end or limit, with its files.
    ///
    /// Languages are `python` (also `python3`, `py`), `bash` and `sh` (also `shell`).
    ///
    /// # Errors
    /// If there is no interpreter for the language, or if it can't be started behind the walls.
    pub fn execute(&self, request: &CodeRequest) -> Result<Run, Fault> {
        self.run_to_end(request, None)
    }

    /// The same until it is cancelled, which is noticed within 20 ms and kills the program with the reason `cancelled`.
    ///
    /// # Errors
    /// As [`Sandbox::execute`].
    pub fn execute_cancellable(
        &self,
        request: &CodeRequest,
        cancel: &CancelToken,
    ) -> Result<Run, Fault> {
        self.run_to_end(request, Some(cancel))
    }

    fn run_to_end(
        &self,
        request: &CodeRequest,
        cancel: Option<&CancelToken>,
    ) -> Result<Run, Fault> {
        let begin = Instant::now();
        let (interpreter, args, name) = match request.language.to_ascii_lowercase().as_str() {
            "python" | "python3" | "py" => (
                self.python()?,
                vec!["-I", "-B", "-Xutf8", "{script}"],
                "main.py",
            ),
            "bash" => (
                Interpreter::shell("bash")?,
                vec!["--noprofile", "--norc", "{script}"],
                "main.sh",
            ),
            "sh" | "shell" => (Interpreter::shell("sh")?, vec!["{script}"], "main.sh"),
            _ => {
                return Err(Fault::Interpreter {
                    language: request.language.clone(),
                    what: "known are python, bash and sh".into(),
                });
            }
        };
        let program = self.program(&interpreter, &args, (name, &request.code));
        let plain = self.plain_folder()?;
        let spec = self.spec(&interpreter, Some(program), plain.as_ref());
        let (input, stdin) = host::pipe_to_write()?;
        let (stdout, out) = host::pipe_to_read()?;
        let (stderr, err) = host::pipe_to_read()?;
        let mut streams = Streams {
            input: Some(input),
            stdout,
            stderr,
            answers: None,
        };
        let fds = [stdin.as_fd(), out.as_fd(), err.as_fd()];
        let mut running = Running::start(&self.launcher, &spec, &fds)?;
        // Else the streams would never end.
        drop((stdin, out, err));
        let terms = Terms {
            input: request.stdin.as_bytes(),
            timeout: request.timeout,
            cancel,
            keep: request.max_output_bytes,
            drain: self.config.limits.output_bytes,
            answer: 0,
            grace: None,
        };
        let exchange = Exchange::run(&mut running, &mut streams, &terms)?;
        let folder = running
            .folder
            .try_clone()
            .map_err(|e| Fault::system("the folder", e))?;
        drop(running);
        let status = match exchange.end {
            Some(status) if !exchange.timed_out => status,
            _ if exchange.cancelled => CodeStatus::Killed("cancelled".into()),
            _ if exchange.timed_out => CodeStatus::TimedOut,
            _ => CodeStatus::Killed("it ended without a report".into()),
        };
        let output = CodeOutput {
            status,
            stdout: exchange.stdout.text(),
            stderr: exchange.stderr.text(),
            elapsed: begin.elapsed(),
        };
        Ok(Run {
            output,
            folder: Folder::new(folder),
        })
    }

    pub(crate) fn config(&self) -> &SandboxConfig {
        &self.config
    }

    pub(crate) fn launcher(&self) -> &std::path::Path {
        &self.launcher
    }

    /// The interpreter; it is asked once where it is at home.
    pub(crate) fn python(&self) -> Result<Interpreter, Fault> {
        self.python
            .get_or_init(|| {
                let named = self.config.python.clone();
                Interpreter::python(&named.unwrap_or_else(|| "python3".into()))
            })
            .clone()
    }

    pub(crate) fn program(
        &self,
        interpreter: &Interpreter,
        args: &[&str],
        (name, text): (&str, &str),
    ) -> Program {
        let bin = interpreter.program.parent().unwrap_or(&interpreter.program);
        let mut env: Vec<(String, String)> = [
            ("PATH", format!("{}:/usr/bin:/bin", bin.display()).as_str()),
            ("LANG", "C.UTF-8"),
            ("USER", "sandbox"),
            ("LOGNAME", "sandbox"),
            ("TERM", "dumb"),
            ("MPLBACKEND", "Agg"),
            ("MPLCONFIGDIR", "/tmp/matplotlib"),
            // A pool of threads per core would pass the limits before any work is done.
            ("OPENBLAS_NUM_THREADS", "1"),
            ("OMP_NUM_THREADS", "1"),
            ("MKL_NUM_THREADS", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        env.extend(self.config.env.iter().cloned());
        Program {
            path: interpreter.program.clone(),
            args: args.iter().map(|&argument| argument.to_owned()).collect(),
            env,
            script: (name.to_owned(), text.to_owned()),
        }
    }

    pub(crate) fn spec(
        &self,
        interpreter: &Interpreter,
        program: Option<Program>,
        plain: Option<&tempfile::TempDir>,
    ) -> Spec {
        let mut seen = interpreter.clone();
        for path in &self.config.readable {
            seen.see(path);
        }
        Spec {
            optional: self.config.optional.clone(),
            limits: self.config.limits.clone(),
            mounts: seen.outermost(),
            links: seen.links.into_iter().collect(),
            plain_folder: plain.map(|folder| folder.path().to_owned()),
            program,
        }
    }

    /// A folder of this system, if code may run without a root of its own.
    pub(crate) fn plain_folder(&self) -> Result<Option<tempfile::TempDir>, Fault> {
        if !self.config.optional.contains(&Layer::MountNamespace) {
            return Ok(None);
        }
        let folder = tempfile::tempdir().map_err(|e| Fault::system("a folder", e))?;
        if rustix::process::geteuid().is_root() {
            let uid = Some(rustix::fs::Uid::from_raw(NOBODY));
            let gid = Some(rustix::fs::Gid::from_raw(NOBODY));
            rustix::fs::chown(folder.path(), uid, gid).map_err(|e| Fault::system("a folder", e))?;
        }
        Ok(Some(folder))
    }
}

impl CodeExecutor for Sandbox {
    fn run(&self, request: &CodeRequest) -> internlm_core::Result<CodeOutput> {
        self.execute(request)
            .map(|run| run.output)
            .map_err(|fault| internlm_core::Error::backend("the sandbox", fault))
    }

    fn confinement(&self) -> &str {
        &self.confinement
    }
}
