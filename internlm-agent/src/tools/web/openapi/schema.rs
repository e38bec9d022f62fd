//! Schemas with their references written out.

use serde_json::{Map, Value};

/// Writes references out, within a limit of depth and one of size.
pub(super) struct Writer<'a> {
    document: &'a Value,
    max_depth: usize,
    /// Values that may still be written.
    left: usize,
}

/// Why a schema could not be written out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A reference that leads out of the document, or nowhere.
    Reference(String),
    /// More values than allowed.
    Size,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference(to) => {
                write!(f, "the reference `{to}` leads to nothing in the document")
            }
            Self::Size => f.write_str("its schemas are too large when references are written out"),
        }
    }
}

/// Words of a schema that help a model; others are for documentation or for servers.
const KEPT: [&str; 29] = [
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "oneOf",
    "pattern",
    "prefixItems",
    "properties",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// Most references one after the other that lead to each other.
const CHAIN: usize = 16;

/// Most characters of a description.
const DESCRIPTION: usize = 400;

impl<'a> Writer<'a> {
    pub(super) fn new(document: &'a Value, max_depth: usize, max_values: usize) -> Self {
        Self {
            document,
            max_depth,
            left: max_values,
        }
    }

    /// What a value is, or what it refers to.
    pub(super) fn target<'v>(&self, value: &'v Value) -> Result<&'v Value, Fault>
    where
        'a: 'v,
    {
        let mut value = value;
        for _ in 0..CHAIN {
            let Some(to) = value["$ref"].as_str() else {
                return Ok(value);
            };
            let fault = || Fault::Reference(super::super::answer::cut(to, 100));
            let path = to.strip_prefix('#').ok_or_else(fault)?;
            value = self.document.pointer(&decoded(path)).ok_or_else(fault)?;
        }
        Err(Fault::Reference(String::from("a reference to itself")))
    }

    /// A schema with its references written out.
    pub(super) fn schema(&mut self, schema: &Value) -> Result<Value, Fault> {
        self.written(schema, self.max_depth)
    }

    fn written(&mut self, schema: &Value, depth: usize) -> Result<Value, Fault> {
        self.take(1)?;
        let schema = self.target(schema)?;
        let Some(words) = schema.as_object() else {
            // `true` and `false` are schemas, too.
            return Ok(schema.clone());
        };
        let mut written = Map::new();
        if depth == 0 {
            // Whatever is there fits; the server knows better.
            return Ok(Value::Object(written));
        }
        for (word, value) in words
            .iter()
            .filter(|(word, _)| KEPT.contains(&word.as_str()))
        {
            let value = match (word.as_str(), value) {
                ("properties", Value::Object(properties)) => {
                    let mut all = Map::new();
                    for (name, property) in properties {
                        // What only the server sets is no argument.
                        if property["readOnly"] == true {
                            continue;
                        }
                        all.insert(name.clone(), self.written(property, depth - 1)?);
                    }
                    Value::Object(all)
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => {
                    let mut all = Vec::new();
                    for schema in schemas {
                        all.push(self.written(schema, depth - 1)?);
                    }
                    Value::Array(all)
                }
                ("items" | "not" | "additionalProperties", Value::Object(_)) => {
                    self.written(value, depth - 1)?
                }
                ("description" | "title", Value::String(text)) => {
                    Value::String(super::super::answer::cut(text, DESCRIPTION))
                }
                _ => {
                    self.take(size(value))?;
                    value.clone()
                }
            };
            written.insert(word.clone(), value);
        }
        if schema["nullable"] == true
            && let Some(Value::String(kind)) = written.get("type").cloned()
        {
            written.insert("type".to_owned(), serde_json::json!([kind, "null"]));
        }
        if let Some(Value::Array(required)) = written.get_mut("required") {
            let properties = &schema["properties"];
            required.retain(|name| {
                let property = name.as_str().map(|name| &properties[name]);
                property.is_none_or(|property| property["readOnly"] != true)
            });
        }
        Ok(Value::Object(written))
    }

    fn take(&mut self, count: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(count).ok_or(Fault::Size)?;
        Ok(())
    }
}

/// How many values a value is made of. The parser's limit of depth bounds the recursion.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(size).sum::<usize>(),
        Value::Object(values) => 1 + values.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// A pointer in a fragment without its `%XX` (RFC 6901, section 6).
fn decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_written_out_and_ends_are_put_to_those_that_have_none() {
        let document = json!({"components": {"schemas": {
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/Node"}}},
            "Loop": {"$ref": "#/components/schemas/Loop"},
            "a/b": {"type": "string", "nullable": true, "example": "x"},
        }}});
        let write = |to: &str, depth| {
            let mut writer = Writer::new(&document, depth, 100);
            writer.schema(&json!({"$ref": to}))
        };
        let node = |inner: Value| json!({"type": "object", "properties": {"next": inner}});
        assert_eq!(
            write("#/components/schemas/Node", 2),
            Ok(node(node(json!({}))))
        );
        assert_eq!(
            write("#/components/schemas/a~1b", 2),
            Ok(json!({"type": ["string", "null"]}))
        );
        assert!(write("#/components/schemas/a%7E1b", 2).is_ok());
        for to in [
            "#/components/schemas/Loop",
            "#/none",
            "other.json#/a",
            "https://a.example/b",
        ] {
            assert!(matches!(write(to, 2), Err(Fault::Reference(_))), "{to}");
        }
    }

    #[test]
    fn doubling_schemas_end_at_the_limit() {
        let mut schemas = Map::new();
        for level in 0..60 {
            let to = json!({"$ref": format!("#/s/{}", level + 1)});
            let both = json!({"type": "object", "properties": {"a": to, "b": to}});
            schemas.insert(level.to_string(), both);
        }
        schemas.insert("60".to_owned(), json!({"type": "string"}));
        let document = json!({"s": schemas});
        let mut writer = Writer::new(&document, 100, 2_000);
        assert_eq!(writer.schema(&json!({"$ref": "#/s/0"})), Err(Fault::Size));
    }
}
