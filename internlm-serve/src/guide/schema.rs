//! Checks a JSON schema before the compiler sees it, and says how its JSON is written.

use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// Deepest nesting. `serde_json` reads 128; the compiler recurses.
const MAX_DEPTH: usize = 64;
/// Most values, nested ones included.
const MAX_VALUES: usize = 20_000;
/// Most bytes of all strings and keys.
const MAX_BYTES: usize = 256 << 10;
/// Most bytes of a regular expression.
pub(super) const MAX_REGEX_BYTES: usize = 4096;
/// Most alternatives of one `enum`.
const MAX_ENUM: usize = 1000;
/// Largest bound of a length or a count.
const MAX_COUNT: u64 = 10_000;

/// White space between the tokens of JSON. Without a bound, a model may write nothing else.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";

/// The key by which `llguidance` takes its options in a schema.
const OPTIONS: &str = "x-guidance";

/// The grammar of a schema's JSON.
///
/// # Errors
/// A schema that is out of bounds. What the compiler can't enforce it refuses itself.
pub(super) fn of_schema(
    field: &'static str,
    name: &str,
    schema: &Value,
) -> Result<GrammarWithLexer> {
    check(field, schema)?;
    let mut schema = match schema {
        Value::Bool(true) => Map::new(),
        Value::Object(schema) => schema.clone(),
        _ => return Err(Error::request(field, "a schema is an object or true")),
    };
    schema.insert(OPTIONS.into(), json!({"whitespace_pattern": WHITE_SPACE}));
    Ok(GrammarWithLexer {
        name: Some(name.to_owned()),
        json_schema: Some(Value::Object(schema)),
        lark_grammar: None,
    })
}

/// The grammar of a tool's parameters, which are an object whatever the schema leaves open.
///
/// # Errors
/// As [`of_schema`], and a schema of another type.
pub(super) fn of_parameters(
    field: &'static str,
    name: &str,
    parameters: &Value,
) -> Result<GrammarWithLexer> {
    check(field, parameters)?;
    let mut schema = match parameters {
        Value::Null | Value::Bool(true) => Map::new(),
        Value::Object(schema) => schema.clone(),
        _ => return Err(Error::request(field, "a tool's parameters are a schema")),
    };
    let of_object = match schema.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|of| of == "object"),
        Some(of) => of == "object",
    };
    if !of_object {
        let what = "a tool's parameters must be of type object";
        return Err(Error::request(field, what));
    }
    schema.insert("type".into(), json!("object"));
    of_schema(field, name, &Value::Object(schema))
}

/// Checks sizes without recursion, and what the compiler would take otherwise than it is meant.
fn check(field: &'static str, schema: &Value) -> Result<()> {
    let refuse = |what: String| Err(Error::request(field, format!("the schema {what}")));
    if schema.get(OPTIONS).is_some() {
        return refuse(format!("has `{OPTIONS}`, which clients may not set"));
    }
    let (mut values, mut bytes) = (0, 0);
    let mut open = vec![(schema, 1)];
    while let Some((value, depth)) = open.pop() {
        values += 1;
        if depth > MAX_DEPTH {
            return refuse(format!("is nested deeper than {MAX_DEPTH}"));
        }
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(inner) => open.extend(inner.iter().map(|value| (value, depth + 1))),
            Value::Object(inner) => {
                for (key, value) in inner {
                    bytes += key.len();
                    if let Some(what) = breach(key, value) {
                        return refuse(what);
                    }
                    open.push((value, depth + 1));
                }
            }
            _ => {}
        }
        // The stack counts too: one array may hold everything.
        if values + open.len() > MAX_VALUES {
            return refuse(format!("has more than {MAX_VALUES} values"));
        }
        if bytes > MAX_BYTES {
            return refuse(format!("has more than {MAX_BYTES} bytes of text"));
        }
    }
    Ok(())
}

/// What is wrong with one keyword. A property may have the name of a keyword; its schema is then an
/// object or a boolean, which none of these is.
fn breach(key: &str, value: &Value) -> Option<String> {
    match (key, value) {
        ("$ref", Value::String(target)) if !target.starts_with('#') => {
            let target: String = target.chars().take(80).collect();
            Some(format!(
                "refers to `{target}`; only references inside of it (#/…) are followed"
            ))
        }
        ("enum", Value::Array(options)) if options.len() > MAX_ENUM => {
            Some(format!("has an enum of more than {MAX_ENUM} values"))
        }
        ("pattern", Value::String(regex)) if regex.len() > MAX_REGEX_BYTES => Some(format!(
            "has a pattern of more than {MAX_REGEX_BYTES} bytes"
        )),
        ("patternProperties", Value::Object(patterns)) => {
            let long = patterns.keys().any(|regex| regex.len() > MAX_REGEX_BYTES);
            long.then(|| format!("has a pattern of more than {MAX_REGEX_BYTES} bytes"))
        }
        (
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties",
            Value::Number(count),
        ) if count.as_f64().is_some_and(|count| count > MAX_COUNT as f64) => {
            Some(format!("has a {key} of more than {MAX_COUNT}"))
        }
        _ => None,
    }
}
