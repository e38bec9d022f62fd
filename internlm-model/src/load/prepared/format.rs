//! The prepared file: 64 bytes, matrices one after another, a JSON header.
//!
//! | bytes | first 64, little-endian |
//! | --- | --- |
//! | 0..8 | `INTERNLP` |
//! | 8..12 | version of this format |
//! | 12..16 | version of the order in memory, [`PackedMatrix::LAYOUT_VERSION`] |
//! | 16..24, 24..32 | where the header begins, and its length: it ends the file |
//! | 32..40 | checksum of the header |
//! | 40..56 | zeros |
//! | 56..64 | checksum of the 56 bytes before |
//!
//! Matrices are whole cache lines and begin at one. The header lies behind them since it holds
//! their checksums, and they are written as they are packed. So each byte is checked before it is used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use internlm_kernels::{PackedMatrix, PackedShape, ScaleType, ZeroType};
use serde::{Deserialize, Serialize};

use super::super::file::SourceFile;
use super::checksum::of_lines;
use crate::error::{Error, Result};

pub(super) const MAGIC: &[u8; 8] = b"INTERNLP";
/// Version of everything but the matrices.
const VERSION: u32 = 1;
/// Bytes before the first matrix.
pub(super) const START: usize = 64;
/// Longest header: several times that of the largest models.
const MAX_HEADER: u64 = 16 << 20;

/// A file that packed matrices come from, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceStamp {
    name: String,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (u64, u32),
}

impl SourceStamp {
    /// # Errors
    /// A file whose size and time can't be read.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let io = |source| Error::Io {
            file: path.to_path_buf(),
            source,
        };
        let metadata = std::fs::metadata(path).map_err(io)?;
        let modified = metadata.modified().map_err(io)?;
        let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            bytes: metadata.len(),
            modified: (modified.as_secs(), modified.subsec_nanos()),
        })
    }
}

/// What the header says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) files: Vec<SourceStamp>,
    pub(super) matrices: BTreeMap<String, Stored>,
}

/// A matrix in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored {
    shape: Shape,
    offset: u64,
    bytes: u64,
    checksum: u64,
}

/// A [`PackedShape`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    n: usize,
    k: usize,
    bits: u32,
    group_size: usize,
    scales: Scales,
    zeros: Zeros,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Scales {
    F16,
    F32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Zeros {
    Points,
    Constant(u8),
    Minimums,
}

impl From<PackedShape> for Shape {
    fn from(shape: PackedShape) -> Self {
        Self {
            n: shape.n,
            k: shape.k,
            bits: shape.bits,
            group_size: shape.group_size,
            scales: match shape.scales {
                ScaleType::F16 => Scales::F16,
                ScaleType::F32 => Scales::F32,
            },
            zeros: match shape.zeros {
                ZeroType::Points => Zeros::Points,
                ZeroType::Constant(point) => Zeros::Constant(point),
                ZeroType::Minimums => Zeros::Minimums,
            },
        }
    }
}

impl Stored {
    pub(super) fn new(matrix: &PackedMatrix, offset: u64) -> Self {
        Self {
            shape: matrix.shape().into(),
            offset,
            bytes: matrix.bytes() as u64,
            checksum: of_lines(0, matrix.as_bytes()),
        }
    }
}

/// The first bytes of a file with this header at this place.
pub(super) fn start(offset: u64, header: &[u8]) -> [u8; START] {
    let mut start = [0; START];
    let mut put = |at: usize, bytes: &[u8]| start[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &PackedMatrix::LAYOUT_VERSION.to_le_bytes());
    put(16, &offset.to_le_bytes());
    put(24, &(header.len() as u64).to_le_bytes());
    put(32, &of_lines(0, header).to_le_bytes());
    let sum = of_lines(0, &start[..56]).to_le_bytes();
    start[56..].copy_from_slice(&sum);
    start
}

/// An open prepared file whose header was checked.
#[derive(Debug)]
pub(in crate::load) struct PreparedFile {
    file: SourceFile,
    header: Header,
}

/// An error of a file that can't be used, and may be made again.
fn unusable(file: &SourceFile, what: String) -> Error {
    Error::Prepared {
        file: file.path().to_path_buf(),
        what,
    }
}

impl PreparedFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file of another format, [`Error::Prepared`] for one that is damaged or
    /// of another version.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = SourceFile::open(path)?;
        let bytes = file.read(0, file.len().min(START as u64))?;
        let shown = bytes.len().min(MAGIC.len());
        if bytes[..shown] != MAGIC[..shown] {
            return Err(file.corrupt("is no prepared file, and is left as it is"));
        }
        let damaged = |what: String| Err(unusable(&file, what));
        let Ok(start) = <[u8; START]>::try_from(bytes) else {
            return damaged(format!(
                "has {} bytes, expected {START} at least",
                file.len()
            ));
        };
        let word = |at: usize| {
            let bytes = start[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        if of_lines(0, &start[..56]) != word(56) {
            return damaged(
                "is damaged: its first bytes are not those that were written".to_owned(),
            );
        }
        let (version, layout) = (word(8) as u32, (word(8) >> 32) as u32);
        if (version, layout) != (VERSION, PackedMatrix::LAYOUT_VERSION) {
            return damaged(format!(
                "is of version {version}, layout {layout}; expected {VERSION}, layout {}",
                PackedMatrix::LAYOUT_VERSION
            ));
        }
        let (offset, len) = (word(16), word(24));
        if len > MAX_HEADER || offset.checked_add(len) != Some(file.len()) {
            return damaged(format!(
                "has {} bytes, expected a header of {len} bytes from byte {offset} to the end, of at most {MAX_HEADER}",
                file.len()
            ));
        }
        let bytes = file.read(offset, len)?;
        if of_lines(0, &bytes) != word(32) {
            return damaged("is damaged: its header is not the one that was written".to_owned());
        }
        let header: Header = match serde_json::from_slice(&bytes) {
            Ok(header) => header,
            Err(error) => return damaged(format!("has a header that can't be read: {error}")),
        };
        for (name, stored) in &header.matrices {
            let end = stored.offset.checked_add(stored.bytes);
            if stored.offset < START as u64 || end.is_none_or(|end| end > offset) {
                let what = format!("matrix `{name}` lies outside of the file");
                return damaged(what);
            }
        }
        Ok(Self { file, header })
    }

    /// Checks that it was made of these files.
    ///
    /// # Errors
    /// [`Error::Prepared`], naming the first that differs.
    pub(super) fn check_sources(&self, stamps: &[SourceStamp]) -> Result<()> {
        if self.header.files == stamps {
            return Ok(());
        }
        let known = |stamp: &&SourceStamp| !self.header.files.contains(stamp);
        let name = stamps.iter().find(known).map(|stamp| stamp.name.as_str());
        let what = match name {
            Some(name) => format!("was not made of `{name}` as it is now"),
            None => "was made of other files too".to_owned(),
        };
        Err(unusable(&self.file, what))
    }

    /// A matrix, read on several threads.
    ///
    /// # Errors
    /// [`Error::Prepared`] where it is not there, has another shape or is damaged; a file that can't be
    /// read.
    pub(super) fn matrix(
        &self,
        name: &str,
        shape: PackedShape,
        threads: usize,
    ) -> Result<PackedMatrix> {
        let damaged = |what: String| Err(unusable(&self.file, what));
        let Some(stored) = self.header.matrices.get(name) else {
            return damaged(format!("was made with other options: it lacks `{name}`"));
        };
        if stored.shape != shape.into() {
            return damaged(format!(
                "was made with other options: `{name}` is {:?}, expected {:?}",
                stored.shape,
                Shape::from(shape)
            ));
        }
        // Also bounds what is allocated: the range was checked against the file.
        let bytes = shape.bytes()?;
        if stored.bytes != bytes as u64 {
            return damaged(format!(
                "matrix `{name}` has {} bytes, expected {bytes}",
                stored.bytes
            ));
        }
        let sum = AtomicU64::new(0);
        let matrix = PackedMatrix::read(shape, threads, |start, to| {
            self.file.read_into(stored.offset + start as u64, to)?;
            sum.fetch_add(of_lines(start, to), Ordering::Relaxed);
            Ok::<(), Error>(())
        });
        match matrix {
            Ok(matrix) if sum.into_inner() == stored.checksum => Ok(matrix),
            Ok(_) | Err(Error::Kernel { .. }) => {
                damaged(format!("is damaged: `{name}` is not what was written"))
            }
            Err(error) => Err(error),
        }
    }
}
