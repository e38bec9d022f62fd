//! The header of a safetensors file.
//!
//! Read here, not by the `safetensors` crate, because that wants the whole file in memory or
//! mapped; the rules are the same (huggingface/safetensors, README "Format"): 8 bytes of length, a
//! JSON object, then data that the tensors cover without overlaps or holes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use internlm_quant::RawTensor;
use internlm_quant::ggml::GgmlType;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};

use super::file::SourceFile;
use super::source::{ElementType, Stored, element_count};
use crate::error::Result;

/// Longest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The header's tensors. A name that occurs twice is an error.
struct Header(BTreeMap<String, Info>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let info = map.next_value()?;
                    if tensors.contains_key(&name) {
                        return Err(A::Error::custom(format_args!(
                            "tensor `{name}` occurs twice"
                        )));
                    }
                    tensors.insert(name, info);
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Reads the tensors of a small file, in the order of their names.
pub(crate) fn read_all(path: &std::path::Path) -> Result<Vec<(String, RawTensor<'static>)>> {
    let file = Arc::new(SourceFile::open(path)?);
    let read = |(name, stored): (String, Stored)| {
        let bytes = stored
            .file
            .read(stored.offset, stored.bytes(stored.rows()))?;
        let RawTensor { dtype, shape, .. } = stored.raw(&name, &[])?;
        Ok((name, RawTensor::new(dtype, shape, bytes)))
    };
    table(&file)?.into_iter().map(read).collect()
}

/// Reads and checks the tensor table of a file.
pub(super) fn table(file: &Arc<SourceFile>) -> Result<BTreeMap<String, Stored>> {
    let len = file.read(0, 8)?;
    let len = len.try_into().map_or(u64::MAX, u64::from_le_bytes);
    if len > MAX_HEADER || len > file.len() - 8 {
        let most = MAX_HEADER.min(file.len() - 8);
        return Err(file.corrupt(format!(
            "the header has {len} bytes, expected at most {most}"
        )));
    }
    let header: Header = serde_json::from_slice(&file.read(8, len)?)
        .map_err(|source| file.corrupt(format!("the header is not what it should be: {source}")))?;
    let data = 8 + len;
    let mut ranges: Vec<(u64, u64, &str)> = Vec::with_capacity(header.0.len());
    let mut tensors = BTreeMap::new();
    for (name, info) in &header.0 {
        let [start, end] = info.data_offsets;
        if start > end || end > file.len() - data {
            let have = file.len() - data;
            let what = format!("tensor `{name}`: bytes {start} to {end}, the data has {have}");
            return Err(file.corrupt(what));
        }
        let elements = element_count(file, name, &info.shape)?;
        let (element_type, size) = element_type(&info.dtype);
        if let Some(size) = size
            && (elements as u64).checked_mul(size) != Some(end - start)
        {
            let what = format!(
                "tensor `{name}`: {} bytes, expected {elements} elements of {size} bytes",
                end - start
            );
            return Err(file.corrupt(what));
        }
        ranges.push((start, end, name));
        tensors.insert(
            name.clone(),
            Stored {
                file: file.clone(),
                offset: data + start,
                element_type,
                shape: info.shape.clone(),
            },
        );
    }
    ranges.sort_unstable();
    let mut covered = 0;
    for (start, end, name) in ranges {
        if start != covered {
            let kind = if start < covered {
                "overlaps its neighbour"
            } else {
                "leaves a hole"
            };
            let what = format!("tensor `{name}` {kind}: starts at {start}, expected {covered}");
            return Err(file.corrupt(what));
        }
        covered = end;
    }
    if covered != file.len() - data {
        let have = file.len() - data;
        return Err(file.corrupt(format!(
            "the data has {have} bytes, the tensors cover {covered}"
        )));
    }
    Ok(tensors)
}

/// The type of a name in the header, and its bytes where they are known and whole.
fn element_type(dtype: &str) -> (ElementType, Option<u64>) {
    let known = |ggml_type: GgmlType| {
        let bytes = ggml_type.block_bytes() as u64;
        (ElementType::Known(ggml_type), Some(bytes))
    };
    match dtype {
        "F64" => known(GgmlType::F64),
        "F32" => known(GgmlType::F32),
        "F16" => known(GgmlType::F16),
        "BF16" => known(GgmlType::Bf16),
        "I32" => (ElementType::I32, Some(4)),
        "I8" => (ElementType::I8, Some(1)),
        other => {
            let bytes = match other {
                "BOOL" | "U8" => Some(1),
                "U16" | "I16" => Some(2),
                "U32" => Some(4),
                "U64" | "I64" => Some(8),
                _ => None,
            };
            (ElementType::Other(other.to_owned()), bytes)
        }
    }
}
