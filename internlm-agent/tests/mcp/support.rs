//! What tests share.

use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use internlm_agent::mcp::{McpClient, McpConfig, McpFault, McpServer, McpServers};
use internlm_agent::tool::{ToolContext, ToolError, ToolOutput};
use serde_json::Value;

/// A server of `stand_in.py`.
pub(crate) fn stand_in(mode: &str) -> McpServer {
    // `python3` may be a script that finds Python, with an environment of its own.
    static PYTHON: LazyLock<String> = LazyLock::new(|| {
        let tell = ["-c", "import sys; print(sys.executable)"];
        let output = Command::new("python3").args(tell).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/stand_in.py");
    McpServer::stdio(PYTHON.as_str(), [script, mode])
}

/// Our own program as a server.
pub(crate) fn ours() -> McpServer {
    McpServer::stdio(env!("CARGO_BIN_EXE_internlm-mcp"), ["serve"])
}

/// Limits under which nothing but a hanging server is late.
pub(crate) fn config() -> McpConfig {
    McpConfig::default().with_stop_timeout(Duration::from_millis(500))
}

pub(crate) fn start(server: McpServer, config: &McpConfig) -> Result<McpClient, McpFault> {
    McpClient::start(&McpServers::new().with("s", server), config)
}

/// A client of one server, whose tools have its names for them.
#[track_caller]
pub(crate) fn client(server: McpServer) -> McpClient {
    start(server, &config().with_prefix_names(false)).unwrap()
}

pub(crate) fn call(
    client: &McpClient,
    tool: &str,
    arguments: Value,
) -> Result<ToolOutput, ToolError> {
    let tools = client.tools().unwrap();
    tools.call(tool, &arguments, &ToolContext::default())
}

/// The text of a result, or of the error.
pub(crate) fn text(client: &McpClient, tool: &str, arguments: Value) -> Result<String, String> {
    let result = call(client, tool, arguments);
    result
        .map(|output| output.to_text())
        .map_err(|error| error.to_string())
}

/// Waits until something is so; a minute is long for all that is waited for here.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs.
pub(crate) fn runs(pid: u64) -> bool {
    // One that has ended and was not waited for has no memory any more.
    std::fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|text| !text.starts_with("0 "))
}
