//! Everything that can go wrong in an agent.

use std::path::PathBuf;
use std::sync::Arc;

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The model or the server behind it failed.
    #[error(transparent)]
    Model(#[from] internlm_core::Error),
    /// A page could not be fetched.
    #[cfg(feature = "fetch")]
    #[error("fetch: {0}")]
    Fetch(#[from] crate::fetch::FetchFault),
    /// Code could not be run behind walls.
    #[cfg(feature = "sandbox")]
    #[error("sandbox: {0}")]
    Sandbox(#[from] crate::sandbox::Fault),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
