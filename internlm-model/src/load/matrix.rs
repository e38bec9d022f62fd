//! Where the matrix of a module is stored, and its codes if it has any.

use std::ops::Range;

use internlm_kernels::{ScaleType, ZeroType};
use internlm_quant::ggml::GgmlType;
use internlm_quant::{Codes, Error as QuantError, QuantizationConfig, QuantizationMethod};

use super::LoadConfig;
use super::head::HeadWeights;
use super::int8::Int8;
use super::source::{Block, ElementType, Presented, RowOrder, TensorSource, check_shape};
use super::words::Words;
use crate::error::{Error, Result};

/// The stored matrix `(rows, columns)` of a module.
#[derive(Debug)]
pub(super) enum Matrix<'a> {
    /// Rows of elements or of blocks.
    Rows(Presented<'a>),
    /// The words of AWQ or GPTQ.
    Words(Words<'a>),
    /// Rows of floats that are to be rounded.
    Rounded(Presented<'a>, HeadWeights),
    /// 8 bits with a scale per output.
    Int8(Int8<'a>),
}

/// What packed rows have in common: matrices of one form can be fused.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Form {
    pub(super) bits: u32,
    pub(super) group_size: usize,
    /// Known before a scale is read: half precision where the file stores it.
    pub(super) scales: ScaleType,
    pub(super) zeros: ZeroType,
    /// As in [`Codes::order`].
    pub(super) order: Option<Vec<u32>>,
}

/// Reads the codes of a range of rows, on any thread.
pub(super) type ReadCodes<'a> = dyn Fn(Range<usize>) -> Result<Codes> + Sync + 'a;

impl<'a> Matrix<'a> {
    /// Finds the matrix of a module and checks its shapes; what lacks is added to `missing`.
    ///
    /// # Errors
    /// Shapes that the configuration does not imply, and words without a `quantization_config`.
    pub(super) fn find(
        source: &'a dyn TensorSource,
        quantization: Option<&'a QuantizationConfig>,
        path: &str,
        shape: [usize; 2],
        missing: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let weight = format!("{path}.weight");
        let has_words = source.find(&format!("{path}.qweight")).is_some();
        match (source.find(&weight), quantization) {
            (_, Some(config))
                if has_words
                    && config.converts(path)
                    && config.method != QuantizationMethod::Int8 =>
            {
                let words = Words::find(source, config, path, shape, missing)?;
                Ok(words.map(Matrix::Words))
            }
            (Some(_), Some(config))
                if config.method == QuantizationMethod::Int8
                    && config.converts(path)
                    && Int8::is_at(source, path) =>
            {
                let int8 = Int8::find(source, path, shape, missing)?;
                Ok(int8.map(Matrix::Int8))
            }
            (Some(rows), _) => {
                check_shape(&rows, &weight, &shape)?;
                Ok(Some(Matrix::Rows(rows)))
            }
            (None, None) if has_words => Err(Error::from(QuantError::Missing {
                what: "quantization_config".to_owned(),
                why: "the checkpoint holds qweight",
            })
            .in_tensor(path)),
            (None, _) => {
                missing.push(weight);
                Ok(None)
            }
        }
    }

    /// The same, rounded, if it is rows of floats.
    pub(super) fn rounded(self, head: HeadWeights) -> Self {
        match self {
            Matrix::Rows(rows) if head != HeadWeights::Stored && is_floats(&rows) => {
                Matrix::Rounded(rows, head)
            }
            other => other,
        }
    }

    /// Names of the stored tensors.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        match self {
            Matrix::Rows(_) | Matrix::Rounded(..) => vec![format!("{path}.weight")],
            Matrix::Words(words) => words
                .stored()
                .map(|(suffix, _)| format!("{path}.{suffix}"))
                .collect(),
            Matrix::Int8(int8) => {
                let stored = int8.stored().into_iter();
                stored
                    .map(|(suffix, _)| format!("{path}.{suffix}"))
                    .collect()
            }
        }
    }

    /// Bytes in files.
    pub(super) fn stored_bytes(&self) -> u64 {
        match self {
            Matrix::Rows(rows) | Matrix::Rounded(rows, _) => rows.stored_bytes(),
            Matrix::Words(words) => words.stored().map(|(_, s)| s.bytes(s.rows())).sum(),
            Matrix::Int8(int8) => {
                let stored = int8.stored().into_iter();
                stored.map(|(_, s)| s.bytes(s.rows())).sum()
            }
        }
    }

    /// The form that the matrix has codes in; `None` for elements, and for blocks that are to be
    /// dense or that no one form holds.
    ///
    /// # Errors
    /// As [`Words::form`].
    pub(super) fn form(&self, options: &LoadConfig) -> Result<Option<Form>> {
        match self {
            Matrix::Rows(_) if !options.packs_blocks() => Ok(None),
            Matrix::Rows(rows) => Ok(block_type(rows).and_then(block_form)),
            Matrix::Words(words) => words.form(options).map(Some),
            Matrix::Rounded(rows, head) => Ok(head.form(rows.shape.get(1).copied().unwrap_or(1))),
            Matrix::Int8(int8) => Ok(Some(int8.form())),
        }
    }

    /// Calls `f` with what reads the codes.
    ///
    /// # Errors
    /// What `f` fails with, and a file that can't be read.
    pub(super) fn with_codes<R>(
        &self,
        options: &LoadConfig,
        f: impl FnOnce(&ReadCodes<'_>) -> Result<R>,
    ) -> Result<R> {
        match self {
            Matrix::Rows(rows) => f(&|range| block_codes(rows, range, options)),
            Matrix::Words(words) => words.with_codes(options, f),
            Matrix::Rounded(rows, head) => f(&|range| head.codes(rows, range, options)),
            Matrix::Int8(int8) => int8.with_codes(options, f),
        }
    }
}

/// Whether these are blocks of several types, all of codes: InternLM2's `wqkv` in files that
/// quantize v more finely than q and k.
pub(super) fn is_mixed(rows: &Presented<'_>) -> bool {
    let has_codes = |block: &Block<'_>| match block.stored.element_type {
        ElementType::Known(known) => known.code_layout().is_some(),
        _ => false,
    };
    block_type(rows).is_none() && rows.blocks.iter().all(has_codes)
}

/// Whether all rows are floats of one type.
fn is_floats(rows: &Presented<'_>) -> bool {
    use GgmlType::{Bf16, F16, F32, F64};
    matches!(block_type(rows), Some(F32 | F16 | Bf16 | F64))
}

/// The one type of all rows.
fn block_type(rows: &Presented<'_>) -> Option<GgmlType> {
    let (first, rest) = rows.blocks.split_first()?;
    let one = &first.stored.element_type;
    match one {
        ElementType::Known(known) if rest.iter().all(|b| b.stored.element_type == *one) => {
            // Rows are read alone, so that blocks must not cross them.
            let whole = first.stored.columns().is_multiple_of(known.block_size());
            whole.then_some(*known)
        }
        _ => None,
    }
}

fn block_form(ggml_type: GgmlType) -> Option<Form> {
    let layout = ggml_type.code_layout()?;
    Some(Form {
        bits: layout.bits,
        group_size: layout.group_size,
        scales: match ggml_type {
            // Scales of K-quants are products of an f16 and an integer.
            GgmlType::Q4K | GgmlType::Q5K | GgmlType::Q6K => ScaleType::F32,
            _ => ScaleType::F16,
        },
        zeros: match layout.zero_point {
            Some(point) => ZeroType::Constant(point),
            None => ZeroType::Minimums,
        },
        order: None,
    })
}

/// The codes of a range of rows of blocks of one type.
fn block_codes(rows: &Presented<'_>, range: Range<usize>, options: &LoadConfig) -> Result<Codes> {
    let Some(ggml_type) = block_type(rows) else {
        return Err(QuantError::NoCodes { ggml_type: "a mix" }.into());
    };
    let columns = rows.shape.get(1).copied().unwrap_or(1);
    let count = range.len();
    let bytes = gather(rows, range, options)?;
    Ok(ggml_type.codes(&bytes, count, columns)?)
}

/// The bytes of a range of rows in the decoder's order.
pub(super) fn gather(
    rows: &Presented<'_>,
    range: Range<usize>,
    options: &LoadConfig,
) -> Result<Vec<u8>> {
    let (mut gathered, mut scratch) = (Vec::new(), Vec::new());
    let mut start = 0; // of a block, among all rows
    for block in &rows.blocks {
        let wanted =
            range.start.max(start) - start..range.end.clamp(start, start + block.rows) - start;
        start += block.rows;
        if wanted.is_empty() {
            continue;
        }
        let stored = block.stored;
        let row_bytes = stored.bytes(1) as usize;
        // Rows that are in order are mapped alone; a head of pairs is small and mapped whole.
        let mapped = match block.order {
            RowOrder::HalfSplit => wanted.clone(),
            RowOrder::Paired => 0..block.rows,
        };
        let offset = stored.offset + stored.bytes(block.first_row + mapped.start);
        let len = mapped.len() * row_bytes;
        let file = &stored.file;
        file.with_bytes(offset, len, options.mmap, &mut scratch, |bytes| {
            for row in wanted {
                let from = match block.order {
                    RowOrder::HalfSplit => row - mapped.start,
                    // Rows i and rows / 2 + i are the pair 2i, 2i + 1.
                    RowOrder::Paired => row % (block.rows / 2) * 2 + row / (block.rows / 2),
                };
                gathered.extend_from_slice(&bytes[from * row_bytes..][..row_bytes]);
            }
        })?;
    }
    Ok(gathered)
}
