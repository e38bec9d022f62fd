//! The Model Context Protocol: tools of other programs for our agents, and ours for theirs.
//!
//! - [`McpServers`] is the `mcpServers` file that programs share, [`McpClient`] makes its servers' tools ours.
//! - [`McpService`] serves a [`ToolSet`](crate::tool::ToolSet) on standard input and output, or by HTTP: MCP at `/mcp`,
//!   and as AgentLego does it, each tool at `POST /{tool}` with `/openapi.json`.
//!
//! What a server says is text of a stranger: its tools run where it runs, their descriptions reach the model. An
//! allow list, limits of time and size, and an environment without secrets are what stands against it.

mod answer;
mod client;
mod config;
mod connection;
mod content;
mod door;
mod entry;
mod error;
mod events;
mod guard;
mod http;
mod listen;
mod names;
mod open;
mod process;
mod said;
mod servers;
mod service;
mod thread;
mod variables;

pub use client::McpClient;
pub use config::McpConfig;
pub use error::McpFault;
pub use guard::McpHttpConfig;
pub use listen::McpListener;
pub use servers::{McpServer, McpServers, McpTransport};
pub use service::McpService;
