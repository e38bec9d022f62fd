//! A Python value and its texts.

use num_bigint::BigInt;
use num_traits::ToPrimitive;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::write::{float, key_text};

/// A constant or a container of Python.
///
/// With serde it is JSON; what JSON lacks is written as `{"$float": "nan"}` (also `inf`, `-inf`) and
/// `{"$int": "…"}` for whole numbers beyond 64 bits. Tuples and sets become lists.
#[derive(Clone, Debug, PartialEq)]
pub enum PyValue {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number of any size.
    Int(BigInt),
    /// A float, not finite ones included.
    Float(f64),
    /// A string.
    Str(String),
    /// A list.
    List(Vec<PyValue>),
    /// A tuple.
    Tuple(Vec<PyValue>),
    /// A set, in the order of the text.
    Set(Vec<PyValue>),
    /// A dictionary, in the order of the text.
    Dict(Vec<(PyValue, PyValue)>),
}

/// How [`PyValue::dumps_with`] writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpStyle {
    /// Characters beyond ASCII as `\uXXXX`: Python's `ensure_ascii`.
    pub ascii: bool,
    /// Spaces of indentation; without them everything is on one line.
    pub indent: Option<usize>,
}

impl PyValue {
    /// A whole number.
    pub fn int(number: impl Into<BigInt>) -> Self {
        Self::Int(number.into())
    }

    /// A string.
    pub fn str(text: impl Into<String>) -> Self {
        Self::Str(text.into())
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a string key, if it is a dictionary that has the key.
    pub fn get(&self, key: &str) -> Option<&PyValue> {
        match self {
            Self::Dict(entries) => entries
                .iter()
                .find(|(k, _)| k.as_str() == Some(key))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Python's truth of the value.
    pub fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(b) => *b,
            Self::Int(i) => *i != BigInt::ZERO,
            Self::Float(f) => *f != 0.0,
            Self::Str(s) => !s.is_empty(),
            Self::List(v) | Self::Tuple(v) | Self::Set(v) => !v.is_empty(),
            Self::Dict(v) => !v.is_empty(),
        }
    }

    /// Sets a key as Python does: a key that is there keeps its place.
    pub(super) fn insert(entries: &mut Vec<(PyValue, PyValue)>, key: PyValue, value: PyValue) {
        match entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }

    /// Python's `repr()`.
    pub fn repr(&self) -> String {
        let mut out = String::new();
        self.write_repr(&mut out);
        out
    }

    /// Python's `str()`: a string as it is, the rest as [`repr`](Self::repr).
    pub fn display(&self) -> String {
        match self {
            Self::Str(text) => text.clone(),
            other => other.repr(),
        }
    }

    /// `json.dumps(value, ensure_ascii=False)`.
    pub fn dumps(&self) -> String {
        self.dumps_with(DumpStyle::default())
    }

    /// `json.dumps` in a style. Sets, which Python refuses, are written as lists.
    pub fn dumps_with(&self, style: DumpStyle) -> String {
        let mut out = String::new();
        self.write_json(&mut out, style, 0);
        out
    }

    /// The value as JSON, in the form of its serde.
    pub fn to_json(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(i) => match (i.to_i64(), i.to_u64()) {
                (Some(i), _) => i.into(),
                (_, Some(u)) => u.into(),
                _ => special("$int", i.to_string()),
            },
            Self::Float(f) => serde_json::Number::from_f64(*f)
                .map_or_else(|| special("$float", float(*f)), Value::Number),
            Self::Str(text) => Value::String(text.clone()),
            Self::List(v) | Self::Tuple(v) | Self::Set(v) => v.iter().map(Self::to_json).collect(),
            Self::Dict(entries) => {
                let entries = entries.iter().map(|(k, v)| (key_text(k), v.to_json()));
                Value::Object(entries.collect())
            }
        }
    }
}

fn special(kind: &str, text: String) -> Value {
    Value::Object(Map::from_iter([(kind.to_owned(), Value::String(text))]))
}

impl From<&Value> for PyValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::None,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Self::int(i),
                (_, Some(u)) => Self::int(u),
                _ => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Str(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(map) => unspecial(map).unwrap_or_else(|| {
                let entries = map.iter().map(|(k, v)| (Self::str(k), Self::from(v)));
                Self::Dict(entries.collect())
            }),
        }
    }
}

impl From<Value> for PyValue {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

fn unspecial(map: &Map<String, Value>) -> Option<PyValue> {
    let (kind, text) = map.iter().next()?;
    let text = text.as_str().filter(|_| map.len() == 1)?;
    match kind.as_str() {
        "$float" => text.parse().ok().map(PyValue::Float),
        "$int" => text.parse().ok().map(PyValue::Int),
        _ => None,
    }
}

impl Serialize for PyValue {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(s)
    }
}

impl<'de> Deserialize<'de> for PyValue {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Value::deserialize(d).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: PyValue, repr: &str, dumps: &str) {
        assert_eq!(value.repr(), repr);
        assert_eq!(value.dumps(), dumps);
        let text = serde_json::to_string(&value).unwrap();
        let back: PyValue = serde_json::from_str(&text).unwrap();
        assert_eq!(back.dumps(), dumps);
    }

    #[test]
    fn texts_are_those_of_python() {
        check(PyValue::Float(1e16), "1e+16", "1e+16");
        check(PyValue::Float(1.5e-5), "1.5e-05", "1.5e-05");
        check(
            PyValue::Float(123_456_789_012.5),
            "123456789012.5",
            "123456789012.5",
        );
        check(PyValue::Float(-3.0), "-3.0", "-3.0");
        check(PyValue::Float(f64::NEG_INFINITY), "-inf", "-Infinity");
        check(PyValue::Float(f64::NAN), "nan", "NaN");
        let large = "1267650600228229401496703205376";
        check(PyValue::Int(BigInt::from(2).pow(100)), large, large);
        check(PyValue::str("it's"), "\"it's\"", "\"it's\"");
        let odd = PyValue::str("'\"\n\u{3000}\u{0}晴");
        check(
            odd,
            r#"'\'"\n\u3000\x00晴'"#,
            "\"'\\\"\\n\u{3000}\\u0000晴\"",
        );
        let tuple = PyValue::Tuple(vec![PyValue::None, PyValue::Bool(true)]);
        check(tuple, "(None, True)", "[null, true]");
        check(PyValue::Tuple(vec![PyValue::int(1)]), "(1,)", "[1]");
    }

    #[test]
    fn json_is_indented_and_escaped_as_python_does() {
        let value = PyValue::from(serde_json::json!({"a": ["晴", {}], "🙂": []}));
        let style = DumpStyle {
            ascii: true,
            indent: Some(4),
        };
        let want = "{\n    \"a\": [\n        \"\\u6674\",\n        {}\n    ],\n    \"\\ud83d\\ude42\": []\n}";
        assert_eq!(value.dumps_with(style), want);
    }

    /// Printed by CPython 3.11, but for what is assigned since.
    #[test]
    fn what_can_not_be_printed_is_escaped() {
        let repr = |text: &str| PyValue::str(text).repr();
        assert_eq!(repr("\u{61c}é\u{180e}"), "'\\u061cé\\u180e'");
        assert_eq!(repr("\u{e0001}\u{378}"), "'\\U000e0001\\u0378'");
        assert_eq!(repr("\u{a0}\u{3000}中 🙂"), "'\\xa0\\u3000中 🙂'");
    }
}
