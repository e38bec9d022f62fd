//! Our tools as a server of MCP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
    SubscriptionFilter, Tool as Listed,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer, SubscriptionContext};
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::{ServerHandler, ServiceExt};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

use super::{McpFault, content};
use crate::tool::{CancelToken, Tool, ToolContext, ToolError, ToolOutput, ToolSet};

/// A server of tools. Clones are one and the same.
///
/// ```no_run
/// use internlm_agent::mcp::McpService;
/// use internlm_agent::tool::ToolSet;
/// use internlm_agent::tools::calculator;
///
/// let tools = ToolSet::new().with(calculator())?;
/// McpService::new(tools).serve_stdio()?; // until the client closes our input
/// # Ok::<(), internlm_agent::Error>(())
/// ```
///
/// Tools that need approval are left out: nobody can be asked here. [`McpService::with_approval_by_clients`] serves
/// them too.
#[derive(Clone, Debug)]
pub struct McpService {
    pub(super) tools: watch::Sender<ToolSet>,
    pub(super) name: String,
    instructions: Option<String>,
    calls: Arc<Semaphore>,
    pub(super) call_timeout: Duration,
    pub(super) max_output_bytes: usize,
    pub(super) max_media_bytes: usize,
    pub(super) max_message_bytes: usize,
    approval_by_clients: bool,
}

impl McpService {
    /// A server of these tools. Its limits: 8 calls at once, 300 s for each, 1 MiB of text and 8 MiB for each medium of
    /// a result, 4 MiB for a message of a client.
    pub fn new(tools: ToolSet) -> Self {
        Self {
            tools: watch::Sender::new(tools),
            name: env!("CARGO_PKG_NAME").to_owned(),
            instructions: None,
            calls: Arc::new(Semaphore::new(8)),
            call_timeout: Duration::from_secs(300),
            max_output_bytes: 1 << 20,
            max_media_bytes: 8 << 20,
            max_message_bytes: 4 << 20,
            approval_by_clients: false,
        }
    }

    /// Sets the name that clients are told.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets what clients are told of the use of the tools.
    #[must_use]
    pub fn with_instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Sets how many calls run at once; others wait.
    #[must_use]
    pub fn with_max_calls(mut self, calls: usize) -> Self {
        self.calls = Arc::new(Semaphore::new(calls.max(1)));
        self
    }

    /// Sets the limit of a call, the time that it waits for others included.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the most bytes of a result's text; what comes behind them is cut.
    #[must_use]
    pub fn with_max_output_bytes(mut self, bytes: usize) -> Self {
        self.max_output_bytes = bytes;
        self
    }

    /// Sets the most bytes of an image, a sound or a file of a result; what is larger is left out, which is said.
    #[must_use]
    pub fn with_max_media_bytes(mut self, bytes: usize) -> Self {
        self.max_media_bytes = bytes;
        self
    }

    /// Sets the most bytes of a message of a client.
    #[must_use]
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Serves tools that need approval, too: clients ask their users, or do not.
    #[must_use]
    pub fn with_approval_by_clients(mut self) -> Self {
        self.approval_by_clients = true;
        self
    }

    /// Serves other tools from now on. Clients are told that the list has changed.
    pub fn set_tools(&self, tools: ToolSet) {
        self.tools.send_replace(tools);
    }

    /// The tools that are served.
    pub(super) fn served(&self) -> Vec<Arc<dyn Tool>> {
        let tools = self.tools.borrow().clone();
        let served = tools.into_iter();
        let served = served.filter(|tool| self.approval_by_clients || !tool.needs_approval());
        served.collect()
    }

    /// Runs a tool beside the runtime, within limits, until `cancelled` is done.
    pub(super) async fn run(
        &self,
        name: &str,
        arguments: Value,
        cancelled: impl Future<Output = ()>,
    ) -> Result<ToolOutput, ToolError> {
        let tools = self.served();
        let known = || tools.iter().map(|tool| tool.spec().name.as_str());
        let tool = tools.iter().find(|tool| tool.spec().name == name);
        let tool = Arc::clone(tool.ok_or_else(|| ToolError::unknown(name, known()))?);
        let cancel = CancelToken::new();
        let context = ToolContext {
            deadline: Some(Instant::now() + self.call_timeout),
            cancel: cancel.clone(),
        };
        let calls = Arc::clone(&self.calls);
        let name = name.to_owned();
        let work = async move {
            let permit = calls.acquire_owned().await;
            let run = move || {
                // A call that does not stop in time goes on counting.
                let _permit = permit;
                let mut only = ToolSet::new();
                only.replace(tool);
                only.call(&name, &arguments, &context)
            };
            let broken = |error| ToolError::failed(format!("the call broke off: {error}"));
            tokio::task::spawn_blocking(run).await.map_err(broken)?
        };
        let result = tokio::select! {
            result = tokio::time::timeout(self.call_timeout, work) => result,
            () = cancelled => {
                cancel.cancel();
                return Err(ToolError::Cancelled);
            }
        };
        let what = || format!("the call took longer than {:?}", self.call_timeout);
        result.unwrap_or_else(|_| Err(ToolError::Limit { what: what() }))
    }

    /// Serves whoever started us, on standard input and output, until the input ends. Nothing else may be written
    /// to standard output meanwhile.
    ///
    /// # Errors
    /// [`McpFault::Thread`], [`McpFault::Serve`].
    pub fn serve_stdio(&self) -> Result<(), McpFault> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        let runtime = runtime.map_err(|error| McpFault::Thread {
            what: error.to_string(),
        })?;
        let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
        let served = runtime.block_on(self.serve(input, output));
        // A read of standard input can't be interrupted.
        runtime.shutdown_background();
        served
    }

    /// Serves a client of a stream of lines, on the caller's runtime of tokio, until the stream ends.
    ///
    /// # Errors
    /// [`McpFault::Serve`].
    pub async fn serve(
        &self,
        input: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        output: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), McpFault> {
        let transport = AsyncRwTransport::new_server(input, output)
            .with_max_line_length(self.max_message_bytes);
        let failed = |error: &dyn std::error::Error| McpFault::Serve {
            what: super::http::with_causes(error),
        };
        let running = Session(self.clone()).serve(transport).await;
        let running = match running {
            Ok(running) => running,
            // A client that goes before it has said anything.
            Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        };
        running.waiting().await.map_err(|error| failed(&error))?;
        Ok(())
    }
}

/// What answers a client's messages.
#[derive(Clone, Debug)]
pub(super) struct Session(pub(super) McpService);

impl ServerHandler for Session {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        let name = Implementation::new(self.0.name.clone(), env!("CARGO_PKG_VERSION"));
        let mut info = ServerConfig::new(capabilities).with_server_info(name);
        info.instructions.clone_from(&self.0.instructions);
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let served = self.0.served();
        let listed = served.iter().map(|tool| {
            let spec = tool.spec();
            let schema = spec.parameters.as_object().cloned().unwrap_or_default();
            Listed::new(spec.name.clone(), spec.description.clone(), schema)
        });
        Ok(ListToolsResult::with_all_items(listed.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let cancelled = context.ct.cancelled();
        let result = match self.0.run(&request.name, arguments, cancelled).await {
            Ok(output) => {
                let (text, media) = (self.0.max_output_bytes, self.0.max_media_bytes);
                let write = move || content::write(output, text, media);
                let written = tokio::task::spawn_blocking(write).await;
                written.map_err(|error| ErrorData::internal_error(error.to_string(), None))?
            }
            Err(error @ ToolError::Unknown { .. }) => {
                return Err(ErrorData::invalid_params(error.to_string(), None));
            }
            Err(error) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
        };
        Ok(result.into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let mut changed = self.0.tools.subscribe();
        tokio::spawn(async move {
            while changed.changed().await.is_ok() {
                if context.peer.notify_tool_list_changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changed = self.0.tools.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changed.changed() => {
                    let told = context.sink().notify_tool_list_changed();
                    if change.is_err() || told.await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
