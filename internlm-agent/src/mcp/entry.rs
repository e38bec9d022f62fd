//! An entry of an `mcpServers` file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::{McpServer, McpTransport};

/// An entry as files have it. Programs that share the file spell some fields differently.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
    #[serde(alias = "httpUrl", alias = "serverUrl")]
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    disabled: bool,
    #[serde(alias = "includeTools", alias = "tools")]
    allowed_tools: Option<BTreeSet<String>>,
    #[serde(default, alias = "disabledTools", alias = "excludeTools")]
    denied_tools: BTreeSet<String>,
    #[serde(alias = "alwaysAllow")]
    auto_approve: Option<BTreeSet<String>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Entry {
    /// The server that it means.
    pub(super) fn server(self) -> Result<McpServer, String> {
        let kind = self.kind.as_deref();
        let transport = match (self.command, self.url) {
            (Some(command), None) if matches!(kind, None | Some("stdio")) => McpTransport::Stdio {
                command,
                args: self.args,
                env: self.env,
                cwd: self.cwd,
            },
            (None, Some(url))
                if matches!(
                    kind,
                    None | Some("http" | "streamable-http" | "streamableHttp" | "streamable_http")
                ) =>
            {
                McpTransport::Http {
                    url,
                    headers: self.headers,
                }
            }
            (None, Some(_)) if kind == Some("sse") => {
                return Err(
                    "the old transport `sse` is not spoken here; name the server's \
                     address of streamable HTTP"
                        .to_owned(),
                );
            }
            (Some(_), Some(_)) => return Err("it has both a `command` and a `url`".to_owned()),
            (None, None) => return Err("it has neither a `command` nor a `url`".to_owned()),
            _ => {
                let kind = kind.unwrap_or_default();
                return Err(format!(
                    "its `type` is `{kind}`, which does not fit the rest"
                ));
            }
        };
        Ok(McpServer {
            transport,
            disabled: self.disabled,
            allowed_tools: self.allowed_tools,
            denied_tools: self.denied_tools,
            approved_tools: self.auto_approve,
            unknown_fields: self.others.into_keys().collect(),
        })
    }
}
