//! Clients that go away take what they asked for with them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::Connection;
use crate::fixture::{CONTEXT, Server, config, endless, engine_config};

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
