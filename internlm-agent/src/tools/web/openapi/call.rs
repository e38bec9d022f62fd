//! A call of an operation.

use internlm_core::ToolSpec;
use serde_json::Value;

use super::OpenApiConfig;
use crate::fetch::{FetchMethod, FetchRequest, Fetcher, encode, with_query};
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, check_arguments};
use crate::tools::web::answer::{refused, wrong};
use crate::tools::web::http;

/// Where a parameter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) place: Place,
    /// Whether each value of an array is sent as a parameter of its own.
    pub(super) explode: bool,
}

/// How a body is written.
#[derive(Clone, Debug)]
pub(super) enum BodyKind {
    /// As JSON, under this type.
    Json(String),
    /// As a form.
    Form,
}

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: FetchMethod,
    pub(super) server: String,
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<BodyKind>,
}

/// A tool that calls an operation of a service. A person is asked before a call unless the operation only reads.
#[derive(Clone)]
pub struct OpenApiTool {
    spec: ToolSpec,
    operation: Operation,
    fetcher: Fetcher,
    headers: Vec<(String, String)>,
    max_chars: usize,
    approval: bool,
}

impl std::fmt::Debug for OpenApiTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Headers may be secrets.
        f.debug_struct("OpenApiTool")
            .field("spec", &self.spec)
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl OpenApiTool {
    pub(super) fn new(
        spec: ToolSpec,
        operation: Operation,
        fetcher: &Fetcher,
        config: &OpenApiConfig,
    ) -> Self {
        Self {
            spec,
            approval: !matches!(operation.method, FetchMethod::Get | FetchMethod::Head),
            operation,
            fetcher: fetcher.clone(),
            headers: config.headers.clone(),
            max_chars: config.max_chars,
        }
    }

    /// Sets whether a person is asked before each call.
    #[must_use]
    pub fn with_approval(mut self, approval: bool) -> Self {
        self.approval = approval;
        self
    }

    fn request(&self, arguments: &Value) -> Result<FetchRequest, ToolError> {
        let name = self.spec.name.as_str();
        let mut path = self.operation.path.clone();
        let (mut query, mut headers) = (Vec::new(), Vec::new());
        for parameter in &self.operation.parameters {
            let value = &arguments[&parameter.name];
            if value.is_null() {
                continue;
            }
            let texts = texts(value).ok_or_else(|| {
                wrong(
                    name,
                    format!(
                        "`{}` must be a text, a number or a list of them",
                        parameter.name
                    ),
                )
            })?;
            match parameter.place {
                Place::Path => {
                    let part = texts
                        .iter()
                        .map(|text| encode(text))
                        .collect::<Vec<_>>()
                        .join(",");
                    // Dots alone would be another path, and nothing at all, too.
                    if part.is_empty() || part.chars().all(|c| c == '.') {
                        return Err(wrong(
                            name,
                            format!("`{}` can't be empty or dots", parameter.name),
                        ));
                    }
                    path = path.replace(&format!("{{{}}}", parameter.name), &part);
                }
                Place::Query if parameter.explode => {
                    query.extend(texts.into_iter().map(|text| (parameter.name.clone(), text)));
                }
                Place::Query => query.push((parameter.name.clone(), texts.join(","))),
                Place::Header => headers.push((parameter.name.clone(), texts.join(","))),
            }
        }
        let url = format!("{}{path}", self.operation.server);
        let query = query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let mut request = FetchRequest::new(self.operation.method, with_query(&url, query));
        for (header, value) in headers {
            request = request
                .with_header(header, value)
                .map_err(|fault| wrong(name, fault.to_string()))?;
        }
        let body = &arguments["body"];
        match &self.operation.body {
            Some(kind) if !body.is_null() => self.with_body(request, kind, body),
            _ => Ok(request),
        }
    }

    fn with_body(
        &self,
        request: FetchRequest,
        kind: &BodyKind,
        body: &Value,
    ) -> Result<FetchRequest, ToolError> {
        match kind {
            BodyKind::Json(kind) => {
                let bytes = serde_json::to_vec(body)?;
                Ok(request.with_header("Content-Type", kind)?.with_body(bytes))
            }
            BodyKind::Form => {
                let fault = || {
                    wrong(
                        &self.spec.name,
                        "`body` must be an object of texts, numbers or lists of them",
                    )
                };
                let mut pairs = Vec::new();
                for (field, value) in body.as_object().ok_or_else(fault)? {
                    for text in texts(value).ok_or_else(fault)? {
                        pairs.push(format!("{}={}", encode(field), encode(&text)));
                    }
                }
                let kind = "application/x-www-form-urlencoded";
                Ok(request
                    .with_header("Content-Type", kind)?
                    .with_body(pairs.join("&")))
            }
        }
    }
}

impl Tool for OpenApiTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        if let Some(what) = check_arguments(&self.spec.parameters, arguments) {
            return Err(wrong(&self.spec.name, what));
        }
        let request = self.request(arguments)?;
        let page = http::page(&self.fetcher, request, &self.headers, context)?;
        match page.status {
            400.. => Err(refused(&page)),
            _ => Ok(http::told(&page, self.max_chars)),
        }
    }

    fn needs_approval(&self) -> bool {
        self.approval
    }
}

/// A value as it stands in an address: an array as its values.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Some(vec![text(value)?]),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
