//! `internlm-mcp`: our tools as an MCP server, and a look at the servers of an `mcpServers` file.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

use std::process::ExitCode;
use std::sync::Arc;

use internlm_agent::mcp::{McpClient, McpConfig, McpHttpConfig, McpServers, McpService};
use internlm_agent::tool::{ToolContext, ToolSet};
use internlm_agent::tools::dates::DateConfig;
use internlm_agent::tools::{self, Root};

const USAGE: &str = "\
usage: internlm-mcp serve                       serve our tools on standard input and output
       internlm-mcp serve ADDRESS               serve them by HTTP, at /mcp and as POST /TOOL
       internlm-mcp serve --files FOLDER …      with tools that read what is below a folder
       internlm-mcp list FILE                   show the tools of the servers in an mcpServers file
       internlm-mcp call FILE TOOL ARGUMENTS    call one of them with a JSON object

With INTERNLM_MCP_KEY in the environment, `serve ADDRESS` asks for that key.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["serve"] => serve(None, None),
        ["serve", "--files", folder] => serve(Some(folder), None),
        ["serve", address] => serve(None, Some(address)),
        ["serve", "--files", folder, address] => serve(Some(folder), Some(address)),
        ["list", file] => list(file),
        ["call", file, tool, arguments] => call(file, tool, arguments),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn std::error::Error>>;

fn tools(folder: Option<&str>) -> Result<ToolSet, Box<dyn std::error::Error>> {
    if let Some(folder) = folder {
        let root = Root::open(folder).map_err(|error| format!("{folder}: {error}"))?;
        return Ok(tools::default_set(&root));
    }
    let mut set = ToolSet::new()
        .with(tools::calculator())?
        .with(tools::text_stats())?;
    for tool in tools::dates::tools(&DateConfig::default()) {
        set.add(Arc::new(tool))?;
    }
    Ok(set)
}

fn serve(folder: Option<&str>, address: Option<&str>) -> Done {
    let service = McpService::new(tools(folder)?);
    let Some(address) = address else {
        return Ok(service.serve_stdio()?);
    };
    let mut config = McpHttpConfig::default();
    if let Ok(key) = std::env::var("INTERNLM_MCP_KEY") {
        config = config.with_api_key(key);
    }
    let listener = service.listen(address, &config)?;
    println!("http://{}/mcp", listener.address());
    listener.wait();
    Ok(())
}

fn start(file: &str) -> Result<McpClient, Box<dyn std::error::Error>> {
    let servers = McpServers::read(file)?;
    Ok(McpClient::start(&servers, &McpConfig::default())?)
}

fn list(file: &str) -> Done {
    let client = start(file)?;
    for spec in client.tools()?.specs() {
        let summary = spec.description.lines().next().unwrap_or_default();
        println!("{}  {summary}", spec.name);
    }
    Ok(())
}

fn call(file: &str, tool: &str, arguments: &str) -> Done {
    let client = start(file)?;
    let arguments = serde_json::from_str(arguments)?;
    let output = client
        .tools()?
        .call(tool, &arguments, &ToolContext::default())?;
    println!("{}", output.to_text());
    Ok(())
}
