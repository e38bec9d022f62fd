//! A plain child process for code that a model wrote.
//!
//! This is not a sandbox: the child runs as the same user and can read what the user can. What it gets is limits and,
//! where the system allows namespaces to users, no network and a process tree that ends with it. Code of models has
//! deleted files by accident; whoever runs it says so by [`ChildProcess::allow_unconfined`]. `internlm-agent` has a
//! sandbox.

mod command;
mod output;

use std::path::PathBuf;
use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeOutput, CodeRequest};

use crate::error::{Error, Result};

/// Runs code as a child of this process: an empty environment, a temporary folder as its own, limits of processor
/// time, memory, file size, processes and open files, a wall-clock limit after which the whole process group is
/// killed, and no network where the system lets a user take it away.
///
/// Only Python (`python`) is run. Linux only.
#[derive(Clone, Debug)]
pub struct ChildProcess {
    python: PathBuf,
    memory_bytes: u64,
    file_bytes: u64,
    processes: u64,
    isolated: bool,
    confinement: String,
}

impl ChildProcess {
    /// Allows code to run with the rights of the user, and finds out what the system offers to limit it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] on other systems than Linux, and where `python3` or `prlimit` (util-linux) is missing.
    pub fn allow_unconfined() -> Result<Self> {
        if !cfg!(target_os = "linux") {
            return Err(Error::Unsupported {
                what: "running code of a model in a plain child process",
                why: "its limits need Linux".to_owned(),
            });
        }
        let missing = |program: &str| Error::Unsupported {
            what: "running code of a model in a plain child process",
            why: format!("there is no program `{program}` on the path"),
        };
        command::find("prlimit").ok_or_else(|| missing("prlimit"))?;
        let python = command::find("python3").ok_or_else(|| missing("python3"))?;
        let mut child = Self {
            python,
            memory_bytes: 4 << 30,
            file_bytes: 64 << 20,
            processes: 256,
            isolated: command::can_isolate(),
            confinement: String::new(),
        };
        child.confinement = child.describe();
        Ok(child)
    }

    /// Sets the most bytes of address space of a process (4 GiB).
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self.confinement = self.describe();
        self
    }

    /// Sets the interpreter, in place of the `python3` on the path.
    #[must_use]
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = python.into();
        self
    }

    /// Whether the child has no network and cannot leave processes behind.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    fn describe(&self) -> String {
        let network = match self.isolated {
            true => "no network",
            false => "NETWORK OPEN (the system allows users no namespaces)",
        };
        let mebibytes = self.memory_bytes >> 20;
        format!(
            "plain child process of the same user, limits only: {mebibytes} MiB, {network}, files readable"
        )
    }
}

impl CodeExecutor for ChildProcess {
    fn run(&self, request: &CodeRequest) -> internlm_core::Result<CodeOutput> {
        if request.language != "python" {
            return Err(internlm_core::Error::Request {
                field: "language",
                what: format!("is `{}`, expected `python`", request.language),
            });
        }
        // A bound for processor time that the wall clock does not reach first.
        let seconds = request
            .timeout
            .saturating_add(Duration::from_secs(1))
            .as_secs()
            .max(1);
        let folder = command::Folder::new().map_err(starting)?;
        let code = folder.path().join("main.py");
        std::fs::write(&code, &request.code).map_err(starting)?;
        let limits = command::Limits {
            cpu_seconds: seconds,
            memory_bytes: self.memory_bytes,
            file_bytes: self.file_bytes,
            processes: self.processes,
        };
        let command = command::command(&self.python, &folder, &limits, self.isolated);
        output::run(command, request).map_err(starting)
    }

    fn confinement(&self) -> &str {
        &self.confinement
    }
}

fn starting(source: std::io::Error) -> internlm_core::Error {
    internlm_core::Error::backend("starting a child process", source)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use internlm_core::code_executor::CodeStatus;

    use super::*;

    /// Skips with a reason where the system has no Python, but on CI.
    fn child() -> Option<ChildProcess> {
        match ChildProcess::allow_unconfined() {
            Ok(child) => Some(child),
            Err(error) => {
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{error}");
                println!("skipped: {error}");
                None
            }
        }
    }

    fn run(code: &str, timeout_ms: u64) -> Option<CodeOutput> {
        let request = CodeRequest::new("python", code)
            .with_timeout(Duration::from_millis(timeout_ms))
            .with_max_output_bytes(1000);
        Some(child()?.run(&request).unwrap())
    }

    #[test]
    fn a_program_says_what_it_says() {
        let code = "import sys; print(input()); print('e', file=sys.stderr); sys.exit(3)";
        let Some(child) = child() else { return };
        let output = child
            .run(&CodeRequest::new("python", code).with_stdin("书"))
            .unwrap();
        assert_eq!(output.status, CodeStatus::Exited(3), "{output:?}");
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("书\n", "e\n")
        );
    }

    #[test]
    fn time_memory_output_and_files_have_limits() {
        let Some(output) = run("while True: pass", 300) else {
            return;
        };
        assert_eq!(output.status, CodeStatus::TimedOut);
        let output = run("x = bytearray(8 << 30)", 20_000).unwrap();
        assert_ne!(output.status, CodeStatus::Exited(0));
        assert!(output.stderr.contains("MemoryError"), "{output:?}");
        let output = run("print('x' * 100_000)", 20_000).unwrap();
        assert_eq!(
            (output.status, output.stdout.len()),
            (CodeStatus::Exited(0), 1000)
        );
        let output = run("open('big', 'wb').write(b'x' * (128 << 20))", 20_000).unwrap();
        assert_ne!(output.status, CodeStatus::Exited(0));
    }

    #[test]
    fn nothing_of_ours_is_in_its_environment() {
        let Some(output) = run("import os; print(sorted(os.environ))", 20_000) else {
            return;
        };
        for name in ["CARGO", "USER", "SSH", "TOKEN"] {
            assert!(!output.stdout.contains(name), "{}", output.stdout);
        }
    }

    #[test]
    fn the_network_is_gone_where_it_can_be() {
        let Some(child) = child() else { return };
        if !child.is_isolated() {
            println!("skipped: the system allows users no namespaces");
            return;
        }
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let code = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 5)");
        let output = child.run(&CodeRequest::new("python", code)).unwrap();
        assert_ne!(output.status, CodeStatus::Exited(0));
        assert!(child.confinement().contains("no network"));
    }

    #[test]
    fn children_of_the_child_end_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let code = format!(
            "import subprocess, sys\n\
             subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2); open({:?}, \"w\")'])\n\
             while True: pass",
            mark.display().to_string()
        );
        if run(&code, 700).is_none() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!mark.exists());
    }

    #[test]
    fn other_languages_are_refused() {
        let Some(child) = child() else { return };
        assert!(child.run(&CodeRequest::new("ruby", "1")).is_err());
    }
}
