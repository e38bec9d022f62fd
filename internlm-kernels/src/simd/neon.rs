//! 128-bit vectors of 64-bit Arm.

use std::arch::aarch64::*;
use std::arch::asm;

use half::{bf16, f16};

use crate::simd::{Kernel, Simd};

/// Proof that the processor has NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// # Safety
/// The processor must have the feature named below.
#[target_feature(enable = "neon")]
#[inline(never)]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    kernel.run(Neon(()));
}

/// Widens 4 elements. The intrinsic needs the unstable f16; the instruction is in the base set.
///
/// # Safety
/// They must lie at `from`; the processor must have NEON.
#[inline(always)]
pub(crate) unsafe fn load_f16(from: *const f16) -> float32x4_t {
    let wide;
    // SAFETY: the caller's promise.
    unsafe {
        let narrow = vld1_u16(from.cast());
        asm!(
            "fcvtl {wide:v}.4s, {narrow:v}.4h",
            wide = out(vreg) wide,
            narrow = in(vreg) narrow,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read or written, the caller promises that the elements are there.
impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const TILE: (usize, usize) = (4, 6);

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: see above.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdupq_n_f32(x) }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vmaxq_f32(a, b) }
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vminq_f32(a, b) }
    }

    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vrndnq_f32(a) }
    }

    #[inline(always)]
    fn exp2_of_integer(self, n: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe {
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(
                vcvtq_s32_f32(n),
                vdupq_n_s32(127),
            )))
        }
    }

    #[inline(always)]
    fn sum4(self, v: [float32x4_t; 4]) -> [f32; 4] {
        // SAFETY: see above.
        unsafe {
            let sums = vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
            std::mem::transmute(sums)
        }
    }

    #[inline(always)]
    fn max_lane(self, v: float32x4_t) -> f32 {
        // SAFETY: see above.
        unsafe { vmaxvq_f32(v) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: float32x4_t) {
        // SAFETY: see above.
        unsafe { vst1q_f32(to, v) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> float32x4_t {
        // SAFETY: see above.
        unsafe { load_f16(from) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> float32x4_t {
        // SAFETY: see above.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_even(self, from: *const bf16) -> float32x4_t {
        // SAFETY: see above.
        unsafe {
            vreinterpretq_f32_u32(vshlq_n_u32::<16>(vreinterpretq_u32_u16(vld1q_u16(
                from.cast(),
            ))))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_odd(self, from: *const bf16) -> float32x4_t {
        // SAFETY: see above.
        unsafe {
            vreinterpretq_f32_u32(vandq_u32(
                vreinterpretq_u32_u16(vld1q_u16(from.cast())),
                vdupq_n_u32(0xffff_0000),
            ))
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe {
            asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn prefetch_once(self, address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe {
            asm!("prfm pldl1strm, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
    }

    #[inline(always)]
    fn pin(self, v: float32x4_t) -> float32x4_t {
        // SAFETY: see above.
        unsafe { pin(v) }
    }
}

/// See [`Simd::pin`].
#[inline]
#[target_feature(enable = "neon")]
fn pin(mut v: float32x4_t) -> float32x4_t {
    // SAFETY: no instruction at all. It is said to touch memory, which keeps its place.
    unsafe { asm!("/* {0:v} */", inout(vreg) v, options(nostack, preserves_flags)) };
    v
}
