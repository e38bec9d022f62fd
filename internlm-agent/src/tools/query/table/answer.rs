//! The rows of an answer: those that come first, as CSV.

use std::cmp::Ordering;

use super::{Order, wrong};
use crate::tool::ToolError;
use crate::tools::query::aggregate::Room;
use crate::tools::query::number::compare;
use crate::tools::query::rows::Row;
use crate::tools::query::{QueryLimits, limit, listed};

/// Rows that come in, of which the first ones are kept.
pub(super) struct Answer<'a> {
    select: Option<&'a [String]>,
    order: &'a [Order],
    wanted: usize,
    limits: QueryLimits,
    titles: Vec<String>,
    rows: Vec<Kept>,
    /// How many rows there were.
    count: usize,
}

struct Kept {
    /// What it is sorted by.
    keys: Vec<String>,
    cells: Vec<String>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(
        select: Option<&'a [String]>,
        order: &'a [Order],
        wanted: usize,
        limits: QueryLimits,
    ) -> Self {
        Self {
            select,
            order,
            wanted,
            limits,
            titles: select.unwrap_or_default().to_vec(),
            rows: Vec::new(),
            count: 0,
        }
    }

    /// Rows that are there already, and sorted.
    pub(super) fn of(
        titles: Vec<String>,
        rows: Vec<Vec<String>>,
        select: Option<&'a [String]>,
        wanted: usize,
        limits: QueryLimits,
    ) -> Result<Self, ToolError> {
        let count = rows.len();
        let places: Vec<usize> = match select {
            None => (0..titles.len()).collect(),
            Some(select) => {
                let places = select.iter().map(|column| place(&titles, column));
                places.collect::<Result<_, _>>()?
            }
        };
        let rows = rows.into_iter().take(wanted).map(|row| Kept {
            keys: Vec::new(),
            cells: places.iter().map(|&place| row[place].clone()).collect(),
        });
        Ok(Self {
            rows: rows.collect(),
            count,
            titles: places.iter().map(|&place| titles[place].clone()).collect(),
            ..Self::new(None, &[], wanted, limits)
        })
    }

    pub(super) fn add(&mut self, row: &Row<'_>, room: &mut Room) -> Result<(), ToolError> {
        self.count += 1;
        if self.order.is_empty() && self.rows.len() >= self.wanted {
            return Ok(());
        }
        let keys = self.order.iter();
        let keys = keys.map(|order| row.get(&order.column).unwrap_or_default().into_owned());
        let cells = match self.select {
            Some(select) => {
                let cells = select
                    .iter()
                    .map(|column| row.get(column).unwrap_or_default().into_owned());
                cells.collect()
            }
            None => self.all(row)?,
        };
        let kept = Kept {
            keys: keys.collect(),
            cells,
        };
        for text in kept.keys.iter().chain(&kept.cells) {
            room.take(text)?;
        }
        self.rows.push(kept);
        // Now and then, so that it costs little; what is equal stays in its order.
        if !self.order.is_empty()
            && self.rows.len() >= self.wanted.saturating_mul(2).saturating_add(64)
        {
            self.sort();
            for kept in self.rows.drain(self.wanted..) {
                for text in kept.keys.iter().chain(&kept.cells) {
                    room.give_back(text);
                }
            }
        }
        Ok(())
    }

    /// All cells; rows of JSON may bring new columns.
    fn all(&mut self, row: &Row<'_>) -> Result<Vec<String>, ToolError> {
        let mut cells = vec![String::new(); self.titles.len()];
        for (at, (name, cell)) in row.all().into_iter().enumerate() {
            // Nearly always they come in the order of the row before.
            let same = self
                .titles
                .get(at)
                .is_some_and(|title| title == name)
                .then_some(at);
            let place = same.or_else(|| self.titles.iter().position(|title| title == name));
            let place = match place {
                Some(place) => place,
                None if self.titles.len() >= self.limits.columns => {
                    let what = format!(
                        "there are more than {} columns; `select` names those to give",
                        self.limits.columns
                    );
                    return Err(limit(what));
                }
                None => {
                    self.titles.push(name.to_owned());
                    cells.push(String::new());
                    self.titles.len() - 1
                }
            };
            cells[place] = cell.into_owned();
        }
        Ok(cells)
    }

    fn sort(&mut self) {
        let order = self.order;
        self.rows
            .sort_by(|a, b| by(order, a.keys.iter().zip(&b.keys)));
    }

    /// The answer as CSV, with notes on what it lacks. The columns are those of the file, where it says which it has.
    pub(super) fn text(
        mut self,
        columns: Vec<String>,
        asked: Option<usize>,
        mut notes: Vec<String>,
    ) -> Result<String, ToolError> {
        if self.titles.is_empty() {
            // No row told them.
            self.titles = columns;
        }
        self.sort();
        self.rows.truncate(self.wanted);
        let mut text = match self.titles.as_slice() {
            [] => String::new(),
            titles => line(titles, self.limits.cell_bytes),
        };
        if text.len() > self.limits.output_bytes {
            let what = format!(
                "{} columns are too many for an answer; `select` names those to give",
                self.titles.len()
            );
            return Err(limit(what));
        }
        let mut given = 0;
        for row in &self.rows {
            let missing = self.titles.len() - row.cells.len();
            let line = line(
                row.cells.iter().chain(vec![&String::new(); missing]),
                self.limits.cell_bytes,
            );
            if text.len() + line.len() > self.limits.output_bytes {
                break;
            }
            text.push_str(&line);
            given += 1;
        }
        if given < self.rows.len() {
            notes.insert(
                0,
                format!(
                    "the first {given} of {} rows; more would be too long",
                    self.count
                ),
            );
        } else if given < self.count && asked.is_none_or(|asked| asked > given) {
            notes.insert(
                0,
                format!(
                    "the first {given} of {} rows; no more are given at a time",
                    self.count
                ),
            );
        } else if given < self.count {
            notes.insert(0, format!("the first {given} of {} rows", self.count));
        } else if given == 0 {
            notes.insert(0, "no rows".to_owned());
        }
        for note in notes {
            text.push_str(&format!("[{note}]\n"));
        }
        text.truncate(text.trim_end().len());
        Ok(text)
    }
}

/// Sorts rows by columns of their own.
pub(super) fn in_order(
    titles: &[String],
    rows: &mut [Vec<String>],
    order: &[Order],
) -> Result<(), ToolError> {
    let places = order
        .iter()
        .map(|order| place(titles, &order.column))
        .collect::<Result<Vec<_>, _>>()?;
    rows.sort_by(|a, b| by(order, places.iter().map(|&place| (&a[place], &b[place]))));
    Ok(())
}

fn place(titles: &[String], column: &str) -> Result<usize, ToolError> {
    let place = titles.iter().position(|title| title == column);
    place.ok_or_else(|| {
        let columns = listed(titles);
        wrong(format!(
            "`{column}` is no column of the groups, which have {columns}"
        ))
    })
}

fn by<'a>(order: &[Order], pairs: impl Iterator<Item = (&'a String, &'a String)>) -> Ordering {
    for (order, (a, b)) in order.iter().zip(pairs) {
        let direction = compare(a, b);
        let is_turned = order.descending.unwrap_or(false) && !a.is_empty() && !b.is_empty();
        match if is_turned {
            direction.reverse()
        } else {
            direction
        } {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
    Ordering::Equal
}

/// A line of CSV.
fn line<'a>(cells: impl IntoIterator<Item = &'a String>, cell_bytes: usize) -> String {
    let mut line = String::new();
    for (i, cell) in cells.into_iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        let end = cell.floor_char_boundary(cell_bytes);
        let cut = if end < cell.len() { "…" } else { "" };
        let cell = &cell[..end];
        match cell.contains(['"', ',', '\n', '\r']) {
            true => line.push_str(&format!("\"{}{cut}\"", cell.replace('"', "\"\""))),
            false => {
                line.push_str(cell);
                line.push_str(cut);
            }
        }
    }
    if line.is_empty() {
        // Else it would look like no row.
        line.push_str("\"\"");
    }
    line.push('\n');
    line
}
