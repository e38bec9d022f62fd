//! The official SDKs and reference servers as peers. `peers/install.sh` fetches them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use internlm_agent::mcp::{McpHttpConfig, McpServer, McpService};
use internlm_agent::tool::{MediaSource, OutputPart};
use internlm_agent::tools;
use serde_json::{Value, json};

use crate::both::set;
use crate::support::{call, client, config, start, text, until};

/// Where `peers/install.sh` has put them, or nothing if they are not there.
#[track_caller]
fn peers() -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/mcp-peers");
    let named = std::env::var_os("INTERNLM_MCP_PEERS");
    let folder = named.map_or(PathBuf::from(folder), PathBuf::from);
    let sdk = folder.join("node_modules/@modelcontextprotocol/sdk");
    if folder.join("bin/python3").exists() && sdk.exists() {
        return Some(folder.canonicalize().unwrap());
    }
    // CI installs them: there a skipped test would be a test that nobody runs.
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(!ci, "no SDKs of MCP in {}", folder.display());
    println!(
        "skipped: no SDKs of MCP in {}; run internlm-agent/tests/mcp/peers/install.sh or set INTERNLM_MCP_PEERS",
        folder.display()
    );
    None
}

fn script(name: &str) -> String {
    format!("{}/tests/mcp/peers/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn python(peers: &Path) -> String {
    peers.join("bin/python3").to_string_lossy().into_owned()
}

fn node_server(peers: &Path, name: &str) -> String {
    let server = format!("node_modules/@modelcontextprotocol/{name}/dist/index.js");
    peers.join(server).to_string_lossy().into_owned()
}

/// A server that is a process, and ends with this.
struct Served(Child, McpServer);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts a server of HTTP on a port that is free.
fn served(command: impl FnOnce(u16) -> Command) -> Served {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = command(port);
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = McpServer::http(format!("http://127.0.0.1:{port}/mcp"));
    let served = Served(quiet.spawn().unwrap(), server);
    until("the server listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    served
}

fn check_python(server: McpServer) {
    let client = client(server);
    assert_eq!(client.instructions("s"), Some("Ask politely."));
    let tools = client.tools().unwrap();
    let names: Vec<&str> = tools.names().collect();
    assert_eq!(names, ["add", "weather", "media", "link", "fails"]);
    assert_eq!(tools.specs()[0].description, "Adds two numbers.");
    assert_eq!(
        text(&client, "add", json!({"a": 2, "b": 3})).as_deref(),
        Ok("5")
    );
    let said = text(&client, "weather", json!({"city": "Shanghai"})).unwrap();
    let weather: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        weather,
        json!({"celsius": 21.5, "sky": "clear over Shanghai"})
    );
    let output = call(&client, "media", json!({})).unwrap();
    let [OutputPart::Image { image }, OutputPart::Audio { audio }, ..] = output.parts.as_slice()
    else {
        panic!("{output:?}");
    };
    assert_eq!(image.source, MediaSource::Bytes(b"picture".to_vec()));
    assert_eq!(audio.source, MediaSource::Bytes(b"sound".to_vec()));
    assert_eq!(audio.mime, "audio/wav");
    let output = call(&client, "link", json!({})).unwrap();
    assert_eq!(output.parts[0], OutputPart::Text { text: "see".into() });
    let OutputPart::File { file } = &output.parts[1] else {
        panic!("{output:?}");
    };
    assert_eq!(file.source, MediaSource::Url("test://a".into()));
    let error = text(&client, "fails", json!({})).unwrap_err();
    assert!(error.contains("the disk is full"), "{error}");
    let error = text(&client, "add", json!({"a": "x", "b": 1})).unwrap_err();
    assert_eq!(
        error,
        "wrong arguments for `add`: `a` must be integer, not a string"
    );
}

#[test]
fn a_server_of_the_python_sdk_on_standard_input() {
    let Some(peers) = peers() else { return };
    check_python(McpServer::stdio(
        python(&peers),
        [script("server.py"), "stdio".to_owned()],
    ));
}

#[test]
fn a_server_of_the_python_sdk_over_http() {
    let Some(peers) = peers() else { return };
    let served = served(|port| {
        let mut command = Command::new(python(&peers));
        command.args([&script("server.py"), "http", &port.to_string()]);
        command
    });
    check_python(served.1.clone());
}

fn check_everything(server: McpServer) {
    let client = client(server);
    let said = text(&client, "echo", json!({"message": "天"}));
    assert_eq!(said.as_deref(), Ok("Echo: 天"));
    let said = text(&client, "get-sum", json!({"a": 2, "b": 40})).unwrap();
    assert!(said.contains("42"), "{said}");
    let output = call(&client, "get-tiny-image", json!({})).unwrap();
    let image = output.parts.iter().find_map(|part| match part {
        OutputPart::Image { image } => Some(image),
        _ => None,
    });
    let image = image.unwrap();
    let MediaSource::Bytes(bytes) = &image.source else {
        panic!("{image:?}");
    };
    assert!(
        image.mime == "image/png" && bytes.starts_with(b"\x89PNG"),
        "{image:?}"
    );
    let said = text(
        &client,
        "get-structured-content",
        json!({"location": "Chicago"}),
    )
    .unwrap();
    let weather: Value = serde_json::from_str(&said).unwrap();
    assert!(weather["temperature"].is_number(), "{said}");
    let output = call(&client, "get-resource-links", json!({"count": 2})).unwrap();
    let links = output
        .parts
        .iter()
        .filter(|part| matches!(part, OutputPart::File { .. }));
    assert_eq!(links.count(), 2, "{output:?}");
    let error = text(
        &client,
        "get-structured-content",
        json!({"location": "Nowhere"}),
    )
    .unwrap_err();
    assert!(error.contains("location"), "{error}");
}

#[test]
fn the_reference_server_with_everything_on_standard_input() {
    let Some(peers) = peers() else { return };
    let server = node_server(&peers, "server-everything");
    check_everything(McpServer::stdio(
        "node",
        [server.clone(), "stdio".to_owned()],
    ));
    // Of its environment there is nothing but what is named.
    let server = McpServer::stdio("node", [server, "stdio".to_owned()]).with("NAMED", "yes");
    let client = client(server);
    let said = text(&client, "get-env", json!({})).unwrap();
    let environment: Value = serde_json::from_str(&said).unwrap();
    let names: Vec<&String> = environment.as_object().unwrap().keys().collect();
    assert!(
        names
            .iter()
            .all(|name| ["HOME", "NAMED", "PATH"].contains(&name.as_str())),
        "{names:?}"
    );
    assert_eq!(environment["NAMED"], "yes");
}

#[test]
fn the_reference_server_with_everything_over_http() {
    let Some(peers) = peers() else { return };
    let served = served(|port| {
        let mut command = Command::new("node");
        command.args([&node_server(&peers, "server-everything"), "streamableHttp"]);
        command.env("PORT", port.to_string());
        command
    });
    check_everything(served.1.clone());
}

#[test]
fn the_reference_server_of_files() {
    let Some(peers) = peers() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::write(root.join("a.txt"), "天 晴").unwrap();
    let server = node_server(&peers, "server-filesystem");
    let server = McpServer::stdio("node", [server, root.to_string_lossy().into_owned()]);
    let server = server.with_allowed_tools(["read_text_file", "list_directory"]);
    let client = start(server, &config()).unwrap();
    let mut names = client.tools().unwrap().specs();
    names.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<&str> = names.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["s__list_directory", "s__read_text_file"]);
    let path = |name: &str| json!({"path": root.join(name)});
    let said = text(&client, "s__read_text_file", path("a.txt")).unwrap();
    assert!(said.contains("天 晴"), "{said}");
    let error = text(&client, "s__read_text_file", json!({"path": "/etc/passwd"})).unwrap_err();
    assert!(error.contains("Access denied"), "{error}");
}

#[track_caller]
fn run(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaint}");
    assert!(said.trim_end().ends_with("all good"), "{said}\n{complaint}");
}

/// Runs a client against our program on standard input, and against our server by HTTP.
fn check_client(client: impl Fn() -> Command) {
    let mut command = client();
    run({
        command.args(["stdio", env!("CARGO_BIN_EXE_internlm-mcp"), "serve"]);
        command
    });
    let service = McpService::new(set([tools::calculator(), tools::text_stats()]));
    let listener = service
        .listen("127.0.0.1:0", &McpHttpConfig::default())
        .unwrap();
    let mut command = client();
    run({
        command.args(["http", &format!("http://{}/mcp", listener.address())]);
        command
    });
}

#[test]
fn clients_of_the_python_sdk() {
    let Some(peers) = peers() else { return };
    check_client(|| {
        let mut command = Command::new(python(&peers));
        command.arg(script("client.py"));
        command
    });
}

#[test]
fn clients_of_the_javascript_sdk() {
    let Some(peers) = peers() else { return };
    check_client(|| {
        let mut command = Command::new("node");
        command.arg(script("client.mjs")).env("MCP_PEERS", &peers);
        command
    });
}
