//! From a document to tools.

use std::collections::{BTreeMap, BTreeSet};

use internlm_core::ToolSpec;
use serde_json::{Map, Value, json};

use super::call::{BodyKind, OpenApiTool, Operation, Parameter, Place};
use super::schema::Writer;
use super::{OpenApiConfig, OpenApiError, OpenApiTools, Skipped};
use crate::fetch::{FetchMethod, Fetcher, resolve};
use crate::tools::web::answer::cut;

/// Most characters of a tool's description.
const DESCRIPTION: usize = 1_000;

/// Most characters of a tool's name, as the wire allows it.
const NAME: usize = 64;

pub(super) fn tools(
    document: &Value,
    at: Option<&str>,
    config: &OpenApiConfig,
    fetcher: &Fetcher,
) -> Result<OpenApiTools, OpenApiError> {
    let fault = |what: &str| OpenApiError::Document {
        what: what.to_owned(),
    };
    let version = document["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        return Err(fault("`openapi` must be a version 3"));
    }
    let paths = document["paths"]
        .as_object()
        .ok_or_else(|| fault("`paths` is missing"))?;
    let server = server(document, at, config)?;
    let host = server.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    // A redirect must not carry an operation to other hosts.
    let fetcher = fetcher.clone().with_hosts([host]);
    let mut made = OpenApiTools::default();
    let mut names = BTreeSet::new();
    // Sorted: whether the document's order is kept is another crate's choice.
    let paths: BTreeMap<&String, &Value> = paths.iter().collect();
    for (path, item) in paths {
        for method in &config.methods {
            let operation = &item[method.as_str().to_lowercase()];
            if !operation.is_object() {
                continue;
            }
            if made.tools.len() + made.skipped.len() >= config.max_operations {
                return Err(OpenApiError::TooMany {
                    limit: config.max_operations,
                });
            }
            let read = Reader {
                document,
                config,
                server: &server,
                path,
                method: *method,
            };
            match read.operation(item, operation, &mut names) {
                Ok((spec, operation)) => {
                    let tool = OpenApiTool::new(spec, operation, &fetcher, config);
                    made.tools.push(tool);
                }
                Err(why) => made.skipped.push(Skipped {
                    operation: cut(&format!("{method} {path}"), 200),
                    why,
                }),
            }
        }
    }
    Ok(made)
}

/// The server's address, without a slash at its end.
fn server(
    document: &Value,
    at: Option<&str>,
    config: &OpenApiConfig,
) -> Result<String, OpenApiError> {
    let named = &document["servers"][0];
    let mut server = match &config.server {
        Some(server) => server.clone(),
        None => named["url"].as_str().unwrap_or("/").to_owned(),
    };
    for (name, variable) in named["variables"].as_object().into_iter().flatten() {
        let value = variable["default"].as_str().unwrap_or_default();
        server = server.replace(&format!("{{{name}}}"), value);
    }
    let fault = || OpenApiError::Server {
        server: cut(&server, 200),
    };
    let full = match (server.contains("://"), at) {
        (true, _) => server.clone(),
        (false, Some(at)) => resolve(at, &server).ok_or_else(fault)?,
        (false, None) => return Err(fault()),
    };
    // Whatever else is wrong with it is said when it is asked for.
    match full.starts_with("http://") || full.starts_with("https://") {
        true => Ok(full.trim_end_matches('/').to_owned()),
        false => Err(fault()),
    }
}

struct Reader<'a> {
    document: &'a Value,
    config: &'a OpenApiConfig,
    server: &'a str,
    path: &'a str,
    method: FetchMethod,
}

impl Reader<'_> {
    /// An operation, or why there is none.
    fn operation(
        &self,
        item: &Value,
        operation: &Value,
        names: &mut BTreeSet<String>,
    ) -> Result<(ToolSpec, Operation), String> {
        let mut writer = Writer::new(self.document, self.config.max_depth, self.config.max_values);
        let told = |fault: super::schema::Fault| fault.to_string();
        let (mut properties, mut required) = (Map::new(), Vec::new());
        let mut parameters: Vec<Parameter> = Vec::new();
        let listed = |value: &Value| value.as_array().cloned().unwrap_or_default();
        // Those of the operation come last and replace those of the path.
        let all = [
            listed(&item["parameters"]),
            listed(&operation["parameters"]),
        ]
        .concat();
        for parameter in &all {
            let parameter = writer.target(parameter).map_err(told)?.clone();
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            let needed = parameter["required"] == true;
            let place = match parameter["in"].as_str() {
                Some("path") => Place::Path,
                Some("query") => Place::Query,
                Some("header") => Place::Header,
                _ if needed => {
                    return Err(format!("it needs `{name}` in a place that is not known"));
                }
                _ => continue,
            };
            // These three are for other parts of a document (OpenAPI 3.1, section 4.8.12).
            let other = ["accept", "content-type", "authorization"];
            if name.is_empty()
                || place == Place::Header && other.contains(&name.to_lowercase().as_str())
            {
                continue;
            }
            if parameters
                .iter()
                .any(|other| other.name == name && other.place != place)
            {
                return Err(format!("two parameters are called `{name}`"));
            }
            parameters.retain(|other| other.name != name);
            let schema = match parameter["schema"].is_object() {
                true => &parameter["schema"],
                false => &parameter["content"]["application/json"]["schema"],
            };
            let mut schema = match schema.is_null() {
                true => json!({}),
                false => writer.schema(schema).map_err(told)?,
            };
            if let Some(text) = parameter["description"].as_str() {
                schema["description"] = cut(text, 400).into();
            }
            required.retain(|other: &String| *other != name);
            if needed || place == Place::Path {
                required.push(name.clone());
            }
            properties.insert(name.clone(), schema);
            parameters.push(Parameter {
                name,
                place,
                explode: parameter["explode"] != false,
            });
        }
        for part in self.path.split('{').skip(1) {
            let name = part.split('}').next().unwrap_or_default();
            let known = |p: &Parameter| p.place == Place::Path && p.name == name;
            if !parameters.iter().any(known) {
                return Err(format!("nothing says what `{name}` in its path is"));
            }
        }
        let mut body = None;
        if operation["requestBody"].is_object() {
            let request = writer
                .target(&operation["requestBody"])
                .map_err(told)?
                .clone();
            let (kind, schema) = self.body(&request)?;
            if properties.contains_key("body") {
                return Err("a parameter is called `body`".to_owned());
            }
            let mut schema = writer.schema(schema).map_err(told)?;
            if let Some(text) = request["description"]
                .as_str()
                .filter(|_| schema.is_object())
            {
                schema["description"] = cut(text, 400).into();
            }
            if request["required"] == true {
                required.push("body".to_owned());
            }
            properties.insert("body".to_owned(), schema);
            body = Some(kind);
        }
        let name = self.name(operation, names);
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        let spec = ToolSpec::new(name, self.description(operation), schema);
        Ok((
            spec,
            Operation {
                method: self.method,
                server: self.server.to_owned(),
                path: self.path.to_owned(),
                parameters,
                body,
            },
        ))
    }

    fn body<'v>(&self, request: &'v Value) -> Result<(BodyKind, &'v Value), String> {
        const FORM: &str = "application/x-www-form-urlencoded";
        let content = request["content"].as_object();
        let kinds = || content.into_iter().flatten();
        let is_json = |kind: &str| {
            let kind = kind.split(';').next().unwrap_or_default().trim();
            kind == "application/json" || kind.ends_with("+json")
        };
        if let Some((kind, media)) = kinds().find(|(kind, _)| is_json(kind)) {
            return Ok((BodyKind::Json(kind.clone()), &media["schema"]));
        }
        if let Some((_, media)) = kinds().find(|(kind, _)| kind.starts_with(FORM)) {
            return Ok((BodyKind::Form, &media["schema"]));
        }
        let kinds: Vec<&str> = kinds().map(|(kind, _)| kind.as_str()).take(5).collect();
        Err(format!(
            "its body is neither JSON nor a form: {}",
            kinds.join(", ")
        ))
    }

    /// A name that is one on the wire, and that no other operation has.
    fn name(&self, operation: &Value, names: &mut BTreeSet<String>) -> String {
        let base = match operation["operationId"].as_str() {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => format!("{}_{}", self.method.as_str().to_lowercase(), self.path),
        };
        let mut name = String::new();
        for letter in base.chars() {
            match letter.is_ascii_alphanumeric() || letter == '-' {
                true => name.push(letter),
                // One for several in a row.
                false if !name.ends_with('_') => name.push('_'),
                false => {}
            }
        }
        name.truncate(NAME);
        let name = match name.trim_matches('_') {
            "" => "operation".to_owned(),
            name => name.to_owned(),
        };
        let mut free = name.clone();
        let mut number = 2;
        while !names.insert(free.clone()) {
            let end = format!("_{number}");
            free = format!("{}{end}", &name[..name.len().min(NAME - end.len())]);
            number += 1;
        }
        free
    }

    fn description(&self, operation: &Value) -> String {
        let text = |name: &str| {
            operation[name]
                .as_str()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let (summary, more) = (text("summary"), text("description"));
        let both = match (summary.is_empty(), more.is_empty() || more == summary) {
            (true, true) => format!("{} {}", self.method, self.path),
            (true, false) => more,
            (false, true) => summary,
            (false, false) => format!("{summary}\n{more}"),
        };
        let mut told = cut(&both, DESCRIPTION);
        if operation["deprecated"] == true {
            told.push_str("\nDeprecated.");
        }
        told
    }
}
