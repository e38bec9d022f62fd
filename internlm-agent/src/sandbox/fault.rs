//! What can go wrong with a sandbox, apart from what the code inside does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::layers::Layer;

/// A reason why code was not run, or why a session gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The system is not Linux, whose walls these are.
    #[error("this system has no such walls: they are those of the Linux kernel")]
    Unsupported,
    /// Neither was [`init`](super::init) called nor is there a helper program.
    #[error("no launcher: call `sandbox::init` first thing in `main`, or name a helper program")]
    NoLauncher,
    /// A layer that must hold does not.
    #[error("the layer `{layer}` does not hold: {what}")]
    Layer {
        /// The layer.
        layer: Layer,
        /// What was tried and what the system said.
        what: String,
    },
    /// The program behind the walls could not be started.
    #[error("{what}")]
    Start {
        /// What was tried and what the system said.
        what: String,
    },
    /// A call of the system failed on this side of the walls.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// There is no interpreter for a language, or it can't be used.
    #[error("no interpreter for `{language}`: {what}")]
    Interpreter {
        /// The language asked for.
        language: String,
        /// What is wrong.
        what: String,
    },
    /// The launcher broke off, or said what it never says.
    #[error("the launcher: {what}")]
    Launcher {
        /// What was expected and what came.
        what: String,
    },
    /// Code is longer than a session takes. The session is as it was.
    #[error("the code has {bytes} bytes, more than a session takes")]
    CodeTooLong {
        /// Its length in bytes; `u32::MAX` are taken.
        bytes: usize,
    },
    /// The session ended with an earlier call.
    #[error("the session has ended: {what}")]
    Ended {
        /// How it ended.
        what: String,
    },
    /// A file of the session's folder can't be handed out or taken in.
    #[error("{}: {what}", path.display())]
    File {
        /// The file, relative to the folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl Fault {
    /// A failed call of the system.
    #[cfg(target_os = "linux")]
    pub(crate) fn system(what: &'static str, source: impl Into<io::Error>) -> Self {
        Fault::System {
            what,
            source: Arc::new(source.into()),
        }
    }
}
