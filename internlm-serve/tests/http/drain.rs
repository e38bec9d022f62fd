//! How a server ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Connection;
use crate::fixture::{CONTEXT, Server, chat, config, endless, engine_config};

/// 24. An answer that is being written is finished; nobody else gets one.
#[test]
fn streams_finish() {
    let config = config().with_shutdown_grace(Duration::from_secs(60));
    let mut server = Server::with(engine_config(4 * CONTEXT), config);
    let body = chat(json!({"stream": true, "ignore_eos": true, "max_tokens": 1000}));
    let mut streaming = Connection::open(server.address);
    streaming.request(
        "POST",
        "/v1/chat/completions",
        &[],
        body.to_string().as_bytes(),
    );
    assert_eq!(streaming.head().unwrap().status, 200);
    let mut text = streaming.chunk().unwrap();
    let mut idle = Connection::open(server.address);
    idle.request("GET", "/health", &[], b"");
    assert_eq!(idle.reply().unwrap().status, 200);
    let address = server.address;
    server.stop();
    // A connection on which nothing happens is closed, and no other is taken.
    assert!(idle.is_closed());
    let refused = std::net::TcpStream::connect(address);
    if refused.is_ok() {
        // It was in the listener's queue when that went.
        assert!(Connection::open(address).is_closed());
    }
    while let Some(chunk) = streaming.chunk() {
        text.push_str(&chunk);
    }
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains("\"finish_reason\":\"length\"") && !text.contains("\"error\""));
    server.join();
}

/// 24. An answer without an end gets an error when the time is up.
#[test]
fn streams_that_do_not_finish_get_an_error() {
    let config = config().with_shutdown_grace(Duration::from_millis(300));
    let mut server = Server::with(engine_config(4 * CONTEXT), config);
    let mut streaming = Connection::open(server.address);
    streaming.request(
        "POST",
        "/v1/chat/completions",
        &[],
        endless().to_string().as_bytes(),
    );
    assert_eq!(streaming.head().unwrap().status, 200);
    let mut waiting = Connection::open(server.address);
    let mut whole = endless();
    whole["stream"] = json!(false);
    waiting.request(
        "POST",
        "/v1/chat/completions",
        &[],
        whole.to_string().as_bytes(),
    );
    let start = Instant::now();
    while server.engine.metrics().running < 2 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    server.stop();
    let mut text = String::new();
    while let Some(chunk) = streaming.chunk() {
        text.push_str(&chunk);
    }
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains("\"code\":\"shutting_down\""));
    waiting.reply().unwrap().error(503, None);
    server.wait_until_free();
    server.join();
}
