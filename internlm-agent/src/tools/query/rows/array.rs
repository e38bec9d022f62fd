//! Rows that are the elements of an array.

use std::cell::RefCell;
use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Row, Take, many_values};
use crate::tool::ToolError;
use crate::tools::query::QueryLimits;
use crate::tools::query::outline::{Find, Outline};
use crate::tools::query::value::{Budget, Within};

/// Passes the elements of an array on.
pub(super) struct Elements<'t, 'a> {
    take: RefCell<&'a mut Take<'t>>,
    /// Why it stopped early.
    pub(super) stop: RefCell<Option<ToolError>>,
    limits: QueryLimits,
    /// Whether there was an array, or what there was.
    pub(super) found: RefCell<Option<Result<(), String>>>,
}

impl<'t, 'a> Elements<'t, 'a> {
    pub(super) fn new(take: &'a mut Take<'t>, limits: QueryLimits) -> Self {
        Self {
            take: RefCell::new(take),
            stop: RefCell::default(),
            limits,
            found: RefCell::default(),
        }
    }
}

impl<'de> Find<'de> for Elements<'_, '_> {
    fn found<D: Deserializer<'de>>(&self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Array(self))
    }
}

struct Array<'e, 't, 'a>(&'e Elements<'t, 'a>);

impl Array<'_, '_, '_> {
    fn other<E>(&self, what: String) -> Result<(), E> {
        *self.0.found.borrow_mut() = Some(Err(what));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Array<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.other("null".to_owned())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.other("a boolean".to_owned())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.other("a number".to_owned())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.other("a number".to_owned())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.other("a number".to_owned())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.other("a string".to_owned())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<(), A::Error> {
        let what = Outline.visit_map(members)?;
        self.other(what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        *self.0.found.borrow_mut() = Some(Ok(()));
        loop {
            let budget = Budget::new(self.0.limits.values);
            let row = match elements.next_element_seed(Within(&budget)) {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(error) => {
                    if budget.is_used_up() {
                        *self.0.stop.borrow_mut() = Some(many_values(self.0.limits));
                    }
                    return Err(error);
                }
            };
            let taken = (self.0.take.borrow_mut())(&Row::Json(&row));
            if let Err(stop) = taken {
                *self.0.stop.borrow_mut() = Some(stop);
                return Err(A::Error::custom("stopped"));
            }
        }
    }
}
