//! The tools of the goldens, in Rust: what `tool_defs.json` has in Python.

use internlm_agent::lagent::{
    Action, ActionDescription, ActionOutput, ArgumentParser, Executor, ResultItem,
};
use internlm_agent::python::PyValue;
use serde_json::Value;

use crate::golden;

/// The description of a tool in Lagent's form.
pub(crate) fn description(name: &str) -> Option<ActionDescription> {
    let definitions = golden("tool_defs.json")?;
    let cases = definitions["cases"].as_array().unwrap().iter();
    let mut named = cases.filter(|case| case["id"] == name);
    let case = named.next().unwrap_or_else(|| panic!("no tool {name}"));
    Some(ActionDescription::new(PyValue::from(&case["description"])))
}

/// The descriptions that a case names.
pub(crate) fn descriptions(names: &Value) -> Vec<ActionDescription> {
    let names: Vec<&str> = match names {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        Value::String(name) => vec![name],
        _ => Vec::new(),
    };
    names.into_iter().filter_map(description).collect()
}

/// An executor of these tools.
pub(crate) fn executor(descriptions: &[ActionDescription], parser: ArgumentParser) -> Executor {
    let actions = descriptions.iter().map(|description| {
        let name = description.name().to_owned();
        let run = move |api: &str, args: &PyValue| run(&name, api, args);
        Action::new(description.clone(), run).with_parser(parser)
    });
    Executor::new(actions.collect())
}

/// How Python calls the type of a value.
fn type_name(value: &PyValue) -> &'static str {
    match value {
        PyValue::None => "NoneType",
        PyValue::Bool(_) => "bool",
        PyValue::Int(_) => "int",
        PyValue::Float(_) => "float",
        PyValue::Str(_) => "str",
        PyValue::List(_) => "list",
        PyValue::Tuple(_) => "tuple",
        PyValue::Set(_) => "set",
        PyValue::Dict(_) => "dict",
    }
}

fn text(args: &PyValue, name: &str) -> Result<String, String> {
    match args.get(name) {
        Some(PyValue::Str(text)) => Ok(text.clone()),
        other => {
            let kind = type_name(other.unwrap_or(&PyValue::None));
            Err(format!("can only concatenate str (not \"{kind}\") to str"))
        }
    }
}

/// Python's `int()`.
fn int(value: &PyValue) -> Result<i128, String> {
    match value {
        PyValue::Int(i) => i.to_string().parse().map_err(|_| "too large".to_owned()),
        PyValue::Bool(b) => Ok(i128::from(*b)),
        PyValue::Float(f) if f.is_nan() => Err("cannot convert float NaN to integer".to_owned()),
        PyValue::Float(f) if f.is_infinite() => {
            Err("cannot convert float infinity to integer".to_owned())
        }
        PyValue::Float(f) => Ok(f.trunc() as i128),
        PyValue::Str(text) => {
            let invalid = || format!("invalid literal for int() with base 10: {}", value.repr());
            text.trim().parse().map_err(|_| invalid())
        }
        other => {
            let kind = type_name(other);
            Err(format!(
                "int() argument must be a string, a bytes-like object or a real number, not '{kind}'"
            ))
        }
    }
}

/// Python's `float()`.
fn float(value: &PyValue) -> Result<f64, String> {
    match value {
        PyValue::Int(i) => Ok(i.to_string().parse().unwrap()),
        PyValue::Bool(b) => Ok(f64::from(u8::from(*b))),
        PyValue::Float(f) => Ok(*f),
        PyValue::Str(text) => {
            let invalid = || format!("could not convert string to float: {}", value.repr());
            text.trim().parse().map_err(|_| invalid())
        }
        other => {
            let kind = type_name(other);
            Err(format!(
                "float() argument must be a string or a real number, not '{kind}'"
            ))
        }
    }
}

fn run(tool: &str, api: &str, args: &PyValue) -> Result<ActionOutput, String> {
    let none = PyValue::None;
    let one = PyValue::int(1);
    let a = args.get("a").unwrap_or(&none);
    let b = args.get("b").unwrap_or(&one);
    let value = |value: PyValue| Ok(ActionOutput::Value(value));
    match (tool, api) {
        ("Calculator", "add") => value(PyValue::int(int(a)? + int(b)?)),
        ("Calculator", "div") => {
            let (a, b) = (float(a)?, float(b)?);
            if b == 0.0 {
                return Err("float division by zero".to_owned());
            }
            value(PyValue::Float(a / b))
        }
        ("Bold", _) => value(PyValue::Str(format!("**{}**", text(args, "text")?))),
        ("GetWeather", _) => {
            if args.get("location").and_then(PyValue::as_str) == Some("Atlantis") {
                return Err("no such place: Atlantis".to_owned());
            }
            value(PyValue::from(
                serde_json::json!({"temperature": 22, "sky": "晴"}),
            ))
        }
        ("WebSearch", "search") => {
            let query = match args.get("query") {
                Some(PyValue::Str(text)) => text.clone(),
                Some(PyValue::List(items)) => items
                    .iter()
                    .map(PyValue::display)
                    .collect::<Vec<_>>()
                    .join(" | "),
                other => {
                    let kind = type_name(other.unwrap_or(&PyValue::None));
                    return Err(format!("can only join an iterable, not '{kind}'"));
                }
            };
            let page = serde_json::json!({"0": {"title": "T", "summ": format!("about {query}")}});
            value(PyValue::from(page))
        }
        ("WebSearch", "select") => {
            let Some(PyValue::List(ids)) = args.get("select_ids") else {
                return Err("'int' object is not iterable".to_owned());
            };
            let pages = ids
                .iter()
                .map(|id| (id.clone(), PyValue::Str(format!("page {}", id.display()))));
            value(PyValue::Dict(pages.collect()))
        }
        ("FakeShell", _) => {
            let command = args
                .get("command")
                .and_then(PyValue::as_str)
                .unwrap_or_default();
            if command.contains("boom") {
                return Err("name 'boom' is not defined".to_owned());
            }
            if command.contains("plot") {
                let item = |kind: &str, content: &str| ResultItem {
                    kind: kind.to_owned(),
                    content: content.to_owned(),
                };
                let items = vec![item("text", "done"), item("image", "work/0.png")];
                return Ok(ActionOutput::Items(items));
            }
            value(PyValue::Str(format!("OUT[{}]", command.trim())))
        }
        ("NoDoc", _) => {
            let two = PyValue::int(2);
            let yes = PyValue::Bool(true);
            let items = [("x", &none), ("y", &two), ("flag", &yes)]
                .map(|(name, default)| args.get(name).unwrap_or(default).clone());
            value(PyValue::List(items.into()))
        }
        _ => panic!("{tool}.{api} is not here"),
    }
}
