//! Codes to values of weights, in vectors.

use half::f16;

use super::layout::{Layout, ScaleType, TILE, ZeroType};
use crate::memory::LINE;
use crate::simd::Simd;

/// What makes values of the codes of some outputs: `(code - before) · scale + after`.
///
/// With f16 scales nothing but the last addition rounds, whichever way a value is computed: a code or
/// a point times a scale has at most 8 + 11 bits. So they are `FUSED`: one multiply-add, and a point
/// is part of what is added.
#[derive(Clone, Copy)]
pub(super) struct Widening<V, const BITS: u32, const FUSED: bool> {
    scale: V,
    before: V,
    after: V,
}

impl<V: Copy, const BITS: u32, const FUSED: bool> Widening<V, BITS, FUSED> {
    /// Of the outputs from `lane` on of the tile with this header.
    #[inline(always)]
    pub(super) fn read<S: Simd<V = V>>(s: S, layout: &Layout, header: &[u8], lane: usize) -> Self {
        let header = &header[..layout.header_bytes()];
        let zeros = &header[layout.zeros()..];
        assert!(lane + S::LANES <= TILE, "lanes of a tile");
        // SAFETY: a header holds 16 scales and then 16 zeros of these types, and `lane + LANES <= 16`.
        unsafe {
            let scale = match layout.shape.scales {
                ScaleType::F16 => s.load_f16(header.as_ptr().cast::<f16>().add(lane)),
                ScaleType::F32 => s.load(header.as_ptr().cast::<f32>().add(lane)),
            };
            let (before, after) = match layout.shape.zeros {
                ZeroType::Minimums => (s.zero(), s.load(zeros.as_ptr().cast::<f32>().add(lane))),
                points => {
                    let points = match points {
                        ZeroType::Constant(point) => s.splat(f32::from(point)),
                        _ => {
                            let mut points = [0.0; TILE];
                            for (wide, point) in points.iter_mut().zip(zeros) {
                                *wide = f32::from(*point);
                            }
                            s.load(points.as_ptr().add(lane))
                        }
                    };
                    // Nothing is added: -0.0 keeps the sign of a zero.
                    if FUSED {
                        (s.zero(), s.sub(s.zero(), s.mul(points, scale)))
                    } else {
                        (points, s.splat(-0.0))
                    }
                }
            };
            Self {
                scale,
                before,
                after,
            }
        }
    }

    /// The values of input `input` of a step, whose dwords of these outputs lie at `dwords`.
    ///
    /// # Safety
    /// They must lie there, those of the second line of a step too.
    #[inline(always)]
    pub(super) unsafe fn value<S: Simd<V = V>>(self, s: S, dwords: *const u8, input: usize) -> V {
        // SAFETY: the caller's promise; 8-bit codes of the last four inputs are in the second line.
        let code = unsafe {
            let shift = (input % 4 * 8) as u32;
            if BITS == 4 {
                s.load_codes(dwords, shift + (input / 4 * 4) as u32, 15)
            } else {
                s.load_codes(dwords.add(input / 4 * LINE), shift, 255)
            }
        };
        if FUSED {
            s.fma(code, self.scale, self.after)
        } else {
            s.add(s.mul(s.sub(code, self.before), self.scale), self.after)
        }
    }
}
