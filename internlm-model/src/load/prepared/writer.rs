//! Writing a prepared file.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use internlm_kernels::PackedMatrix;

use super::format::{Header, START, SourceStamp, Stored, start};
use crate::error::{Error, Result};

/// Files that this process has begun: each gets a name of its own.
static BEGUN: AtomicU32 = AtomicU32::new(0);

/// A file that is written under another name and renamed when it is whole. Nothing waits for the disk:
/// checksums tell of a file that was not written out when the machine went down.
#[derive(Debug)]
pub(in crate::load) struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    offset: u64,
    header: Header,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// A folder that can't be written to.
    pub(super) fn create(path: &Path, files: Vec<SourceStamp>) -> Result<Self> {
        let number = BEGUN.fetch_add(1, Ordering::Relaxed);
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{number}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let io = |source| Error::Io {
            file: partial.clone(),
            source,
        };
        let mut file = File::create(&partial).map_err(io)?;
        file.write_all(&[0; START]).map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            partial,
            file,
            offset: START as u64,
            header: Header {
                files,
                ..Header::default()
            },
        })
    }

    /// Appends a matrix.
    ///
    /// # Errors
    /// A full disk.
    pub(super) fn push(&mut self, name: &str, matrix: &PackedMatrix) -> Result<()> {
        let written = self.file.write_all(matrix.as_bytes());
        written.map_err(|e| self.error(e))?;
        let stored = Stored::new(matrix, self.offset);
        self.header.matrices.insert(name.to_owned(), stored);
        self.offset += matrix.bytes() as u64;
        Ok(())
    }

    /// Puts the file in its place. One without matrices is dropped.
    ///
    /// # Errors
    /// A full disk, or a path that a file can't be renamed to.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.header.matrices.is_empty() {
            return Ok(());
        }
        self.write_header().map_err(|e| self.error(e))?;
        fs::rename(&self.partial, &self.path).map_err(|source| Error::Io {
            file: self.path.clone(),
            source,
        })
    }

    fn write_header(&mut self) -> io::Result<()> {
        let header = serde_json::to_vec(&self.header)?;
        self.file.write_all(&header)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&start(self.offset, &header))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Io {
            file: self.partial.clone(),
            source,
        }
    }
}

impl Drop for Writer {
    /// Removes what was not finished; after a rename nothing is there.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.partial);
    }
}
