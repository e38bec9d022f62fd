//! How Lagent describes tools: lists of parameters instead of a schema.

use internlm_core::ToolSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::prompts::{API_PREFIX, JSON_PARAMETERS, fill};
use crate::python::{DumpStyle, PyValue};

/// A tool or a toolkit in Lagent's form: a dictionary with `name`, `description` and either `parameters` and
/// `required` or, for a toolkit, an `api_list` of such dictionaries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionDescription(PyValue);

impl ActionDescription {
    /// Takes a dictionary as it is.
    pub fn new(description: impl Into<PyValue>) -> Self {
        Self(description.into())
    }

    /// Renders the list form of a schema's top level. Types are `STRING`, `NUMBER` (whole), `FLOAT`, `BOOLEAN`
    /// and `Array`; everything else is called `STRING`, as Lagent calls what it does not know.
    pub fn from_spec(spec: &ToolSpec) -> Self {
        let schema = &spec.parameters;
        let mut parameters = Vec::new();
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let description = property["description"].as_str().unwrap_or_default();
            parameters.push(dict([
                ("name", PyValue::str(name)),
                ("type", PyValue::str(type_name(property, schema))),
                ("description", PyValue::str(description)),
            ]));
        }
        let required = schema["required"].as_array().into_iter().flatten();
        Self(dict([
            ("name", PyValue::str(&spec.name)),
            ("description", PyValue::str(&spec.description)),
            ("parameters", PyValue::List(parameters)),
            (
                "required",
                PyValue::List(required.map(PyValue::from).collect()),
            ),
            ("parameter_description", PyValue::str(JSON_PARAMETERS)),
        ]))
    }

    /// The name, without an API.
    pub fn name(&self) -> &str {
        text(&self.0, "name")
    }

    /// Whether calls name one of several functions.
    pub fn is_toolkit(&self) -> bool {
        self.0.get("api_list").is_some()
    }

    /// The description of a function; `run` is that of a tool that is no toolkit.
    pub fn api(&self, name: &str) -> Option<&PyValue> {
        match self.0.get("api_list") {
            Some(PyValue::List(apis)) => apis
                .iter()
                .find(|api| api.get("name").and_then(PyValue::as_str) == Some(name)),
            _ => (name == "run").then_some(&self.0),
        }
    }

    /// One description per function, named `Toolkit.api` if it is a toolkit.
    pub fn functions(&self) -> Vec<PyValue> {
        match self.0.get("api_list") {
            Some(PyValue::List(apis)) => apis
                .iter()
                .map(|api| {
                    let name = text(api, "name");
                    with(api, "name", PyValue::str(format!("{}.{name}", self.name())))
                })
                .collect(),
            _ => vec![self.0.clone()],
        }
    }

    /// The names of the parameters of a function, in order.
    pub(super) fn parameters(&self, api: &str) -> Vec<&str> {
        match self.api(api).and_then(|api| api.get("parameters")) {
            Some(PyValue::List(list)) => list
                .iter()
                .filter_map(|p| p.get("name")?.as_str())
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The names of its required parameters, in order.
    pub(super) fn required(&self, api: &str) -> Vec<&str> {
        match self.api(api).and_then(|api| api.get("required")) {
            Some(PyValue::List(list)) => list.iter().filter_map(PyValue::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// All functions as Python's `repr` of a list: the form of ReAct and ReWOO in 0.2.
    pub fn repr(actions: &[Self]) -> String {
        Self::list(actions).repr()
    }

    /// All functions as one line of JSON in ASCII: the form of ReAct in 0.5.
    pub fn json_line(actions: &[Self]) -> String {
        Self::list(actions).dumps_with(DumpStyle {
            ascii: true,
            indent: None,
        })
    }

    /// All functions as JSON over lines: the form of `AgentForInternLM`.
    pub fn plugin_prompt(actions: &[Self]) -> String {
        Self::list(actions).dumps_with(PLUGIN_STYLE)
    }

    /// The same with [`API_PREFIX`] before the descriptions of toolkits' functions.
    pub fn plugin_prompt_with_prefix(actions: &[Self]) -> String {
        let functions = actions.iter().flat_map(|action| {
            let functions = action.functions().into_iter();
            functions.map(|api| match action.is_toolkit() {
                true => prefixed(&api, action.name()),
                false => api,
            })
        });
        PyValue::List(functions.collect()).dumps_with(PLUGIN_STYLE)
    }

    /// The form of `Internlm2Agent` in 0.2: [`API_PREFIX`] before every description, and required
    /// parameters only.
    pub fn plugin_prompt_v024(actions: &[Self]) -> String {
        let functions = actions.iter().flat_map(|action| {
            let functions = action.functions().into_iter();
            functions.map(|api| required_only(&prefixed(&api, action.name())))
        });
        PyValue::List(functions.collect()).dumps_with(PLUGIN_STYLE)
    }

    fn list(actions: &[Self]) -> PyValue {
        PyValue::List(actions.iter().flat_map(Self::functions).collect())
    }
}

const PLUGIN_STYLE: DumpStyle = DumpStyle {
    ascii: false,
    indent: Some(4),
};

fn dict<const N: usize>(entries: [(&str, PyValue); N]) -> PyValue {
    PyValue::Dict(entries.map(|(k, v)| (PyValue::str(k), v)).into())
}

/// The text of a key, empty if there is none.
fn text<'a>(value: &'a PyValue, key: &str) -> &'a str {
    let text = value.get(key).and_then(PyValue::as_str);
    text.unwrap_or_default()
}

/// The dictionary with another value of a key, in the key's place.
fn with(value: &PyValue, key: &str, new: PyValue) -> PyValue {
    let PyValue::Dict(mut entries) = value.clone() else {
        return value.clone();
    };
    if let Some(entry) = entries.iter_mut().find(|(k, _)| k.as_str() == Some(key)) {
        entry.1 = new;
    }
    PyValue::Dict(entries)
}

fn prefixed(api: &PyValue, tool: &str) -> PyValue {
    let description = text(api, "description");
    let text = fill(
        API_PREFIX,
        &[("tool_name", tool), ("description", description)],
    );
    with(api, "description", PyValue::Str(text))
}

fn required_only(api: &PyValue) -> PyValue {
    let (Some(PyValue::List(parameters)), Some(PyValue::List(required))) =
        (api.get("parameters"), api.get("required"))
    else {
        return api.clone();
    };
    let kept = parameters
        .iter()
        .filter(|p| p.get("name").is_some_and(|name| required.contains(name)));
    with(api, "parameters", PyValue::List(kept.cloned().collect()))
}

fn type_name(property: &Value, root: &Value) -> &'static str {
    let resolved = property["$ref"]
        .as_str()
        .and_then(|path| root.pointer(path.strip_prefix('#')?));
    let property = resolved.unwrap_or(property);
    let kinds = match &property["type"] {
        Value::String(kind) => vec![kind.as_str()],
        // An optional field is a list of its type and "null".
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let kind = kinds.into_iter().find(|kind| *kind != "null");
    match kind {
        Some("integer") => "NUMBER",
        Some("number") => "FLOAT",
        Some("boolean") => "BOOLEAN",
        Some("array") => "Array",
        Some(_) => "STRING",
        None => {
            let options = property["anyOf"].as_array().into_iter().flatten();
            let mut options = options.filter(|option| option["type"] != "null");
            options
                .next()
                .map_or("STRING", |option| type_name(option, root))
        }
    }
}
