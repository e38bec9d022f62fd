//! A folder that tools stay in.
//!
//! It is held by a file descriptor, and every path is resolved below it, through links only where they lead to
//! what is below it too: `..`, an absolute path, a link that leads out and a folder that is replaced by one in the
//! meantime are errors, not escapes. The work is done by `cap-std`, on Linux with the kernel's `openat2`.

mod walk;
mod write;

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

pub(crate) use walk::{Kind, WalkLimits};

use crate::tool::ToolError;

/// A folder; clones are the same one. Tools that are made with it read and write nothing else.
///
/// ```
/// use internlm_agent::tools::Root;
/// # let folder = std::env::temp_dir().join(format!("root-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
///
/// let root = Root::open(&folder)?;
/// root.write("notes/a.txt", b"kept")?;
/// assert_eq!(root.read("notes/a.txt", 100)?, b"kept");
/// assert!(root.read("../etc/passwd", 100).is_err());
/// # std::fs::remove_dir_all(&folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Root {
    dir: Arc<Dir>,
    path: Arc<Path>,
    /// Held by whoever changes something, so that two edits of a file do not lose one.
    change: Arc<Mutex<()>>,
}

impl Root {
    /// The folder at a path, which is resolved now and not again.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(path: impl AsRef<Path>) -> std::io::Result<Self> {
        let path = path.as_ref();
        Ok(Self {
            dir: Arc::new(Dir::open_ambient_dir(path, ambient_authority())?),
            path: path.into(),
            change: Arc::default(),
        })
    }

    /// The path that it was opened at, to name what is in it; it is not used to get there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// If there is none, if the path leads out of the folder, or if it has more bytes than that.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Vec<u8>, ToolError> {
        let mut bytes = Vec::new();
        // Not by its stated size, which may change.
        self.file(path)?
            .take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| fault(path, &error))?;
        match bytes.len() as u64 > max_bytes {
            true => Err(too_large(path, max_bytes)),
            false => Ok(bytes),
        }
    }

    /// A regular file, opened for reading.
    ///
    /// # Errors
    /// If there is none, or if the path leads out of the folder.
    pub fn file(&self, path: &str) -> Result<std::fs::File, ToolError> {
        let path = below(path);
        let fault = |error: std::io::Error| fault(path, &error);
        // Before it is opened: a pipe would wait for its other end.
        let is_file = self.dir.metadata(path).map_err(fault)?.is_file();
        if !is_file {
            return Err(format!("`{path}` is no regular file").into());
        }
        Ok(self.dir.open(path).map_err(fault)?.into_std())
    }

    /// Whoever holds it is the only one who changes files through this root and its clones.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half done.
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A path as models write it, who take `./a`, `a` and `` for what they are.
pub(crate) fn below(path: &str) -> &str {
    match path.trim() {
        "" => ".",
        path => path,
    }
}

/// What a model is told of an error of the system.
pub(crate) fn fault(path: &str, error: &std::io::Error) -> ToolError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => format!("there is no `{path}`").into(),
        // `cap-std` says so of a path that leads out; the system's own refusals have a number.
        ErrorKind::PermissionDenied if error.raw_os_error().is_none() => ToolError::Denied {
            why: format!("`{path}` leads out of the folder; paths are relative to it"),
        },
        ErrorKind::NotADirectory => format!("`{path}` is no folder, or goes through a file").into(),
        _ => format!("`{path}`: {error}").into(),
    }
}

/// What a model is told of a file with too many bytes.
pub(crate) fn too_large(path: &str, max_bytes: u64) -> ToolError {
    ToolError::Limit {
        what: format!("`{path}` has more than {max_bytes} bytes"),
    }
}
