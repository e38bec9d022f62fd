//! The reader. It never asks for memory that the file's remaining bytes could not fill.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::{Array, DEFAULT_ALIGNMENT, Gguf, Limits, TensorInfo, Value, block};
use crate::error::{Error, Result};

/// Smallest entry of the metadata: a key's length, a value's type, one byte of value.
const MIN_METADATA_BYTES: u64 = 8 + 4 + 1;
/// Smallest entry of the tensor table: a name's length, number of dimensions, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;
/// Elements for which an array is given room before the first is read.
const FIRST_CAPACITY: u64 = 1 << 16;

/// Reads header, metadata and tensor table.
pub(super) fn read(
    mut reader: impl Read + Seek,
    file: &Path,
    len: u64,
    limits: &Limits,
) -> Result<Gguf> {
    reader
        .seek(SeekFrom::Start(0))
        .map_err(|source| Error::Io {
            file: file.to_path_buf(),
            source: Arc::new(source),
        })?;
    let mut input = Input {
        reader,
        file,
        offset: 0,
        len,
        limits,
    };
    let version = input.version()?;
    let tensor_count = input.u64()?;
    let metadata_count = input.u64()?;
    input.count(
        "tensors",
        tensor_count,
        limits.max_tensors,
        MIN_TENSOR_BYTES,
    )?;
    input.count(
        "metadata keys",
        metadata_count,
        limits.max_metadata,
        MIN_METADATA_BYTES,
    )?;

    let mut metadata = BTreeMap::new();
    let mut key_offsets = BTreeMap::new();
    for _ in 0..metadata_count {
        let at = input.offset;
        let key = input.string("a key", limits.max_name_bytes)?;
        let value = input.value()?;
        if key_offsets.insert(key.clone(), at).is_some() {
            return Err(input.error(at, format!("key `{key}` appears twice")));
        }
        metadata.insert(key, value);
    }
    let alignment = alignment(&input, &metadata, &key_offsets)?;

    let mut table = Vec::new();
    for _ in 0..tensor_count {
        table.push(input.tensor()?);
    }
    let data_offset = input
        .offset
        .checked_next_multiple_of(alignment)
        .ok_or_else(|| input.error(input.offset, "the alignment is too large".to_owned()))?;
    let tensors = place(&input, table, data_offset, alignment)?;
    Ok(Gguf {
        file: file.to_path_buf(),
        version,
        metadata,
        tensors,
        data_offset,
        alignment,
        file_len: len,
        key_offsets,
    })
}

/// `general.alignment`, checked.
fn alignment<R: Read>(
    input: &Input<'_, R>,
    metadata: &BTreeMap<String, Value>,
    key_offsets: &BTreeMap<String, u64>,
) -> Result<u64> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(Value::U32(v)) if v.is_power_of_two() => Ok((*v).into()),
        Some(other) => Err(input.error(
            key_offsets.get(KEY).copied().unwrap_or(0),
            format!(
                "key `{KEY}` is {}, expected a u32 that is a power of two",
                other.describe()
            ),
        )),
    }
}

/// An entry of the tensor table as the file has it.
struct Entry {
    /// Where the entry stands.
    at: u64,
    name: String,
    shape: Vec<u64>,
    ggml_type: u32,
    /// Offset from the start of the data.
    relative: u64,
}

/// Checks where the tensors lie and names them.
fn place<R: Read>(
    input: &Input<'_, R>,
    table: Vec<Entry>,
    data_offset: u64,
    alignment: u64,
) -> Result<BTreeMap<String, TensorInfo>> {
    let mut tensors = BTreeMap::new();
    let mut ranges = Vec::with_capacity(table.len());
    for entry in table {
        let Entry { at, name, .. } = entry;
        let wrong = |what: String| Err(input.error(at, format!("tensor `{name}`: {what}")));
        if entry.relative % alignment != 0 {
            return wrong(format!(
                "offset {} is not a multiple of the alignment {alignment}",
                entry.relative
            ));
        }
        let info = TensorInfo {
            shape: entry.shape,
            ggml_type: entry.ggml_type,
            offset: data_offset.saturating_add(entry.relative),
        };
        // Of an unknown type one byte is certain.
        let bytes = info.bytes().unwrap_or(1);
        match info.offset.checked_add(bytes) {
            Some(end) if end <= input.len => ranges.push((info.offset, end, at)),
            _ => {
                return wrong(format!(
                    "its {bytes} bytes from byte {} on leave the file of {} bytes",
                    info.offset, input.len
                ));
            }
        }
        if tensors.contains_key(&name) {
            return wrong("the name appears twice".to_owned());
        }
        tensors.insert(name, info);
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let ((_, end, first), (start, _, second)) = (pair[0], pair[1]);
        if start < end {
            return Err(input.error(
                second,
                format!("the tensor's data overlaps that of the one described at byte {first}"),
            ));
        }
    }
    Ok(tensors)
}

/// The file up to where it is read.
struct Input<'a, R> {
    reader: R,
    file: &'a Path,
    offset: u64,
    len: u64,
    limits: &'a Limits,
}

impl<R: Read> Input<'_, R> {
    fn error(&self, offset: u64, what: String) -> Error {
        Error::Gguf {
            file: self.file.to_path_buf(),
            offset,
            what,
        }
    }

    /// Bytes that may still be read.
    fn left(&self) -> u64 {
        self.len.min(self.limits.max_metadata_bytes) - self.offset
    }

    /// Fails unless `bytes` more may be read.
    fn need(&self, what: &str, bytes: u64) -> Result<()> {
        if bytes <= self.left() {
            return Ok(());
        }
        let left = self.len - self.offset;
        let reason = if bytes <= left {
            format!(
                "{what} of {bytes} bytes takes the metadata past its limit of {} bytes",
                self.limits.max_metadata_bytes
            )
        } else {
            format!("{what} of {bytes} bytes is expected, the file has {left} left")
        };
        Err(self.error(self.offset, reason))
    }

    /// Fails if `count` things of at least `min_bytes` each can't be in the rest of the file.
    fn count(&self, what: &str, count: u64, limit: u64, min_bytes: u64) -> Result<()> {
        if count > limit {
            return Err(self.error(
                self.offset,
                format!("the file claims {count} {what}, the limit is {limit}"),
            ));
        }
        self.need(what, count.saturating_mul(min_bytes))
    }

    fn failed(&self, source: io::Error) -> Error {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            self.error(self.offset, "the file ends here".to_owned())
        } else {
            Error::Io {
                file: self.file.to_path_buf(),
                source: Arc::new(source),
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.need("a number", N as u64)?;
        let mut bytes = [0; N];
        let read = self.reader.read_exact(&mut bytes);
        read.map_err(|source| self.failed(source))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Magic number and version.
    fn version(&mut self) -> Result<u32> {
        let magic: [u8; 4] = self.bytes()?;
        if &magic != b"GGUF" {
            let magic = magic.escape_ascii();
            return Err(self.error(0, format!("the file begins with \"{magic}\", not \"GGUF\"")));
        }
        let version = self.u32()?;
        match version {
            2 | 3 => Ok(version),
            1 => Err(self.error(4, "GGUF version 1 is not read, only 2 and 3".to_owned())),
            _ if matches!(version.swap_bytes(), 1..=3) => {
                Err(self.error(4, "big-endian GGUF is not read".to_owned()))
            }
            _ => Err(self.error(
                4,
                format!("GGUF version {version} is not read, only 2 and 3"),
            )),
        }
    }

    fn string(&mut self, what: &str, limit: u64) -> Result<String> {
        let at = self.offset;
        let len = self.u64()?;
        if len > limit {
            return Err(self.error(at, format!("{what} of {len} bytes, the limit is {limit}")));
        }
        self.need(what, len)?;
        let mut bytes = Vec::new();
        // Grows as bytes arrive, should the reader hold fewer than it was said to.
        let got = (&mut self.reader)
            .take(len)
            .read_to_end(&mut bytes)
            .map_err(|source| self.failed(source))?;
        if (got as u64) < len {
            return Err(self.failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.offset += len;
        String::from_utf8(bytes).map_err(|bad| {
            let valid = bad.utf8_error().valid_up_to() as u64;
            self.error(at + 8 + valid, format!("{what} is not UTF-8"))
        })
    }

    fn bool(&mut self) -> Result<bool> {
        let at = self.offset;
        match self.bytes()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.error(at, format!("a boolean is {other}, expected 0 or 1"))),
        }
    }

    fn value(&mut self) -> Result<Value> {
        let at = self.offset;
        Ok(match self.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => Value::Bool(self.bool()?),
            8 => Value::String(self.string("a string", self.limits.max_string_bytes)?),
            9 => Value::Array(self.array()?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.error(at, format!("unknown value type {other}"))),
        })
    }

    fn array(&mut self) -> Result<Array> {
        let at = self.offset;
        let element = self.u32()?;
        let len = self.u64()?;
        let min_bytes = match element {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            9 => return Err(self.error(at, "arrays of arrays are not read".to_owned())),
            other => return Err(self.error(at, format!("unknown array element type {other}"))),
        };
        self.count("array elements", len, self.limits.max_array_len, min_bytes)?;
        Ok(match element {
            0 => Array::U8(self.elements(len, |i| Ok(u8::from_le_bytes(i.bytes()?)))?),
            1 => Array::I8(self.elements(len, |i| Ok(i8::from_le_bytes(i.bytes()?)))?),
            2 => Array::U16(self.elements(len, |i| Ok(u16::from_le_bytes(i.bytes()?)))?),
            3 => Array::I16(self.elements(len, |i| Ok(i16::from_le_bytes(i.bytes()?)))?),
            4 => Array::U32(self.elements(len, Self::u32)?),
            5 => Array::I32(self.elements(len, |i| Ok(i32::from_le_bytes(i.bytes()?)))?),
            6 => Array::F32(self.elements(len, |i| Ok(f32::from_le_bytes(i.bytes()?)))?),
            7 => Array::Bool(self.elements(len, Self::bool)?),
            8 => {
                let limit = self.limits.max_string_bytes;
                Array::String(self.elements(len, |i| i.string("a string", limit))?)
            }
            10 => Array::U64(self.elements(len, Self::u64)?),
            11 => Array::I64(self.elements(len, |i| Ok(i64::from_le_bytes(i.bytes()?)))?),
            _ => Array::F64(self.elements(len, |i| Ok(f64::from_le_bytes(i.bytes()?)))?),
        })
    }

    fn elements<T>(
        &mut self,
        len: u64,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut elements = Vec::with_capacity(len.min(FIRST_CAPACITY) as usize);
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    fn tensor(&mut self) -> Result<Entry> {
        let at = self.offset;
        let name = self.string("a tensor's name", self.limits.max_name_bytes)?;
        let wrong =
            |input: &Self, what: String| input.error(at, format!("tensor `{name}`: {what}"));
        let dimensions = self.u32()?;
        if dimensions > 4 {
            return Err(wrong(
                self,
                format!("{dimensions} dimensions, the most are 4"),
            ));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64()?);
        }
        let ggml_type = self.u32()?;
        let relative = self.u64()?;
        if shape.contains(&0) {
            return Err(wrong(self, format!("shape {shape:?} has a zero")));
        }
        let row = shape.first().copied().unwrap_or(1);
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let (block_elements, block_bytes) = block(ggml_type).unwrap_or((1, 1));
        if elements
            .and_then(|n| (n / block_elements).checked_mul(block_bytes))
            .is_none()
        {
            return Err(wrong(self, format!("shape {shape:?} is too large")));
        }
        if row % block_elements != 0 {
            return Err(wrong(
                self,
                format!("rows of {row} are not whole blocks of {block_elements} elements"),
            ));
        }
        shape.reverse();
        Ok(Entry {
            at,
            name,
            shape,
            ggml_type,
            relative,
        })
    }
}
