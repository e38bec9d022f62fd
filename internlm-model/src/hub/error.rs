//! What can go wrong between a hub id and a snapshot folder.

use std::path::PathBuf;

/// An error of [`hub`](crate::hub).
///
/// An enum of its own beside [`crate::Error`], because the module is optional and its errors
/// concern a repository and a network, not a model. `crate::Error::Hub` wraps it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An id, revision or file name given by the caller is malformed.
    #[error("`{name}`: {what}")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// An endpoint, a token, a cache folder or an environment variable can't be used.
    #[error("{name}: {what}")]
    Setting {
        /// The setting, by the name of its environment variable. Never a token's value.
        name: &'static str,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The hub offers a file whose name would leave the snapshot folder.
    #[error("{repo}: the hub offers a file named `{}`: {what}", name.escape_debug())]
    RemoteName {
        /// The repository.
        repo: String,
        /// The name that the hub sent.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no such repository, or it is private and the token has no access.
    #[error("{repo}: no such repository, or it is private and the token has no access")]
    RepoNotFound {
        /// The repository.
        repo: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{repo}: no revision `{revision}`")]
    RevisionNotFound {
        /// The repository.
        repo: String,
        /// The revision that was asked for.
        revision: String,
    },
    /// The repository has no such file at this revision.
    #[error("{repo}: no file `{file}` at `{revision}`")]
    FileNotFound {
        /// The repository.
        repo: String,
        /// The revision that was asked for.
        revision: String,
        /// The file.
        file: String,
    },
    /// The repository is gated: its terms must be accepted on the hub's page, and a token is needed.
    #[error("{repo}: gated; accept its terms on the hub's page and set HF_TOKEN")]
    Gated {
        /// The repository.
        repo: String,
    },
    /// The hub refused the token, or wants one.
    #[error("{repo}: the hub answered {status}; is HF_TOKEN set, and valid for it?")]
    Unauthorized {
        /// The repository.
        repo: String,
        /// 401 or 403.
        status: u16,
    },
    /// Offline, and the cache does not hold what was asked for.
    #[error("{repo}@{revision}: offline (HF_HUB_OFFLINE) and not in {}: {what}", cache.display())]
    Offline {
        /// The repository.
        repo: String,
        /// The revision that was asked for.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The repository holds no weights that can be loaded, or no file matches the patterns.
    #[error("{repo}: no file matches {wanted}")]
    NoFiles {
        /// The repository.
        repo: String,
        /// What was looked for.
        wanted: String,
    },
    /// The repository holds several GGUF files and none was named.
    #[error("{repo}: several GGUF files, name one as `{repo}/<file>`: {}", files.join(", "))]
    Ambiguous {
        /// The repository.
        repo: String,
        /// The GGUF files.
        files: Vec<String>,
    },
    /// A file has another size than the hub's listing says.
    #[error("{file}: {got} bytes, the listing says {want}")]
    Size {
        /// The file.
        file: String,
        /// Bytes that were announced or received.
        got: u64,
        /// Bytes according to the listing.
        want: u64,
    },
    /// A file's content has another hash than the hub's listing says. The download was deleted.
    #[error("{file}: hash {got}, the listing says {want}")]
    Hash {
        /// The file.
        file: String,
        /// Hash of what arrived, in hex.
        got: String,
        /// SHA-256 (64 digits) or git blob SHA-1 (40 digits) according to the listing.
        want: String,
    },
    /// The connection was cut in a file too often. What arrived is kept for the next attempt.
    #[error("{file}: the connection was cut after {got} of {want} bytes")]
    Interrupted {
        /// The file.
        file: String,
        /// Bytes on disk.
        got: u64,
        /// Bytes according to the listing.
        want: u64,
    },
    /// The hub answered with a status that has no meaning here, or kept failing.
    #[error("{url}: status {status}")]
    Status {
        /// What was asked for, without its query.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The hub could not be reached, or the connection failed.
    #[error("{url}: {source}")]
    Transport {
        /// What was asked for, without its query.
        url: String,
        /// What the connection said.
        #[source]
        source: std::io::Error,
    },
    /// The hub's answer is not what its protocol says.
    #[error("{url}: {what}")]
    Response {
        /// What was asked for, without its query.
        url: String,
        /// What is wrong and what was expected.
        what: String,
    },
    /// Another process holds the lock of a file and makes no progress.
    #[error("{}: held by another process that makes no progress", lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// A file or folder of the cache could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an error of the file system.
    pub(super) fn io(file: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.into();
        move |source| Error::Io { file, source }
    }

    /// Whether the hub could not be reached or is down, so that the cache may answer in its place.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Error::Transport { .. } => true,
            Error::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
