//! What a task does to rows before they are used.

use minijinja::Value;
use serde_json::Value as Json;

use super::spec::Step;
use crate::item::Row;
use crate::template::{Names, Templates, of};

/// The names that templates see of a row.
pub(super) fn names(row: &Row, subset: Option<&Row>) -> Names {
    let mut names: Names = row
        .iter()
        .map(|(column, value)| (column.clone(), of(value)))
        .collect();
    if let Some(subset) = subset {
        names.insert("subset".to_owned(), of(subset));
    }
    names
}

/// A step that failed: its number, the key in it, and why.
pub(super) struct Failed {
    pub(super) step: usize,
    pub(super) key: &'static str,
    pub(super) what: String,
}

/// Does the steps; None if the row is to be left out.
pub(super) fn prepare(
    templates: &Templates,
    steps: &[Step],
    subset: Option<&Row>,
    mut row: Row,
) -> Result<Option<Row>, Failed> {
    for (number, step) in steps.iter().enumerate() {
        let failed = |key: &'static str| {
            move |what: String| Failed {
                step: number,
                key,
                what,
            }
        };
        let seen = names(&row, subset);
        if let Some(condition) = &step.when {
            let holds = templates.value(condition, &seen).map_err(failed("when"))?;
            if !holds.is_true() {
                continue;
            }
        }
        if let Some(condition) = &step.skip_if {
            let skip = templates
                .value(condition, &seen)
                .map_err(failed("skip_if"))?;
            if skip.is_true() {
                return Ok(None);
            }
        }
        let Some(column) = &step.set else {
            continue;
        };
        let content = match &step.each {
            None => content(templates, step, &seen).map_err(failed("text"))?,
            Some(list) => {
                let list = templates.value(list, &seen).map_err(failed("each"))?;
                let members = list
                    .try_iter()
                    .map_err(|error| failed("each")(error.to_string()))?;
                let mut seen = seen;
                let mut contents = Vec::new();
                for (index, member) in members.enumerate() {
                    seen.insert("it".to_owned(), member);
                    seen.insert("index".to_owned(), Value::from(index));
                    contents.push(content(templates, step, &seen).map_err(failed("text"))?);
                }
                Json::Array(contents)
            }
        };
        let content = match (step.parse_json, content) {
            (true, Json::String(text)) => {
                serde_json::from_str(&text).map_err(|error| failed("text")(error.to_string()))?
            }
            (_, content) => content,
        };
        row.insert(column.clone(), content);
    }
    Ok(Some(row))
}

fn content(templates: &Templates, step: &Step, names: &Names) -> Result<Json, String> {
    match (&step.text, &step.value, &step.set) {
        (Some(text), _, _) => templates.text(text, names).map(Json::String),
        (None, Some(value), _) => json(&templates.value(value, names)?),
        (None, None, Some(column)) => json(names.get(column).unwrap_or(&Value::UNDEFINED)),
        (None, None, None) => Ok(Json::Null),
    }
}

/// A value of a template as JSON.
pub(super) fn json(value: &Value) -> Result<Json, String> {
    if value.is_undefined() {
        return Err("the value is undefined".to_owned());
    }
    serde_json::to_value(value).map_err(|error| error.to_string())
}
