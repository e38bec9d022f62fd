//! The tensors of 8-bit checkpoints for products of integers (W8A8): a symmetric scale per output.
//!
//! A linear layer of `in` inputs and `out` outputs has
//!
//! | tensor | shape | dtype |
//! | --- | --- | --- |
//! | `weight` | `(out, in)` | i8 |
//! | `weight_scale` | `(out, 1)` | f32, f16 or bf16 |
//!
//! and `w[o, k] = weight[o, k] · weight_scale[o, 0]`. Activations are rounded while the network runs, by
//! token. This is the layout `int-quantized` of compressed-tensors, which vLLM, SGLang and transformers
//! read. LMDeploy's own (`quant_method: smooth_quant`) holds the same numbers in torch files under
//! other names; it is not read.
//!
//! Sources: `compressed_tensors/compressors/naive_quantized.py` of vllm-project/compressed-tensors,
//! `vllm/model_executor/layers/quantization/compressed_tensors/schemes/compressed_tensors_w8a8_int8.py`
//! of vllm-project/vllm.
//!
//! ```
//! use internlm_quant::int8::Int8Tensors;
//! use internlm_quant::{Codes, RawDtype, Zeros};
//!
//! let codes = Codes {
//!     rows: 2,
//!     columns: 3,
//!     bits: 8,
//!     group_size: 3,
//!     codes: vec![1, 128, 255, 128, 129, 127], // -127, 0, 127 and 0, 1, -1
//!     scales: vec![0.5, 2.0],
//!     zeros: Zeros::Points(vec![128; 2]),
//!     order: None,
//! };
//! let tensors = Int8Tensors::from_codes(&codes, RawDtype::F32)?;
//! assert_eq!(tensors.codes(0..2)?, codes);
//! let names: Vec<String> = tensors.named("mlp.up_proj").into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names, ["mlp.up_proj.weight", "mlp.up_proj.weight_scale"]);
//! # Ok::<(), internlm_quant::Error>(())
//! ```

use std::ops::Range;

use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};
use crate::nibbles;
use crate::raw::{RawDtype, RawTensor};

/// The code of 0: codes are unsigned, stored integers signed.
const ZERO: u8 = 128;

/// Most inputs of a row: sums of so many products of 8 bits fit 32 (`internlm_kernels::PackedShape`).
pub const MAX_COLUMNS: usize = 1 << 16;

/// Refuses rows that are too wide for one scale.
///
/// # Errors
/// [`Error::Shape`].
pub fn check_columns(columns: usize) -> Result<()> {
    match columns <= MAX_COLUMNS {
        true => Ok(()),
        false => Err(Error::Shape {
            what: "a weight of 8 bits with a scale a row",
            got: vec![columns],
            want: format!("at most {MAX_COLUMNS} inputs"),
        }),
    }
}

/// The tensors of one linear layer. Shapes agree; codes are made on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Tensors<'a> {
    weight: RawTensor<'a>,
    weight_scale: RawTensor<'a>,
    in_features: usize,
    out_features: usize,
}

impl<'a> Int8Tensors<'a> {
    /// Tensors as they were found in a file.
    ///
    /// # Shapes
    /// See the [module](self); `weight_scale` may also be `(out)`.
    ///
    /// # Errors
    /// Shapes, dtypes or lengths that disagree, a matrix without elements, and rows of more than
    /// [`MAX_COLUMNS`].
    pub fn new(weight: RawTensor<'a>, weight_scale: RawTensor<'a>) -> Result<Self> {
        let (out_features, in_features) = match *weight.shape.as_slice() {
            [rows, columns] if rows > 0 && columns > 0 => (rows, columns),
            _ => {
                return Err(Error::Shape {
                    what: "weight",
                    got: weight.shape.clone(),
                    want: "two dimensions above 0".to_owned(),
                });
            }
        };
        check_columns(in_features)?;
        weight.check_as("weight", RawDtype::I8, &[out_features, in_features])?;
        let flat = weight_scale.shape.len() == 1;
        let shape: &[usize] = if flat {
            &[out_features]
        } else {
            &[out_features, 1]
        };
        weight_scale.check_floats("weight_scale", shape)?;
        Ok(Self {
            weight,
            weight_scale,
            in_features,
            out_features,
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

    /// The codes of a range of outputs: what is stored plus 128, and zero points of 128.
    ///
    /// # Shapes
    /// - out: `(outputs, in_features)`, a group a row
    ///
    /// # Errors
    /// A range that is not inside of the outputs, and a scale in it that is 0 or not finite.
    pub fn codes(&self, outputs: Range<usize>) -> Result<Codes> {
        nibbles::check_outputs(&outputs, self.out_features)?;
        let scale = |output: usize| {
            let scale = self.weight_scale.float(output);
            nibbles::check_scale(scale, output, 0).map(|()| scale)
        };
        let bytes = &self.weight.bytes;
        let bytes = &bytes[outputs.start * self.in_features..outputs.end * self.in_features];
        Ok(Codes {
            rows: outputs.len(),
            columns: self.in_features,
            bits: 8,
            group_size: self.in_features,
            codes: bytes.iter().map(|byte| byte.wrapping_add(ZERO)).collect(),
            zeros: Zeros::Points(vec![ZERO; outputs.len()]),
            scales: outputs.map(scale).collect::<Result<_>>()?,
            order: None,
        })
    }

    /// The tensors of codes, as a file will hold them.
    ///
    /// # Shapes
    /// - codes: `(out_features, in_features)`
    ///
    /// # Errors
    /// What [`Codes::check`] refuses, and codes that the layout can't say: other than 8 bits, more than
    /// one group a row, zeros other than 128, re-ordered columns, scales that are 0 or that
    /// `scale_dtype` (a float) does not hold exactly.
    pub fn from_codes(codes: &Codes, scale_dtype: RawDtype) -> Result<Int8Tensors<'static>> {
        codes.check()?;
        let fail = |what, message: String| Err(Error::Codes { what, message });
        if codes.bits != 8 {
            return fail("bits", format!("{}, the layout has 8", codes.bits));
        }
        if codes.order.is_some() {
            return fail("order", "the layout keeps the inputs in order".to_owned());
        }
        if codes.groups() != 1 {
            return fail("group_size", "the layout has one scale a row".to_owned());
        }
        match &codes.zeros {
            Zeros::Points(points) if points.iter().all(|&point| point == ZERO) => {}
            _ => return fail("zeros", format!("the layout is symmetric: {ZERO}")),
        }
        for (row, &scale) in codes.scales.iter().enumerate() {
            nibbles::check_scale(scale, row, 0)?;
            if scale_dtype.round(scale) != scale {
                let message = format!("{} does not hold {scale} exactly", scale_dtype.name());
                return fail("scales", message);
            }
        }
        let bytes = codes.codes.iter().map(|code| code.wrapping_sub(ZERO));
        let bytes: Vec<u8> = bytes.collect();
        Int8Tensors::new(
            RawTensor::new(RawDtype::I8, [codes.rows, codes.columns], bytes),
            RawTensor::floats(scale_dtype, [codes.rows, 1], codes.scales.iter().copied()),
        )
    }

    /// The tensors by the names that a checkpoint gives them: `<module>.weight` and
    /// `<module>.weight_scale`.
    pub fn named(self, module: &str) -> Vec<(String, RawTensor<'a>)> {
        vec![
            (format!("{module}.weight"), self.weight),
            (format!("{module}.weight_scale"), self.weight_scale),
        ]
    }
}
