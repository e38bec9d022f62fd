//! Who may ask.

use std::net::TcpListener;

use internlm_serve::Error;
use internlm_serve::http::{self, ServerConfig};

use crate::client::{Connection, Reply, ask};
use crate::fixture::{CONTEXT, Server, config, engine_config};

const ROUTES: [(&str, &str); 12] = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/tiny"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rank"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/nothing"),
    ("DELETE", "/v1/models"),
];

/// 22. No key, wrong keys and beginnings of the key are told apart by nothing.
#[test]
fn every_route_wants_the_key() {
    let server = Server::with(
        engine_config(CONTEXT),
        config().with_api_key("sesame-1").with_api_key("sesame-2"),
    );
    let mut bodies = Vec::new();
    for (method, path) in ROUTES {
        for key in [
            None,
            Some(""),
            Some("sesame"),
            Some("sesame-11"),
            Some("sesame-3"),
            Some("x"),
        ] {
            let value = key.map(|key| format!("Bearer {key}"));
            let headers: Vec<_> = value
                .iter()
                .map(|v| ("authorization", v.as_str()))
                .collect();
            let reply = ask(server.address, method, path, &headers, b"{}");
            assert_eq!(reply.status, 401, "{method} {path} {key:?}");
            bodies.push(reply.body);
        }
        let reply = ask(
            server.address,
            method,
            path,
            &[("x-api-key", "sesame-1")],
            b"{}",
        );
        assert_eq!(reply.status, 401);
        for key in ["sesame-1", "sesame-2"] {
            let bearer = format!("Bearer {key}");
            let reply = ask(
                server.address,
                method,
                path,
                &[("authorization", &bearer)],
                b"{}",
            );
            assert_ne!(reply.status, 401, "{method} {path}");
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    assert!(!bodies[0].contains("sesame"));
    server.get("/health").ok();
    let page = server.get("/");
    assert!(
        page.header("www-authenticate")
            .unwrap()
            .starts_with("Basic")
    );
    // "user:sesame-1"
    let basic = ("authorization", "Basic dXNlcjpzZXNhbWUtMQ==");
    assert_eq!(ask(server.address, "GET", "/", &[basic], b"").status, 200);
}

/// 22. Nothing that is written down holds a key.
#[test]
fn keys_are_in_no_metric() {
    let server = Server::with(engine_config(CONTEXT), config().with_api_key("sesame"));
    let bearer = ("authorization", "Bearer sesame");
    ask(
        server.address,
        "GET",
        "/v1/models?key=sesame",
        &[bearer],
        b"",
    );
    ask(server.address, "GET", "/sesame", &[bearer], b"");
    let metrics = ask(server.address, "GET", "/metrics", &[bearer], b"");
    assert_eq!(metrics.status, 200);
    assert!(!metrics.body.contains("sesame"));
}

fn with_host(server: &Server, host: &str) -> u16 {
    ask(server.address, "GET", "/health", &[("host", host)], b"").status
}

fn with_origin(server: &Server, host: &str, origin: &str) -> Reply {
    ask(
        server.address,
        "GET",
        "/v1/models",
        &[("host", host), ("origin", origin)],
        b"",
    )
}

/// 23. Names that are not ours: a page may have made its own name point here.
#[test]
fn foreign_hosts_are_refused() {
    let server = Server::with(
        engine_config(CONTEXT),
        config().with_allowed_host("box.example"),
    );
    for host in [
        "localhost",
        "localhost:1234",
        "127.0.0.1:80",
        "[::1]:80",
        "[::1]",
        "LOCALHOST",
        "box.example:9",
    ] {
        assert_eq!(with_host(&server, host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "localhost@evil.example",
        "",
    ] {
        assert_eq!(with_host(&server, host), 403, "{host}");
    }
    for head in [
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        "GET http://evil.example/health HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /health HTTP/1.0\r\n\r\n",
    ] {
        let mut connection = Connection::open(server.address);
        connection.send(head.as_bytes());
        let status = connection.head().map(|reply| reply.status);
        assert!(matches!(status, Some(400 | 403)), "{head}: {status:?}");
    }
}

/// 23. Pages of others.
#[test]
fn foreign_origins_are_refused() {
    let server = Server::with(
        engine_config(CONTEXT),
        config().with_allowed_origin("https://app.example"),
    );
    let host = "localhost:8000";
    let own = with_origin(&server, host, "http://localhost:8000");
    assert_eq!(own.status, 200);
    assert_eq!(own.header("access-control-allow-origin"), None);
    for origin in [
        "http://localhost:8001",
        "http://evil.example",
        "https://app.example.evil.example",
        "null",
        "file://",
    ] {
        let reply = with_origin(&server, host, origin);
        reply.error(403, None);
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    let listed = with_origin(&server, host, "https://app.example");
    assert_eq!(listed.status, 200);
    assert_eq!(
        listed.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let preflight = |origin: &str| {
        let headers = [
            ("host", host),
            ("origin", origin),
            ("access-control-request-method", "POST"),
        ];
        ask(
            server.address,
            "OPTIONS",
            "/v1/chat/completions",
            &headers,
            b"",
        )
        .status
    };
    assert_eq!(preflight("https://app.example"), 204);
    assert_eq!(preflight("http://evil.example"), 403);
}

/// 23. Other machines.
#[test]
fn a_public_address_wants_a_key_or_a_word() {
    let address = "0.0.0.0:0".parse().unwrap();
    let open = ServerConfig::default();
    assert!(matches!(
        http::bind(address, &open),
        Err(Error::PublicWithoutKey { .. })
    ));
    assert!(http::bind(address, &open.clone().with_api_key("k")).is_ok());
    assert!(http::bind(address, &open.clone().with_allow_public_without_key(true)).is_ok());
    assert!(http::bind("127.0.0.1:0".parse().unwrap(), &open).is_ok());
    // A listener from elsewhere is no way around it.
    let engine = Server::start().engine.clone();
    let listener = TcpListener::bind(address).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let served = runtime.block_on(http::serve(listener, engine, open, std::future::pending()));
    assert!(matches!(served, Err(Error::PublicWithoutKey { .. })));
}

#[test]
fn a_taken_address_is_an_error() {
    let server = Server::start();
    let taken = http::bind(server.address, &ServerConfig::default());
    assert!(matches!(taken, Err(Error::Io { .. })));
}
