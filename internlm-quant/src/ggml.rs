//! The block formats of ggml, as GGUF files hold them, to f32 or to [`Codes`](crate::Codes).
//!
//! A tensor is a sequence of blocks of 32 or 256 elements that share scales. Blocks lie along the
//! last dimension, so rows are independent and a tensor can be read a few rows at a time.
//!
//! Formats: the structs of `ggml-common.h` and the reference loops of `ggml-quants.c` in
//! ggml-org/ggml. Products are associated as there, so results are equal to the last bit; a test
//! compares them with candle's.
//!
//! ```
//! use internlm_quant::ggml::GgmlType;
//!
//! let ggml_type = GgmlType::from_id(8).expect("8 is Q8_0");
//! let mut block = vec![0x00, 0x3c]; // scale: 1.0 as f16
//! block.extend((0..32).map(|i| (i as i8 - 16) as u8));
//! let mut values = [0.0; 32];
//! ggml_type.dequantize(&block, &mut values)?;
//! assert_eq!(values[0], -16.0);
//! # Ok::<(), internlm_quant::Error>(())
//! ```

mod blocks256;
mod blocks32;
mod codes;

pub use codes::CodeLayout;

use crate::error::{Error, Result};

/// The element types that can be turned into f32.
///
/// The other types of ggml (IQ1, IQ2, IQ3, TQ, MXFP4 and integers) are not read;
/// [`name`](GgmlType::name_of) names them for error messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants are the names of the format
#[non_exhaustive]
pub enum GgmlType {
    F32,
    F16,
    Bf16,
    F64,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    Q8K,
    Iq4Nl,
    Iq4Xs,
}

/// Number, name, elements and bytes of a block.
struct Facts(u32, &'static str, usize, usize);

impl GgmlType {
    /// All of them.
    pub const ALL: [GgmlType; 18] = [
        GgmlType::F32,
        GgmlType::F16,
        GgmlType::Bf16,
        GgmlType::F64,
        GgmlType::Q4_0,
        GgmlType::Q4_1,
        GgmlType::Q5_0,
        GgmlType::Q5_1,
        GgmlType::Q8_0,
        GgmlType::Q8_1,
        GgmlType::Q2K,
        GgmlType::Q3K,
        GgmlType::Q4K,
        GgmlType::Q5K,
        GgmlType::Q6K,
        GgmlType::Q8K,
        GgmlType::Iq4Nl,
        GgmlType::Iq4Xs,
    ];

    fn facts(self) -> Facts {
        match self {
            GgmlType::F32 => Facts(0, "F32", 1, 4),
            GgmlType::F16 => Facts(1, "F16", 1, 2),
            GgmlType::Bf16 => Facts(30, "BF16", 1, 2),
            GgmlType::F64 => Facts(28, "F64", 1, 8),
            GgmlType::Q4_0 => Facts(2, "Q4_0", 32, 18),
            GgmlType::Q4_1 => Facts(3, "Q4_1", 32, 20),
            GgmlType::Q5_0 => Facts(6, "Q5_0", 32, 22),
            GgmlType::Q5_1 => Facts(7, "Q5_1", 32, 24),
            GgmlType::Q8_0 => Facts(8, "Q8_0", 32, 34),
            GgmlType::Q8_1 => Facts(9, "Q8_1", 32, 36),
            GgmlType::Q2K => Facts(10, "Q2_K", 256, 84),
            GgmlType::Q3K => Facts(11, "Q3_K", 256, 110),
            GgmlType::Q4K => Facts(12, "Q4_K", 256, 144),
            GgmlType::Q5K => Facts(13, "Q5_K", 256, 176),
            GgmlType::Q6K => Facts(14, "Q6_K", 256, 210),
            GgmlType::Q8K => Facts(15, "Q8_K", 256, 292),
            GgmlType::Iq4Nl => Facts(20, "IQ4_NL", 32, 18),
            GgmlType::Iq4Xs => Facts(23, "IQ4_XS", 256, 136),
        }
    }

    /// The type of a number in the file, or `None` for one that is not read.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ggml_type| ggml_type.id() == id)
    }

    /// The number in the file.
    pub fn id(self) -> u32 {
        self.facts().0
    }

    /// ggml's name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// Elements of a block.
    pub fn block_size(self) -> usize {
        self.facts().2
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.facts().3
    }

    /// Bytes of this many elements, the last block rounded up; `None` if they overflow.
    pub fn bytes(self, elements: usize) -> Option<usize> {
        elements
            .div_ceil(self.block_size())
            .checked_mul(self.block_bytes())
    }

    /// ggml's name of a number, of those that are not read too.
    pub fn name_of(id: u32) -> Option<&'static str> {
        if let Some(known) = Self::from_id(id) {
            return Some(known.name());
        }
        Some(match id {
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            _ => return None,
        })
    }

    /// Turns whole blocks into f32.
    ///
    /// # Errors
    /// [`Error::BlockLength`] if `out` is not a whole number of blocks or `data` not exactly
    /// theirs.
    pub fn dequantize(self, data: &[u8], out: &mut [f32]) -> Result<()> {
        let want = self.bytes(out.len());
        if !out.len().is_multiple_of(self.block_size()) || want != Some(data.len()) {
            return Err(Error::BlockLength {
                ggml_type: self.name(),
                elements: out.len(),
                got: data.len(),
                want: want.unwrap_or(usize::MAX),
            });
        }
        match self {
            GgmlType::F32 => plain(data, out, f32::from_le_bytes),
            GgmlType::F16 => plain(data, out, |b| half::f16::from_le_bytes(b).to_f32()),
            GgmlType::Bf16 => plain(data, out, |b| half::bf16::from_le_bytes(b).to_f32()),
            GgmlType::F64 => plain(data, out, |b| f64::from_le_bytes(b) as f32),
            GgmlType::Q4_0 => each(data, out, blocks32::q4_0),
            GgmlType::Q4_1 => each(data, out, blocks32::q4_1),
            GgmlType::Q5_0 => each(data, out, blocks32::q5_0),
            GgmlType::Q5_1 => each(data, out, blocks32::q5_1),
            GgmlType::Q8_0 => each(data, out, blocks32::q8_0),
            GgmlType::Q8_1 => each(data, out, blocks32::q8_1),
            GgmlType::Iq4Nl => each(data, out, blocks32::iq4_nl),
            GgmlType::Q2K => each(data, out, blocks256::q2_k),
            GgmlType::Q3K => each(data, out, blocks256::q3_k),
            GgmlType::Q4K => each(data, out, blocks256::q4_k),
            GgmlType::Q5K => each(data, out, blocks256::q5_k),
            GgmlType::Q6K => each(data, out, blocks256::q6_k),
            GgmlType::Q8K => each(data, out, blocks256::q8_k),
            GgmlType::Iq4Xs => each(data, out, blocks256::iq4_xs),
        }
        Ok(())
    }
}

/// Elements without blocks.
fn plain<const N: usize>(data: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in data.as_chunks().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

/// Blocks of `N` bytes and `M` elements.
fn each<const N: usize, const M: usize>(
    data: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; N], &mut [f32; M]),
) {
    for (bytes, out) in data.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        block(bytes, out);
    }
}

/// The f16 at a place of a block.
fn f16(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 16 values of IQ4_NL and IQ4_XS (`kvalues_iq4nl` of `ggml-common.h`).
const IQ4_VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];
