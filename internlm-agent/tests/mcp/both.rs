//! Our client and our server.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use internlm_agent::Agent;
use internlm_agent::mcp::{
    McpClient, McpFault, McpHttpConfig, McpListener, McpServer, McpServers, McpService,
};
use internlm_agent::tool::{Media, MediaSource, OutputPart, TypedTool};
use internlm_agent::tool::{Tool, ToolContext, ToolError, ToolOutput, ToolSet, tool};
use internlm_agent::tools::{self, dates::DateConfig};
use internlm_core::ToolCall;
use internlm_core::scripted::{Reply, ScriptedModel};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{call, client, config, ours, start, text, until};

/// Gives back all kinds of things.
#[derive(Deserialize, JsonSchema)]
struct Kinds {
    /// How many bytes its media have.
    bytes: usize,
}

/// Works on a nested list.
#[derive(Deserialize, JsonSchema)]
struct Nested {
    points: Vec<Point>,
}

/// A point.
#[derive(Deserialize, JsonSchema)]
struct Point {
    x: i64,
}

fn media(bytes: usize) -> Media {
    Media {
        mime: "image/png".to_owned(),
        source: MediaSource::Bytes(vec![7; bytes]),
    }
}

fn kinds() -> TypedTool {
    tool("kinds", |kinds: Kinds| {
        let image = OutputPart::Image {
            image: media(kinds.bytes),
        };
        let audio = OutputPart::Audio {
            audio: media(kinds.bytes),
        };
        Ok(ToolOutput::text("all").with(image).with(audio))
    })
}

fn nested() -> TypedTool {
    tool("sum_x", |nested: Nested| {
        let sum: i64 = nested.points.iter().map(|point| point.x).sum();
        Ok(Value::from(sum))
    })
}

pub(crate) fn set(tools: impl IntoIterator<Item = TypedTool>) -> ToolSet {
    let mut set = ToolSet::new();
    for tool in tools {
        set.add(Arc::new(tool)).unwrap();
    }
    set
}

fn listen(service: &McpService, config: &McpHttpConfig) -> McpListener {
    service.listen("127.0.0.1:0", config).unwrap()
}

fn at(listener: &McpListener) -> McpServer {
    McpServer::http(format!("http://{}/mcp", listener.address()))
}

#[test]
fn our_program_serves_on_its_standard_input() {
    let client = client(ours());
    let specs = client.tools().unwrap().specs();
    let mut want = vec![tools::calculator(), tools::text_stats()];
    want.extend(tools::dates::tools(&DateConfig::default()));
    assert_eq!(specs, set(want).specs());
    let said = text(&client, "calculator", json!({"expression": "2**100"}));
    assert_eq!(said.as_deref(), Ok("1267650600228229401496703205376"));
    let said = text(&client, "text_stats", json!({"text": "a b"})).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["words"], 2);
    let failed = text(&client, "calculator", json!({"expression": "1/0"}));
    assert_eq!(failed.unwrap_err(), "division by zero");
}

#[test]
fn our_program_serves_what_is_below_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "天 晴").unwrap();
    let root = folder.path().to_string_lossy();
    let program = env!("CARGO_BIN_EXE_internlm-mcp");
    let client = client(McpServer::stdio(program, ["serve", "--files", &root]));
    let said = text(&client, "read_file", json!({"path": "a.txt"})).unwrap();
    assert!(said.contains("天 晴"), "{said}");
    assert!(text(&client, "read_file", json!({"path": "../a.txt"})).is_err());
    let server = McpServer::stdio(program, ["serve", "--files", "/no/such/folder"]);
    let fault = start(server, &config()).unwrap_err().to_string();
    assert!(
        fault.contains("(exit status: 1); its last words: error: /no/such/folder: "),
        "{fault}"
    );
}

#[test]
fn an_agent_works_with_tools_of_a_server() {
    let client = start(ours(), &config()).unwrap();
    let call = ToolCall::new("s__calculator", json!({"expression": "37*12+5"}));
    let model = ScriptedModel::new([Reply::tool_calls(vec![call]), Reply::text("449 pens.")]);
    let agent = Agent::new(model).with_tools(client.tools().unwrap());
    let report = agent.run("How many pens?").unwrap();
    assert_eq!(report.calls[0].observed.text(), "449");
    assert_eq!(report.answer, "449 pens.");
}

#[test]
fn results_of_every_kind_come_over_http() {
    let service = McpService::new(set([kinds(), nested()])).with_instructions("Ask.");
    let listener = listen(&service, &McpHttpConfig::default());
    let client = client(at(&listener));
    assert_eq!(client.instructions("s"), Some("Ask."));
    assert_eq!(
        client.tools().unwrap().specs(),
        set([kinds(), nested()]).specs()
    );
    let output = call(&client, "kinds", json!({"bytes": 3})).unwrap();
    assert_eq!(
        output.parts,
        [
            OutputPart::Text { text: "all".into() },
            OutputPart::Image { image: media(3) },
            OutputPart::Audio { audio: media(3) },
        ]
    );
    let said = text(&client, "sum_x", json!({"points": [{"x": 1}, {"x": 2}]}));
    assert_eq!(said.as_deref(), Ok("3"));
    // Faults within are found by the tool itself.
    let error = text(&client, "sum_x", json!({"points": [{"x": "1"}]})).unwrap_err();
    assert!(error.contains("`points[0].x`: invalid type"), "{error}");
    let error = call(&client, "kinds", json!({})).unwrap_err();
    assert_eq!(
        error.to_string(),
        "wrong arguments for `kinds`: `bytes` is missing"
    );
}

#[test]
fn media_have_limits_on_both_sides() {
    let service = McpService::new(set([kinds()])).with_max_media_bytes(100);
    let listener = listen(&service, &McpHttpConfig::default());
    let client = client(at(&listener));
    let said = text(&client, "kinds", json!({"bytes": 101})).unwrap();
    assert!(
        said.contains("[image of 101 bytes was left out: the limit is 100]"),
        "{said}"
    );
    let config = config().with_prefix_names(false).with_max_media_bytes(10);
    let client = start(at(&listener), &config).unwrap();
    let said = text(&client, "kinds", json!({"bytes": 60})).unwrap();
    assert!(
        said.contains("[audio of 60 bytes was left out: the limit is 10]"),
        "{said}"
    );
}

#[test]
fn many_calls_at_once_find_their_answers() {
    let service = McpService::new(set([tools::calculator()]));
    let listener = listen(&service, &McpHttpConfig::default());
    for server in [ours(), at(&listener)] {
        let client = client(server);
        std::thread::scope(|scope| {
            for i in 0..40 {
                let client = &client;
                scope.spawn(move || {
                    let expression = format!("{i}*{i}");
                    let said = text(client, "calculator", json!({"expression": expression}));
                    assert_eq!(said, Ok((i * i).to_string()));
                });
            }
        });
    }
}

#[test]
fn other_tools_are_served_from_now_on() {
    let service = McpService::new(set([kinds()]));
    let listener = listen(&service, &McpHttpConfig::default());
    let client = client(at(&listener));
    let before = client.tools().unwrap();
    service.set_tools(set([nested(), kinds()]));
    until("the new list is read", || client.changes() > 0);
    let after = client.tools().unwrap();
    assert_eq!(after.names().collect::<Vec<_>>(), ["sum_x", "kinds"]);
    assert!(
        before
            .call("kinds", &json!({"bytes": 1}), &ToolContext::default())
            .is_ok()
    );
}

/// Waits for its cancellation, and says that it saw it.
#[derive(Deserialize, JsonSchema)]
struct Wait {}

fn wait(seen: mpsc::Sender<&'static str>) -> TypedTool {
    TypedTool::with_context("wait", move |_: Wait, context: &ToolContext| {
        seen.send("begun").ok();
        loop {
            std::thread::sleep(Duration::from_millis(5));
            if let Err(error) = context.check() {
                seen.send("ended").ok();
                return Err::<String, _>(error);
            }
        }
    })
}

#[test]
fn a_call_that_is_given_up_is_cancelled_at_the_server() {
    let (seen, events) = mpsc::channel();
    let service = McpService::new(set([wait(seen.clone())]));
    let listener = listen(&service, &McpHttpConfig::default());
    let config = config().with_prefix_names(false);
    let config = config.with_call_timeout(Duration::from_millis(1500));
    let client = start(at(&listener), &config).unwrap();
    let error = call(&client, "wait", json!({})).unwrap_err();
    assert!(matches!(error, ToolError::Limit { .. }), "{error:?}");
    let long = Duration::from_secs(60);
    assert_eq!(events.recv_timeout(long), Ok("begun"));
    assert_eq!(events.recv_timeout(long), Ok("ended"));

    // And the server's own limit ends one, too.
    let service = McpService::new(set([wait(seen)])).with_call_timeout(Duration::from_millis(300));
    let listener = self::listen(&service, &McpHttpConfig::default());
    let client = self::client(at(&listener));
    let error = text(&client, "wait", json!({})).unwrap_err();
    assert!(
        error == "the call took longer than 300ms" || error == "the time is up",
        "{error}"
    );
    assert_eq!(events.recv_timeout(long), Ok("begun"));
    assert_eq!(events.recv_timeout(long), Ok("ended"));
}

#[test]
fn tools_that_need_approval_are_not_served_unless_that_is_said() {
    let service = McpService::new(set([kinds().with_approval(), nested()]));
    let listener = listen(&service, &McpHttpConfig::default());
    let client = client(at(&listener));
    assert_eq!(
        client.tools().unwrap().names().collect::<Vec<_>>(),
        ["sum_x"]
    );
    let service = service.with_approval_by_clients();
    let listener = self::listen(&service, &McpHttpConfig::default());
    let client = self::client(at(&listener));
    let names = client.tools().unwrap();
    assert_eq!(names.names().collect::<Vec<_>>(), ["kinds", "sum_x"]);
}

#[test]
fn files_name_servers_tools_and_approval() {
    let listener = listen(
        &McpService::new(set([kinds(), nested()])),
        &McpHttpConfig::default().with_api_key("sesame"),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mcp.json");
    let servers = json!({"mcpServers": {
        "near by": {"command": env!("CARGO_BIN_EXE_internlm-mcp"), "args": ["serve"], "allowedTools": ["calculator"]},
        "far": {
            "type": "http",
            "url": format!("http://{}/mcp", listener.address()),
            "headers": {"Authorization": "Bearer ${INTERNLM_NOT_SET:-sesame}"},
            "disabledTools": ["sum_x"],
            "autoApprove": [],
        },
        "off": {"command": "no-such-program", "disabled": true},
    }});
    std::fs::write(&file, servers.to_string()).unwrap();
    let servers = McpServers::read(&file).unwrap();
    let client = McpClient::start(&servers, &config()).unwrap();
    let tools = client.tools().unwrap();
    assert_eq!(
        tools.names().collect::<Vec<_>>(),
        ["far__kinds", "near_by__calculator"]
    );
    let approval = |name| {
        tools
            .get(name)
            .map(|tool: &Arc<dyn Tool>| tool.needs_approval())
    };
    assert_eq!(approval("far__kinds"), Some(true));
    assert_eq!(approval("near_by__calculator"), Some(false));
    let context = ToolContext::default();
    assert!(
        tools
            .call("far__kinds", &json!({"bytes": 1}), &context)
            .is_ok()
    );

    let fault = start(at(&listener), &config()).unwrap_err();
    assert!(matches!(fault, McpFault::Connection { .. }), "{fault:?}");
    assert_eq!(
        fault.to_string(),
        "MCP server `s`: Auth required: authorization required: Bearer"
    );
}

#[test]
fn an_http_server_that_is_gone_or_none_is_an_error() {
    let listener = listen(&McpService::new(set([kinds()])), &McpHttpConfig::default());
    let server = at(&listener);
    let client = client(server.clone());
    drop(listener);
    let error = text(&client, "kinds", json!({"bytes": 1})).unwrap_err();
    assert!(error.starts_with("the MCP server `s` "), "{error}");
    let fault = start(server, &config()).unwrap_err().to_string();
    assert!(fault.starts_with("MCP server `s`: "), "{fault}");
    assert!(fault.contains("refused"), "{fault}");
    let fault = start(McpServer::http("ftp://h/mcp"), &config()).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "MCP server `s`: its `url` is no address of HTTP"
    );
}

#[test]
fn a_stream_of_lines_is_served_on_the_callers_runtime() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    runtime.block_on(async {
        let service = McpService::new(set([tools::calculator()]));
        let (input, mut client) = tokio::io::duplex(1 << 16);
        let (output, _out) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(async move { service.serve(input, output).await });
        use tokio::io::AsyncWriteExt as _;
        client.write_all(b"no message\n").await.unwrap();
        drop(client);
        serving.await.unwrap().unwrap();
    });
}
