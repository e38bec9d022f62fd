//! Groups of rows, and numbers over them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::number::{Number, compare};
use super::rows::Row;
use super::table::{Aggregate, Function};
use super::{QueryLimits, limit};
use crate::tool::ToolError;

/// How much is kept, and how much more may be.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    whole: usize,
}

/// Bytes that keeping a text takes, beside its own.
const OVERHEAD: usize = 48;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: bytes,
            whole: bytes,
        }
    }

    pub(super) fn take(&mut self, text: &str) -> Result<(), ToolError> {
        let bytes = text.len() + OVERHEAD;
        if bytes > self.left {
            let what = format!(
                "the question would keep more than {} bytes on the way to its answer",
                self.whole
            );
            return Err(limit(what));
        }
        self.left -= bytes;
        Ok(())
    }

    pub(super) fn give_back(&mut self, text: &str) {
        self.left += text.len() + OVERHEAD;
    }
}

/// Groups in the order in which they were met.
pub(super) struct Groups<'a> {
    by: &'a [String],
    aggregates: &'a [Aggregate],
    places: HashMap<Vec<String>, usize>,
    groups: Vec<(Vec<String>, Vec<State>)>,
    limits: QueryLimits,
    /// Cells that had to be numbers and were none, of each aggregate.
    pub(super) odd: Vec<usize>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(by: &'a [String], aggregates: &'a [Aggregate], limits: QueryLimits) -> Self {
        let mut groups = Self {
            by,
            aggregates,
            places: HashMap::new(),
            groups: Vec::new(),
            limits,
            odd: vec![0; aggregates.len()],
        };
        if by.is_empty() {
            // All rows are one group, even if there are none.
            groups.places.insert(Vec::new(), 0);
            groups.groups.push((Vec::new(), groups.states()));
        }
        groups
    }

    fn states(&self) -> Vec<State> {
        self.aggregates.iter().map(|_| State::default()).collect()
    }

    pub(super) fn add(&mut self, row: &Row<'_>, room: &mut Room) -> Result<(), ToolError> {
        let cell = |column: &String| row.get(column).unwrap_or_default();
        let key: Vec<String> = self
            .by
            .iter()
            .map(|column| cell(column).into_owned())
            .collect();
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.groups.len() == self.limits.groups => {
                return Err(limit(format!(
                    "there are more than {} groups",
                    self.limits.groups
                )));
            }
            None => {
                for part in &key {
                    // It is kept twice.
                    room.take(part)?;
                    room.take(part)?;
                }
                for _ in self.aggregates {
                    room.take("")?;
                }
                self.places.insert(key.clone(), self.groups.len());
                self.groups.push((key, self.states()));
                self.groups.len() - 1
            }
        };
        for (i, aggregate) in self.aggregates.iter().enumerate() {
            let state = &mut self.groups[place].1[i];
            let column = aggregate.column.as_deref();
            let value = match column {
                Some(column) => row.get(column).unwrap_or_default(),
                None => {
                    state.count += 1;
                    continue;
                }
            };
            if value.is_empty() {
                continue;
            }
            let is_number = state.add(aggregate.function, &value, room)?;
            self.odd[i] += usize::from(!is_number);
        }
        Ok(())
    }

    /// The rows of the answer: what they are grouped by, then the aggregates.
    pub(super) fn rows(self) -> Vec<Vec<String>> {
        let aggregates = self.aggregates;
        let groups = self.groups.into_iter();
        groups
            .map(|(mut key, states)| {
                key.extend(
                    states
                        .into_iter()
                        .zip(aggregates)
                        .map(|(state, a)| state.value(a.function)),
                );
                key
            })
            .collect()
    }
}

#[derive(Default)]
struct State {
    count: u64,
    sum: Option<Number>,
    most: Option<String>,
    different: HashSet<String>,
}

impl State {
    /// Adds a cell, and says whether it is what the function takes.
    fn add(&mut self, function: Function, cell: &str, room: &mut Room) -> Result<bool, ToolError> {
        match function {
            Function::Count => {}
            Function::CountDistinct => {
                if !self.different.contains(cell) {
                    room.take(cell)?;
                    self.different.insert(cell.to_owned());
                }
            }
            Function::Sum | Function::Mean => {
                let Some(number) = Number::parse(cell) else {
                    return Ok(false);
                };
                self.sum = Some(self.sum.unwrap_or(Number::ZERO).add(number));
            }
            Function::Min | Function::Max => {
                let wanted = match function {
                    Function::Min => Ordering::Less,
                    _ => Ordering::Greater,
                };
                let is_better = match &self.most {
                    Some(most) => compare(cell, most) == wanted,
                    None => true,
                };
                if is_better {
                    room.take(cell)?;
                    if let Some(before) = self.most.replace(cell.to_owned()) {
                        room.give_back(&before);
                    }
                }
            }
        }
        self.count += 1;
        Ok(true)
    }

    fn value(self, function: Function) -> String {
        match function {
            Function::Count => self.count.to_string(),
            Function::CountDistinct => self.different.len().to_string(),
            Function::Sum => self.sum.unwrap_or(Number::ZERO).to_string(),
            Function::Mean => self
                .sum
                .map_or(String::new(), |sum| sum.divided(self.count)),
            Function::Min | Function::Max => self.most.unwrap_or_default(),
        }
    }
}
