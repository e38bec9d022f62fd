//! Packed matrices kept between runs, in the order that kernels read.
//!
//! They are read into memory of huge pages, not mapped for as long as the model lives: pages of files are
//! small, which would slow decoding, and a file that is cut could end the program at any time.

mod checksum;
mod format;
mod writer;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use internlm_kernels::PackedShape;
use internlm_quant::PackedWeight;

use crate::error::{Error, Result};
use format::PreparedFile;
pub(crate) use format::SourceStamp;
use writer::Writer;

/// Where packed matrices are kept between runs: a prepared file.
///
/// It holds them as they lie in memory, so that loading is reading. It belongs to the files that it was
/// made of (their names, sizes and times of change) and to the options that say how they are packed. What
/// is dense is read from those files as without it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prepared {
    /// Beside the source: `NAME.gguf.prepared`, or `model.prepared` in a folder. It is a cache: where
    /// it is missing, damaged or of other files or options, it is made while the source is loaded.
    Beside,
    /// A file of its own. Where it is missing it is made; where it can't be used that is an
    /// error, and it is left as it is, since it may belong to another model.
    At(PathBuf),
}

impl Prepared {
    /// The file of a source.
    pub(super) fn path(&self, source: &Path) -> PathBuf {
        match self {
            Prepared::At(path) => path.clone(),
            Prepared::Beside if source.is_dir() => source.join("model.prepared"),
            Prepared::Beside => {
                let mut name = source.file_name().map_or_else(OsString::new, Into::into);
                name.push(".prepared");
                source.with_file_name(name)
            }
        }
    }
}

/// A prepared file while a model is loaded.
pub(super) enum Store {
    /// It is there.
    Old(PreparedFile),
    /// It is being made; `None` once it is.
    New(RefCell<Option<Writer>>),
}

impl Store {
    /// Opens the file, or begins it where it isn't there or is to be made again.
    ///
    /// # Errors
    /// A file that is none of this format, is damaged, or was made of other files than `stamps`; a
    /// folder that can't be written to.
    pub(super) fn open(path: &Path, stamps: Vec<SourceStamp>, again: bool) -> Result<Self> {
        // Also when it is made again: what is not ours is not overwritten.
        match PreparedFile::open(path) {
            Ok(file) if !again => {
                file.check_sources(&stamps)?;
                return Ok(Store::Old(file));
            }
            Ok(_) => {}
            Err(Error::Prepared { .. }) if again => {}
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let writer = Writer::create(path, stamps)?;
        Ok(Store::New(RefCell::new(Some(writer))))
    }

    /// The matrix of some modules: read, or packed and then written.
    ///
    /// # Errors
    /// What `pack` fails with, a file that can't be read or written, that is damaged or holds another
    /// matrix.
    pub(super) fn weight(
        &self,
        name: &str,
        shape: PackedShape,
        order: Option<&[u32]>,
        threads: usize,
        pack: impl FnOnce() -> Result<PackedWeight>,
    ) -> Result<PackedWeight> {
        match self {
            Store::Old(file) => {
                let matrix = file.matrix(name, shape, threads)?;
                Ok(PackedWeight::from_matrix(
                    matrix,
                    order.map(<[u32]>::to_vec),
                )?)
            }
            Store::New(writer) => {
                let weight = pack()?;
                if let Some(writer) = writer.borrow_mut().as_mut() {
                    writer.push(name, weight.matrix())?;
                }
                Ok(weight)
            }
        }
    }

    /// Puts a new file in its place; none, where nothing was packed.
    pub(super) fn finish(&self) -> Result<()> {
        match self {
            Store::Old(_) => Ok(()),
            Store::New(writer) => writer.take().map_or(Ok(()), Writer::finish),
        }
    }
}
