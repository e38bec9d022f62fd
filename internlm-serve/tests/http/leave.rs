//! Clients that go away take what they asked for with them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Connection;
use crate::fixture::{CONTEXT, Server, config, endless, engine_config};

/// Resident memory of this process in bytes.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// 20. Five hundred clients that drop in the middle of a stream.
#[test]
fn dropped_streams_leave_nothing() {
    let engine = engine_config(4096).with_max_batch(16).with_max_waiting(600);
    let server = Server::with(engine, config());
    let body = endless().to_string();
    let round = |clients: usize| {
        let mut connections: Vec<_> = (0..clients)
            .map(|_| {
                let mut connection = Connection::open(server.address);
                connection.request("POST", "/v1/chat/completions", &[], body.as_bytes());
                connection
            })
            .collect();
        // Some have read a part of their answer, others nothing.
        for connection in connections.iter_mut().step_by(7).take(2) {
            assert_eq!(connection.head().unwrap().status, 200);
            assert!(connection.chunk().is_some());
        }
        drop(connections);
        server.wait_until_free();
    };
    round(100);
    let before = resident();
    for _ in 0..5 {
        round(100);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(
            after < before + before / 20,
            "{before} bytes became {after}"
        );
    }
    let metrics = server.engine.metrics();
    assert!(metrics.cancelled > 0, "{metrics:?}");
    server.chat(json!({})).ok();
}

/// A client that waits for a whole answer and goes.
#[test]
fn dropped_requests_are_cancelled() {
    let server = Server::with(engine_config(4 * CONTEXT), config());
    let mut body = endless();
    body["stream"] = json!(false);
    let mut connection = Connection::open(server.address);
    connection.request(
        "POST",
        "/v1/chat/completions",
        &[],
        body.to_string().as_bytes(),
    );
    let start = Instant::now();
    while server.engine.metrics().running == 0 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(connection);
    server.wait_until_free();
    assert_eq!(server.engine.metrics().cancelled, 1);
}
