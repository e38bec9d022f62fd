//! Typed access to the keys of a JSON object, with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object of a file. Keys that hold `null` count as absent unless asked for.
#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) file: &'a Path,
    /// Where the object is, for errors: empty, or `rope_scaling.`.
    prefix: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(file: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self {
            file,
            prefix: "",
            map,
        }
    }

    pub(crate) fn wrong(&self, key: &str, what: impl Into<String>) -> Error {
        Error::Config {
            file: self.file.to_path_buf(),
            field: format!("{}{key}", self.prefix),
            what: what.into(),
        }
    }

    /// The value of a key that is there and not null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// Whether the key is there, `null` or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        want: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let converted = convert(value);
        if converted.is_none() {
            return Err(self.wrong(key, format!("is {}, expected {want}", shown(value))));
        }
        Ok(converted)
    }

    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an integer that is not negative", |v| {
            v.as_u64()?.try_into().ok()
        })
    }

    pub(crate) fn required_size(&self, key: &str) -> Result<usize> {
        match self.size(key)? {
            Some(size) => Ok(size),
            None => Err(self.wrong(key, "is missing, expected an integer")),
        }
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn object(&self, key: &str, prefix: &'static str) -> Result<Option<Keys<'a>>> {
        let map = self.typed(key, "an object", Value::as_object)?;
        Ok(map.map(|map| Keys {
            file: self.file,
            prefix,
            map,
        }))
    }

    /// A token id; some checkpoints write -1 for none.
    pub(crate) fn token_id(&self, key: &str) -> Result<Option<u32>> {
        let id = self.typed(key, "a token id", id)?;
        Ok(id.flatten())
    }

    /// A token id or a list of them.
    pub(crate) fn token_ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.typed(key, "a token id or a list of token ids", |v| match v {
            Value::Array(ids) => {
                let ids: Option<Vec<_>> = ids.iter().map(id).collect();
                Some(ids?.into_iter().flatten().collect())
            }
            one => Some(id(one)?.into_iter().collect()),
        })
    }
}

/// `Some(None)` for -1.
fn id(value: &Value) -> Option<Option<u32>> {
    match value.as_i64()? {
        -1 => Some(None),
        id => Some(Some(id.try_into().ok()?)),
    }
}

/// A value as an error shows it: not longer than a line.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(v) => format!("a list of {}", v.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(s) if s.chars().count() > 40 => "a long string".to_owned(),
        other => other.to_string(),
    }
}
