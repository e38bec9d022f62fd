//! What can go wrong with MCP servers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why a server of tools can't be used, or ours can't be served. Each names the server.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpFault {
    /// An `mcpServers` file is none.
    #[error("{}: {what}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An entry of the file can't be used.
    #[error("MCP server `{server}`: {what}")]
    Entry {
        /// The name in the file.
        server: String,
        /// What is wrong with it.
        what: String,
    },
    /// The program of a server does not run.
    #[error("MCP server `{server}` does not start: {what}")]
    Spawn {
        /// The name in the file.
        server: String,
        /// What the system said.
        what: String,
    },
    /// A server is not ready in time.
    #[error("MCP server `{server}` was not ready within {limit:?}{said}")]
    Timeout {
        /// The name in the file.
        server: String,
        /// How long it was waited for.
        limit: Duration,
        /// What it said instead; empty, or begins with a separator.
        said: String,
    },
    /// A server ended or closed the connection before it was ready.
    #[error("MCP server `{server}` ended before it was ready{said}")]
    Ended {
        /// The name in the file.
        server: String,
        /// How, and its last words; empty, or begins with a separator.
        said: String,
    },
    /// A server can't be reached, or does not speak MCP.
    #[error("MCP server `{server}`: {what}")]
    Connection {
        /// The name in the file.
        server: String,
        /// What happened.
        what: String,
    },
    /// A server offers more than this client takes.
    #[error(
        "MCP server `{server}` offers more than {limit} tools; `allowedTools` may name those that are wanted"
    )]
    TooManyTools {
        /// The name in the file.
        server: String,
        /// Most tools.
        limit: usize,
    },
    /// The thread behind connections could not be made.
    #[error("the thread for MCP could not be made: {what}")]
    Thread {
        /// What the system said.
        what: String,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {what}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        what: String,
    },
    /// An address that other machines reach, without a key.
    #[error(
        "{address} can be reached from other machines: set a key, or say that everybody may ask"
    )]
    Open {
        /// The address.
        address: SocketAddr,
    },
    /// Our own server failed.
    #[error("the MCP server failed: {what}")]
    Serve {
        /// What happened.
        what: String,
    },
}
