//! Finding a place in a stream of JSON, and saying what is there.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::listed;
use super::place::{Step, pointer};

/// Most names that are kept to be shown.
const NAMES: usize = 31;

/// What is done at a place; a stream passes by it, so it is done there.
pub(super) trait Find<'de> {
    fn found<D: Deserializer<'de>>(&self, deserializer: D) -> Result<(), D::Error>;
}

/// Where the way to a place ended that is not there: how many steps it went, and what was there instead.
#[derive(Debug, Default)]
pub(super) struct Missing(RefCell<Option<(usize, String)>>);

impl Missing {
    fn note(&self, depth: usize, what: impl FnOnce() -> String) {
        let mut missing = self.0.borrow_mut();
        if missing.as_ref().is_none_or(|(known, _)| depth > *known) {
            *missing = Some((depth, what()));
        }
    }

    /// In words, for a model that asked for these steps.
    pub(super) fn told(&self, steps: &[Step]) -> String {
        match &*self.0.borrow() {
            Some((depth, what)) => match pointer(&steps[..*depth]).as_str() {
                "" => format!("there is no `{}`: the file holds {what}", pointer(steps)),
                at => format!("there is no `{}`: at `{at}` is {what}", pointer(steps)),
            },
            None => format!("there is no `{}`", pointer(steps)),
        }
    }
}

/// Follows steps and does something wherever they lead.
pub(super) struct Follow<'a, F> {
    pub(super) steps: &'a [Step],
    pub(super) depth: usize,
    pub(super) find: &'a F,
    pub(super) missing: &'a Missing,
}

impl<F> Follow<'_, F> {
    fn next(&self) -> Self {
        Follow {
            depth: self.depth + 1,
            ..*self
        }
    }

    /// The value here has no parts.
    fn ends(&self, what: impl FnOnce() -> String) {
        self.missing.note(self.depth, what);
    }
}

impl<'de, F: Find<'de>> DeserializeSeed<'de> for Follow<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.depth == self.steps.len() {
            true => self.find.found(deserializer),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de, F: Find<'de>> Visitor<'de> for Follow<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.ends(|| "null".to_owned());
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.ends(|| value.to_string());
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.ends(|| value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.ends(|| value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.ends(|| value.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.ends(|| format!("a string of {} bytes", value.len()));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let step = &self.steps[self.depth];
        let (mut count, mut any) = (0_usize, false);
        loop {
            let more = if step.is(&count.to_string()) {
                any = true;
                elements.next_element_seed(self.next())?.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
            count += 1;
        }
        let is_beyond = !any || step.is(&count.to_string());
        if is_beyond {
            self.ends(|| format!("an array of {count} elements"));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let step = &self.steps[self.depth];
        let (mut names, mut any) = (Vec::new(), false);
        while let Some(name) = members.next_key::<String>()? {
            if step.is(&name) {
                any = true;
                members.next_value_seed(self.next())?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
            if names.len() < NAMES {
                names.push(name);
            }
        }
        if !any {
            self.ends(|| object(&names));
        }
        Ok(())
    }
}

fn object(names: &[String]) -> String {
    match names {
        [] => "an empty object".to_owned(),
        names => format!("an object of {}", listed(names)),
    }
}

/// Says what a value is without keeping it.
#[derive(Default)]
pub(super) struct Outline;

impl<'de> DeserializeSeed<'de> for Outline {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Outline {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<String, E> {
        Ok("null".to_owned())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<String, E> {
        Ok("a boolean".to_owned())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<String, E> {
        Ok("a number".to_owned())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<String, E> {
        Ok("a number".to_owned())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<String, E> {
        Ok("a number".to_owned())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        Ok(format!("a string of {} bytes", value.len()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<String, A::Error> {
        let Some(first) = elements.next_element_seed(Outline)? else {
            return Ok("an empty array".to_owned());
        };
        let mut count = 1;
        while elements.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(format!(
            "an array of {count} elements, the first one {first}"
        ))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<String, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = members.next_key::<String>()? {
            members.next_value::<IgnoredAny>()?;
            if names.len() < NAMES {
                names.push(name);
            }
        }
        Ok(object(&names))
    }
}
