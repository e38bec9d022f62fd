//! All servers of a file as one set of tools.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use internlm_core::ToolSpec;
use serde_json::Value;

use super::connection::Connection;
use super::open::open;
use super::thread::Thread;
use super::{McpConfig, McpFault, McpServers, names};
use crate::error::Result;
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, ToolSet};

/// Connections to servers. They live on a thread of their own, so that a program needs no async runtime.
///
/// A connection ends, and with it the server if it is a child process, when the client and all tools of the
/// server are dropped. This waits for the server's end, which [`McpConfig::stop_timeout`] limits.
///
/// ```no_run
/// use internlm_agent::mcp::{McpClient, McpConfig, McpServers};
/// # use internlm_agent::Agent;
/// # fn run(agent: Agent) -> internlm_agent::Result<()> {
///
/// let servers = McpServers::read("mcp.json")?;
/// let client = McpClient::start(&servers, &McpConfig::default())?;
/// let report = agent.with_tools(client.tools()?).run("Which files are here?")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct McpClient {
    connections: Vec<Arc<Connection>>,
    failures: Vec<McpFault>,
    config: McpConfig,
}

impl McpClient {
    /// Starts all servers that are not disabled, at the same time.
    ///
    /// # Errors
    /// What is wrong with the first that is not ready, unless [`McpConfig::allow_failures`].
    pub fn start(servers: &McpServers, config: &McpConfig) -> Result<Self, McpFault> {
        let thread = Arc::new(Thread::start()?);
        let starting = servers.enabled().map(|(name, server)| {
            let opening = open(name.to_owned(), server.clone(), config.clone());
            (name, thread.run(opening).0)
        });
        let starting: Vec<_> = starting.collect();
        let mut client = Self {
            connections: Vec::new(),
            failures: Vec::new(),
            config: config.clone(),
        };
        for (name, opened) in starting {
            let broken = || McpFault::Connection {
                server: name.to_owned(),
                what: "the connection broke off".to_owned(),
            };
            match opened.recv().unwrap_or_else(|_| Err(broken())) {
                Ok(opened) => {
                    let connection = Connection::new(opened, Arc::clone(&thread));
                    client.connections.push(Arc::new(connection));
                }
                Err(fault) => client.failures.push(fault),
            }
        }
        if !config.allow_failures && !client.failures.is_empty() {
            return Err(client.failures.swap_remove(0));
        }
        Ok(client)
    }

    /// The tools that all servers offer now. A server may change its list: then the tools of an earlier set say so
    /// when they are called and are not there any more, and this gives the new ones.
    ///
    /// # Errors
    /// None, as names are made unique; the set's own check is passed on.
    pub fn tools(&self) -> Result<ToolSet> {
        let listed = self.connections.iter().flat_map(|connection| {
            let tools = Arc::unwrap_or_clone(connection.tools());
            tools.into_iter().map(move |tool| (connection, tool))
        });
        let listed: Vec<_> = listed.collect();
        let names: Vec<(String, String)> = listed
            .iter()
            .map(|(connection, tool)| (connection.shared.name.clone(), tool.name.clone()))
            .collect();
        let names = names::unique(&names, self.config.prefix_names);
        let mut set = ToolSet::new();
        for ((connection, tool), name) in listed.into_iter().zip(names) {
            set.add(Arc::new(McpTool {
                spec: tool.spec(name),
                approval: tool.approval,
                name: tool.name,
                connection: Arc::clone(connection),
            }))?;
        }
        Ok(set)
    }

    /// How often servers have changed their lists since the start: when this grows, [`McpClient::tools`] gives others.
    pub fn changes(&self) -> u64 {
        let connections = self.connections.iter();
        let changes = connections.map(|c| c.shared.changes.load(Ordering::SeqCst));
        changes.sum()
    }

    /// The servers that are ready.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        let connections = self.connections.iter();
        connections.map(|connection| connection.shared.name.as_str())
    }

    /// What a server says of its use, if it does. Its author wrote this, not the user.
    pub fn instructions(&self, server: &str) -> Option<&str> {
        let mut connections = self.connections.iter();
        let connection = connections.find(|connection| connection.shared.name == server);
        connection?.shared.instructions.as_deref()
    }

    /// Servers that did not start.
    pub fn failures(&self) -> &[McpFault] {
        &self.failures
    }
}

/// A tool of a server.
struct McpTool {
    spec: ToolSpec,
    approval: bool,
    /// The server's name for it.
    name: String,
    connection: Arc<Connection>,
}

impl Tool for McpTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let shown = &self.spec.name;
        self.connection.call(&self.name, shown, arguments, context)
    }

    fn needs_approval(&self) -> bool {
        self.approval
    }
}
