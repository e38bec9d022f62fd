//! One server: what it offers, calls, its end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use internlm_core::ToolSpec;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ErrorCode, SubscriptionFilter};
use rmcp::service::{Peer, RoleClient, RunningService, ServiceError};
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};

use super::http::with_causes;
use super::open::{Handler, list};
use super::process::Process;
use super::said::Said;
use super::thread::Thread;
use super::{McpConfig, McpServer, McpTransport, content};
use crate::tool::{ToolContext, ToolError, ToolOutput, check_arguments, limited_text};

/// How often a call looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// A tool as its server describes it.
#[derive(Clone, Debug)]
pub(super) struct RemoteTool {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) schema: Value,
    pub(super) approval: bool,
}

impl RemoteTool {
    /// What a model is told of it, by a name.
    pub(super) fn spec(&self, name: String) -> ToolSpec {
        ToolSpec::new(name, self.description.clone(), self.schema.clone())
    }

    /// What does not fit. Names that the schema does not know are the server's matter unless it says otherwise.
    fn check(&self, arguments: &Value) -> Option<String> {
        match self.schema.get("additionalProperties") {
            Some(_) => check_arguments(&self.schema, arguments),
            None => {
                let mut open = self.schema.clone();
                open["additionalProperties"] = true.into();
                check_arguments(&open, arguments)
            }
        }
    }
}

/// What a connection and its tasks share. Nothing happens when it is dropped.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) server: McpServer,
    pub(super) config: McpConfig,
    pub(super) instructions: Option<String>,
    pub(super) tools: RwLock<Arc<Vec<RemoteTool>>>,
    /// How often the list has changed.
    pub(super) changes: AtomicU64,
    pub(super) said: Arc<Said>,
    /// Whether the connection has ended, and all that there is to know of it is known.
    pub(super) ended: watch::Sender<bool>,
}

/// A server that is ready, on the runtime of its thread.
pub(super) struct Opened {
    pub(super) shared: Arc<Shared>,
    pub(super) running: RunningService<RoleClient, Handler>,
    pub(super) process: Option<Process>,
    pub(super) changed: Arc<Notify>,
}

/// A connection. When this is dropped it ends, and so does the server if it is our child.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    peer: Peer<RoleClient>,
    stop: Option<oneshot::Sender<()>>,
    stopped: Mutex<mpsc::Receiver<()>>,
    thread: Arc<Thread>,
}

impl Connection {
    pub(super) fn new(opened: Opened, thread: Arc<Thread>) -> Self {
        let (stop, stopping) = oneshot::channel();
        let shared = Arc::clone(&opened.shared);
        let peer = opened.running.peer().clone();
        let (stopped, _) = thread.run(keep(opened, stopping));
        Self {
            shared,
            peer,
            stop: Some(stop),
            stopped: Mutex::new(stopped),
            thread,
        }
    }

    /// What the server offers now.
    pub(super) fn tools(&self) -> Arc<Vec<RemoteTool>> {
        let tools = self.shared.tools.read();
        Arc::clone(&tools.unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls a tool by the server's name for it; `shown` is the model's.
    pub(super) fn call(
        &self,
        name: &str,
        shown: &str,
        arguments: &Value,
        context: &ToolContext,
    ) -> Result<ToolOutput, ToolError> {
        context.check()?;
        let shared = &self.shared;
        let tools = self.tools();
        let Some(tool) = tools.iter().find(|tool| tool.name == name) else {
            let what = format!(
                "the MCP server `{}` does not offer `{shown}` any more",
                shared.name
            );
            return Err(what.into());
        };
        if let Some(what) = tool.check(arguments) {
            return Err(ToolError::Arguments {
                tool: shown.to_owned(),
                what,
            });
        }
        let limit = shared.config.call_timeout;
        let limit = context.remaining().map_or(limit, |left| left.min(limit));
        let mut params = CallToolRequestParams::new(tool.name.clone());
        params.arguments = arguments.as_object().cloned();
        let peer = self.peer.clone();
        let mut ended = shared.ended.subscribe();
        let is_child = matches!(shared.server.transport, McpTransport::Stdio { .. });
        let patience = 2 * shared.config.stop_timeout;
        let (answer, task) = self.thread.run(async move {
            let answer = tokio::time::timeout(limit, peer.call_tool_once(params)).await;
            let gone = match &answer {
                Ok(Err(ServiceError::TransportClosed)) => true,
                // What a process does not read any more can't be sent.
                Ok(Err(ServiceError::TransportSend(_))) => is_child,
                _ => false,
            };
            if gone {
                // The reason is known a moment later.
                let known = ended.wait_for(|ended| *ended);
                tokio::time::timeout(patience, known).await.ok();
            }
            answer
        });
        let answer = loop {
            match answer.recv_timeout(LOOK) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = context.check() {
                        // The server is told by what is dropped with the task.
                        task.abort();
                        return Err(error);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.failed("the call broke off"));
                }
            }
        };
        match answer {
            Err(_) => Err(ToolError::Limit {
                what: format!(
                    "the MCP server `{}` did not answer `{shown}` within {limit:?}",
                    shared.name
                ),
            }),
            Ok(Err(error)) => Err(self.error(shown, error)),
            Ok(Ok(CallToolResponse::Complete(result))) => content::read(result, &shared.config),
            Ok(Ok(_)) => Err(self.failed("it wants to ask a person first, which is not done here")),
        }
    }

    fn failed(&self, what: impl std::fmt::Display) -> ToolError {
        let text = format!("the MCP server `{}` failed: {what}", self.shared.name);
        limited_text(text, self.shared.config.max_output_bytes).into()
    }

    fn error(&self, shown: &str, error: ServiceError) -> ToolError {
        let has_ended = *self.shared.ended.borrow();
        match error {
            ServiceError::McpError(error) if error.code == ErrorCode::INVALID_PARAMS => {
                ToolError::Arguments {
                    tool: shown.to_owned(),
                    what: limited_text(
                        error.message.into_owned(),
                        self.shared.config.max_output_bytes,
                    ),
                }
            }
            ServiceError::McpError(error) => self.failed(error.message),
            ServiceError::TransportSend(error) if !has_ended => {
                self.failed(with_causes(error.error.as_ref()))
            }
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                let said = self.shared.said.words();
                format!("the MCP server `{}` has ended{said}", self.shared.name).into()
            }
            error => self.failed(with_causes(&error)),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        drop(self.stop.take());
        let stopped = self.stopped.get_mut();
        let stopped = stopped.unwrap_or_else(PoisonError::into_inner);
        // The connection closes, and then a process has three steps to its end.
        stopped
            .recv_timeout(5 * self.shared.config.stop_timeout)
            .ok();
    }
}

/// Asks a server of the newest protocol to tell of changes, which older ones do unasked.
async fn subscribe(peer: Peer<RoleClient>, changed: Arc<Notify>) {
    let info = peer.peer_info();
    if info.is_none_or(|info| info.protocol_version.has_initialize()) {
        return;
    }
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    match peer.listen(filter).await {
        Ok(mut changes) => {
            while let Ok(Some(_)) = changes.next().await {
                changed.notify_one();
            }
        }
        Err(error) => tracing::debug!(%error, "an MCP server does not tell of changes"),
    }
}

/// Reads the list anew when it changes, until the connection ends.
async fn refresh(peer: Peer<RoleClient>, shared: Arc<Shared>, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        let limit = shared.config.start_timeout;
        let listed = list(
            &peer,
            &shared.name,
            &shared.server,
            &shared.config,
            &shared.said,
        );
        match tokio::time::timeout(limit, listed).await {
            Ok(Ok(tools)) => {
                let mut current = shared.tools.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(tools);
                drop(current);
                shared.changes.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(error)) => {
                tracing::warn!(server = shared.name, %error, "a changed list of tools can't be read");
            }
            Err(_) => {
                tracing::warn!(
                    server = shared.name,
                    "a changed list of tools did not come in time"
                );
            }
        }
    }
}

/// Keeps a connection until it is told to stop, or the server ends; then ends all of it.
async fn keep(opened: Opened, stopping: oneshot::Receiver<()>) {
    let Opened {
        shared,
        running,
        mut process,
        changed,
    } = opened;
    let patience = shared.config.stop_timeout;
    let peer = running.peer().clone();
    let subscribed = tokio::spawn(subscribe(peer.clone(), Arc::clone(&changed)));
    let refreshing = tokio::spawn(refresh(peer, Arc::clone(&shared), changed));
    let token = running.cancellation_token();
    let closed = running.waiting();
    tokio::pin!(closed);
    let process_ended = async {
        match &mut process {
            Some(process) => process.ended().await,
            None => std::future::pending().await,
        }
    };
    let mut is_closed = false;
    tokio::select! {
        _ = stopping => {}
        _ = &mut closed => is_closed = true,
        () = process_ended => {
            // What it wrote last may still be on its way; a child of its own may hold its output open.
            is_closed = tokio::time::timeout(patience, &mut closed).await.is_ok();
        }
    }
    subscribed.abort();
    refreshing.abort();
    if !is_closed {
        token.cancel();
        tokio::time::timeout(patience, &mut closed).await.ok();
    }
    if let Some(process) = process {
        process.stop(patience).await;
    }
    shared.ended.send_replace(true);
}
