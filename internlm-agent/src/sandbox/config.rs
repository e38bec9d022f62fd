//! What a sandbox lets code have.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::layers::Layer;

/// The most that a run, or a session as a whole, may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of address space of one process, and of memory that all processes of a run hold together.
    pub memory_bytes: u64,
    /// Bytes in the folder, `/tmp` and shared memory together.
    pub disk_bytes: u64,
    /// Files in them.
    pub files: u64,
    /// Processes and threads at a time.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Seconds of processor time of one process.
    pub cpu_seconds: u64,
    /// Bytes of output that are read, kept or not, before a run is ended for them.
    pub output_bytes: u64,
    /// Bytes of a value or of an error's text that a session's call gives back, `u32::MAX` at most.
    pub value_bytes: usize,
    /// Between the request to stop a call and the end of its session.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            disk_bytes: 64 << 20,
            files: 4096,
            processes: 32,
            open_files: 256,
            cpu_seconds: 600,
            output_bytes: 64 << 20,
            value_bytes: 64 << 10,
            grace: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// Sets the bytes of memory.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Sets the bytes of the folder, `/tmp` and shared memory together.
    #[must_use]
    pub fn with_disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = bytes;
        self
    }

    /// Sets the number of processes and threads.
    #[must_use]
    pub fn with_processes(mut self, processes: u64) -> Self {
        self.processes = processes;
        self
    }

    /// Sets the bytes of output that are read before a run is ended.
    #[must_use]
    pub fn with_output_bytes(mut self, bytes: u64) -> Self {
        self.output_bytes = bytes;
        self
    }
}

/// How a sandbox is made. The default asks for every layer.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SandboxConfig {
    /// The limits.
    pub limits: Limits,
    /// The Python interpreter; `python3` of the search path if none is named.
    pub python: Option<PathBuf>,
    /// The program that becomes the launcher; this very program, which must call
    /// [`init`](super::init), if none is named.
    pub launcher: Option<PathBuf>,
    /// More variables of the environment. Nothing is taken over from this process.
    pub env: Vec<(String, String)>,
    /// Folders and files of this system that the code may read, at their own paths.
    pub readable: Vec<PathBuf>,
    /// Layers without which code is run all the same. Empty unless said otherwise: a layer that does
    /// not hold is an error.
    pub optional: Vec<Layer>,
}

impl SandboxConfig {
    /// Sets the limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the Python interpreter.
    #[must_use]
    pub fn with_python(mut self, python: impl Into<PathBuf>) -> Self {
        self.python = Some(python.into());
        self
    }

    /// Sets the program that becomes the launcher.
    #[must_use]
    pub fn with_launcher(mut self, launcher: impl Into<PathBuf>) -> Self {
        self.launcher = Some(launcher.into());
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets the code read a folder or a file of this system.
    #[must_use]
    pub fn with_readable(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }

    /// Runs code even where this layer does not hold. The rest of the walls has to do.
    #[must_use]
    pub fn with_optional(mut self, layer: Layer) -> Self {
        self.optional.push(layer);
        self
    }
}
