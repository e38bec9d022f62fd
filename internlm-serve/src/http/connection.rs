//! One connection, and what it may cost.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::config::ServerConfig;
use super::state::Phase;

/// What a client may send, and how slowly.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    headers: usize,
    header_bytes: usize,
    header_timeout: Duration,
}

impl Limits {
    pub(super) fn of(config: &ServerConfig) -> Self {
        Self {
            headers: config.max_headers,
            header_bytes: config.max_header_bytes,
            header_timeout: config.header_timeout,
        }
    }
}

/// Answers requests until the client goes, or the server ends. A client that goes takes what it asked for with
/// it: its response is dropped, and the engine frees what it holds.
pub(super) async fn serve(
    stream: TcpStream,
    router: Router,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) {
    // Tokens are small, and each is waited for.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes);
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let draining = async {
        // Without a server nobody says so.
        if phase
            .wait_for(|&phase| phase > Phase::Serving)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
