//! Rows from JSON and JSONL.

use serde_json::Value;

use super::lines::Lines;
use super::{Keep, ReadOptions};
use crate::error::{Error, Result};
use crate::item::Row;

/// An object a line. Blank lines are passed over.
pub(super) fn lines(
    text: &mut Lines<'_>,
    options: &ReadOptions,
    keep: &mut Keep<'_>,
) -> Result<()> {
    while let Some(line) = text.next()? {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(&line).map_err(|error| text.broken(what_is_wrong(&error)))?;
        let row = row(value, options).map_err(|what| text.broken(what))?;
        if !keep(row) {
            break;
        }
    }
    Ok(())
}

/// One array of objects, or the array that the keys lead to. A file of an object a line is read as what it is: CLUE's
/// and some of the hub's have the extension `.json`.
pub(super) fn array(
    text: &mut Lines<'_>,
    options: &ReadOptions,
    keep: &mut Keep<'_>,
) -> Result<()> {
    let file = text.file().to_owned();
    let all = text.rest()?;
    let broken = |line: usize, what: String| Error::BrokenLine {
        file: file.clone(),
        line,
        what,
    };
    let mut value: Value = match serde_json::from_str(&all) {
        Ok(value) => value,
        Err(error) => match each_line(&all) {
            Some(values) => Value::Array(values),
            None => return Err(broken(error.line(), what_is_wrong(&error))),
        },
    };
    for key in &options.records {
        value = match value {
            // A copy that is the array alone.
            Value::Array(_) => break,
            Value::Object(mut object) => object
                .remove(key)
                .ok_or_else(|| broken(1, format!("there is no key `{key}` with the rows")))?,
            _ => {
                return Err(broken(
                    1,
                    format!("an object with the key `{key}` was expected"),
                ));
            }
        };
    }
    let values = match value {
        Value::Array(values) => values,
        // An object of objects (T-Eval): each is a row, its name becomes the column `key`.
        Value::Object(rows) if !rows.is_empty() && rows.values().all(Value::is_object) => rows
            .into_iter()
            .map(|(key, mut row)| {
                if let Some(row) = row.as_object_mut() {
                    row.entry("key").or_insert(Value::from(key));
                }
                row
            })
            .collect(),
        _ => {
            let what = "an array of rows was expected; `records` names the key that has it";
            return Err(broken(1, what.to_owned()));
        }
    };
    for (index, value) in values.into_iter().enumerate() {
        let row = row(value, options).map_err(|what| broken(1, format!("row {index}: {what}")))?;
        if !keep(row) {
            break;
        }
    }
    Ok(())
}

/// The objects of a text that has one on each of several lines.
fn each_line(text: &str) -> Option<Vec<Value>> {
    let lines = text.split('\n').filter(|line| !line.trim().is_empty());
    let values: Vec<Value> = lines
        .map(|line| serde_json::from_str(line).ok().filter(Value::is_object))
        .collect::<Option<_>>()?;
    (values.len() > 1).then_some(values)
}

fn row(value: Value, options: &ReadOptions) -> Result<Row, String> {
    match (value, &options.fields) {
        (Value::Object(row), _) => Ok(row),
        (Value::Array(values), Some(fields)) if values.len() == fields.len() => {
            Ok(fields.iter().cloned().zip(values).collect())
        }
        (Value::Array(values), Some(fields)) => Err(format!(
            "the row has {} members, {} were expected",
            values.len(),
            fields.len()
        )),
        _ => Err("an object was expected".to_owned()),
    }
}

fn what_is_wrong(error: &serde_json::Error) -> String {
    format!("not JSON at column {}: {}", error.column(), kind(error))
}

fn kind(error: &serde_json::Error) -> String {
    let full = error.to_string();
    match full.rfind(" at line ") {
        Some(end) => full[..end].to_owned(),
        None => full,
    }
}
