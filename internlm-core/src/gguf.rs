//! A bounded reader and a writer of GGUF files (versions 2 and 3, little-endian).
//!
//! Only the header, the metadata and the tensor table are read; tensor data stays in the file and
//! is found by [`TensorInfo::offset`]. A file is not trusted: every length is checked against the
//! bytes that are left and against [`Limits`] before memory is asked for, and what the table says
//! of the data must lie inside of the file without overlaps.
//!
//! Format: `docs/gguf.md` of the repository ggml-org/ggml.
//!
//! ```
//! use std::{io::Cursor, path::Path};
//! use internlm_core::gguf::{Gguf, GgufWriter, Limits, Value};
//!
//! let file = Path::new("tiny.gguf");
//! let mut bytes = Vec::new();
//! GgufWriter::new()
//!     .with_metadata("general.architecture", Value::String("internlm2".into()))
//!     .with_tensor("output_norm.weight", vec![8], 0) // 0 is F32
//!     .write(&mut bytes, file, |_, data| data.write_all(&[0; 32]))?;
//!
//! let len = bytes.len() as u64;
//! let gguf = Gguf::read(Cursor::new(bytes), file, len, &Limits::default())?;
//! assert_eq!(gguf.string("general.architecture")?, Some("internlm2"));
//! assert_eq!(gguf.tensors["output_norm.weight"].shape, [8]);
//! # Ok::<(), internlm_core::Error>(())
//! ```

mod read;
mod types;
mod value;
mod write;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use types::block;
pub use value::{Array, Value};
pub use write::GgufWriter;

use crate::error::{Error, Result};

/// Alignment of tensor data in files that do not name one.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// What a file may claim before it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most keys of metadata.
    pub max_metadata: u64,
    /// Most bytes of header, metadata and tensor table together.
    pub max_metadata_bytes: u64,
    /// Most bytes of one string value.
    pub max_string_bytes: u64,
    /// Most elements of one array.
    pub max_array_len: u64,
    /// Most tensors.
    pub max_tensors: u64,
    /// Most bytes of a key or a tensor's name.
    pub max_name_bytes: u64,
}

impl Default for Limits {
    /// 65,536 keys and tensors, 512 MiB of metadata, strings of 64 MiB, arrays of 16 Mi elements,
    /// names of 65,535 bytes.
    fn default() -> Self {
        Self {
            max_metadata: 1 << 16,
            max_metadata_bytes: 512 << 20,
            max_string_bytes: 64 << 20,
            max_array_len: 16 << 20,
            max_tensors: 1 << 16,
            max_name_bytes: u16::MAX as u64,
        }
    }
}

/// Where a tensor is and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The shape in row-major order as Hugging Face writes it, outermost dimension first (a GGUF
    /// file holds the reverse). At most four dimensions, none of them zero; empty for a scalar.
    pub shape: Vec<u64>,
    /// The type's number in ggml; see [`block`].
    pub ggml_type: u32,
    /// First byte of the data, counted from the start of the file.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of elements. The reader checked that it fits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of data; `None` for a type that [`block`] does not know.
    pub fn bytes(&self) -> Option<u64> {
        let (elements, bytes) = block(self.ggml_type)?;
        Some(self.elements() / elements * bytes)
    }
}

/// The header, metadata and tensor table of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gguf {
    /// The file, for error messages and for whoever reads the data.
    pub file: PathBuf,
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// First byte of the tensor data. In a file without tensors it may lie behind the end.
    pub data_offset: u64,
    /// Alignment of tensor data, a power of two.
    pub alignment: u64,
    /// Length of the file.
    pub file_len: u64,
    /// Where each key stands in the file.
    key_offsets: BTreeMap<String, u64>,
}

impl Gguf {
    /// Reads the head of a file, with the default [`Limits`].
    ///
    /// # Errors
    /// [`Error::Io`] if the file can't be read, else as [`read`](Gguf::read).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = path.as_ref();
        let io = |source| Error::Io {
            file: file.to_path_buf(),
            source: Arc::new(source),
        };
        let handle = File::open(file).map_err(io)?;
        let len = handle.metadata().map_err(io)?.len();
        Self::read(
            BufReader::with_capacity(1 << 16, handle),
            file,
            len,
            &Limits::default(),
        )
    }

    /// Reads the head of a file of `len` bytes from its start; `file` only names it in errors.
    ///
    /// # Errors
    /// [`Error::Gguf`] with the place and the reason for a file that is cut, breaks the format or
    /// a limit, or is of a version or byte order that is not read (version 1, big-endian);
    /// [`Error::Io`] if reading fails otherwise.
    pub fn read(reader: impl Read + Seek, file: &Path, len: u64, limits: &Limits) -> Result<Self> {
        read::read(reader, file, len, limits)
    }

    /// An error about a key of this file.
    fn wrong(&self, key: &str, what: String) -> Error {
        Error::Gguf {
            file: self.file.clone(),
            offset: self.key_offsets.get(key).copied().unwrap_or(0),
            what,
        }
    }

    /// The error that a required key is missing.
    pub fn missing(&self, key: &str) -> Error {
        self.wrong(key, format!("the metadata has no key `{key}`"))
    }

    /// Looks a key up and converts it; a value of another kind is an error.
    fn value<'a, T>(
        &'a self,
        key: &str,
        want: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else {
            return Ok(None);
        };
        match convert(value) {
            Some(converted) => Ok(Some(converted)),
            None => {
                let got = value.describe();
                Err(self.wrong(key, format!("key `{key}` is {got}, expected {want}")))
            }
        }
    }

    /// A string; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.value(key, "a string", Value::as_str)
    }

    /// An integer of any width that fits; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else, or a number out of range.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.value(key, "an integer of 32 bits without sign", |value| {
            value.as_u64()?.try_into().ok()
        })
    }

    /// An integer of any width that fits; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else, or a negative number.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.value(key, "an integer without sign", Value::as_u64)
    }

    /// A floating-point number, rounded to f32; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.value(key, "a floating-point number", Value::as_f32)
    }

    /// A boolean; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.value(key, "a boolean", Value::as_bool)
    }

    /// An array of strings; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.value(key, "an array of strings", |value| {
            value.as_array()?.as_strings()
        })
    }

    /// An array of f32; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else.
    pub fn f32s(&self, key: &str) -> Result<Option<&[f32]>> {
        self.value(key, "an array of f32", |value| match value.as_array()? {
            Array::F32(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// An array of integers of any width whose numbers all fit; `None` if there is no such key.
    ///
    /// # Errors
    /// The key holds something else, or a number out of range.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.value(
            key,
            "an array of integers of 32 bits without sign",
            |value| value.as_array()?.to_u32s(),
        )
    }
}

#[cfg(test)]
mod tests;
