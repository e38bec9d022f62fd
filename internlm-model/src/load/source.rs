//! Where tensors are: stored tensors, and the rows of them that make up a checkpoint's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use internlm_quant::ggml::GgmlType;
use internlm_quant::{RawDtype, RawTensor};

use super::file::{Bytes, SourceFile};
use crate::error::{Error, Result};

/// What a stored tensor's elements are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    /// Something that can be turned into f32.
    Known(GgmlType),
    /// 32-bit integers: words of codes.
    I32,
    /// 8-bit integers: codes with a scale per output.
    I8,
    /// Something else, by the format's name.
    Other(String),
}

impl ElementType {
    fn name(&self) -> String {
        match self {
            ElementType::Known(known) => known.name().to_owned(),
            ElementType::I32 => "I32".to_owned(),
            ElementType::I8 => "I8".to_owned(),
            ElementType::Other(other) => other.clone(),
        }
    }
}

/// A tensor as it lies in a file. Its range was checked against the file.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) file: Arc<SourceFile>,
    pub(crate) offset: u64,
    pub(crate) element_type: ElementType,
    pub(crate) shape: Vec<usize>,
}

impl Stored {
    /// Number of rows: the first dimension, 1 of a scalar.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a row.
    pub(crate) fn columns(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Bytes of so many rows; 0 of a type that is not known.
    pub(crate) fn bytes(&self, rows: usize) -> u64 {
        let elements = rows * self.columns();
        match &self.element_type {
            ElementType::Known(known) => known.bytes(elements).unwrap_or(0) as u64,
            ElementType::I32 => 4 * elements as u64,
            ElementType::I8 => elements as u64,
            ElementType::Other(_) => 0,
        }
    }

    /// All bytes, mapped or read.
    pub(crate) fn read(&self, mmap: bool) -> Result<Bytes> {
        let len = self.bytes(self.rows()) as usize;
        self.file.bytes(self.offset, len, mmap)
    }

    /// The tensor around its bytes, if it is of a type that files of words have.
    pub(crate) fn raw<'b>(&self, name: &str, bytes: &'b [u8]) -> Result<RawTensor<'b>> {
        let dtype = match self.element_type {
            ElementType::I32 => RawDtype::I32,
            ElementType::I8 => RawDtype::I8,
            ElementType::Known(GgmlType::F16) => RawDtype::F16,
            ElementType::Known(GgmlType::Bf16) => RawDtype::Bf16,
            ElementType::Known(GgmlType::F32) => RawDtype::F32,
            _ => return Err(self.wrong_type(name)),
        };
        Ok(RawTensor::new(dtype, self.shape.clone(), bytes))
    }

    /// The error that this is of a type that can't be read as what it should be.
    pub(crate) fn wrong_type(&self, name: &str) -> Error {
        Error::TensorType {
            file: self.file.path().to_path_buf(),
            name: name.to_owned(),
            got: self.element_type.name(),
        }
    }
}

/// The order of the rows of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As the decoder wants them, first half and second half of a rotated pair apart.
    HalfSplit,
    /// Pairs side by side, as llama.cpp stores them for its interleaved rotation. The row count of
    /// the block is the head's.
    Paired,
}

/// Consecutive rows of a stored tensor.
#[derive(Clone, Debug)]
pub(crate) struct Block<'a> {
    pub(crate) stored: &'a Stored,
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) order: RowOrder,
}

/// A tensor under its checkpoint path: blocks one after another.
#[derive(Clone, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) blocks: Vec<Block<'a>>,
}

impl Presented<'_> {
    /// Bytes in the file.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.blocks.iter().map(|b| b.stored.bytes(b.rows)).sum()
    }
}

/// Refuses a tensor of another shape than the configuration implies.
pub(crate) fn check_shape(found: &Presented<'_>, name: &str, want: &[usize]) -> Result<()> {
    if found.shape == want {
        return Ok(());
    }
    let file = found.blocks.first().map(|b| b.stored.file.path());
    Err(Error::TensorShape {
        file: file.map(Path::to_path_buf).unwrap_or_default(),
        name: name.to_owned(),
        got: found.shape.clone(),
        want: want.to_vec(),
    })
}

/// A checkpoint's tensors by path.
pub(crate) trait TensorSource: std::fmt::Debug + Send + Sync {
    /// The file that errors name when a tensor is missing.
    fn path(&self) -> &Path;

    /// All names: paths that can be found, and whatever else is stored.
    fn names(&self) -> Vec<&str>;

    /// A tensor by path.
    fn find(&self, name: &str) -> Option<Presented<'_>>;

    /// The files that hold tensors, sorted.
    fn files(&self) -> BTreeSet<&Path>;
}

/// Tensors that are stored under their checkpoint paths.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) path: std::path::PathBuf,
    pub(crate) tensors: BTreeMap<String, Stored>,
}

impl TensorSource for Table {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.keys().map(String::as_str).collect()
    }

    fn find(&self, name: &str) -> Option<Presented<'_>> {
        let stored = self.tensors.get(name)?;
        Some(Presented {
            shape: stored.shape.clone(),
            blocks: vec![Block {
                stored,
                first_row: 0,
                rows: stored.rows(),
                order: RowOrder::HalfSplit,
            }],
        })
    }

    fn files(&self) -> BTreeSet<&Path> {
        self.tensors.values().map(|s| s.file.path()).collect()
    }
}

/// Elements of a shape, or an error that names the tensor.
pub(crate) fn element_count(file: &SourceFile, name: &str, shape: &[usize]) -> Result<usize> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    // A dimension of zero may hide an overflow of the others.
    let without_zeros = shape
        .iter()
        .filter(|&&d| d > 0)
        .try_fold(1usize, |n, &d| n.checked_mul(d));
    match (count, without_zeros) {
        (Some(count), Some(_)) => Ok(count),
        _ => Err(file.corrupt(format!("tensor `{name}`: the shape {shape:?} overflows"))),
    }
}

/// The type of a tensor that is to be read.
pub(crate) fn known(stored: &Stored, name: &str) -> Result<GgmlType> {
    match &stored.element_type {
        ElementType::Known(known) => Ok(*known),
        _ => Err(stored.wrong_type(name)),
    }
}
