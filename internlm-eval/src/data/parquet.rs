//! Rows from Parquet.

use std::fs::File;
use std::io;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use sha2::Sha256;

use super::{Hashed, Keep};
use crate::error::{Error, Result};

/// Row groups are read one at a time. The file is read a second time for its hash: a Parquet file is not read from
/// front to end.
pub(super) fn rows(file: &Path, hash: &mut Sha256, keep: &mut Keep<'_>) -> Result<()> {
    let broken = |row: usize, error: &dyn std::fmt::Display| Error::BrokenLine {
        file: file.to_owned(),
        line: row,
        what: format!("not Parquet that can be read: {error}"),
    };
    let opened = File::open(file).map_err(Error::io(file))?;
    let reader = SerializedFileReader::new(opened).map_err(|error| broken(0, &error))?;
    let rows = reader
        .get_row_iter(None)
        .map_err(|error| broken(0, &error))?;
    for (index, row) in rows.enumerate() {
        let row = row.map_err(|error| broken(index + 1, &error))?;
        let Value::Object(row) = row.to_json_value() else {
            return Err(broken(index + 1, &"a row is not a record"));
        };
        if !keep(row) {
            break;
        }
    }
    let opened = File::open(file).map_err(Error::io(file))?;
    let mut whole = Hashed {
        inner: opened,
        hash,
    };
    io::copy(&mut whole, &mut io::sink()).map_err(Error::io(file))?;
    Ok(())
}
