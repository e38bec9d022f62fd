//! Products of codes with 128-bit vectors of 64-bit Arm: 16 outputs are four of them.
//!
//! Only instructions of the base set: `sdot` and `smmla` would multiply more at a time.

use std::arch::aarch64::*;
use std::arch::asm;
use std::mem::transmute;

use super::dot::{Dot, Many, Start, run};
use super::layout::{ScaleType, TILE, ZeroType};
use super::product::Task;
use crate::simd::neon::load_f16;

/// Vectors of 4 outputs in a tile.
const QUARTERS: usize = TILE / 4;

/// 8-bit activations and codes of `BITS` bits. Proof of NEON.
#[derive(Clone, Copy)]
struct Int8<const BITS: u32>(());

/// # Safety
/// The processor must have the feature named below.
#[target_feature(enable = "neon")]
pub(super) unsafe fn int8<const BITS: u32>(task: &Task<'_>) {
    run(Int8::<BITS>(()), task);
}

/// Scales and zeros of 4 outputs: points, or minimums.
#[derive(Clone, Copy)]
struct Quarter {
    scales: float32x4_t,
    points: int32x4_t,
    minimums: float32x4_t,
}

/// Of outputs `4 * quarter` on.
///
/// # Safety
/// As [`Dot::header`]; the processor must have NEON.
#[inline(always)]
unsafe fn header(from: *const u8, scales: ScaleType, zeros: ZeroType, quarter: usize) -> Quarter {
    // SAFETY: a header holds 16 scales, then 16 zeros, in these types.
    unsafe {
        let at = 4 * quarter;
        let (scales, zeros_at) = match scales {
            ScaleType::F16 => (load_f16(from.cast::<half::f16>().add(at)), 2 * TILE),
            ScaleType::F32 => (vld1q_f32(from.cast::<f32>().add(at)), 4 * TILE),
        };
        let from = from.add(zeros_at);
        let (points, minimums) = match zeros {
            ZeroType::Points => {
                let points = from.add(at).cast::<u32>().read_unaligned();
                let points = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(points)));
                let points = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(points)));
                (points, vdupq_n_f32(0.0))
            }
            ZeroType::Constant(point) => (vdupq_n_s32(point.into()), vdupq_n_f32(0.0)),
            ZeroType::Minimums => {
                let minimums = vld1q_f32(from.cast::<f32>().add(at));
                (vdupq_n_s32(0), minimums)
            }
        };
        Quarter {
            scales,
            points,
            minimums,
        }
    }
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32> Int8<BITS> {
    /// The products of 4 codes of 4 bits and 4 activations of each of 4 outputs, in two sums an output.
    #[inline(always)]
    fn pairs(self, codes: uint8x16_t, x: int8x16_t) -> int16x8_t {
        // SAFETY: see above. Two products are at most 2 · 15 · 127 and fit 16 bits.
        unsafe {
            let codes = vreinterpretq_s8_u8(codes);
            vpaddq_s16(
                vmull_s8(vget_low_s8(codes), vget_low_s8(x)),
                vmull_high_s8(codes, x),
            )
        }
    }

    /// Adds the products of 4 codes and 4 activations of each of 4 outputs.
    #[inline(always)]
    fn dot(self, sums: int32x4_t, codes: uint8x16_t, x: int8x16_t) -> int32x4_t {
        // SAFETY: see above.
        unsafe {
            if BITS == 4 {
                return vpadalq_s16(sums, self.pairs(codes, x));
            }
            let low = self.pairs(vandq_u8(codes, vdupq_n_u8(15)), x);
            let high = self.pairs(vshrq_n_u8::<4>(codes), x);
            let sums = vpadalq_s16(sums, low);
            vaddq_s32(sums, vshlq_n_s32::<4>(vpaddlq_s16(high)))
        }
    }
}

impl<const BITS: u32> Dot for Int8<BITS> {
    type Header = [Quarter; QUARTERS];
    /// The first and the last 4 inputs of a step, of 4 outputs each.
    type Codes = [[uint8x16_t; QUARTERS]; 2];
    type X = [int8x16_t; 2];
    type Sums = [int32x4_t; QUARTERS];
    type Few = [int32x4_t; QUARTERS];
    type Totals = [float32x4_t; QUARTERS];
    const BLOCK: (usize, usize) = (4, 1);
    const MANY: Many = Many::Same;
    const STEP: (usize, usize) = (8, 16 * BITS as usize);
    const FEW_STEPS: usize = usize::MAX;

    #[inline(always)]
    unsafe fn header(
        self,
        from: *const u8,
        scales: ScaleType,
        zeros: ZeroType,
    ) -> [Quarter; QUARTERS] {
        // SAFETY: see above.
        unsafe {
            [
                header(from, scales, zeros, 0),
                header(from, scales, zeros, 1),
                header(from, scales, zeros, 2),
                header(from, scales, zeros, 3),
            ]
        }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, _: [Quarter; QUARTERS]) -> [[uint8x16_t; QUARTERS]; 2] {
        // SAFETY: see above; a step is one line for 4 bits and two for 8.
        unsafe {
            let mut codes = [[vdupq_n_u8(0); QUARTERS]; 2];
            for quarter in 0..QUARTERS {
                let both = vld1q_u8(from.add(16 * quarter));
                if BITS == 4 {
                    codes[0][quarter] = vandq_u8(both, vdupq_n_u8(15));
                    codes[1][quarter] = vshrq_n_u8::<4>(both);
                } else {
                    codes[0][quarter] = both;
                    codes[1][quarter] = vld1q_u8(from.add(16 * (QUARTERS + quarter)));
                }
            }
            codes
        }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> [int8x16_t; 2] {
        let from = from.cast::<i32>();
        // SAFETY: see above; a step is two dwords.
        unsafe {
            [
                vreinterpretq_s8_s32(vdupq_n_s32(from.read_unaligned())),
                vreinterpretq_s8_s32(vdupq_n_s32(from.add(1).read_unaligned())),
            ]
        }
    }

    #[inline(always)]
    fn start(self, header: [Quarter; QUARTERS], start: Start) -> [int32x4_t; QUARTERS] {
        // SAFETY: see above.
        unsafe {
            match start {
                Start::Same(start) => [vdupq_n_s32(start); QUARTERS],
                Start::Times(sum) => {
                    let mut sums = [vdupq_n_s32(sum); QUARTERS];
                    for quarter in 0..QUARTERS {
                        sums[quarter] = vmulq_s32(header[quarter].points, sums[quarter]);
                    }
                    sums
                }
            }
        }
    }

    #[inline(always)]
    fn few(self, sums: [int32x4_t; QUARTERS]) -> [int32x4_t; QUARTERS] {
        sums
    }

    #[inline(always)]
    fn add(
        self,
        mut sums: [int32x4_t; QUARTERS],
        codes: [[uint8x16_t; QUARTERS]; 2],
        x: [int8x16_t; 2],
    ) -> [int32x4_t; QUARTERS] {
        for quarter in 0..QUARTERS {
            sums[quarter] = self.dot(sums[quarter], codes[0][quarter], x[0]);
            sums[quarter] = self.dot(sums[quarter], codes[1][quarter], x[1]);
        }
        sums
    }

    #[inline(always)]
    fn sums(self, _: [int32x4_t; QUARTERS], few: [int32x4_t; QUARTERS]) -> [int32x4_t; QUARTERS] {
        few
    }

    #[inline(always)]
    fn zero(self) -> [float32x4_t; QUARTERS] {
        // SAFETY: see above.
        unsafe { [vdupq_n_f32(0.0); QUARTERS] }
    }

    #[inline(always)]
    fn finish(
        self,
        mut totals: [float32x4_t; QUARTERS],
        sums: [int32x4_t; QUARTERS],
        header: [Quarter; QUARTERS],
        (scale, x_sum): (f32, f32),
        minimums: bool,
    ) -> [float32x4_t; QUARTERS] {
        // SAFETY: see above.
        unsafe {
            for quarter in 0..QUARTERS {
                let scales = vmulq_f32(header[quarter].scales, vdupq_n_f32(scale));
                let sums = vcvtq_f32_s32(sums[quarter]);
                totals[quarter] = vfmaq_f32(totals[quarter], sums, scales);
                if minimums {
                    let x_sum = vdupq_n_f32(x_sum);
                    totals[quarter] = vfmaq_f32(totals[quarter], header[quarter].minimums, x_sum);
                }
            }
            totals
        }
    }

    #[inline(always)]
    fn read(self, totals: [float32x4_t; QUARTERS]) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }
}

/// Asks for a cache line, which need not exist; `once` where it will be read once.
#[inline(always)]
pub(super) fn prefetch(address: *const u8, once: bool) {
    // SAFETY: a prefetch of any address is allowed.
    unsafe {
        if once {
            asm!("prfm pldl1strm, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
        } else {
            asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
    }
}
