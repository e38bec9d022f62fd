//! Lines of a text file that must be UTF-8.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// No line of a benchmark is longer than this; a longer one is a file of another kind.
const LONGEST_LINE: u64 = 256 << 20;

/// A text file, line by line. A byte order mark at its front is left out.
pub(super) struct Lines<'a> {
    file: PathBuf,
    reader: BufReader<Box<dyn Read + 'a>>,
    line: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(file: &Path, reader: Box<dyn Read + 'a>) -> Self {
        Self {
            file: file.to_owned(),
            reader: BufReader::with_capacity(1 << 16, reader),
            line: 0,
        }
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The next line with its end (`\n` alone ends one), or None at the end.
    pub(super) fn next(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut bytes)
            .map_err(|source| Error::io(&self.file)(source))?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if read as u64 == LONGEST_LINE && !bytes.ends_with(b"\n") {
            return Err(self.broken(format!("the line has more than {LONGEST_LINE} bytes")));
        }
        if self.line == 1 {
            if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
                return Err(self.encoding("the file begins with the mark of UTF-16"));
            }
            if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
                bytes.drain(..3);
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let bytes = error.into_bytes();
                let what = if bytes.contains(&0) {
                    "there are zero bytes, as in UTF-16".to_owned()
                } else if pairs_of_gbk(&bytes) {
                    format!("byte {} is {:#04x}; it may be GBK", at + 1, bytes[at])
                } else {
                    format!("byte {} is {:#04x}", at + 1, bytes[at])
                };
                Err(self.encoding(&what))
            }
        }
    }

    /// All that is left, as one text.
    pub(super) fn rest(&mut self) -> Result<String> {
        let mut all = String::new();
        while let Some(line) = self.next()? {
            all.push_str(&line);
        }
        Ok(all)
    }

    /// The error of a line that is not what its format wants.
    pub(super) fn broken(&self, what: impl Into<String>) -> Error {
        Error::BrokenLine {
            file: self.file.clone(),
            line: self.line,
            what: what.into(),
        }
    }

    fn encoding(&self, what: &str) -> Error {
        Error::Encoding {
            file: self.file.clone(),
            line: self.line,
            what: what.to_owned(),
        }
    }
}

/// Whether every byte above ASCII is part of a pair as GBK has them.
fn pairs_of_gbk(bytes: &[u8]) -> bool {
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        if byte < 0x80 {
            continue;
        }
        let second = bytes.next();
        if !(0x81..=0xfe).contains(&byte)
            || !second.is_some_and(|second| (0x40..=0xfe).contains(second) && *second != 0x7f)
        {
            return false;
        }
    }
    true
}
