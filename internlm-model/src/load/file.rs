//! Byte ranges of a file, mapped or read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// An open file of known length.
#[derive(Debug)]
pub(crate) struct SourceFile {
    path: PathBuf,
    file: File,
    len: u64,
}

/// A range of a file, for as long as it is needed.
pub(crate) enum Bytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl SourceFile {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            file: path.to_path_buf(),
            source,
        };
        // Before opening: opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(io::Error::new(
                io::ErrorKind::InvalidInput,
                "is not a regular file",
            )));
        }
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Ok(Self {
            path: path.to_path_buf(),
            file,
            len,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// An error that this file is not what its format says.
    pub(crate) fn corrupt(&self, what: impl Into<String>) -> Error {
        Error::Corrupt {
            file: self.path.clone(),
            what: what.into(),
        }
    }

    /// Reads a range into memory, after checking that it lies inside of the file.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.check(offset, len)?;
        let mut bytes = vec![0; len as usize];
        self.read_into(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Calls `f` with a range, mapped for this call or read into `scratch`.
    pub(crate) fn with_bytes<R>(
        &self,
        offset: u64,
        len: usize,
        mmap: bool,
        scratch: &mut Vec<u8>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        self.check(offset, len as u64)?;
        if mmap && len > 0 {
            let map = map(&self.file, offset, len).map_err(|source| self.io(source))?;
            return Ok(f(&map));
        }
        scratch.resize(len, 0);
        self.read_into(offset, scratch)?;
        Ok(f(scratch))
    }

    /// A range, mapped or read.
    pub(crate) fn bytes(&self, offset: u64, len: usize, mmap: bool) -> Result<Bytes> {
        if !mmap || len == 0 {
            return Ok(Bytes::Read(self.read(offset, len as u64)?));
        }
        self.check(offset, len as u64)?;
        let map = map(&self.file, offset, len).map_err(|source| self.io(source))?;
        Ok(Bytes::Mapped(map))
    }

    fn check(&self, offset: u64, len: u64) -> Result<()> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(self.corrupt(format!(
                "ends at byte {}, expected {len} bytes from byte {offset}",
                self.len
            ))),
        }
    }

    /// Fills `bytes` from `offset` on, without a check of the range before.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        read_exact_at(&self.file, offset, bytes).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("was cut while it was read"),
            _ => self.io(source),
        })
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io {
            file: self.path.clone(),
            source,
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Maps a range of a file to read from.
///
/// What is read is the same as by `read_exact_at`, the safe twin, as long as nobody changes the
/// file; a test compares them.
#[allow(unsafe_code)]
fn map(file: &File, offset: u64, len: usize) -> io::Result<memmap2::Mmap> {
    // SAFETY: the range was inside of the file when it was opened, the map is private and read
    // only, and it lives while one tensor is copied. Another process that writes to the file meanwhile changes
    // bytes under a shared slice; they are only copied as numbers, never used as lengths, offsets
    // or references, so what comes out is wrong weights. One that cuts the file makes the access a
    // signal. Both are documented at `LoadConfig::mmap`'s module, with the choice to read instead.
    unsafe {
        memmap2::MmapOptions::new()
            .offset(offset)
            .len(len)
            .map(file)
    }
}
