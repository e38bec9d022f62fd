//! Any request to a few hosts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{cut, send, wrong};
use crate::fetch::{FetchMethod, FetchRequest, Fetcher, Page, with_query};
use crate::tool::{Media, MediaSource, OutputPart, ToolContext, ToolError, ToolOutput, TypedTool};
use crate::tools::charset::decode;

/// Which requests are allowed. A new one allows `GET` and `HEAD`, and no host.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfig {
    /// The hosts, as [`Fetcher::with_hosts`] reads them.
    pub hosts: Vec<String>,
    /// The methods.
    pub methods: Vec<FetchMethod>,
    /// Headers of every request, such as a key, which the model is told nothing of and cannot replace.
    pub headers: Vec<(String, String)>,
    /// Most bytes that a request sends.
    pub max_body: usize,
    /// Most characters of an answer that are told.
    pub max_chars: usize,
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HttpConfig")
            .field("hosts", &self.hosts)
            .field("methods", &self.methods)
            .field("headers", &headers)
            .field("max_body", &self.max_body)
            .field("max_chars", &self.max_chars)
            .finish()
    }
}

impl HttpConfig {
    /// The defaults, with these hosts.
    pub fn new<T: Into<String>>(hosts: impl IntoIterator<Item = T>) -> Self {
        Self {
            hosts: hosts.into_iter().map(Into::into).collect(),
            methods: vec![FetchMethod::Get, FetchMethod::Head],
            headers: Vec::new(),
            max_body: 64 << 10,
            max_chars: 20_000,
        }
    }

    /// Sets the methods.
    #[must_use]
    pub fn with_methods(mut self, methods: impl IntoIterator<Item = FetchMethod>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the most bytes that a request sends.
    #[must_use]
    pub fn with_max_body(mut self, max_body: usize) -> Self {
        self.max_body = max_body;
        self
    }

    /// Sets the most characters that are told.
    #[must_use]
    pub fn with_max_chars(mut self, max_chars: usize) -> Self {
        self.max_chars = max_chars;
        self
    }
}

/// Sends a request over HTTP to one of the hosts that are allowed, and tells its status and answer.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct HttpRequest {
    /// The address, beginning with http:// or https://.
    pub url: String,
    /// The method.
    #[serde(default)]
    pub method: FetchMethod,
    /// What is added to the query of the address.
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    /// Headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body: a text is sent as it is, anything else as JSON.
    #[serde(default)]
    pub body: Option<Value>,
}

/// The tool `http_request`. A person is asked before each call if a method that changes something is allowed.
pub fn http_request(config: HttpConfig, fetcher: Fetcher) -> TypedTool {
    const NAME: &str = "http_request";
    let fetcher = fetcher.with_hosts(config.hosts.clone());
    let reads = |method: &FetchMethod| matches!(method, FetchMethod::Get | FetchMethod::Head);
    let changes = !config.methods.iter().all(reads);
    let tool = TypedTool::with_context(NAME, move |arguments: HttpRequest, context| {
        if !config.methods.contains(&arguments.method) {
            let allowed: Vec<&str> = config.methods.iter().map(|m| m.as_str()).collect();
            let (method, allowed) = (arguments.method, allowed.join(", "));
            return Err(ToolError::Denied {
                why: format!("the method {method} is not among those that are allowed: {allowed}"),
            });
        }
        let query = arguments
            .query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let url = with_query(&arguments.url, query);
        let mut request = FetchRequest::new(arguments.method, url);
        for (name, value) in &arguments.headers {
            let fixed = |(own, _): &(String, String)| own.eq_ignore_ascii_case(name);
            if config.headers.iter().any(fixed) {
                return Err(wrong(
                    NAME,
                    format!("the header `{}` is fixed", cut(name, 64)),
                ));
            }
            request = request
                .with_header(name, value)
                .map_err(|fault| wrong(NAME, fault.to_string()))?;
        }
        if let Some(body) = &arguments.body {
            request = with_body(request, body)?;
        }
        let sent = request.body.as_ref().map_or(0, Vec::len);
        if sent > config.max_body {
            return Err(ToolError::Limit {
                what: format!("the body has {sent} bytes; {} are allowed", config.max_body),
            });
        }
        let page = page(&fetcher, request, &config.headers, context)?;
        Ok(told(&page, config.max_chars))
    });
    match changes {
        true => tool.with_approval(),
        false => tool,
    }
}

/// Adds a body. A text keeps the type that the headers say.
pub(super) fn with_body(request: FetchRequest, body: &Value) -> Result<FetchRequest, ToolError> {
    let typed = request
        .headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let (kind, bytes) = match body {
        Value::String(text) => ("text/plain; charset=utf-8", text.clone().into_bytes()),
        other => ("application/json", serde_json::to_vec(other)?),
    };
    let request = match typed {
        true => request,
        false => request.with_header("Content-Type", kind)?,
    };
    Ok(request.with_body(bytes))
}

/// Sends a request with the host program's headers.
pub(super) fn page(
    fetcher: &Fetcher,
    mut request: FetchRequest,
    headers: &[(String, String)],
    context: &ToolContext,
) -> Result<Page, ToolError> {
    for (name, value) in headers {
        request = request.with_header(name, value)?;
    }
    send(fetcher, request, context)
}

/// What is told of an answer; an error status is one, too.
pub(super) fn told(page: &Page, max_chars: usize) -> ToolOutput {
    let mut told = json!({"status": page.status});
    if let Some(kind) = &page.content_type {
        told["content_type"] = cut(kind, 100).into();
    }
    if let Some(location) = &page.location {
        told["location"] = cut(location, 1000).into();
    }
    match body(page, max_chars) {
        Body::None => ToolOutput::json(told),
        Body::Value(value) => {
            told["body"] = value;
            ToolOutput::json(told)
        }
        Body::Media(part) => ToolOutput::json(told).with(part),
    }
}

enum Body {
    None,
    Value(Value),
    Media(OutputPart),
}

fn body(page: &Page, max_chars: usize) -> Body {
    if page.body.is_empty() {
        return Body::None;
    }
    let kind = page.content_type.as_deref().unwrap_or_default();
    let kind = kind
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let media = |bytes: &[u8]| Media {
        mime: kind.clone(),
        source: MediaSource::Bytes(bytes.to_vec()),
    };
    if !page.truncated {
        if kind.starts_with("image/") && kind != "image/svg+xml" {
            let image = media(&page.body);
            return Body::Media(OutputPart::Image { image });
        }
        if kind.starts_with("audio/") {
            let audio = media(&page.body);
            return Body::Media(OutputPart::Audio { audio });
        }
        let is_json = kind == "application/json" || kind.ends_with("+json");
        if is_json
            && page.body.len() <= max_chars
            && let Ok(value) = serde_json::from_slice(&page.body)
        {
            return Body::Value(value);
        }
    }
    let is_text = kind.starts_with("text/") || !page.body.iter().take(4096).any(|&byte| byte == 0);
    if !is_text {
        return Body::Value(format!("[{} bytes that are no text]", page.body.len()).into());
    }
    let text = decode(&page.body, page.content_type.as_deref());
    let mut told = cut(&text, max_chars);
    if page.truncated || told.len() < text.len() {
        told.push_str("\n[the answer is longer]");
    }
    Body::Value(told.into())
}
