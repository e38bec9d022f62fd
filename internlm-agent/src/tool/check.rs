//! Whether arguments fit a schema's top level, in words that help a model to do better.

use serde_json::Value;

/// What does not fit, or nothing: arguments that are no object, required ones that are missing, names that the
/// schema does not know, and types at the top level. Deeper faults are found by whoever reads the arguments.
pub fn check_arguments(schema: &Value, arguments: &Value) -> Option<String> {
    let Some(given) = arguments.as_object() else {
        return Some("they must be a JSON object".to_owned());
    };
    let properties = schema["properties"].as_object();
    let mut faults = Vec::new();
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !given.contains_key(name) {
            faults.push(format!("`{name}` is missing"));
        }
    }
    let open = match &schema["additionalProperties"] {
        Value::Null => properties.is_none(),
        Value::Bool(open) => *open,
        _ => true,
    };
    for (name, value) in given {
        match properties.and_then(|properties| properties.get(name)) {
            Some(property) => {
                let expected = expected_types(property);
                if !expected.is_empty() && !expected.iter().any(|kind| is_of(value, kind)) {
                    let expected = expected.join(" or ");
                    faults.push(format!(
                        "`{name}` must be {expected}, not {}",
                        type_of(value)
                    ));
                }
            }
            None if !open => {
                let known: Vec<&str> = properties
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.as_str())
                    .collect();
                faults.push(match known.is_empty() {
                    true => format!("`{name}` is unknown (none are known)"),
                    false => format!("`{name}` is unknown (known are: {})", known.join(", ")),
                });
            }
            None => {}
        }
    }
    (!faults.is_empty()).then(|| faults.join("; "))
}

fn expected_types(property: &Value) -> Vec<&str> {
    match &property["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        // A whole number may be written as a float.
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0)
        }
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
