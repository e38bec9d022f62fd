//! Our server by HTTP.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::oneshot;

use super::door::{call, openapi, refusal};
use super::guard::{guard, is_local, without_port};
use super::service::Session;
use super::thread::Thread;
use super::{McpFault, McpHttpConfig, McpService};

/// A server that listens, on a thread of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct McpListener {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    stopped: std::sync::Mutex<mpsc::Receiver<()>>,
    _thread: Thread,
}

impl McpListener {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it ends, which it does not do by itself.
    pub fn wait(self) {
        if let Ok(stopped) = self.stopped.lock() {
            stopped.recv().ok();
        }
    }
}

impl Drop for McpListener {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

impl McpService {
    /// Serves by HTTP: MCP at `/mcp`, tools at `POST /{tool}`, their description at `/openapi.json`. Port 0 is any.
    /// The host of the address is one of the [`McpHttpConfig::allowed_hosts`].
    ///
    /// # Errors
    /// [`McpFault::Open`] for an address that other machines reach if there is no key,
    /// [`McpFault::Listen`], [`McpFault::Thread`].
    pub fn listen(&self, address: &str, config: &McpHttpConfig) -> Result<McpListener, McpFault> {
        let fault = |error: std::io::Error| McpFault::Listen {
            address: address.to_owned(),
            what: error.to_string(),
        };
        let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(fault)?.collect();
        let foreign = addresses.iter().find(|address| !is_local(address.ip()));
        if let Some(&address) = foreign
            && config.api_key.is_none()
            && !config.open
        {
            return Err(McpFault::Open { address });
        }
        let listener = std::net::TcpListener::bind(&addresses[..]).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        let bound = listener.local_addr().map_err(fault)?;
        let thread = Thread::start()?;
        let mut config = config.clone();
        if !bound.ip().is_unspecified() {
            // Whoever can be called by this address alone is called by it.
            config = config.with_allowed_host(without_port(address));
        }
        let router = self.router(&config);
        let (stop, stopping) = oneshot::channel::<()>();
        let (stopped, _) = thread.run(async move {
            let serving = async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                axum::serve(listener, router).await
            };
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::error!(%error, "the MCP server ended");
                },
                _ = stopping => {}
            }
        });
        Ok(McpListener {
            address: bound,
            stop: Some(stop),
            stopped: std::sync::Mutex::new(stopped),
            _thread: thread,
        })
    }

    /// The same for a server of axum that is there already, which says who may connect. Needs a runtime of tokio.
    pub fn router(&self, config: &McpHttpConfig) -> Router {
        let sessions = Arc::new(LocalSessionManager::default());
        let session = Session(self.clone());
        // `guard` looks at hosts and origins, for all routes alike.
        let requests = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_max_request_body_bytes(self.max_message_bytes);
        let service = StreamableHttpService::new(
            move || Ok(session.clone()),
            Arc::clone(&sessions),
            requests,
        );
        let crowd = (sessions, config.max_sessions);
        Router::new()
            .route_service("/mcp", service)
            .layer(from_fn_with_state(crowd, not_too_many))
            .route("/openapi.json", get(openapi))
            .route("/{tool}", post(call))
            .layer(DefaultBodyLimit::max(self.max_message_bytes))
            .with_state(self.clone())
            .layer(from_fn_with_state(Arc::new(config.clone()), guard))
    }
}

/// Refuses a client that would make one session too many.
async fn not_too_many(
    State((sessions, max)): State<(Arc<LocalSessionManager>, usize)>,
    request: Request,
    next: Next,
) -> Response {
    let new = !request.headers().contains_key("mcp-session-id");
    if new && sessions.sessions.read().await.len() >= max {
        return refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            "there are too many sessions",
        );
    }
    next.run(request).await
}
