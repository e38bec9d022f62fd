//! Memory of a server whose clients go away. In a process of its own: what other tests take would count too.
#![cfg(feature = "http")]
#![allow(clippy::unwrap_used, reason = "a test panics")]

#[expect(dead_code, reason = "shared with the tests of the server")]
#[path = "../http/client.rs"]
mod client;
#[expect(dead_code, reason = "shared with the tests of the server")]
#[path = "../http/fixture.rs"]
mod fixture;

use serde_json::json;

use client::Connection;
use fixture::{Server, config, endless, engine_config};

/// Resident memory of this process in bytes.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// What the allocator's arenas move by in a process this small. A leak of a kilobyte a client is twice this.
const ARENAS: usize = 2 << 20;

/// 20. Clients that drop in the middle of a stream, thousands of them.
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
    // Until buffers and the allocator's arenas have their size, which takes some thousands of clients.
    for _ in 0..40 {
        round(100);
    }
    let before = resident();
    for _ in 0..40 {
        round(100);
    }
    if let (Some(before), Some(after)) = (before, resident()) {
        assert!(
            after < before + before / 20 + ARENAS,
            "{before} bytes became {after}"
        );
    }
    let metrics = server.engine.metrics();
    assert!(metrics.cancelled > 0, "{metrics:?}");
    server.chat(json!({})).ok();
}
