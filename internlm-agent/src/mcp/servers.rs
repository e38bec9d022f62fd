//! The `mcpServers` file that programs with MCP share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::McpFault;
use super::entry::Entry;
use super::variables::expand;

/// Servers by name, as in an `mcpServers` file.
///
/// ```
/// use internlm_agent::mcp::McpServers;
///
/// let servers = McpServers::parse(r#"{"mcpServers": {
///     "files": {"command": "mcp-server-filesystem", "args": ["."], "allowedTools": ["read_text_file"]},
///     "search": {"url": "https://example.org/mcp", "headers": {"Authorization": "Bearer ${SEARCH_KEY}"}},
///     "old": {"command": "python3", "args": ["old.py"], "disabled": true}
/// }}"#)?;
/// assert_eq!(servers.names().collect::<Vec<_>>(), ["files", "old", "search"]);
/// # Ok::<(), internlm_agent::mcp::McpFault>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct McpServers {
    servers: BTreeMap<String, McpServer>,
}

/// How a server is reached. `${NAME}`, `${env:NAME}` and `${NAME:-otherwise}` in its texts stand for variables of
/// the environment.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum McpTransport {
    /// A child process that is spoken to by its standard input and output. Of the environment it gets `PATH`,
    /// `HOME` and what is named here.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables of its environment.
        env: BTreeMap<String, String>,
        /// Its working directory; ours if there is none.
        cwd: Option<PathBuf>,
    },
    /// A server of streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// Sent with each request.
        headers: BTreeMap<String, String>,
    },
}

/// A server, and which of its tools are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpServer {
    /// How it is reached.
    pub transport: McpTransport,
    /// Whether it is left alone.
    pub disabled: bool,
    /// The only tools that are taken, by the server's own names; `None` is all.
    pub allowed_tools: Option<BTreeSet<String>>,
    /// Tools that are left out.
    pub denied_tools: BTreeSet<String>,
    /// If there is such a list, tools that are not in it need approval before each call.
    pub approved_tools: Option<BTreeSet<String>>,
    /// Fields of the file that mean nothing here, some of them perhaps misspelt.
    pub unknown_fields: Vec<String>,
}

/// Values may be secrets: names alone are shown.
impl fmt::Debug for McpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio {
                command, env, cwd, ..
            } => f
                .debug_struct("Stdio")
                .field("command", command)
                .field("env", &env.keys())
                .field("cwd", cwd)
                .finish_non_exhaustive(),
            Self::Http { headers, .. } => f
                .debug_struct("Http")
                .field("headers", &headers.keys())
                .finish_non_exhaustive(),
        }
    }
}

impl McpTransport {
    /// The same with variables of the environment in place.
    pub(super) fn expanded(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let all = |texts: &BTreeMap<String, String>| {
            let texts = texts.iter();
            let texts = texts.map(|(name, text)| Ok((name.clone(), expand(text, lookup)?)));
            texts.collect::<Result<BTreeMap<_, _>, String>>()
        };
        Ok(match self {
            Self::Stdio {
                command,
                args,
                env,
                cwd,
            } => Self::Stdio {
                command: expand(command, lookup)?,
                args: args
                    .iter()
                    .map(|arg| expand(arg, lookup))
                    .collect::<Result<_, _>>()?,
                env: all(env)?,
                cwd: cwd.clone(),
            },
            Self::Http { url, headers } => Self::Http {
                url: expand(url, lookup)?,
                headers: all(headers)?,
            },
        })
    }
}

impl McpServer {
    /// A child process.
    pub fn stdio<A: Into<String>>(
        command: impl Into<String>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::new(McpTransport::Stdio {
            command: command.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            cwd: None,
        })
    }

    /// A server of streamable HTTP.
    pub fn http(url: impl Into<String>) -> Self {
        Self::new(McpTransport::Http {
            url: url.into(),
            headers: BTreeMap::new(),
        })
    }

    fn new(transport: McpTransport) -> Self {
        Self {
            transport,
            disabled: false,
            allowed_tools: None,
            denied_tools: BTreeSet::new(),
            approved_tools: None,
            unknown_fields: Vec::new(),
        }
    }

    /// Takes no tools but these.
    #[must_use]
    pub fn with_allowed_tools<N: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        self.allowed_tools = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a variable of the environment of a child process, or a header of requests.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let values = match &mut self.transport {
            McpTransport::Stdio { env, .. } => env,
            McpTransport::Http { headers, .. } => headers,
        };
        values.insert(name.into(), value.into());
        self
    }

    /// Whether a tool of the server is wanted.
    pub(super) fn allows(&self, tool: &str) -> bool {
        let listed = |names: &BTreeSet<String>| names.contains("*") || names.contains(tool);
        self.allowed_tools.as_ref().is_none_or(listed) && !listed(&self.denied_tools)
    }

    /// Whether a call of it needs approval.
    pub(super) fn needs_approval(&self, tool: &str) -> bool {
        let names = self.approved_tools.as_ref();
        names.is_some_and(|names| !names.contains("*") && !names.contains(tool))
    }
}

impl McpServers {
    /// No servers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads an `mcpServers` file.
    ///
    /// # Errors
    /// [`McpFault::File`] with what is wrong where.
    pub fn read(file: impl AsRef<Path>) -> Result<Self, McpFault> {
        let file = file.as_ref();
        let named = |what: String| McpFault::File {
            file: file.to_owned(),
            what,
        };
        let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(|fault| named(fault.to_string()))
    }

    /// The same from the text of a file.
    ///
    /// # Errors
    /// [`McpFault::Entry`] with the server, or with `mcpServers` where there is none.
    pub fn parse(text: &str) -> Result<Self, McpFault> {
        let wrong = |server: &str, what: String| McpFault::Entry {
            server: server.to_owned(),
            what,
        };
        let file: Value = serde_json::from_str(text)
            .map_err(|error| wrong("mcpServers", format!("the file is no JSON: {error}")))?;
        let entries = ["mcpServers", "servers"]
            .iter()
            .find_map(|key| file.get(key));
        let entries = entries.and_then(Value::as_object).ok_or_else(|| {
            let what = "the file has no object `mcpServers`";
            wrong("mcpServers", what.to_owned())
        })?;
        let mut servers = BTreeMap::new();
        for (name, entry) in entries {
            let entry: Entry = serde_path_to_error::deserialize(entry)
                .map_err(|error| wrong(name, error.to_string()))?;
            let server = entry.server().map_err(|what| wrong(name, what))?;
            if !server.unknown_fields.is_empty() {
                let fields = server.unknown_fields.join(", ");
                tracing::warn!(
                    server = name,
                    fields,
                    "fields of mcpServers mean nothing here"
                );
            }
            servers.insert(name.clone(), server);
        }
        Ok(Self { servers })
    }

    /// Adds a server, in the place of one of its name if there is one.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, server: McpServer) -> Self {
        self.servers.insert(name.into(), server);
        self
    }

    /// A server by its name.
    pub fn get(&self, name: &str) -> Option<&McpServer> {
        self.servers.get(name)
    }

    /// All names, those of disabled servers among them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.servers.keys().map(String::as_str)
    }

    /// Those that are not disabled.
    pub(super) fn enabled(&self) -> impl Iterator<Item = (&str, &McpServer)> {
        let servers = self.servers.iter();
        let enabled = servers.filter(|(_, server)| !server.disabled);
        enabled.map(|(name, server)| (name.as_str(), server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(entry: &str) -> Result<McpServer, String> {
        let file = format!(r#"{{"mcpServers": {{"a": {entry}}}}}"#);
        let servers = McpServers::parse(&file).map_err(|fault| fault.to_string())?;
        servers.get("a").cloned().ok_or_else(String::new)
    }

    #[test]
    fn spellings_of_other_programs_are_read() {
        let ours = McpServer::http("http://h/mcp")
            .with("k", "v")
            .with_allowed_tools(["x"]);
        for entry in [
            r#"{"url": "http://h/mcp", "headers": {"k": "v"}, "allowedTools": ["x"]}"#,
            r#"{"type": "http", "url": "http://h/mcp", "headers": {"k": "v"}, "tools": ["x"]}"#,
            r#"{"httpUrl": "http://h/mcp", "headers": {"k": "v"}, "includeTools": ["x"]}"#,
            r#"{"transport": "streamable-http", "serverUrl": "http://h/mcp", "headers": {"k": "v"}, "tools": ["x"]}"#,
        ] {
            assert_eq!(one(entry).as_ref(), Ok(&ours), "{entry}");
        }
        let server =
            one(r#"{"command": "a", "excludeTools": ["x"], "alwaysAllow": ["y"], "timeuot": 1}"#);
        let server = server.unwrap();
        assert!(!server.allows("x") && server.allows("y"));
        assert!(server.needs_approval("z") && !server.needs_approval("y"));
        assert_eq!(server.unknown_fields, ["timeuot"]);
        assert!(
            one(r#"{"command": "a", "tools": ["*"]}"#)
                .unwrap()
                .allows("x")
        );
        assert!(!one(r#"{"command": "a", "tools": []}"#).unwrap().allows("x"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_server() {
        for (entry, what) in [
            ("{}", "it has neither a `command` nor a `url`"),
            (
                r#"{"command": "a", "url": "b"}"#,
                "it has both a `command` and a `url`",
            ),
            (
                r#"{"type": "http", "command": "a"}"#,
                "its `type` is `http`, which does not fit the rest",
            ),
            (
                r#"{"command": 1}"#,
                "command: invalid type: integer `1`, expected a string",
            ),
        ] {
            assert_eq!(one(entry), Err(format!("MCP server `a`: {what}")));
        }
        assert!(
            one(r#"{"type": "sse", "url": "b"}"#)
                .unwrap_err()
                .contains("streamable HTTP")
        );
        let text = McpServers::parse("[]").unwrap_err().to_string();
        assert_eq!(
            text,
            "MCP server `mcpServers`: the file has no object `mcpServers`"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let server = McpServer::stdio("a", ["--key=hidden"]).with("KEY", "hidden");
        assert!(!format!("{server:?}").contains("hidden"));
        let server = McpServer::http("http://h/?key=hidden").with("Authorization", "hidden");
        assert!(!format!("{server:?}").contains("hidden"));
    }
}
