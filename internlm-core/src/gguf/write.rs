//! The writer: for conversions, and for tests that need a small file.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Array, DEFAULT_ALIGNMENT, Value, block};
use crate::error::{Error, Result};

/// Writes a GGUF file of version 3: metadata and tensors in the order in which they were added.
///
/// Only names and shapes are held; the data is asked for while writing. To replace a file, write
/// to a temporary name beside it and rename.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, u32)>,
}

impl GgufWriter {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata value. `general.alignment` also sets the alignment of the data.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: Value) -> Self {
        self.metadata.push((key.into(), value));
        self
    }

    /// Adds a tensor of a type that [`block`] knows; the shape is row-major, outermost first.
    #[must_use]
    pub fn with_tensor(
        mut self,
        name: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        ggml_type: u32,
    ) -> Self {
        self.tensors.push((name.into(), shape.into(), ggml_type));
        self
    }

    /// Writes everything; `data` is called once per tensor, in order, with its name and must
    /// write exactly its bytes. `file` only names the file in errors. All data is padded to the
    /// alignment, that of the last tensor too.
    ///
    /// # Errors
    /// [`Error::Gguf`] for what the reader would refuse (a key or name twice, a shape with a
    /// zero, of more than four dimensions or of partial blocks, an unknown type, a bad alignment)
    /// and for data of the wrong length; [`Error::Io`] if `out` or `data` fail.
    pub fn write(
        &self,
        out: impl Write,
        file: &Path,
        mut data: impl FnMut(&str, &mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let alignment = self.alignment(file)?;
        let offsets = self.offsets(file, alignment)?;
        let mut out = Output { out, offset: 0 };
        let io = |source| Error::Io {
            file: file.to_path_buf(),
            source: Arc::new(source),
        };
        self.head(&mut out, &offsets).map_err(io)?;
        out.pad(alignment).map_err(io)?;
        for ((name, ..), (_, bytes)) in self.tensors.iter().zip(&offsets) {
            let start = out.offset;
            data(name, &mut out).map_err(io)?;
            let written = out.offset - start;
            if written != *bytes {
                let what = format!("tensor `{name}` takes {bytes} bytes, {written} were given");
                return Err(wrong(file, start, what));
            }
            out.pad(alignment).map_err(io)?;
        }
        out.flush().map_err(io)
    }

    fn alignment(&self, file: &Path) -> Result<u64> {
        let mut keys = BTreeSet::new();
        let mut alignment = DEFAULT_ALIGNMENT;
        for (key, value) in &self.metadata {
            if !keys.insert(key) {
                return Err(wrong(file, 0, format!("key `{key}` was added twice")));
            }
            if key == "general.alignment" {
                alignment = match value {
                    Value::U32(v) if v.is_power_of_two() => (*v).into(),
                    other => {
                        let got = other.describe();
                        let what = format!("`{key}` is {got}, expected a u32, a power of two");
                        return Err(wrong(file, 0, what));
                    }
                };
            }
        }
        Ok(alignment)
    }

    /// Offset from the start of the data, and bytes, of each tensor.
    fn offsets(&self, file: &Path, alignment: u64) -> Result<Vec<(u64, u64)>> {
        let mut names = BTreeSet::new();
        let mut end = 0u64;
        let mut offsets = Vec::with_capacity(self.tensors.len());
        for (name, shape, ggml_type) in &self.tensors {
            let refuse = |what: &str| Err(wrong(file, 0, format!("tensor `{name}`: {what}")));
            if !names.insert(name) {
                return refuse("the name was added twice");
            }
            let Some((block_elements, block_bytes)) = block(*ggml_type) else {
                return refuse("the type is not known");
            };
            if shape.len() > 4 || shape.contains(&0) {
                return refuse("the shape has a zero or more than four dimensions");
            }
            if shape.last().unwrap_or(&1) % block_elements != 0 {
                return refuse("its rows are not whole blocks");
            }
            let bytes = shape
                .iter()
                .try_fold(1u64, |n, &d| n.checked_mul(d))
                .and_then(|n| (n / block_elements).checked_mul(block_bytes));
            let next = bytes
                .and_then(|bytes| end.checked_add(bytes))
                .and_then(|end| end.checked_next_multiple_of(alignment));
            let (Some(bytes), Some(next)) = (bytes, next) else {
                return refuse("it is too large");
            };
            offsets.push((end, bytes));
            end = next;
        }
        Ok(offsets)
    }

    fn head(&self, out: &mut impl Write, offsets: &[(u64, u64)]) -> io::Result<()> {
        out.write_all(b"GGUF")?;
        out.write_all(&3u32.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in &self.metadata {
            string(out, key)?;
            self::value(out, value)?;
        }
        for ((name, shape, ggml_type), (offset, _)) in self.tensors.iter().zip(offsets) {
            string(out, name)?;
            out.write_all(&(shape.len() as u32).to_le_bytes())?;
            for dimension in shape.iter().rev() {
                out.write_all(&dimension.to_le_bytes())?;
            }
            out.write_all(&ggml_type.to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
        }
        Ok(())
    }
}

fn wrong(file: &Path, offset: u64, what: String) -> Error {
    Error::Gguf {
        file: file.to_path_buf(),
        offset,
        what,
    }
}

fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    /// The type's number, then the number itself.
    macro_rules! tagged {
        ($tag:expr, $v:expr) => {{
            out.write_all(&u32::to_le_bytes($tag))?;
            out.write_all(&$v.to_le_bytes())
        }};
    }
    match value {
        Value::U8(v) => tagged!(0, v),
        Value::I8(v) => tagged!(1, v),
        Value::U16(v) => tagged!(2, v),
        Value::I16(v) => tagged!(3, v),
        Value::U32(v) => tagged!(4, v),
        Value::I32(v) => tagged!(5, v),
        Value::F32(v) => tagged!(6, v),
        Value::Bool(v) => tagged!(7, u8::from(*v)),
        Value::String(v) => {
            out.write_all(&8u32.to_le_bytes())?;
            string(out, v)
        }
        Value::Array(v) => {
            out.write_all(&9u32.to_le_bytes())?;
            array(out, v)
        }
        Value::U64(v) => tagged!(10, v),
        Value::I64(v) => tagged!(11, v),
        Value::F64(v) => tagged!(12, v),
    }
}

fn array(out: &mut impl Write, array: &Array) -> io::Result<()> {
    let len = (array.len() as u64).to_le_bytes();
    /// The element type's number, the length, the numbers.
    macro_rules! elements {
        ($tag:expr, $values:expr) => {{
            out.write_all(&u32::to_le_bytes($tag))?;
            out.write_all(&len)?;
            $values
                .iter()
                .try_for_each(|v| out.write_all(&v.to_le_bytes()))
        }};
    }
    match array {
        Array::U8(v) => elements!(0, v),
        Array::I8(v) => elements!(1, v),
        Array::U16(v) => elements!(2, v),
        Array::I16(v) => elements!(3, v),
        Array::U32(v) => elements!(4, v),
        Array::I32(v) => elements!(5, v),
        Array::F32(v) => elements!(6, v),
        Array::Bool(v) => {
            out.write_all(&7u32.to_le_bytes())?;
            out.write_all(&len)?;
            v.iter().try_for_each(|&v| out.write_all(&[v.into()]))
        }
        Array::String(v) => {
            out.write_all(&8u32.to_le_bytes())?;
            out.write_all(&len)?;
            v.iter().try_for_each(|v| string(out, v))
        }
        Array::U64(v) => elements!(10, v),
        Array::I64(v) => elements!(11, v),
        Array::F64(v) => elements!(12, v),
    }
}

/// Counts what was written.
struct Output<W> {
    out: W,
    offset: u64,
}

impl<W: Write> Output<W> {
    fn pad(&mut self, alignment: u64) -> io::Result<()> {
        let zeros = self.offset.next_multiple_of(alignment) - self.offset;
        io::copy(&mut io::Read::take(io::repeat(0), zeros), self)?;
        Ok(())
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.offset += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
