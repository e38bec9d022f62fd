//! Conditions on rows.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{Condition, Operator, wrong};
use crate::tool::ToolError;
use crate::tools::query::number::{Number, compare};
use crate::tools::query::rows::Row;

/// Most bytes of memory of an expression.
const EXPRESSION_BYTES: usize = 1 << 20;

/// A condition that can be tried.
pub(super) struct Test<'a> {
    column: &'a str,
    operator: Operator,
    value: String,
    list: Vec<String>,
    expression: Option<Regex>,
}

impl<'a> Test<'a> {
    pub(super) fn new(condition: &'a Condition) -> Result<Self, ToolError> {
        let Condition {
            column,
            operator,
            value,
        } = condition;
        let fault = |what: &str| wrong(format!("`where`: the condition on `{column}` {what}"));
        let (mut text, mut list, mut expression) = (String::new(), Vec::new(), None);
        match (operator, value) {
            (Operator::IsEmpty | Operator::IsNotEmpty, _) => {}
            (Operator::In, Value::Array(values)) => {
                let values = values.iter().map(written).collect::<Option<_>>();
                list = values
                    .ok_or_else(|| fault("has a list of something else than texts and numbers"))?;
            }
            (Operator::In, _) => return Err(fault("needs a list as its value")),
            (_, Value::Null) if !matches!(operator, Operator::Equal | Operator::NotEqual) => {
                return Err(fault("needs a value"));
            }
            (_, value) => {
                text = written(value)
                    .ok_or_else(|| fault("has a value that is neither text nor number"))?;
            }
        }
        if *operator == Operator::Matches {
            let built = RegexBuilder::new(&text)
                .size_limit(EXPRESSION_BYTES)
                .dfa_size_limit(EXPRESSION_BYTES)
                .build();
            expression =
                Some(built.map_err(|error| fault(&format!("has no good expression: {error}")))?);
        }
        Ok(Self {
            column,
            operator: *operator,
            value: text,
            list,
            expression,
        })
    }

    pub(super) fn holds(&self, row: &Row<'_>) -> bool {
        let cell = row.get(self.column).unwrap_or_default();
        let cell = cell.as_ref();
        // Nothing is neither less nor greater than something.
        let order = || match cell.is_empty() {
            true => None,
            false => Some(compare(cell, &self.value)),
        };
        match self.operator {
            Operator::Equal => equal(cell, &self.value),
            Operator::NotEqual => !equal(cell, &self.value),
            Operator::Less => order() == Some(Ordering::Less),
            Operator::AtMost => order().is_some_and(Ordering::is_le),
            Operator::Greater => order() == Some(Ordering::Greater),
            Operator::AtLeast => order().is_some_and(Ordering::is_ge),
            Operator::In => self.list.iter().any(|value| equal(cell, value)),
            Operator::Contains => cell.contains(&self.value),
            Operator::StartsWith => cell.starts_with(&self.value),
            Operator::Matches => self
                .expression
                .as_ref()
                .is_some_and(|expression| expression.is_match(cell)),
            Operator::IsEmpty => cell.is_empty(),
            Operator::IsNotEmpty => !cell.is_empty(),
        }
    }
}

fn equal(a: &str, b: &str) -> bool {
    a == b
        || match (Number::parse(a), Number::parse(b)) {
            (Some(a), Some(b)) => a.compare(b) == Ordering::Equal,
            _ => false,
        }
}

fn written(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => None,
    }
}
