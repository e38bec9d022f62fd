//! `pytorch_model.bin`: a zip file with a pickle that names tensors, and their data beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use internlm_quant::ggml::GgmlType;

use super::file::SourceFile;
use super::pickle::{self, Record};
use super::source::{ElementType, Stored, element_count};
use super::zip::Directory;
use crate::error::Result;

/// Longest pickle; that of a 70B model takes 200 KB.
const MAX_PICKLE: u64 = 16 << 20;
/// Most tensors.
const MAX_TENSORS: usize = 1 << 16;

/// Reads and checks the tensor table of a file.
pub(super) fn table(file: &Arc<SourceFile>) -> Result<BTreeMap<String, Stored>> {
    let directory = Directory::read(file)?;
    let mut pickles = directory
        .names()
        .filter(|n| *n == "data.pkl" || n.ends_with("/data.pkl"));
    let (Some(name), None) = (pickles.next(), pickles.next()) else {
        return Err(file.corrupt("does not hold exactly one data.pkl"));
    };
    let prefix = &name[..name.len() - "data.pkl".len()];
    let order = format!("{prefix}byteorder");
    if directory.names().any(|n| n == order) {
        let member = directory.data(&order)?;
        let order = file.read(member.offset, member.len.min(16))?;
        if order != b"little" {
            return Err(file.corrupt("is not little-endian"));
        }
    }
    let member = directory.data(name)?;
    if member.len > MAX_PICKLE {
        let what = format!(
            "the pickle has {} bytes, expected at most {MAX_PICKLE}",
            member.len
        );
        return Err(file.corrupt(what));
    }
    let input = file.read(member.offset, member.len)?;
    let records = pickle::tensors(&input).map_err(|what| file.corrupt(what))?;
    if records.len() > MAX_TENSORS {
        return Err(file.corrupt(format!("holds {} tensors", records.len())));
    }
    let mut tensors = BTreeMap::new();
    for record in records {
        let stored = stored(file, &directory, prefix, &record)?;
        tensors.insert(record.name, stored);
    }
    Ok(tensors)
}

/// Where a tensor's data is.
fn stored(
    file: &Arc<SourceFile>,
    directory: &Directory,
    prefix: &str,
    record: &Record,
) -> Result<Stored> {
    let wrong = |what: String| Err(file.corrupt(format!("tensor `{}`: {what}", record.name)));
    let elements = element_count(file, &record.name, &record.shape)? as u64;
    if !is_contiguous(&record.shape, &record.strides) {
        let (shape, strides) = (&record.shape, &record.strides);
        return wrong(format!(
            "strides {strides:?} of shape {shape:?} are not row-major"
        ));
    }
    let (element_type, size) = element_type(&record.storage_type);
    let member = directory.data(&format!("{prefix}data/{}", record.key))?;
    let end = record
        .offset
        .checked_add(elements)
        .filter(|&end| end <= record.storage_len);
    let bytes = end.and_then(|end| end.checked_mul(size));
    match (bytes, record.offset.checked_mul(size)) {
        (Some(bytes), Some(offset)) if bytes <= member.len => Ok(Stored {
            file: file.clone(),
            offset: member.offset + offset,
            element_type,
            shape: record.shape.clone(),
        }),
        _ => wrong(format!(
            "{elements} elements of {size} bytes from {}, the storage has {} bytes",
            record.offset, member.len
        )),
    }
}

/// Whether elements follow each other in row-major order. Strides of single elements are free.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut want = 1usize;
    let mut sizes = shape.iter().zip(strides).rev();
    shape.len() == strides.len()
        && (shape.contains(&0)
            || sizes.all(|(&size, &stride)| {
                let fits = size == 1 || stride == want;
                want = want.saturating_mul(size);
                fits
            }))
}

/// The type of a storage class, and its bytes.
fn element_type(class: &str) -> (ElementType, u64) {
    let known = |t: GgmlType| (ElementType::Known(t), t.block_bytes() as u64);
    match class {
        "FloatStorage" => known(GgmlType::F32),
        "DoubleStorage" => known(GgmlType::F64),
        "HalfStorage" => known(GgmlType::F16),
        "BFloat16Storage" => known(GgmlType::Bf16),
        "IntStorage" => (ElementType::I32, 4),
        "CharStorage" => (ElementType::I8, 1),
        other => {
            let bytes = match other {
                "LongStorage" | "ComplexFloatStorage" => 8,
                "ShortStorage" => 2,
                "ComplexDoubleStorage" => 16,
                _ => 1,
            };
            (ElementType::Other(other.to_owned()), bytes)
        }
    }
}
