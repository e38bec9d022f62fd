//! Super-blocks of 256 elements: 8 or 16 sub-blocks with small scales of their own.

use super::{IQ4_VALUES, f16};

/// 16 bytes of (scale, min) nibbles, 64 bytes of 2-bit values, d f16, dmin f16:
/// `d * scale * q - dmin * min`.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, q) = (&block[..16], &block[16..80]);
    let (d, dmin) = (f16(block, 80), f16(block, 82));
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (scale, min) = (
            d * f32::from(scales[sub] & 15),
            dmin * f32::from(scales[sub] >> 4),
        );
        let (q, shift) = two_bits(q, sub);
        for (q, out) in q.iter().zip(out) {
            *out = scale * f32::from(q >> shift & 3) - min;
        }
    }
}

/// The bytes and the shift of a sub-block's 2-bit values. Each 32 bytes hold 128 elements: four
/// layers of 32, two sub-blocks a layer.
fn two_bits(q: &[u8], sub: usize) -> (&[u8], usize) {
    let start = sub / 8 * 32 + sub % 2 * 16;
    (&q[start..start + 16], sub % 8 / 2 * 2)
}

/// 32 bytes of high bits, 64 bytes of 2-bit values, 12 bytes of 6-bit scales, d f16:
/// `d * (scale - 32) * (q - 4 unless the high bit is set)`.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, q, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = f16(block, 108);
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // The low nibbles of bytes 0..8, then the high ones; bits 4 and 5 in bytes 8..12.
        let low = packed[sub % 8] >> (sub / 8 * 4) & 15;
        let top = packed[8 + sub % 4] >> (sub / 4 * 2) & 3;
        let scale = d * (i32::from(low | top << 4) - 32) as f32;
        let high = &high[sub % 2 * 16..][..16];
        let (q, shift) = two_bits(q, sub);
        for ((q, high), out) in q.iter().zip(high).zip(out) {
            let high = high >> (sub / 2) & 1;
            *out = scale * (i32::from(q >> shift & 3 | high << 2) - 4) as f32;
        }
    }
}

/// Scale and min of sub-block `j` of 8, of 6 bits each in 12 bytes (`get_scale_min_k4`).
pub(super) fn scale_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            packed[j + 4] & 15 | packed[j - 4] >> 6 << 4,
            packed[j + 4] >> 4 | packed[j] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(min))
}

/// d f16, dmin f16, 12 bytes of scales and mins, 128 bytes of nibbles:
/// `d * scale * q - dmin * min`.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (f16(block, 0), f16(block, 2));
    let (packed, q) = (&block[4..16], &block[16..]);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(packed, sub);
        let (scale, min) = (d * scale, dmin * min);
        let q = &q[sub / 2 * 32..][..32];
        let shift = sub % 2 * 4;
        for (q, out) in q.iter().zip(out) {
            *out = scale * f32::from(q >> shift & 15) - min;
        }
    }
}

/// d f16, dmin f16, 12 bytes of scales and mins, 32 bytes of fifth bits, 128 bytes of nibbles:
/// `d * scale * q - dmin * min`.
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (f16(block, 0), f16(block, 2));
    let (packed, high, q) = (&block[4..16], &block[16..48], &block[48..]);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(packed, sub);
        let (scale, min) = (d * scale, dmin * min);
        let q = &q[sub / 2 * 32..][..32];
        let shift = sub % 2 * 4;
        for ((q, high), out) in q.iter().zip(high).zip(out) {
            let high = high >> sub & 1;
            *out = scale * f32::from(q >> shift & 15 | high << 4) - min;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of high 2 bits, 16 signed scales, d f16:
/// `d * scale * (q - 32)`.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = f16(block, 208);
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // Each half of 128 elements: four layers of 32 share 64 low and 32 high bytes.
        let (half, layer, side) = (sub / 8, sub % 8 / 2, sub % 2 * 16);
        let low = &low[half * 64 + layer % 2 * 32 + side..][..16];
        let high = &high[half * 32 + side..][..16];
        let (low_shift, high_shift) = (layer / 2 * 4, layer * 2);
        let scale = d * f32::from(scales[sub] as i8);
        for ((low, high), out) in low.iter().zip(high).zip(out) {
            let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            *out = scale * (i32::from(q) - 32) as f32;
        }
    }
}

/// d f32, 256 signed bytes, sums (unused here): `d * q`.
pub(super) fn q8_k(block: &[u8; 292], out: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (q, out) in block[4..260].iter().zip(out) {
        *out = d * f32::from(*q as i8);
    }
}

/// d f16, high 2 bits and low nibbles of 8 scales, 128 bytes of nibbles that index a table:
/// `d * (scale - 32) * table[q]`.
pub(super) fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let d = f16(block, 0);
    let top = u16::from_le_bytes([block[2], block[3]]);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = block[4 + sub / 2] >> (sub % 2 * 4) & 15;
        let scale = i32::from(low) | i32::from(top >> (2 * sub) & 3) << 4;
        let scale = d * (scale - 32) as f32;
        let (first, second) = out.split_at_mut(16);
        for (j, q) in block[8 + sub * 16..][..16].iter().enumerate() {
            first[j] = scale * f32::from(IQ4_VALUES[usize::from(q & 15)]);
            second[j] = scale * f32::from(IQ4_VALUES[usize::from(q >> 4)]);
        }
    }
}
