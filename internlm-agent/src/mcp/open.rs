//! The start of a server: connection, greeting, list of tools.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri};
use rmcp::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, Implementation, PaginatedRequestParams, ProtocolVersion, Tool,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, Peer,
    RoleClient, RunningService, ServiceError,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::connection::{Opened, RemoteTool, Shared};
use super::http::{HttpClient, with_causes};
use super::process::Process;
use super::said::Said;
use super::{McpConfig, McpFault, McpServer, McpTransport};
use crate::tool::limited_text;

/// Pages of a list that are read at most.
const MAX_PAGES: usize = 200;
/// Time for the system to say how a process ended whose output has ended.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// What answers a server's own messages.
#[derive(Debug)]
pub(super) struct Handler {
    changed: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), name)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

/// Starts a server and asks what it offers.
pub(super) async fn open(
    name: String,
    server: McpServer,
    config: McpConfig,
) -> Result<Opened, McpFault> {
    let said = Arc::new(Said::default());
    let limit = config.start_timeout;
    let opening = prepare(&name, server, config, Arc::clone(&said));
    match tokio::time::timeout(limit, opening).await {
        Ok(opened) => opened,
        Err(_) => Err(McpFault::Timeout {
            server: name,
            limit,
            said: said.words(),
        }),
    }
}

async fn prepare(
    name: &str,
    server: McpServer,
    config: McpConfig,
    said: Arc<Said>,
) -> Result<Opened, McpFault> {
    let entry = |what: String| McpFault::Entry {
        server: name.to_owned(),
        what,
    };
    let transport = server.transport.expanded(&|name| std::env::var(name).ok());
    let transport = transport.map_err(entry)?;
    let changed = Arc::new(Notify::new());
    let greeted = greet(name, &transport, &config, &said, &changed, Greeting::Old).await;
    let (running, process) = match greeted {
        Ok(greeted) => greeted,
        // A server that knows the newest protocol alone refuses the old greeting.
        Err((Some(Refused), fault)) => {
            let greeted = greet(name, &transport, &config, &said, &changed, Greeting::New).await;
            greeted.map_err(|_| fault)?
        }
        Err((None, fault)) => return Err(fault),
    };
    let tools = list(running.peer(), name, &server, &config, &said).await?;
    let instructions = running.peer().peer_info();
    let instructions = instructions.and_then(|info| info.instructions.clone());
    let max = config.max_description_bytes;
    let shared = Shared {
        name: name.to_owned(),
        server,
        config,
        instructions: instructions.map(|text| limited_text(text, max)),
        tools: RwLock::new(Arc::new(tools)),
        changes: AtomicU64::new(0),
        said,
        ended: watch::Sender::new(false),
    };
    Ok(Opened {
        shared: Arc::new(shared),
        running,
        process,
        changed,
    })
}

/// How a conversation begins.
#[derive(Clone, Copy)]
enum Greeting {
    /// With `initialize`, which all servers before 2026-07-28 need and most others know.
    Old,
    /// With `server/discover`.
    New,
}

impl From<Greeting> for ClientLifecycleMode {
    fn from(greeting: Greeting) -> Self {
        match greeting {
            Greeting::Old => Self::Initialize,
            Greeting::New => Self::Discover {
                preferred_versions: vec![ProtocolVersion::NO_INITIALIZE],
            },
        }
    }
}

/// The server answered, and the answer was no.
struct Refused;

type Greeted = (RunningService<RoleClient, Handler>, Option<Process>);

async fn greet(
    name: &str,
    transport: &McpTransport,
    config: &McpConfig,
    said: &Arc<Said>,
    changed: &Arc<Notify>,
    greeting: Greeting,
) -> Result<Greeted, (Option<Refused>, McpFault)> {
    let handler = Handler {
        changed: Arc::clone(changed),
    };
    let (result, process) = match transport {
        McpTransport::Stdio {
            command,
            args,
            env,
            cwd,
        } => {
            let program = (command.as_str(), args.as_slice(), env, cwd.as_deref());
            let (mut process, pipes) =
                Process::start(name, program, config.max_message_bytes, said)
                    .map_err(|fault| (None, fault))?;
            let result = handler.serve_with_lifecycle(pipes, greeting.into()).await;
            // One that has ended may be noticed by what it does not read, too.
            let gone = ClientInitializeError::ConnectionClosed(String::new());
            let result = result.map_err(|error| match error {
                ClientInitializeError::TransportError { .. } => gone,
                error => error,
            });
            if let Err(ClientInitializeError::ConnectionClosed(_)) = result {
                let ended = process.ended();
                tokio::time::timeout(LAST_MOMENT, ended).await.ok();
            }
            (result, Some(process))
        }
        McpTransport::Http { url, headers } => {
            let entry = |what: String| {
                let server = name.to_owned();
                (None, McpFault::Entry { server, what })
            };
            let client = HttpClient::new(config.start_timeout, said).map_err(entry)?;
            let requests = requests(url, headers, config).map_err(entry)?;
            let transport = StreamableHttpClientTransport::with_client(client, requests);
            (
                handler
                    .serve_with_lifecycle(transport, greeting.into())
                    .await,
                None,
            )
        }
    };
    match result {
        Ok(running) => Ok((running, process)),
        Err(error) => {
            let refused = matches!(error, ClientInitializeError::JsonRpcError(_));
            Err((refused.then_some(Refused), fault(name, error, said)))
        }
    }
}

/// How requests to a server are made.
fn requests(
    url: &str,
    headers: &BTreeMap<String, String>,
    config: &McpConfig,
) -> Result<StreamableHttpClientTransportConfig, String> {
    let uri: Option<Uri> = url.parse().ok();
    let scheme = uri.as_ref().and_then(Uri::scheme_str);
    if !matches!(scheme, Some("http" | "https")) {
        return Err("its `url` is no address of HTTP".to_owned());
    }
    let headers = headers.iter().map(|(name, value)| {
        let wrong = || format!("the header `{name}` can't be sent");
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok((name.parse::<HeaderName>().map_err(|_| wrong())?, value))
    });
    let headers: HashMap<_, _> = headers.collect::<Result<_, String>>()?;
    let mut requests = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(headers);
    requests.max_sse_event_size = config.max_message_bytes;
    requests.max_json_response_size = config.max_message_bytes;
    requests.max_error_response_size = 1024;
    Ok(requests)
}

fn fault(name: &str, error: ClientInitializeError, said: &Said) -> McpFault {
    let server = name.to_owned();
    let what = match error {
        ClientInitializeError::ConnectionClosed(_) => {
            let mut said = said.words();
            if said.is_empty() {
                said.push_str("; it did not answer with a message of MCP");
            }
            return McpFault::Ended { server, said };
        }
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refuses to start: {}", error.message)
        }
        ClientInitializeError::TransportError { error, .. } => with_causes(error.error.as_ref()),
        error => limited_text(with_causes(&error), 1024),
    };
    McpFault::Connection { server, what }
}

/// The tools of a server that are wanted.
pub(super) async fn list(
    peer: &Peer<RoleClient>,
    name: &str,
    server: &McpServer,
    config: &McpConfig,
    said: &Said,
) -> Result<Vec<RemoteTool>, McpFault> {
    let mut tools: Vec<RemoteTool> = Vec::new();
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor);
        let page = peer.list_tools(Some(params)).await;
        let page = page.map_err(|error| match error {
            ServiceError::TransportClosed => McpFault::Ended {
                server: name.to_owned(),
                said: said.words(),
            },
            ServiceError::TransportSend(error) => McpFault::Connection {
                server: name.to_owned(),
                what: with_causes(error.error.as_ref()),
            },
            error => McpFault::Connection {
                server: name.to_owned(),
                what: format!("its tools can't be listed: {error}"),
            },
        })?;
        let wanted = page
            .tools
            .into_iter()
            .filter(|tool| server.allows(&tool.name));
        for tool in wanted {
            let doubled = tools.iter().any(|other| other.name == tool.name);
            match described(&tool, server, config).filter(|_| !doubled) {
                Some(tool) => tools.push(tool),
                None => {
                    let tool = &*tool.name;
                    tracing::warn!(server = name, tool, doubled, "a tool was left out");
                }
            }
            if tools.len() > config.max_tools {
                break;
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() || tools.len() > config.max_tools {
            break;
        }
    }
    match tools.len() > config.max_tools || cursor.is_some() {
        true => Err(McpFault::TooManyTools {
            server: name.to_owned(),
            limit: config.max_tools,
        }),
        false => Ok(tools),
    }
}

/// A tool within limits, or nothing if its schema is too long.
fn described(tool: &Tool, server: &McpServer, config: &McpConfig) -> Option<RemoteTool> {
    let max = config.max_description_bytes;
    let mut schema = (*tool.input_schema).clone();
    schema.remove("$schema");
    schema.entry("type").or_insert_with(|| "object".into());
    let schema = Value::Object(schema);
    if schema.to_string().len() > max {
        return None;
    }
    let title = tool.title.as_deref();
    let description = tool.description.as_deref().or(title).unwrap_or_default();
    Some(RemoteTool {
        name: tool.name.to_string(),
        description: limited_text(description.to_owned(), max),
        schema,
        approval: server.needs_approval(&tool.name),
    })
}
