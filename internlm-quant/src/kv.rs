//! Rows of a key-value cache in 8 or 4 bits.
//!
//! The rule of LMDeploy's `quant_policy` 8 and 4 (`docs/en/quantization/kv_quant.md` and
//! `lmdeploy/pytorch/kernels/cuda/fill_kv_cache.py` of InternLM/lmdeploy): asymmetric, without
//! calibration, one scale and one zero point for the `head_dim` values of a token and a key-value head.
//! Keys are quantized after their rotation.
//!
//! ```
//! use internlm_quant::kv::KvBits;
//!
//! let row = [-1.0, 0.0, 0.5, 2.0];
//! let mut codes = [0; 2];
//! let step = KvBits::Four.quantize(&row, &mut codes)?;
//! assert_eq!(codes, [0x80, 0xf5]); // the second half of the row is in the high nibbles
//! let mut values = [0.0; 4];
//! KvBits::Four.dequantize(&codes, step, &mut values)?;
//! assert!(row.iter().zip(values).all(|(x, y)| (x - y).abs() <= step.scale / 2.0 + 1e-6));
//! # Ok::<(), internlm_quant::Error>(())
//! ```

use crate::error::{Error, Result};

/// Bits of a cached value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvBits {
    /// A byte a value.
    Eight,
    /// Two values a byte: `d` in the low nibble, `d + head_dim / 2` in the high one.
    Four,
}

/// What the codes of a row stand for: `(code - zero) · scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvStep {
    /// The difference between neighbouring codes.
    pub scale: f32,
    /// The code of 0.0, which is not a whole number.
    pub zero: f32,
}

impl KvBits {
    /// The largest code.
    fn limit(self) -> f32 {
        match self {
            KvBits::Eight => 255.0,
            KvBits::Four => 15.0,
        }
    }

    /// Bytes of a row of codes.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvBits::Eight => head_dim,
            KvBits::Four => head_dim.div_ceil(2),
        }
    }

    /// Quantizes a row: `scale = (max - min) / limit`, `zero = -min / scale` and
    /// `code = trunc(x / scale + zero + 0.5)`, all in f32.
    ///
    /// Where all values are equal, or so near that the scale is no positive f32, LMDeploy divides by
    /// zero. Here the scale is 1 and the zero point `-min`, so every value comes back as `min`.
    ///
    /// # Shapes
    /// - row: `(head_dim)`, an even number for 4 bits
    /// - codes: `(row_bytes(head_dim))`
    ///
    /// # Errors
    /// Other lengths; values, or a difference of values, that are not finite.
    pub fn quantize(self, row: &[f32], codes: &mut [u8]) -> Result<KvStep> {
        self.check(row.len(), codes.len())?;
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        // A NaN is passed over by `min` and `max`, but not by the sum of zeros.
        let mut zeros = 0.0;
        for &x in row {
            (min, max) = (min.min(x), max.max(x));
            zeros += x * 0.0;
        }
        if row.is_empty() {
            (min, max) = (0.0, 0.0);
        }
        let range = max - min;
        if zeros != 0.0 || !range.is_finite() {
            return Err(Error::NotFinite {
                what: "a row of keys or values",
            });
        }
        let scale = range / self.limit();
        let step = if scale > 0.0 {
            KvStep {
                scale,
                zero: -min / scale,
            }
        } else {
            KvStep {
                scale: 1.0,
                zero: -min,
            }
        };
        // The rounding of x / scale + zero may pass the largest code.
        let limit = self.limit();
        let code = |x: f32| (x / step.scale + step.zero + 0.5).clamp(0.0, limit) as u8;
        match self {
            KvBits::Eight => {
                for (to, &x) in codes.iter_mut().zip(row) {
                    *to = code(x);
                }
            }
            KvBits::Four => {
                let (low, high) = row.split_at(row.len() / 2);
                for ((to, &low), &high) in codes.iter_mut().zip(low).zip(high) {
                    *to = code(low) | code(high) << 4;
                }
            }
        }
        Ok(step)
    }

    /// The values of a row: `(code - zero) · scale`.
    ///
    /// # Shapes
    /// - codes: `(row_bytes(head_dim))`
    /// - out: `(head_dim)`, an even number for 4 bits
    ///
    /// # Errors
    /// Other lengths.
    pub fn dequantize(self, codes: &[u8], step: KvStep, out: &mut [f32]) -> Result<()> {
        self.check(out.len(), codes.len())?;
        let value = |code: u8| (f32::from(code) - step.zero) * step.scale;
        match self {
            KvBits::Eight => {
                for (to, &code) in out.iter_mut().zip(codes) {
                    *to = value(code);
                }
            }
            KvBits::Four => {
                let (low, high) = out.split_at_mut(codes.len());
                for ((low, high), &code) in low.iter_mut().zip(high).zip(codes) {
                    (*low, *high) = (value(code & 15), value(code >> 4));
                }
            }
        }
        Ok(())
    }

    fn check(self, head_dim: usize, bytes: usize) -> Result<()> {
        if self == KvBits::Four && !head_dim.is_multiple_of(2) {
            return Err(Error::Shape {
                what: "a row of keys or values",
                got: vec![head_dim],
                want: "an even number of values".to_owned(),
            });
        }
        if bytes == self.row_bytes(head_dim) {
            return Ok(());
        }
        Err(Error::Shape {
            what: "the codes of a row of keys or values",
            got: vec![bytes],
            want: format!("({})", self.row_bytes(head_dim)),
        })
    }
}
