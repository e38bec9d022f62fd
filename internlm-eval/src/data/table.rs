//! Rows from CSV and TSV (RFC 4180), with a head line or without one.

use std::io::Read;

use serde_json::Value;

use super::lines::Lines;
use super::{Keep, ReadOptions};
use crate::error::{Error, Result};
use crate::item::Row;

pub(super) fn rows(
    text: &mut Lines<'_>,
    delimiter: u8,
    options: &ReadOptions,
    keep: &mut Keep<'_>,
) -> Result<()> {
    let file = text.file().to_owned();
    let mut checked = Checked {
        text,
        line: Vec::new(),
        read: 0,
        error: None,
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(&mut checked);
    let mut header = options.header.clone();
    let mut first = true;
    let mut record = csv::StringRecord::new();
    let result = loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
        if std::mem::take(&mut first)
            && options.heads.iter().any(|head| {
                head.iter()
                    .all(|name| record.iter().any(|field| field == name))
            })
        {
            header = None;
        }
        let Some(names) = &header else {
            header = Some(record.iter().map(str::to_owned).collect());
            continue;
        };
        if record.len() == 1 && record.get(0) == Some("") {
            continue;
        }
        if record.len() != names.len() {
            return Err(Error::BrokenLine {
                file,
                line: record.position().map_or(0, |at| at.line() as usize),
                what: format!(
                    "the line has {} fields, {} were expected ({})",
                    record.len(),
                    names.len(),
                    names.join(", ")
                ),
            });
        }
        let row: Row = names
            .iter()
            .zip(&record)
            .map(|(name, field)| (name.clone(), Value::from(field)))
            .collect();
        if !keep(row) {
            break Ok(());
        }
    };
    drop(reader);
    if let Some(error) = checked.error {
        return Err(error);
    }
    result.map_err(|error| Error::BrokenLine {
        file,
        line: error.position().map_or(0, |at| at.line() as usize),
        what: error.to_string(),
    })
}

/// Gives the CSV reader bytes whose encoding was checked line by line.
struct Checked<'a, 'b> {
    text: &'a mut Lines<'b>,
    line: Vec<u8>,
    read: usize,
    error: Option<Error>,
}

impl Read for Checked<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.line.len() {
            match self.text.next() {
                Ok(Some(line)) => self.line = line.into_bytes(),
                Ok(None) => return Ok(0),
                Err(error) => {
                    self.error = Some(error);
                    return Err(std::io::Error::other("a line that cannot be read"));
                }
            }
            self.read = 0;
        }
        let count = buffer.len().min(self.line.len() - self.read);
        buffer[..count].copy_from_slice(&self.line[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
