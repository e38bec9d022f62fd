//! Lagent's `JSONParser`: answers that are JSON of one of several shapes.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::python::{self, PyValue};

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldType {
    /// A string.
    Str,
    /// Any dictionary.
    Dict,
    /// A dictionary of these fields.
    Object(Vec<Field>),
}

/// A field that an answer must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The key.
    pub name: String,
    /// What it holds.
    pub kind: FieldType,
    /// What it means; a comment in the prompt.
    pub comment: String,
}

impl Field {
    /// A field.
    pub fn new(name: &str, kind: FieldType, comment: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            comment: comment.to_owned(),
        }
    }
}

/// A shape of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

/// The shapes that are tried, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonParser {
    /// The shapes.
    pub shapes: Vec<Shape>,
}

impl JsonParser {
    /// The shapes of ReAct: an action, or a conclusion.
    pub fn react() -> Self {
        let thought = || {
            let comment =
                "描述当前所处的状态和已知信息。这有助于明确目前所掌握的信息和接下来的搜索方向。";
            Field::new("thought_process", FieldType::Str, comment)
        };
        let action = FieldType::Object(vec![
            Field::new("name", FieldType::Str, "调用的函数名称"),
            Field::new("parameters", FieldType::Dict, "调用函数的参数"),
        ]);
        let comment = "当前步骤需要执行的操作，包括函数名称和参数。";
        let conclusion = "总结当前的搜索结果，回答问题。";
        Self {
            shapes: vec![
                Shape {
                    fields: vec![thought(), Field::new("action", action, comment)],
                },
                Shape {
                    fields: vec![
                        thought(),
                        Field::new("conclusion", FieldType::Str, conclusion),
                    ],
                },
            ],
        }
    }

    /// The value of the first shape that an answer has. Lines that begin with `//` are dropped, and fields
    /// that the shape lacks.
    ///
    /// # Errors
    /// [`Error::Upstream`] if the text is not JSON or of no shape.
    pub fn parse(&self, text: &str) -> Result<PyValue> {
        let lines = text
            .split('\n')
            .filter(|line| !python::strip(line).starts_with("//"));
        let lines: Vec<&str> = lines.collect();
        let not_json = || Error::upstream("ValueError", "Input string is not a valid JSON.");
        let value = python::loads(&lines.join("\n")).map_err(|_| not_json())?;
        let shape = self.shapes.iter().find(|shape| fits(&value, &shape.fields));
        let Some(shape) = shape else {
            let what =
                "cannot access local variable 'model' where it is not associated with a value";
            return Err(Error::upstream("UnboundLocalError", what));
        };
        for field in &shape.fields {
            // The names of types stand for "left out".
            let kinds = ["str", "int", "float", "bool", "list", "dict"];
            let left_out = value.get(&field.name).and_then(PyValue::as_str);
            if left_out.is_some_and(|text| kinds.contains(&text)) {
                let what = format!("Field '{}' is required but not provided", field.name);
                return Err(Error::upstream("ValueError", what));
            }
        }
        Ok(reduced(&value, &shape.fields))
    }
}

fn fits(value: &PyValue, fields: &[Field]) -> bool {
    fields
        .iter()
        .all(|field| match (value.get(&field.name), &field.kind) {
            (Some(PyValue::Str(_)), FieldType::Str) | (Some(PyValue::Dict(_)), FieldType::Dict) => {
                true
            }
            (Some(value @ PyValue::Dict(_)), FieldType::Object(fields)) => fits(value, fields),
            _ => false,
        })
}

/// The value with the fields of a shape only, in its order.
fn reduced(value: &PyValue, fields: &[Field]) -> PyValue {
    let entries = fields.iter().filter_map(|field| {
        let value = value.get(&field.name)?;
        let value = match &field.kind {
            FieldType::Object(fields) => reduced(value, fields),
            _ => value.clone(),
        };
        Some((PyValue::str(&field.name), value))
    });
    PyValue::Dict(entries.collect())
}

impl std::fmt::Display for Shape {
    /// As the prompt shows it: JSON with comments and the names of types.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self
            .fields
            .iter()
            .map(|field| field_text(field, 1))
            .collect();
        let text = lines.join("\n");
        write!(f, "{{\n{}\n}}", text.trim_end_matches(','))
    }
}

fn field_text(field: &Field, depth: usize) -> String {
    let indent = "    ".repeat(depth);
    let name = &field.name;
    let mut out = String::new();
    if !field.comment.is_empty() {
        _ = writeln!(out, "{indent}// {}", field.comment);
    }
    let kind = match &field.kind {
        FieldType::Str => "str",
        FieldType::Dict => "dict[]",
        FieldType::Object(fields) => {
            _ = writeln!(out, "{indent}\"{name}\": {{");
            for field in fields {
                out.push_str(&field_text(field, depth + 1));
                out.push('\n');
            }
            _ = write!(out, "{indent}}},");
            return out;
        }
    };
    _ = write!(out, "{indent}\"{name}\": \"{kind}\",  // required");
    out
}
