//! Rows of a file, one after the other.

mod array;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use csv_core::ReadRecordResult;
use encoding_rs::Encoding;
use serde::de::DeserializeSeed;
use serde_json::Value;

use super::json::follow;
use super::outline::Missing;
use super::place::{Step, pointer};
use super::value::{Budget, Within};
use super::{QueryLimits, limit};
use crate::tool::{ToolContext, ToolError};
use crate::tools::Root;
use crate::tools::root::{fault, too_large};
use array::Elements;

/// A row.
pub(super) enum Row<'a> {
    Csv(&'a Header, &'a [Cow<'a, str>]),
    Json(&'a Value),
}

/// The names of the columns of a CSV file.
#[derive(Default)]
pub(super) struct Header {
    pub(super) names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Row<'_> {
    /// A cell by the name of its column, and whether there is such a column in this row.
    pub(super) fn get(&self, column: &str) -> Option<Cow<'_, str>> {
        match self {
            Self::Csv(header, cells) => {
                let place = header.places.get(column)?;
                Some(Cow::Borrowed(cells.get(*place).map_or("", AsRef::as_ref)))
            }
            Self::Json(row) => {
                let found = row.get(column).or_else(|| match column {
                    // Rows that are no objects have one cell.
                    "value" if !row.is_object() => Some(row),
                    column if column.starts_with('/') => row.pointer(column),
                    column => row.pointer(&format!("/{}", column.replace('.', "/"))),
                });
                found.map(cell)
            }
        }
    }

    /// All cells with the names of their columns.
    pub(super) fn all(&self) -> Vec<(&str, Cow<'_, str>)> {
        match self {
            Self::Csv(header, cells) => {
                let cells = cells.iter().map(|cell| Cow::Borrowed(cell.as_ref()));
                let names = header.names.iter().map(String::as_str);
                names
                    .zip(cells.chain(std::iter::repeat(Cow::Borrowed(""))))
                    .collect()
            }
            Self::Json(Value::Object(row)) => row
                .iter()
                .map(|(name, value)| (name.as_str(), cell(value)))
                .collect(),
            Self::Json(row) => vec![("value", cell(row))],
        }
    }
}

fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// What the rows of a file are.
pub(super) struct Source<'a> {
    pub(super) root: &'a Root,
    pub(super) path: &'a str,
    /// Where the rows of a JSON file are.
    pub(super) at: &'a [Step],
    pub(super) encoding: &'static Encoding,
    pub(super) limits: QueryLimits,
    pub(super) context: &'a ToolContext,
}

/// What is known of a file when all rows have passed.
#[derive(Default)]
pub(super) struct Passed {
    /// The columns of a CSV file.
    pub(super) columns: Vec<String>,
    /// How many rows of one had more or fewer cells than the header.
    pub(super) uneven: usize,
}

/// Takes the rows.
pub(super) type Take<'t> = dyn FnMut(&Row<'_>) -> Result<(), ToolError> + 't;

impl Source<'_> {
    /// Passes all rows on.
    pub(super) fn read(&self, take: &mut Take<'_>) -> Result<Passed, ToolError> {
        let name = self.path.to_ascii_lowercase();
        match name.rsplit('.').next().unwrap_or_default() {
            "json" | "geojson" => self.json(take).map(|()| Passed::default()),
            "jsonl" | "ndjson" => self.lines(take).map(|()| Passed::default()),
            _ => self.csv(take),
        }
    }

    fn json(&self, take: &mut Take<'_>) -> Result<(), ToolError> {
        let elements = Elements::new(take, self.limits);
        let missing = Missing::default();
        let read = follow(
            self.root,
            self.path,
            self.limits,
            self.context,
            self.at,
            &elements,
            &missing,
        );
        if let Some(stop) = elements.stop.take() {
            return Err(stop);
        }
        read?;
        match elements.found.take() {
            Some(Ok(())) => Ok(()),
            Some(Err(what)) => Err(format!(
                "at `{}` of `{}` is {what}; `rows_at` says where an array of rows is",
                pointer(self.at),
                self.path
            )
            .into()),
            None => Err(missing.told(self.at).into()),
        }
    }

    fn lines(&self, take: &mut Take<'_>) -> Result<(), ToolError> {
        let mut reader = self.reader()?;
        let mut line = Vec::new();
        for number in 1_usize.. {
            self.context.check()?;
            line.clear();
            let most = self.limits.row_bytes as u64;
            let mut one = (&mut reader).take(most.saturating_add(1));
            one.read_until(b'\n', &mut line)
                .map_err(|error| fault(self.path, &error))?;
            if reader.get_ref().limit() == 0 {
                return Err(too_large(self.path, self.limits.file_bytes));
            }
            if line.is_empty() {
                break;
            }
            if line.len() as u64 > most {
                return Err(limit(format!(
                    "line {number} of `{}` has more than {most} bytes",
                    self.path
                )));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let budget = Budget::new(self.limits.values);
            let mut deserializer = serde_json::Deserializer::from_slice(&line);
            let row = Within(&budget).deserialize(&mut deserializer);
            let row = row.and_then(|row| deserializer.end().map(|()| row));
            match row {
                Ok(row) => take(&Row::Json(&row))?,
                Err(_) if budget.is_used_up() => return Err(many_values(self.limits)),
                Err(error) => {
                    return Err(
                        format!("line {number} of `{}` is not JSON: {error}", self.path).into(),
                    );
                }
            }
        }
        Ok(())
    }

    fn csv(&self, take: &mut Take<'_>) -> Result<Passed, ToolError> {
        let mut reader = self.reader()?;
        let begin = reader
            .fill_buf()
            .map_err(|error| fault(self.path, &error))?;
        let delimiter = delimiter(self.path, begin);
        let mark = if begin.starts_with(b"\xef\xbb\xbf") {
            3
        } else {
            0
        };
        reader.consume(mark);
        let mut parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        // Fixed: a record that does not fit is an error and not more memory.
        let mut bytes = vec![0; self.limits.row_bytes];
        let mut ends = vec![0; self.limits.columns.saturating_add(1)];
        let (mut filled, mut fields) = (0, 0);
        let mut header: Option<Header> = None;
        let mut uneven = 0;
        let mut number = 0_usize;
        loop {
            let input = reader
                .fill_buf()
                .map_err(|error| fault(self.path, &error))?;
            let (result, consumed, written, ended) =
                parser.read_record(input, &mut bytes[filled..], &mut ends[fields..]);
            reader.consume(consumed);
            filled += written;
            fields += ended;
            if reader.get_ref().limit() == 0 {
                return Err(too_large(self.path, self.limits.file_bytes));
            }
            match result {
                ReadRecordResult::InputEmpty => self.context.check()?,
                ReadRecordResult::OutputFull => {
                    let what = format!(
                        "a row of `{}` has more than {} bytes",
                        self.path,
                        bytes.len()
                    );
                    return Err(limit(what));
                }
                ReadRecordResult::OutputEndsFull => return Err(self.many_columns()),
                ReadRecordResult::Record if fields > self.limits.columns => {
                    return Err(self.many_columns());
                }
                ReadRecordResult::Record => {
                    if number.is_multiple_of(1024) {
                        self.context.check()?;
                    }
                    number += 1;
                    let mut from = 0;
                    let cells: Vec<Cow<'_, str>> = ends[..fields]
                        .iter()
                        .map(|&end| {
                            let cell = &bytes[from..end];
                            from = end;
                            self.encoding.decode_without_bom_handling(cell).0
                        })
                        .collect();
                    match &header {
                        None => header = Some(Header::new(&cells)),
                        Some(header) => {
                            uneven += usize::from(cells.len() != header.names.len());
                            take(&Row::Csv(header, &cells))?;
                        }
                    }
                    (filled, fields) = (0, 0);
                }
                ReadRecordResult::End => break,
            }
        }
        match header {
            Some(header) => Ok(Passed {
                columns: header.names,
                uneven,
            }),
            None => Err(format!("`{}` is empty", self.path).into()),
        }
    }

    fn many_columns(&self) -> ToolError {
        limit(format!(
            "a row of `{}` has more than {} columns",
            self.path, self.limits.columns
        ))
    }

    fn reader(&self) -> Result<BufReader<std::io::Take<std::fs::File>>, ToolError> {
        let file = self.root.file(self.path)?;
        Ok(BufReader::new(
            file.take(self.limits.file_bytes.saturating_add(1)),
        ))
    }
}

impl Header {
    /// Names that are all there and all different.
    fn new(cells: &[Cow<'_, str>]) -> Self {
        let mut header = Self::default();
        for (place, cell) in cells.iter().enumerate() {
            let mut name = match cell.trim() {
                "" => format!("column_{}", place + 1),
                name => name.to_owned(),
            };
            while header.places.contains_key(&name) {
                name.push_str("_2");
            }
            header.places.insert(name.clone(), place);
            header.names.push(name);
        }
        header
    }
}

/// What stands between cells: what the first line has most of.
fn delimiter(path: &str, begin: &[u8]) -> u8 {
    if path.to_ascii_lowercase().ends_with(".tsv") {
        return b'\t';
    }
    let line = begin
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let count = |delimiter: &u8| line.iter().filter(|&byte| byte == delimiter).count();
    // The last of equals wins.
    [b'|', b'\t', b';', b',']
        .into_iter()
        .max_by_key(count)
        .unwrap_or(b',')
}

fn many_values(limits: QueryLimits) -> ToolError {
    limit(format!("a row has more than {} values", limits.values))
}
