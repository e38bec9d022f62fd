//! JSON values with a limit of how many there are, whatever the text says.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How many values may still be made.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<usize>,
}

/// Bytes of text that count as a value.
const TEXT: usize = 64;

impl Budget {
    pub(super) fn new(values: usize) -> Self {
        Self {
            left: Cell::new(values),
        }
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.left.get() == 0
    }

    fn take<E: Error>(&self, text: &str) -> Result<(), E> {
        let count = 1 + text.len() / TEXT;
        if count >= self.left.get() {
            self.left.set(0);
            return Err(E::custom("too many values"));
        }
        self.left.set(self.left.get() - count);
        Ok(())
    }
}

/// Reads a value within a budget.
#[derive(Clone, Copy)]
pub(super) struct Within<'a>(pub(super) &'a Budget);

impl<'de> DeserializeSeed<'de> for Within<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Within<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.take("")?;
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.take("")?;
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.0.take("")?;
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.0.take("")?;
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.0.take("")?;
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(value)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        self.0.take("")?;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        self.0.take("")?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.0.take(&name)?;
            object.insert(name, members.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}
