//! Our client and servers of HTTP that misbehave.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use internlm_agent::mcp::{McpConfig, McpFault, McpServer};
use serde_json::{Value, json};

use crate::support::{config, start, text};

/// A server, and the heads of requests that came.
struct Web {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn at(&self, path: &str) -> McpServer {
        McpServer::http(format!("http://{}{path}", self.address))
    }
}

/// Answers each request by what is given: its path and its message.
fn serve(answer: impl Fn(&str, &Value, &mut TcpStream) + Send + Sync + 'static) -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (noted, answer) = (Arc::clone(&heads), Arc::new(answer));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    match reader.read_line(&mut head) {
                        Ok(count) if count > 0 => {}
                        _ => return,
                    }
                }
                let lower = head.to_lowercase();
                let length = lower.split("content-length: ").nth(1);
                let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                let message = serde_json::from_slice(&body).unwrap_or_default();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                noted.lock().unwrap().push(head);
                answer(&path, &message, &mut stream);
            });
        }
    });
    Web { address, heads }
}

/// Clients may have gone before they have read all of it.
fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok();
}

const JSON: &str = "Content-Type: application/json\r\n";
const EVENTS: &str = "Content-Type: text/event-stream\r\n";

/// Speaks MCP without sessions and streams.
fn speak(message: &Value, stream: &mut TcpStream) {
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "web", "version": "1"},
        }),
        Some("tools/list") => {
            json!({"tools": [{"name": "path", "inputSchema": {"type": "object"}}]})
        }
        Some("tools/call") => json!({"content": [{"type": "text", "text": "here"}]}),
        Some(_) => return reply(stream, "202 Accepted", "", ""),
        None => return reply(stream, "405 Method Not Allowed", "", ""),
    };
    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
    reply(stream, "200 OK", JSON, &answer.to_string());
}

/// The error of a start at a server that answers always so.
#[track_caller]
fn fault(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static, config: &McpConfig) -> String {
    let web = serve(move |_, _, stream| answer(stream));
    let fault = start(web.at("/mcp"), config).unwrap_err();
    let expected = matches!(fault, McpFault::Connection { .. } | McpFault::Ended { .. });
    assert!(expected, "{fault:?}");
    fault.to_string()
}

#[track_caller]
fn check(status: &'static str, headers: &'static str, body: &'static str, want: &str) {
    let fault = fault(
        move |stream| reply(stream, status, headers, body),
        &config(),
    );
    assert!(fault.contains(want), "{fault}");
}

#[test]
fn what_is_no_mcp_is_said() {
    let html = "Content-Type: text/html\r\n";
    check(
        "200 OK",
        html,
        "<p>hello",
        r#"Unexpected content type: Some("text/html")"#,
    );
    check(
        "404 Not Found",
        html,
        "no such page",
        "HTTP 404 Not Found: no such page",
    );
    check("500 Internal Server Error", "", "", "HTTP 500");
    check(
        "429 Too Many Requests",
        "Retry-After: 9\r\n",
        "",
        "HTTP 429",
    );
    check(
        "403 Forbidden",
        JSON,
        r#"{"why": "who knows"}"#,
        "HTTP 403 Forbidden",
    );
    check(
        "401 Unauthorized",
        "WWW-Authenticate: Bearer\r\n",
        "",
        "authorization required",
    );
    check(
        "200 OK",
        JSON,
        "garbage",
        "expected value at line 1 column 1",
    );
    check("200 OK", JSON, "", "EOF while parsing");
    check(
        "200 OK",
        EVENTS,
        "data: garbage\n\n",
        "did not answer with a message of MCP",
    );
    check(
        "200 OK",
        EVENTS,
        ": nothing\n\n",
        "did not answer with a message of MCP",
    );
    let refused =
        r#"{"jsonrpc": "2.0", "id": 0, "error": {"code": -32000, "message": "not today"}}"#;
    check(
        "400 Bad Request",
        JSON,
        refused,
        "it refuses to start: not today",
    );
    let error = fault(
        |stream| drop(stream.write_all(b"no HTTP at all\r\n\r\n")),
        &config(),
    );
    assert!(error.contains("HTTP"), "{error}");
}

#[test]
fn answers_have_a_size() {
    let config = config().with_max_message_bytes(50_000);
    let long = "x".repeat(50_001);
    let body = fault(move |stream| reply(stream, "200 OK", JSON, &long), &config);
    assert!(
        body.contains("exceeded the maximum size of 50000 bytes"),
        "{body}"
    );
    // One without an end, until the client has gone.
    let endless = |headers: &'static str, piece: &'static [u8]| {
        move |stream: &mut TcpStream| {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\n{headers}Connection: close\r\n\r\n"
            )
            .ok();
            while stream.write_all(piece).is_ok() {}
        }
    };
    let body = fault(endless(JSON, b"          "), &config);
    assert!(
        body.contains("exceeded the maximum size of 50000 bytes"),
        "{body}"
    );
    let event = fault(endless(EVENTS, b"data: xxxxxxxxxx\n"), &config);
    assert!(
        event.contains("an event of more than 50000 bytes"),
        "{event}"
    );
    let page = fault(
        |stream| {
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"
            )
            .ok();
            while stream.write_all(b"no such page. ").is_ok() {}
        },
        &config,
    );
    assert!(page.contains("HTTP 404") && page.len() < 2000, "{page}");
}

#[test]
fn a_silent_server_is_not_waited_for() {
    let config = config().with_start_timeout(Duration::from_millis(500));
    let silent = |stream: &mut TcpStream| drop(stream.read(&mut [0]));
    let web = serve(move |_, _, stream| silent(stream));
    let fault = start(web.at("/mcp"), &config).unwrap_err();
    assert!(matches!(fault, McpFault::Timeout { .. }), "{fault:?}");
    // Pings are no answer.
    let web = serve(|_, _, stream| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{EVENTS}Connection: close\r\n\r\n"
        )
        .ok();
        while stream.write_all(b": ping\n\n").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let fault = start(web.at("/mcp"), &config).unwrap_err();
    assert!(matches!(fault, McpFault::Timeout { .. }), "{fault:?}");
}

#[test]
fn redirects_are_followed_at_home_and_keys_stay_there() {
    let web = serve(|path, message, stream| match path {
        "/mcp" => reply(stream, "307 Temporary Redirect", "Location: /mcp/\r\n", ""),
        _ => speak(message, stream),
    });
    let server = web.at("/mcp").with("Authorization", "Bearer sesame");
    let client = start(server, &config()).unwrap();
    assert_eq!(text(&client, "s__path", json!({})).as_deref(), Ok("here"));
    drop(client);

    let address = web.address;
    let before = web.heads.lock().unwrap().len();
    let elsewhere = serve(move |_, _, stream| {
        let location = format!("Location: http://{address}/mcp\r\n");
        reply(stream, "307 Temporary Redirect", &location, "");
    });
    let server = elsewhere.at("/mcp").with("Authorization", "Bearer sesame");
    let fault = start(server, &config()).unwrap_err().to_string();
    assert_eq!(
        fault,
        format!(
            "MCP server `s`: Client error: it redirects to http://{address}/mcp, which is another origin: name \
             that address"
        )
    );
    assert_eq!(
        web.heads.lock().unwrap().len(),
        before,
        "nobody asked there"
    );

    let round = serve(|_, _, stream| {
        reply(stream, "308 Permanent Redirect", "Location: /mcp\r\n", "");
    });
    let fault = start(round.at("/mcp"), &config()).unwrap_err().to_string();
    assert!(fault.contains("it redirects without end"), "{fault}");
}

#[test]
fn headers_of_the_file_are_sent_and_none_of_the_protocols_own() {
    let web = serve(|_, message, stream| speak(message, stream));
    let client = start(web.at("/mcp").with("X-Key", "sesame"), &config()).unwrap();
    drop(client);
    let heads = web.heads.lock().unwrap().clone();
    assert!(
        heads
            .iter()
            .all(|head| head.to_lowercase().contains("x-key: sesame\r\n")),
        "{heads:?}"
    );
    for (name, value) in [("Mcp-Session-Id", "a"), ("X-Key", "a\nb"), ("no name", "a")] {
        let fault = start(web.at("/mcp").with(name, value), &config())
            .unwrap_err()
            .to_string();
        assert!(
            fault.to_lowercase().contains(&name.to_lowercase()),
            "{fault}"
        );
        assert!(!fault.contains("a\nb"), "{fault}");
    }
}
