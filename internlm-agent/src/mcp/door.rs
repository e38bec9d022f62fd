//! Tools by plain HTTP, as AgentLego serves them: `POST /{tool}`, `GET /openapi.json`.
//!
//! Arguments are a JSON object. An answer is the result itself: text as a JSON string, data as it is, media in base64,
//! several pieces as an array, nothing as null. Errors are `{"detail": …}`: 422 for arguments that do not fit, 400 for a
//! tool that failed.

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::content::encoded;
use super::service::McpService;
use crate::tool::{Media, MediaSource, OutputPart, ToolError};

fn answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, Body::from(body.to_string())).into_response()
}

/// `{"detail": …}`, as AgentLego's framework writes it.
pub(super) fn refusal(status: StatusCode, what: impl Into<Value>) -> Response {
    answer(status, &json!({"detail": what.into()}))
}

fn unprocessable(what: impl std::fmt::Display) -> Response {
    let fault = json!([{"loc": ["body"], "msg": what.to_string(), "type": "value_error"}]);
    refusal(StatusCode::UNPROCESSABLE_ENTITY, fault)
}

/// The name of a tool in an address.
fn path_of(name: &str) -> String {
    name.replace(' ', "_")
}

/// Runs a tool.
pub(super) async fn call(
    State(service): State<McpService>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let served = service.served();
    let mut names = served.iter().map(|tool| tool.spec().name.as_str());
    let Some(name) = names.find(|name| path_of(name) == path) else {
        return refusal(StatusCode::NOT_FOUND, "Not Found");
    };
    // A form of a page in a browser can't say this.
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let what = "arguments must be application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, what);
    }
    let arguments: Value = match serde_json::from_slice(&body) {
        Ok(arguments) => arguments,
        Err(error) => return unprocessable(error),
    };
    let result = service.run(name, arguments, std::future::pending()).await;
    let output = match result {
        Ok(output) => output.limited(service.max_output_bytes),
        Err(error @ ToolError::Arguments { .. }) => return unprocessable(error),
        Err(error) => return refusal(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let max = service.max_media_bytes;
    let values = move || {
        let parts = output.parts.into_iter();
        parts
            .map(|part| value(part, max))
            .collect::<Result<Vec<_>, _>>()
    };
    match tokio::task::spawn_blocking(values).await {
        Ok(Ok(mut values)) => {
            let value = match values.len() {
                0 => Value::Null,
                1 => values.remove(0),
                _ => values.into(),
            };
            answer(StatusCode::OK, &value)
        }
        Ok(Err(what)) => refusal(StatusCode::BAD_REQUEST, what),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn value(part: OutputPart, max: usize) -> Result<Value, String> {
    let media = |kind, media: Media| match (encoded(kind, &media, max)?, media.source) {
        (Some(data), _) => Ok(data.into()),
        (None, MediaSource::Url(url)) => Ok(url.into()),
        (None, _) => Ok(Value::Null),
    };
    match part {
        OutputPart::Text { text } => Ok(text.into()),
        OutputPart::Json { value } => Ok(value),
        OutputPart::Image { image } => media("image", image),
        OutputPart::Audio { audio } => media("audio", audio),
        OutputPart::File { file } => media("file", file),
    }
}

/// The description of all tools, OpenAPI 3.1.
pub(super) async fn openapi(State(service): State<McpService>) -> Response {
    let mut paths = serde_json::Map::new();
    let mut schemas = serde_json::Map::new();
    for tool in service.served() {
        let spec = tool.spec();
        let name = path_of(&spec.name);
        let mut schema = spec.parameters.clone();
        lift_definitions(&name, &mut schema, &mut schemas);
        let description = &spec.description;
        let operation = json!({
            "operationId": name,
            "summary": description.lines().next().unwrap_or_default(),
            "description": description,
            "requestBody": {
                "required": true,
                "content": {"application/json": {"schema": schema}},
            },
            "responses": {
                "200": {
                    "description": "The result",
                    "content": {"application/json": {"schema": {}}},
                },
                "400": {"description": "The tool failed: `detail` says why"},
                "422": {"description": "The arguments do not fit: `detail` says how"},
            },
        });
        paths.insert(format!("/{name}"), json!({"post": operation}));
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    });
    answer(StatusCode::OK, &document)
}

/// Moves `$defs` of a schema to where references of an OpenAPI document lead.
fn lift_definitions(tool: &str, schema: &mut Value, schemas: &mut serde_json::Map<String, Value>) {
    let definitions = schema
        .as_object_mut()
        .and_then(|schema| schema.remove("$defs"));
    point(tool, schema);
    let Some(Value::Object(definitions)) = definitions else {
        return;
    };
    for (name, mut definition) in definitions {
        point(tool, &mut definition);
        schemas.insert(format!("{tool}.{name}"), definition);
    }
}

/// Makes references to `$defs` lead to the components of a document.
fn point(tool: &str, schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(text) if key == "$ref" => {
                        if let Some(name) = text.strip_prefix("#/$defs/") {
                            *text = format!("#/components/schemas/{tool}.{name}");
                        }
                    }
                    member => point(tool, member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point(tool, item)),
        _ => {}
    }
}
