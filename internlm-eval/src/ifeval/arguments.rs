//! Arguments of instructions.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A number and whether it is a lower bound or, exclusive, an upper one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    number: usize,
    at_least: bool,
}

impl Bound {
    pub(super) fn holds(self, n: usize) -> bool {
        if self.at_least {
            n >= self.number
        } else {
            n < self.number
        }
    }
}

/// Reads arguments; what is null, zero or empty counts as missing, as in the reference.
pub(super) struct Arguments<'a> {
    pub(super) id: &'a str,
    pub(super) values: &'a Map<String, Value>,
}

impl Arguments<'_> {
    pub(super) fn error(&self, name: &str, reason: &str) -> Error {
        Error::Instruction {
            id: self.id.to_owned(),
            reason: format!("`{name}` {reason}"),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str> {
        let text = self.values.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| self.error(name, "is not a text"))
    }

    pub(super) fn number(&self, name: &str) -> Result<usize> {
        let value = self.values.get(name);
        let number = value.and_then(|value| {
            // Tables without missing values hold integers as floats.
            let float = value
                .as_f64()
                .filter(|float| float.fract() == 0.0 && *float <= 1e9)?;
            #[allow(clippy::cast_possible_truncation, reason = "an integer below 1e9")]
            usize::try_from(float as i64).ok()
        });
        number
            .filter(|&number| number > 0)
            .ok_or_else(|| self.error(name, "is not a positive number"))
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<&str>> {
        let list = self.values.get(name).and_then(Value::as_array);
        let texts: Option<Vec<&str>> =
            list.and_then(|list| list.iter().map(Value::as_str).collect());
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| self.error(name, "is not a list of texts"))
    }

    pub(super) fn bound(&self, number: &str, relation: &str) -> Result<Bound> {
        Ok(Bound {
            number: self.number(number)?,
            at_least: match self.text(relation)? {
                "at least" => true,
                "less than" => false,
                _ => return Err(self.error(relation, "is neither `at least` nor `less than`")),
            },
        })
    }
}
