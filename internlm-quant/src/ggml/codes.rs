//! The blocks whose elements are codes with a scale and a zero, without the way through f32.

use super::blocks256::scale_min;
use super::{GgmlType, f16};
use crate::codes::{Codes, Zeros};
use crate::error::{Error, Result};

/// How a type's blocks look as [`Codes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeLayout {
    /// Bits of a code, 4 or 8.
    pub bits: u32,
    /// Elements that share a scale.
    pub group_size: usize,
    /// The zero point of all groups, or `None` where every group has a minimum.
    pub zero_point: Option<u8>,
}

impl GgmlType {
    /// How [`codes`](GgmlType::codes) come out, or `None` for types that are no codes: Q8_0 has codes
    /// `q + 128`, Q5_0, Q5_1, Q5_K and Q6_K are widened to 8 bits, the rest keeps its codes.
    pub fn code_layout(self) -> Option<CodeLayout> {
        let (bits, group_size, zero_point) = match self {
            GgmlType::Q4_0 => (4, 32, Some(8)),
            GgmlType::Q4_1 => (4, 32, None),
            GgmlType::Q5_0 => (8, 32, Some(16)),
            GgmlType::Q5_1 => (8, 32, None),
            GgmlType::Q8_0 => (8, 32, Some(128)),
            GgmlType::Q4K => (4, 32, None),
            GgmlType::Q5K => (8, 32, None),
            GgmlType::Q6K => (8, 16, Some(32)),
            _ => return None,
        };
        Some(CodeLayout {
            bits,
            group_size,
            zero_point,
        })
    }

    /// The codes of whole rows. Their values are those of [`dequantize`](GgmlType::dequantize) to the
    /// last bit: scales and minimums are the same f32, and products and sums differ in nothing but the
    /// order of their two terms.
    ///
    /// # Shapes
    /// - data: the blocks of `(rows, columns)`
    ///
    /// # Errors
    /// [`Error::NoCodes`] for other types, [`Error::BlockLength`] if a row is no whole number of
    /// blocks or `data` not exactly those of the rows, and [`Error::Codes`] for a scale or minimum
    /// that is not finite.
    pub fn codes(self, data: &[u8], rows: usize, columns: usize) -> Result<Codes> {
        let Some(layout) = self.code_layout() else {
            return Err(Error::NoCodes {
                ggml_type: self.name(),
            });
        };
        let elements = rows.checked_mul(columns);
        let want = elements.and_then(|elements| self.bytes(elements));
        let (Some(elements), true, true) = (
            elements,
            columns.is_multiple_of(self.block_size()),
            want == Some(data.len()),
        ) else {
            return Err(Error::BlockLength {
                ggml_type: self.name(),
                elements: elements.unwrap_or(usize::MAX),
                got: data.len(),
                want: want.unwrap_or(usize::MAX),
            });
        };
        let groups = elements / layout.group_size;
        let mut out = Groups {
            codes: vec![0; elements],
            scales: vec![0.0; groups],
            minimums: match layout.zero_point {
                Some(_) => Vec::new(),
                None => vec![0.0; groups],
            },
        };
        match self {
            GgmlType::Q4_0 => out.read(data, |b: &[u8; 18], out: Block<'_, 32>| {
                out.scales[0] = f16(b, 0);
                halves(&b[2..], out.codes);
            }),
            GgmlType::Q4_1 => out.read(data, |b: &[u8; 20], out: Block<'_, 32>| {
                (out.scales[0], out.minimums[0]) = (f16(b, 0), f16(b, 2));
                halves(&b[4..], out.codes);
            }),
            GgmlType::Q5_0 => out.read(data, |b: &[u8; 22], out: Block<'_, 32>| {
                out.scales[0] = f16(b, 0);
                halves(&b[6..], out.codes);
                fifth_bits(&b[2..6], out.codes);
            }),
            GgmlType::Q5_1 => out.read(data, |b: &[u8; 24], out: Block<'_, 32>| {
                (out.scales[0], out.minimums[0]) = (f16(b, 0), f16(b, 2));
                halves(&b[8..], out.codes);
                fifth_bits(&b[4..8], out.codes);
            }),
            GgmlType::Q8_0 => out.read(data, |b: &[u8; 34], out: Block<'_, 32>| {
                out.scales[0] = f16(b, 0);
                for (code, q) in out.codes.iter_mut().zip(&b[2..]) {
                    *code = q ^ 0x80; // q + 128 of a signed byte
                }
            }),
            GgmlType::Q4K => out.read(data, |b: &[u8; 144], out: Block<'_, 256>| {
                super_scales(b, out.scales, out.minimums);
                layers(&b[16..], out.codes);
            }),
            GgmlType::Q5K => out.read(data, |b: &[u8; 176], out: Block<'_, 256>| {
                super_scales(b, out.scales, out.minimums);
                layers(&b[48..], out.codes);
                for (sub, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                    for (code, high) in codes.iter_mut().zip(&b[16..48]) {
                        *code |= (high >> sub & 1) << 4;
                    }
                }
            }),
            _ => out.read(data, q6_k),
        }
        let is_finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        for (what, values) in [("scales", &out.scales), ("zeros", &out.minimums)] {
            if !is_finite(values) {
                let message = format!("not all of {} are finite", self.name());
                return Err(Error::Codes { what, message });
            }
        }
        Ok(Codes {
            rows,
            columns,
            bits: layout.bits,
            group_size: layout.group_size,
            codes: out.codes,
            scales: out.scales,
            zeros: match layout.zero_point {
                Some(point) => Zeros::Points(vec![point; groups]),
                None => Zeros::Minimums(out.minimums),
            },
            order: None,
        })
    }
}

/// What is filled block by block. `minimums` is empty where there are zero points.
struct Groups {
    codes: Vec<u8>,
    scales: Vec<f32>,
    minimums: Vec<f32>,
}

/// The part of a block of `M` elements.
struct Block<'a, const M: usize> {
    codes: &'a mut [u8; M],
    scales: &'a mut [f32],
    minimums: &'a mut [f32],
}

impl Groups {
    /// Reads blocks of `N` bytes and `M` elements.
    fn read<const N: usize, const M: usize>(
        &mut self,
        data: &[u8],
        block: impl Fn(&[u8; N], Block<'_, M>),
    ) {
        let blocks = data.as_chunks().0;
        let groups = self.scales.len().checked_div(blocks.len()).unwrap_or(0);
        let codes = self.codes.as_chunks_mut().0.iter_mut();
        for (i, (bytes, codes)) in blocks.iter().zip(codes).enumerate() {
            let range = i * groups..(i + 1) * groups;
            block(
                bytes,
                Block {
                    codes,
                    scales: &mut self.scales[range.clone()],
                    minimums: self.minimums.get_mut(range).unwrap_or_default(),
                },
            );
        }
    }
}

/// 16 bytes of nibbles: elements `j` and `j + 16`.
fn halves(nibbles: &[u8], codes: &mut [u8; 32]) {
    let (low, high) = codes.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(nibbles) {
        (*low, *high) = (q & 15, q >> 4);
    }
}

/// The fifth bits of 32 elements.
fn fifth_bits(bits: &[u8], codes: &mut [u8; 32]) {
    for (j, code) in codes.iter_mut().enumerate() {
        *code |= (bits[j / 8] >> (j % 8) & 1) << 4;
    }
}

/// Scales and minimums of the eight sub-blocks of Q4_K and Q5_K.
fn super_scales(block: &[u8], scales: &mut [f32], minimums: &mut [f32]) {
    let (d, dmin) = (f16(block, 0), f16(block, 2));
    for (sub, (to, minimum)) in scales.iter_mut().zip(minimums).enumerate() {
        let (scale, min) = scale_min(&block[4..16], sub);
        (*to, *minimum) = (d * scale, -(dmin * min));
    }
}

/// 128 bytes of nibbles of 256 elements: each 32 bytes hold 32 low nibbles, then 32 high ones.
fn layers(nibbles: &[u8], codes: &mut [u8; 256]) {
    for (codes, q) in codes
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(nibbles.chunks(32))
    {
        let (low, high) = codes.split_at_mut(32);
        for ((low, high), q) in low.iter_mut().zip(high).zip(q) {
            (*low, *high) = (q & 15, q >> 4);
        }
    }
}

/// See `blocks256::q6_k`.
fn q6_k(b: &[u8; 210], out: Block<'_, 256>) {
    let d = f16(b, 208);
    for (scale, stored) in out.scales.iter_mut().zip(&b[192..208]) {
        *scale = d * f32::from(*stored as i8);
    }
    // Each half of 128 elements: four layers of 32 share 64 low and 32 high bytes.
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (half, layer, at) = (i / 128, i % 128 / 32, i % 32);
        let low = b[half * 64 + layer % 2 * 32 + at] >> (layer / 2 * 4) & 15;
        let high = b[128 + half * 32 + at] >> (layer * 2) & 3;
        *code = low | high << 4;
    }
}
