//! The tensors of GPTQ checkpoints of 4 bits.
//!
//! A linear layer of `in` inputs and `out` outputs has no `weight` but
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | `qweight` | `(in / 8, out)` | i32, eight inputs a word |
//! | `qzeros` | `(groups, out / 8)` | i32, eight outputs a word |
//! | `scales` | `(groups, out)` | f16, bf16 or f32 |
//! | `g_idx` | `(in)` | i32, the group of each input |
//!
//! Words hold their codes in order from the lowest bits, and
//! `w[o, k] = (q[k, o] - zero[g_idx[k], o]) · scale[g_idx[k], o]`. Without `g_idx`, group `k / group_size`
//! is meant; other groups come from `desc_act`, which quantizes inputs in the order of their
//! activations. How zero points are stored is [`GptqZeros`].
//!
//! Sources: `auto_gptq/nn_modules/qlinear` of AutoGPTQ/AutoGPTQ for the layout, `packing_utils.py` of
//! casper-hansen/AutoAWQ for the wrap of the zero points.

use std::ops::Range;

use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::nibbles::{self, PER_WORD};
use crate::raw::{RawDtype, RawTensor};

/// The nibble of each output of a word.
const NIBBLE_OF: [u32; PER_WORD] = [0, 1, 2, 3, 4, 5, 6, 7];

/// The zero point of files that store none because they say that they are symmetric.
const SYMMETRIC_ZERO: u8 = 8;

/// How a file stores its zero points (`checkpoint_format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GptqZeros {
    /// Less one, modulo 16: the format `gptq`.
    #[default]
    LessOne,
    /// As they are: the format `gptq_v2`.
    Plain,
}

/// The tensors of one linear layer as they were found in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct GptqParts<'a> {
    /// `(in / 8, out)`, i32
    pub qweight: RawTensor<'a>,
    /// `(groups, out / 8)`, i32
    pub qzeros: Option<RawTensor<'a>>,
    /// `(groups, out)`, a float
    pub scales: RawTensor<'a>,
    /// `(in)`, i32
    pub g_idx: Option<RawTensor<'a>>,
}

/// The tensors of one linear layer. Shapes and groups agree; codes are unpacked on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct GptqTensors<'a> {
    parts: GptqParts<'a>,
    zeros: GptqZeros,
    in_features: usize,
    out_features: usize,
    group_size: usize,
    /// The input of each column, where columns of a group are not neighbours in the file.
    order: Option<Vec<u32>>,
}

impl<'a> GptqTensors<'a> {
    /// Tensors as they were found in a file. `symmetric` is `sym` of the configuration: such a file
    /// may lack `qzeros`, and its zero points are 8.
    ///
    /// # Errors
    /// Shapes, dtypes or lengths that disagree, a group size that does not divide the inputs,
    /// outputs that are no multiple of 8, missing `qzeros` of a file that is not symmetric, and a
    /// `g_idx` that names no group or does not share the inputs equally among the groups.
    pub fn new(
        parts: GptqParts<'a>,
        group_size: usize,
        zeros: GptqZeros,
        symmetric: bool,
    ) -> Result<Self> {
        let (words, out_features) = parts.qweight.word_matrix("qweight")?;
        let in_features = words.saturating_mul(PER_WORD);
        let groups = nibbles::groups(in_features, group_size)?;
        if !out_features.is_multiple_of(PER_WORD) {
            return Err(Error::Shape {
                what: "qweight",
                got: vec![words, out_features],
                want: "a multiple of 8 outputs".to_owned(),
            });
        }
        parts
            .scales
            .check_floats("scales", &[groups, out_features])?;
        match &parts.qzeros {
            Some(qzeros) => {
                let shape = [groups, out_features / PER_WORD];
                qzeros.check_as("qzeros", RawDtype::I32, &shape)?;
            }
            None if !symmetric => {
                return Err(Error::Missing {
                    what: "qzeros".to_owned(),
                    why: "the configuration does not say sym",
                });
            }
            None => {}
        }
        let order = match &parts.g_idx {
            Some(g_idx) => column_order(g_idx, in_features, group_size)?,
            None => None,
        };
        Ok(Self {
            parts,
            zeros,
            in_features,
            out_features,
            group_size,
            order,
        })
    }

    /// Inputs.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// Outputs.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// The codes of a range of outputs, of any start and length. Columns are sorted by group;
    /// [`Codes::order`] is set if that is not the order of the inputs.
    ///
    /// # Shapes
    /// - out: `(outputs, in_features)`
    ///
    /// # Errors
    /// A range that is not inside of the outputs, and a scale in it that is 0 or not finite.
    pub fn codes(&self, outputs: Range<usize>) -> Result<Codes> {
        nibbles::check_outputs(&outputs, self.out_features)?;
        let groups = self.in_features / self.group_size;
        let points = match &self.parts.qzeros {
            Some(qzeros) => self.zero_points(qzeros, groups, outputs.clone()),
            None => vec![SYMMETRIC_ZERO; outputs.len() * groups],
        };
        let scales = &self.parts.scales;
        Ok(Codes {
            rows: outputs.len(),
            columns: self.in_features,
            bits: 4,
            group_size: self.group_size,
            scales: nibbles::turned_scales(scales, groups, self.out_features, outputs.clone())?,
            codes: self.unpack(outputs),
            zeros: Zeros::Points(points),
            order: self.order.clone(),
        })
    }

    /// `(outputs, groups)`
    fn zero_points(&self, qzeros: &RawTensor<'_>, groups: usize, outputs: Range<usize>) -> Vec<u8> {
        let words = self.out_features / PER_WORD;
        let mut points = nibbles::unpack_outputs(qzeros.words(), groups, words, NIBBLE_OF, outputs);
        if self.zeros == GptqZeros::LessOne {
            // A zero point of 0 was stored as 15.
            points
                .iter_mut()
                .for_each(|point| *point = (*point + 1) & 15);
        }
        points
    }

    /// `(outputs, in_features)`, columns sorted by group.
    fn unpack(&self, outputs: Range<usize>) -> Vec<u8> {
        let words = self.parts.qweight.words();
        let mut codes = vec![0; outputs.len() * self.in_features];
        let mut row = vec![0; self.in_features];
        for (output, to) in outputs.zip(codes.chunks_exact_mut(self.in_features.max(1))) {
            for (line, codes) in row.as_chunks_mut::<PER_WORD>().0.iter_mut().enumerate() {
                let word = u32::from_le_bytes(words[line * self.out_features + output]);
                for (j, code) in codes.iter_mut().enumerate() {
                    *code = (word >> (4 * j) & 15) as u8;
                }
            }
            match &self.order {
                None => to.copy_from_slice(&row),
                Some(order) => {
                    for (to, &input) in to.iter_mut().zip(order) {
                        *to = row[input as usize];
                    }
                }
            }
        }
        codes
    }
}

/// The [order](Codes::order) of columns that a layer's `g_idx` asks for: inputs sorted by group,
/// those of a group in their own order; `None` if they are sorted already. Layers of equal orders can be
/// packed as one.
///
/// # Errors
/// As [`GptqTensors::new`].
pub fn column_order(
    g_idx: &RawTensor<'_>,
    in_features: usize,
    group_size: usize,
) -> Result<Option<Vec<u32>>> {
    let groups = nibbles::groups(in_features, group_size)?;
    g_idx.check_as("g_idx", RawDtype::I32, &[in_features])?;
    order(g_idx.words(), groups, group_size)
}

/// See [`column_order`].
fn order(g_idx: &[[u8; 4]], groups: usize, group_size: usize) -> Result<Option<Vec<u32>>> {
    let fail = |message: String| {
        Err(Error::Codes {
            what: "g_idx",
            message,
        })
    };
    let mut filled = vec![0usize; groups];
    let mut order = vec![0u32; g_idx.len()];
    for (input, group) in g_idx.iter().enumerate() {
        let group = i32::from_le_bytes(*group);
        let Some(filled) = usize::try_from(group).ok().and_then(|g| filled.get_mut(g)) else {
            return fail(format!("{group} at input {input}, of {groups} groups"));
        };
        if *filled == group_size {
            return fail(format!("more than {group_size} inputs in group {group}"));
        }
        // As many places as inputs: no group overflows, so in the end each is full.
        order[group as usize * group_size + *filled] = input as u32;
        *filled += 1;
    }
    let sorted = order
        .iter()
        .enumerate()
        .all(|(i, &input)| i == input as usize);
    Ok((!sorted).then_some(order))
}
