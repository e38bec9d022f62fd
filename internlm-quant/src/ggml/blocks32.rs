//! Blocks of 32 elements. Element `j` of the low half and `j + 16` share a byte.

use super::{IQ4_VALUES, f16};

/// d f16, 16 bytes of nibbles: `(q - 8) * d`.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16(block, 0);
    let (low, high) = out.split_at_mut(16);
    for j in 0..16 {
        let q = block[2 + j];
        low[j] = (i32::from(q & 15) - 8) as f32 * d;
        high[j] = (i32::from(q >> 4) - 8) as f32 * d;
    }
}

/// d f16, m f16, 16 bytes of nibbles: `q * d + m`.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (f16(block, 0), f16(block, 2));
    let (low, high) = out.split_at_mut(16);
    for j in 0..16 {
        let q = block[4 + j];
        low[j] = f32::from(q & 15) * d + m;
        high[j] = f32::from(q >> 4) * d + m;
    }
}

/// The fifth bits of elements `j` and `j + 16`, in place.
fn fifth(bits: &[u8], j: usize) -> (u8, u8) {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    (
        ((bits >> j) << 4) as u8 & 16,
        ((bits >> (j + 16)) << 4) as u8 & 16,
    )
}

/// d f16, 32 fifth bits, 16 bytes of nibbles: `(q - 16) * d`.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = f16(block, 0);
    let (low, high) = out.split_at_mut(16);
    for j in 0..16 {
        let q = block[6 + j];
        let (l, h) = fifth(&block[2..6], j);
        low[j] = (i32::from(q & 15 | l) - 16) as f32 * d;
        high[j] = (i32::from(q >> 4 | h) - 16) as f32 * d;
    }
}

/// d f16, m f16, 32 fifth bits, 16 bytes of nibbles: `q * d + m`.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (f16(block, 0), f16(block, 2));
    let (low, high) = out.split_at_mut(16);
    for j in 0..16 {
        let q = block[8 + j];
        let (l, h) = fifth(&block[4..8], j);
        low[j] = f32::from(q & 15 | l) * d + m;
        high[j] = f32::from(q >> 4 | h) * d + m;
    }
}

/// d f16, 32 signed bytes: `q * d`.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = f16(block, 0);
    for (q, out) in block[2..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// d f16, the sum of the block (unused here) f16, 32 signed bytes: `q * d`.
pub(super) fn q8_1(block: &[u8; 36], out: &mut [f32; 32]) {
    let d = f16(block, 0);
    for (q, out) in block[4..].iter().zip(out) {
        *out = f32::from(*q as i8) * d;
    }
}

/// d f16, 16 bytes of nibbles that index a table: `d * table[q]`.
pub(super) fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = f16(block, 0);
    let (low, high) = out.split_at_mut(16);
    for j in 0..16 {
        let q = usize::from(block[2 + j]);
        low[j] = d * f32::from(IQ4_VALUES[q & 15]);
        high[j] = d * f32::from(IQ4_VALUES[q >> 4]);
    }
}
