//! Arguments that a model wrote as text.

use internlm_core::ToolSpec;
use serde_json::{Map, Value};

use super::tools::cut;
use crate::python;

/// Reads arguments leniently: an object in JSON, JSON5 or as a Python literal, fenced or not, with or without
/// text after it. Where a tool takes one required text, any other text is this.
///
/// # Errors
/// What the model is told.
pub(crate) fn read_arguments(text: &str, tool: Option<&ToolSpec>) -> Result<Value, String> {
    let text = python::strip(text);
    let inside = unfenced(text);
    if inside.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if inside.starts_with('{') {
        let object = object_prefix(inside).and_then(read_object);
        return object.ok_or_else(|| format!("the input is not a JSON object: {}", cut(text)));
    }
    let only = tool.and_then(only_text);
    match only {
        Some(name) => {
            let unquoted = python::loads(inside)
                .or_else(|_| python::literal(inside))
                .ok()
                .and_then(|v| v.as_str().map(str::to_owned));
            let value = Value::String(unquoted.unwrap_or_else(|| text.to_owned()));
            Ok(Value::Object(Map::from_iter([(name, value)])))
        }
        None => Err(format!("the input is not a JSON object: {}", cut(text))),
    }
}

/// Whether a text begins with an object that is closed, fenced or not.
pub(crate) fn is_object(text: &str) -> bool {
    let text = unfenced(python::strip(text));
    text.starts_with('{') && object_prefix(text).is_some()
}

/// An object in JSON, in JSON5 or as a Python literal.
pub(crate) fn read_object(text: &str) -> Option<Value> {
    let value = python::loads(text)
        .or_else(|_| python::json5(text))
        .or_else(|_| python::literal(text));
    value
        .ok()
        .map(|value| value.to_json())
        .filter(Value::is_object)
}

/// What is inside of a fence, if the text is one.
pub(crate) fn unfenced(text: &str) -> &str {
    let mut fences = ["```", "~~~"].into_iter();
    let Some(fence) = fences.find(|fence| text.starts_with(fence)) else {
        return text.trim_end_matches("```").trim_end();
    };
    let inside = &text[fence.len()..];
    let (_, body) = inside.split_once('\n').unwrap_or(("", inside));
    body.split(fence).next().unwrap_or(body).trim()
}

/// The text up to the brace that closes the first one; quotes of both kinds are respected.
pub(crate) fn object_prefix(text: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '{' | '[' => depth += 1,
                '}' | ']' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(&text[..i + c.len_utf8()]);
                    }
                }
                _ => {}
            },
        }
    }
    None
}

/// The one required parameter of a tool, if it is a text and the only required one.
fn only_text(tool: &ToolSpec) -> Option<String> {
    let required = tool.parameters["required"].as_array()?;
    let [Value::String(name)] = &required[..] else {
        return None;
    };
    let kind = &tool.parameters["properties"][name]["type"];
    (kind == "string").then(|| name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, want: Value) {
        let parameters = json!({"properties": {"q": {"type": "string"}}, "required": ["q"]});
        let tool = ToolSpec::new("t", "", parameters);
        assert_eq!(read_arguments(text, Some(&tool)).unwrap(), want);
    }

    #[test]
    fn forms_of_arguments() {
        check(r#"{"q": "a"}"#, json!({"q": "a"}));
        check("```json\n{\"q\": \"a\"}\n```", json!({"q": "a"}));
        check("{\"q\": \"a\"}\n```", json!({"q": "a"}));
        check("{'q': \"it's\", }", json!({"q": "it's"}));
        check("{'q': True}", json!({"q": true}));
        check("{\"q\": \"}\"} and then I wait", json!({"q": "}"}));
        check("Shanghai", json!({"q": "Shanghai"}));
        check("\"Shanghai\"", json!({"q": "Shanghai"}));
        check("\"\"\"Shanghai\"\"\"", json!({"q": "Shanghai"}));
        check("~~~json\n{\"q\": \"a\"}\n~~~", json!({"q": "a"}));
        check("", json!({}));
        for text in ["{\"q\": \"a\"", "{q}"] {
            assert!(read_arguments(text, None).is_err(), "{text}");
        }
        assert!(read_arguments("Shanghai", None).is_err());
    }
}
