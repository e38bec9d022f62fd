//! Python and shell programs that a model writes, behind the walls of the [sandbox](crate::sandbox).
//!
//! Neither is in the default set, and a person is asked before each command of the shell.

mod handed;
mod python;
mod shell;

use std::time::Duration;

pub use python::{Python, RunPython};
pub use shell::{RunShell, shell};

use super::catalog::{CatalogEntry, bytes};
use super::root::Root;

/// Limits of a call, beside those of the sandbox, and where files go.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CodeConfig {
    /// Most time of a call.
    pub timeout: Duration,
    /// Most bytes that the model is told of each: what was printed, the errors, and the value.
    pub output_bytes: usize,
    /// Most files that a call hands out; the others are only named.
    pub files: usize,
    /// Most bytes of all of them together.
    pub files_bytes: usize,
    /// The folder that they are written to, in place of those of the same names. Without one their bytes are in the
    /// result.
    pub save_to: Option<Root>,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            output_bytes: 8 << 10,
            files: 16,
            files_bytes: 8 << 20,
            save_to: None,
        }
    }
}

impl CodeConfig {
    /// Sets the most time of a call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most bytes that the model is told of each stream.
    #[must_use]
    pub fn with_output_bytes(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Sets the most files that a call hands out.
    #[must_use]
    pub fn with_files(mut self, files: usize) -> Self {
        self.files = files;
        self
    }

    /// Sets the most bytes of all of them together.
    #[must_use]
    pub fn with_files_bytes(mut self, bytes: usize) -> Self {
        self.files_bytes = bytes;
        self
    }

    /// Sets the folder that files are written to.
    #[must_use]
    pub fn with_save_to(mut self, root: Root) -> Self {
        self.save_to = Some(root);
        self
    }
}

/// What was printed, within a limit.
fn limited(text: &str, max_bytes: usize) -> String {
    let text = text.trim_end_matches('\n');
    let end = text.floor_char_boundary(max_bytes);
    match end == text.len() {
        true => text.to_owned(),
        false => format!("{}… [cut after {max_bytes} bytes]", &text[..end]),
    }
}

/// What the catalog says of them.
pub(super) fn entries() -> Vec<CatalogEntry> {
    let config = CodeConfig::default();
    let inside = crate::sandbox::Limits::default();
    let limits = format!(
        "{} s and {} of each stream a call; {} files of {} together come back. In the sandbox: {} of memory, {} of \
         files, {} processes, no network.",
        config.timeout.as_secs(),
        bytes(config.output_bytes as u64),
        config.files,
        bytes(config.files_bytes as u64),
        bytes(inside.memory_bytes),
        bytes(inside.disk_bytes),
        inside.processes,
    );
    vec![
        CatalogEntry::of::<RunPython>("python", "tools::code::Python", limits.clone())
            .with_feature("sandbox"),
        CatalogEntry::of::<RunShell>("shell", "tools::code::shell", limits)
            .with_feature("sandbox")
            .with_approval(),
    ]
}
