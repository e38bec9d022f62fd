//! The tensors of AWQ checkpoints, in the layout that is called GEMM.
//!
//! A linear layer of `in` inputs and `out` outputs has no `weight` but
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | `qweight` | `(in, out / 8)` | i32, eight outputs a word |
//! | `qzeros` | `(in / group_size, out / 8)` | i32, packed the same way |
//! | `scales` | `(in / group_size, out)` | f16 (AutoAWQ), or the model's dtype (LMDeploy) |
//!
//! Note that inputs are the rows. Nibble `i` of a word, from the lowest bits, holds output
//! `8 · word + [0, 2, 4, 6, 1, 3, 5, 7][i]`, and
//! `w[o, k] = (q[k, o] - zero[k / group_size, o]) · scale[k / group_size, o]`.
//!
//! Sources: `awq/modules/linear/gemm.py` and `awq/utils/packing_utils.py` of casper-hansen/AutoAWQ,
//! `lmdeploy/lite/quantization/modules/linear.py` of InternLM/lmdeploy.
//!
//! ```
//! use internlm_quant::awq::AwqTensors;
//! use internlm_quant::{Codes, RawDtype, Zeros};
//!
//! let codes = Codes {
//!     rows: 8,
//!     columns: 32,
//!     bits: 4,
//!     group_size: 32,
//!     codes: (0..256).map(|i| (i % 16) as u8).collect(),
//!     scales: vec![0.5; 8],
//!     zeros: Zeros::Points(vec![7; 8]),
//!     order: None,
//! };
//! let tensors = AwqTensors::from_codes(&codes, RawDtype::F16)?;
//! assert_eq!(tensors.codes(0..8)?, codes);
//! let names: Vec<String> = tensors.named("mlp.up_proj").into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names, ["mlp.up_proj.qweight", "mlp.up_proj.qzeros", "mlp.up_proj.scales"]);
//! # Ok::<(), internlm_quant::Error>(())
//! ```

use std::ops::Range;

use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::nibbles::{self, PER_WORD};
use crate::raw::{RawDtype, RawTensor};

/// The nibble of each output of a word.
const NIBBLE_OF: [u32; PER_WORD] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The zero point of files that store none because they say that they are symmetric.
const SYMMETRIC_ZERO: u8 = 8;

/// The tensors of one linear layer. Shapes agree; codes are unpacked on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct AwqTensors<'a> {
    qweight: RawTensor<'a>,
    qzeros: Option<RawTensor<'a>>,
    scales: RawTensor<'a>,
    in_features: usize,
    out_features: usize,
    group_size: usize,
}

impl<'a> AwqTensors<'a> {
    /// Tensors as they were found in a file. `zero_point` is that of the configuration: a file that
    /// says `false` may lack `qzeros`, and its zero points are 8.
    ///
    /// # Shapes
    /// See the [module](self).
    ///
    /// # Errors
    /// Shapes, dtypes or lengths that disagree, a group size that does not divide the inputs, and
    /// missing `qzeros` of a file with zero points.
    pub fn new(
        qweight: RawTensor<'a>,
        qzeros: Option<RawTensor<'a>>,
        scales: RawTensor<'a>,
        group_size: usize,
        zero_point: bool,
    ) -> Result<Self> {
        let (in_features, words) = qweight.word_matrix("qweight")?;
        let groups = nibbles::groups(in_features, group_size)?;
        let out_features = words.saturating_mul(PER_WORD);
        scales.check_floats("scales", &[groups, out_features])?;
        match &qzeros {
            Some(qzeros) => qzeros.check_as("qzeros", RawDtype::I32, &[groups, words])?,
            None if zero_point => {
                return Err(Error::Missing {
                    what: "qzeros".to_owned(),
                    why: "the configuration says zero_point",
                });
            }
            None => {}
        }
        Ok(Self {
            qweight,
            qzeros,
            scales,
            in_features,
            out_features,
            group_size,
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

    /// The codes of a range of outputs, of any start and length. Nothing else is unpacked, so
    /// threads can share a layer, and memory is bounded by the range.
    ///
    /// # Shapes
    /// - out: `(outputs, in_features)`
    ///
    /// # Errors
    /// A range that is not inside of the outputs, and a scale in it that is 0 or not finite.
    pub fn codes(&self, outputs: Range<usize>) -> Result<Codes> {
        nibbles::check_outputs(&outputs, self.out_features)?;
        let groups = self.in_features / self.group_size;
        let unpack = |tensor: &RawTensor<'_>, lines| {
            let words = self.out_features / PER_WORD;
            nibbles::unpack_outputs(tensor.words(), lines, words, NIBBLE_OF, outputs.clone())
        };
        let points = match &self.qzeros {
            Some(qzeros) => unpack(qzeros, groups),
            None => vec![SYMMETRIC_ZERO; outputs.len() * groups],
        };
        Ok(Codes {
            rows: outputs.len(),
            columns: self.in_features,
            bits: 4,
            group_size: self.group_size,
            codes: unpack(&self.qweight, self.in_features),
            scales: nibbles::turned_scales(
                &self.scales,
                groups,
                self.out_features,
                outputs.clone(),
            )?,
            zeros: Zeros::Points(points),
            order: None,
        })
    }

    /// The tensors of codes, as a file will hold them.
    ///
    /// # Shapes
    /// - codes: `(out_features, in_features)`
    ///
    /// # Errors
    /// What [`Codes::check`] refuses, and codes that the layout can't say: other than 4 bits, minimums
    /// in place of zero points, re-ordered columns, a short last group, outputs that are no multiple
    /// of 8, scales that are 0 or that `scales_dtype` (a float) does not hold exactly.
    pub fn from_codes(codes: &Codes, scales_dtype: RawDtype) -> Result<AwqTensors<'static>> {
        codes.check()?;
        let fail = |what, message: &str| {
            Err(Error::Codes {
                what,
                message: message.to_owned(),
            })
        };
        if codes.bits != 4 {
            return fail("bits", "AWQ has codes of 4 bits");
        }
        if codes.order.is_some() {
            return fail("order", "AWQ keeps columns in the order of the inputs");
        }
        let Zeros::Points(points) = &codes.zeros else {
            return fail("zeros", "AWQ has zero points, not minimums");
        };
        if !codes.rows.is_multiple_of(PER_WORD) {
            return Err(Error::Shape {
                what: "codes",
                got: vec![codes.rows, codes.columns],
                want: "a multiple of 8 outputs".to_owned(),
            });
        }
        let (rows, columns) = (codes.rows, codes.columns);
        let groups = nibbles::groups(columns, codes.group_size)?;
        let scales = (0..groups).flat_map(|group| (0..rows).map(move |row| (row, group)));
        for (row, group) in scales.clone() {
            let scale = codes.scales[row * groups + group];
            nibbles::check_scale(scale, row, group)?;
            if scales_dtype.round(scale) != scale {
                let message = format!("{} does not hold {scale} exactly", scales_dtype.name());
                return fail("scales", &message);
            }
        }
        let words = rows / PER_WORD;
        let pack = |codes: &[u8], lines| {
            let bytes = nibbles::pack_outputs(codes, lines, NIBBLE_OF);
            RawTensor::new(RawDtype::I32, [lines, words], bytes)
        };
        let scales = scales.map(|(row, group)| codes.scales[row * groups + group]);
        AwqTensors::new(
            pack(&codes.codes, columns),
            Some(pack(points, groups)),
            RawTensor::floats(scales_dtype, [groups, rows], scales),
            codes.group_size,
            true,
        )
    }

    /// The tensors by the names that a checkpoint gives them: `<module>.qweight`, `<module>.qzeros`
    /// (unless the file has none) and `<module>.scales`.
    pub fn named(self, module: &str) -> Vec<(String, RawTensor<'a>)> {
        let tensors = [
            ("qweight", Some(self.qweight)),
            ("qzeros", self.qzeros),
            ("scales", Some(self.scales)),
        ];
        let named = |(name, tensor): (_, Option<_>)| Some((format!("{module}.{name}"), tensor?));
        tensors.into_iter().filter_map(named).collect()
    }
}
