//! Embeddings and heads that are rounded to 8 or 4 bits while they are loaded.

use std::ops::Range;

use internlm_kernels::{Compute, ScaleType, ZeroType};
use internlm_quant::Codes;
use internlm_quant::rtn::{self, Grouping};

use super::LoadConfig;
use super::elements::convert;
use super::matrix::{Form, gather};
use super::source::{Presented, known};
use crate::error::{Error, Result};

/// What the embedding and the language model's head are held as, where the file stores them as floats.
///
/// Other matrices, a reward head, and what is packed in the file already stay as they are. Of a model
/// of 1.8 billion 4-bit weights, a head of f16 is a third of the bytes that a token reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadWeights {
    /// As stored, or in [`LoadConfig::dtype`].
    #[default]
    Stored,
    /// 8 bits, rounded to nearest, a scale for up to 64 inputs.
    Int8,
    /// 4 bits, rounded to nearest, a scale and a zero point for up to 32 inputs.
    Int4,
}

impl HeadWeights {
    /// Refuses a rounded head where matrices can't be packed.
    pub(super) fn check(self, options: &LoadConfig) -> Result<()> {
        match self == HeadWeights::Stored || options.packed {
            true => Ok(()),
            false => Err(Error::HeadWeights { got: self }),
        }
    }

    /// Bits of a code.
    pub(super) fn bits(self) -> Option<u32> {
        match self {
            HeadWeights::Stored => None,
            HeadWeights::Int8 => Some(8),
            HeadWeights::Int4 => Some(4),
        }
    }

    /// Inputs that share a scale: the most that divide a row.
    pub(super) fn group_size(self, columns: usize) -> usize {
        let most = if self == HeadWeights::Int4 { 32 } else { 64 };
        let mut sizes = [most, most / 2, most / 4].into_iter();
        let divides = |size: &usize| columns.is_multiple_of(*size);
        sizes.find(divides).unwrap_or(most)
    }

    /// The form of a matrix with so many columns.
    pub(super) fn form(self, columns: usize) -> Option<Form> {
        Some(Form {
            bits: self.bits()?,
            group_size: self.group_size(columns),
            scales: ScaleType::F16,
            zeros: match self {
                HeadWeights::Int8 => ZeroType::Constant(128),
                _ => ZeroType::Points,
            },
            order: None,
        })
    }

    /// Rounds a range of rows.
    ///
    /// # Errors
    /// A file that can't be read, values that are not finite, and rows that no group divides.
    pub(super) fn codes(
        self,
        rows: &Presented<'_>,
        range: Range<usize>,
        options: &LoadConfig,
    ) -> Result<Codes> {
        let columns = rows.shape.get(1).copied().unwrap_or(1);
        let mut values = vec![0.0; range.len() * columns];
        let bytes = gather(rows, range, options)?;
        if let Some(block) = rows.blocks.first() {
            convert(
                known(block.stored, "")?,
                &bytes,
                &mut values,
                &mut Vec::new(),
            )?;
        }
        // Several threads round ranges of their own, each alone.
        let compute = Compute::new(Some(1))?;
        let group_size = self.group_size(columns);
        Ok(match self {
            HeadWeights::Int4 => {
                let grouping = Grouping::awq(group_size);
                rtn::asymmetric(&compute, &values, columns, grouping)?
            }
            _ => {
                let scales = rtn::ScaleType::F16;
                rtn::symmetric_int8(&compute, &values, columns, group_size, scales)?
            }
        })
    }
}
