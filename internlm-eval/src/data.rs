//! Rows of benchmarks from files: JSON, JSONL, CSV, TSV, plain text, and with features Parquet and `.gz`.
//!
//! A file is read once, from front to end: rows come out one by one and every byte goes through SHA-256, so only the
//! rows that a run asks for are held in memory (a JSON file that is one array is the exception). What is wrong is
//! said with the file and the line.

mod find;
mod json;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod table;
mod text;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::item::Row;

pub use find::{Found, find};
pub use text::Records;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One array of objects, or an object that has one under [`ReadOptions::records`].
    Json,
    /// An object a line; lines end at `\n` alone.
    Jsonl,
    /// RFC 4180, commas.
    Csv,
    /// The same with tabs.
    Tsv,
    /// Plain text, cut by [`Records`].
    Text,
    /// Apache Parquet (feature `parquet`).
    Parquet,
}

/// What a reader has to know that the file does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// The format of a file whose extension says none.
    pub format: Option<Format>,
    /// Names of the columns of a CSV or TSV file without a head line.
    pub header: Option<Vec<String>>,
    /// Sets of columns: a first line that has one of them is a head line even where `header` says that there is none.
    pub heads: Vec<Vec<String>>,
    /// Keys that lead to the array of rows in a JSON file; the file itself is the array if empty.
    pub records: Vec<String>,
    /// Names for the members of rows that are arrays (C3 writes `[[lines], [questions], id]`).
    pub fields: Option<Vec<String>>,
    /// How plain text is cut.
    pub text: Records,
    /// Rows to keep, from the front; all if None.
    pub limit: Option<usize>,
}

/// Rows of one split and what they came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The rows in the file's order; several files one after the other.
    pub rows: Vec<Row>,
    /// The files.
    pub files: Vec<PathBuf>,
    /// SHA-256 over the bytes of all files as they lie on the disk, in hex.
    pub hash: String,
}

/// Reads files, one after the other.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, has a broken line, or holds no rows; a format that is not known or whose
/// feature is not compiled in.
pub fn read(files: &[PathBuf], options: &ReadOptions) -> Result<Dataset> {
    let mut hash = Sha256::new();
    let mut rows = Vec::new();
    for file in files {
        let mut keep = |row| {
            if options.limit.is_none_or(|limit| rows.len() < limit) {
                rows.push(row);
            }
            options.limit.is_none_or(|limit| rows.len() < limit)
        };
        read_file(file, options, &mut hash, &mut keep)?;
    }
    if rows.is_empty() && options.limit != Some(0) {
        return Err(Error::EmptySplit {
            file: files.first().cloned().unwrap_or_default(),
        });
    }
    Ok(Dataset {
        rows,
        files: files.to_vec(),
        hash: hex(&hash.finalize()),
    })
}

/// Takes a row; false once no more are wanted.
type Keep<'a> = dyn FnMut(Row) -> bool + 'a;

fn read_file(
    file: &Path,
    options: &ReadOptions,
    hash: &mut Sha256,
    keep: &mut Keep<'_>,
) -> Result<()> {
    let format = match (format_of(file), options.format) {
        (Ok(format), _) | (Err(_), Some(format)) => format,
        (Err(error), None) => return Err(error),
    };
    if format == Format::Parquet {
        return read_parquet(file, hash, keep);
    }
    let opened = File::open(file).map_err(Error::io(file))?;
    let mut reader = Hashed {
        inner: opened,
        hash,
    };
    let mut text = lines::Lines::new(file, unpacked(file, &mut reader)?);
    match format {
        Format::Json => json::array(&mut text, options, keep)?,
        Format::Jsonl => json::lines(&mut text, options, keep)?,
        Format::Csv => table::rows(&mut text, b',', options, keep)?,
        Format::Tsv => table::rows(&mut text, b'\t', options, keep)?,
        Format::Text => text::rows(&mut text, options.text, keep)?,
        Format::Parquet => {}
    }
    drop(text);
    io::copy(&mut reader, &mut io::sink()).map_err(Error::io(file))?;
    Ok(())
}

#[cfg(feature = "gzip")]
fn unpacked<'a>(file: &Path, reader: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    Ok(if has_extension(file, "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(
            reader,
        )))
    } else {
        Box::new(reader)
    })
}

#[cfg(not(feature = "gzip"))]
fn unpacked<'a>(file: &Path, reader: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
    if has_extension(file, "gz") {
        return Err(Error::DataFeature {
            file: file.to_owned(),
            feature: "gzip",
        });
    }
    Ok(Box::new(reader))
}

#[cfg(feature = "parquet")]
fn read_parquet(file: &Path, hash: &mut Sha256, keep: &mut Keep<'_>) -> Result<()> {
    parquet::rows(file, hash, keep)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(file: &Path, _: &mut Sha256, _: &mut Keep<'_>) -> Result<()> {
    Err(Error::DataFeature {
        file: file.to_owned(),
        feature: "parquet",
    })
}

/// The format that a file's name says.
fn format_of(file: &Path) -> Result<Format> {
    let plain = if has_extension(file, "gz") {
        file.with_extension("")
    } else {
        file.to_owned()
    };
    let extension = plain
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => Ok(Format::Json),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        Some("csv") => Ok(Format::Csv),
        Some("tsv") => Ok(Format::Tsv),
        Some("txt" | "raw" | "tokens" | "lst") => Ok(Format::Text),
        Some("parquet") => Ok(Format::Parquet),
        _ => Err(Error::Format {
            file: file.to_owned(),
        }),
    }
}

fn has_extension(file: &Path, wanted: &str) -> bool {
    file.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
}

/// Hashes what it reads.
struct Hashed<'a, R> {
    inner: R,
    hash: &'a mut Sha256,
}

impl<R: Read> Read for Hashed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
