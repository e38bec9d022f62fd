//! The doors of our server by HTTP: who may come in, and tools as AgentLego serves them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use internlm_agent::mcp::{McpFault, McpHttpConfig, McpListener, McpService};
use internlm_agent::tool::{Media, MediaSource, OutputPart, ToolOutput, tool};
use internlm_agent::tools;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::both::set;

/// A list of points.
#[derive(Deserialize, JsonSchema)]
struct Points {
    points: Vec<Point>,
}

/// A point.
#[derive(Deserialize, JsonSchema)]
struct Point {
    x: i64,
}

fn service() -> McpService {
    let pictures = tool("take pictures", |points: Points| {
        let images = points.points.iter().map(|point| OutputPart::Image {
            image: Media {
                mime: "image/png".to_owned(),
                source: MediaSource::Bytes(point.x.to_string().into_bytes()),
            },
        });
        Ok(ToolOutput {
            parts: images.collect(),
        })
    });
    let set = set([tools::calculator(), tools::text_stats(), pictures]);
    McpService::new(set).with_name("test tools")
}

fn listen(config: &McpHttpConfig) -> McpListener {
    let service = service().with_max_message_bytes(10_000);
    service.listen("127.0.0.1:0", config).unwrap()
}

/// A request as it is on the wire; its status and body.
fn send(address: SocketAddr, head: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = format!("{head} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    // A server that refuses early may have closed.
    stream.write_all(request.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (status, body)
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const HOST: (&str, &str) = ("Host", "localhost");

#[track_caller]
fn check(path: &str, arguments: &str, status: u16, want: Value) {
    let listener = listen(&McpHttpConfig::default());
    let head = format!("POST /{path}");
    let (got, body) = send(listener.address(), &head, &[HOST, JSON], arguments);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((got, body), (status, want));
}

#[test]
fn a_tool_is_an_address() {
    check(
        "calculator",
        r#"{"expression": "37*12+5"}"#,
        200,
        json!("449"),
    );
    let stats = json!({"characters": 3, "words": 2, "lines": 1});
    check("text_stats", r#"{"text": "天 晴"}"#, 200, stats);
    let points =
        |xs: &[i64]| json!({"points": xs.iter().map(|x| json!({"x": x})).collect::<Vec<_>>()});
    check("take_pictures", &points(&[]).to_string(), 200, Value::Null);
    check(
        "take_pictures",
        &points(&[1]).to_string(),
        200,
        json!("MQ=="),
    );
    check(
        "take_pictures",
        &points(&[1, 2]).to_string(),
        200,
        json!(["MQ==", "Mg=="]),
    );
}

#[test]
fn what_is_wrong_has_a_status_and_a_detail() {
    check("telescope", "{}", 404, json!({"detail": "Not Found"}));
    let failed = json!({"detail": "division by zero"});
    check("calculator", r#"{"expression": "1/0"}"#, 400, failed);
    let fault =
        |text: &str| json!({"detail": [{"loc": ["body"], "msg": text, "type": "value_error"}]});
    let missing = "wrong arguments for `calculator`: `expression` is missing";
    check("calculator", "{}", 422, fault(missing));
    check(
        "calculator",
        "[]",
        422,
        fault("wrong arguments for `calculator`: they must be a JSON object"),
    );
    check(
        "calculator",
        "{",
        422,
        fault("EOF while parsing an object at line 1 column 1"),
    );
    let deep = "[".repeat(5000);
    check(
        "calculator",
        &deep,
        422,
        fault("recursion limit exceeded at line 1 column 128"),
    );
    let listener = listen(&McpHttpConfig::default());
    let long = format!(r#"{{"expression": "{}"}}"#, "1".repeat(20_000));
    let (status, _) = send(listener.address(), "POST /calculator", &[HOST, JSON], &long);
    assert_eq!(status, 413);
    let (status, _) = send(listener.address(), "GET /calculator", &[HOST], "");
    assert_eq!(status, 405);
    // What a form of any page can send.
    let form = ("Content-Type", "text/plain");
    let (status, _) = send(listener.address(), "POST /calculator", &[HOST, form], "{}");
    assert_eq!(status, 415);
}

#[test]
fn the_description_is_openapi() {
    let listener = listen(&McpHttpConfig::default());
    let (status, body) = send(listener.address(), "GET /openapi.json", &[HOST], "");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], "test tools");
    let operation = &document["paths"]["/calculator"]["post"];
    assert_eq!(operation["operationId"], "calculator");
    let content = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(content["properties"]["expression"]["type"], "string");
    assert_eq!(content["required"], json!(["expression"]));
    let pictures = &document["paths"]["/take_pictures"]["post"];
    let content = &pictures["requestBody"]["content"]["application/json"]["schema"];
    let reference = content["properties"]["points"]["items"]["$ref"]
        .as_str()
        .unwrap();
    let pointer = reference.strip_prefix('#').unwrap();
    assert_eq!(
        document.pointer(pointer).unwrap()["properties"]["x"]["type"],
        "integer"
    );
    assert!(!body.contains("$defs"));
}

#[test]
fn strangers_stay_outside_of_all_doors() {
    let listener = listen(&McpHttpConfig::default().with_api_key("sesame"));
    let key = ("Authorization", "Bearer sesame");
    for head in [
        "POST /mcp",
        "GET /mcp",
        "POST /calculator",
        "GET /openapi.json",
        "GET /none",
    ] {
        let status = |headers: &[(&str, &str)]| send(listener.address(), head, headers, "{}").0;
        assert_eq!(status(&[JSON]), 403, "{head}: no host");
        assert_eq!(
            status(&[JSON, key, ("Host", "evil.example")]),
            403,
            "{head}"
        );
        let page = ("Origin", "http://evil.example");
        assert_eq!(status(&[JSON, key, HOST, page]), 403, "{head}");
        assert_eq!(status(&[JSON, HOST]), 401, "{head}");
        assert_eq!(
            status(&[JSON, HOST, ("Authorization", "Bearer sesam")]),
            401,
            "{head}"
        );
        let inside = status(&[JSON, HOST, key]);
        assert!(inside != 401 && inside != 403, "{head}: {inside}");
    }
}

#[test]
fn sessions_have_a_number() {
    let listener = listen(&McpHttpConfig::default().with_max_sessions(2));
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"},
    }});
    let accept = ("Accept", "application/json, text/event-stream");
    // The answer is a stream of events, so its head is enough.
    let status = || {
        let mut stream = TcpStream::connect(listener.address()).unwrap();
        let body = hello.to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{body}",
            accept.0,
            accept.1,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        String::from_utf8(status[9..].to_vec()).unwrap()
    };
    assert_eq!([status(), status(), status()], ["200", "200", "503"]);
}

#[test]
fn other_machines_reach_nothing_unless_that_is_said() {
    let config = McpHttpConfig::default();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let fault = service().listen(address, &config).unwrap_err();
        assert!(matches!(fault, McpFault::Open { .. }), "{fault:?}");
    }
    // Nobody but this machine is let in by name even then.
    let open = service().listen("0.0.0.0:0", &config.with_open()).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], open.address().port()));
    assert_eq!(send(local, "GET /openapi.json", &[HOST], "").0, 200);
    assert_eq!(
        send(local, "GET /openapi.json", &[("Host", "192.0.2.1")], "").0,
        403
    );
    let named = service()
        .listen("127.0.0.2:0", &McpHttpConfig::default())
        .unwrap();
    let host = ("Host", "127.0.0.2:80");
    let (status, _) = send(named.address(), "GET /openapi.json", &[host], "");
    assert_eq!(status, 200);
    let fault = service().listen("no address", &McpHttpConfig::default());
    assert!(matches!(fault.unwrap_err(), McpFault::Listen { .. }));
}
