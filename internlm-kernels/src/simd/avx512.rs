//! 512-bit vectors.

use std::arch::asm;
use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::simd::{Kernel, Simd};

/// Proof that the processor has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
#[inline(never)]
pub(super) unsafe fn run<K: Kernel>(kernel: K) {
    kernel.run(Avx512(()));
}

/// A kernel that also uses `vdpbf16ps`.
pub(crate) trait DotKernel {
    /// Must be `inline(always)`, and so must be what it calls.
    fn run(self, s: Avx512Bf16);
}

/// Proof that the processor has AVX-512 BF16 as well.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Bf16(Avx512);

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(crate) unsafe fn run_dot<K: DotKernel>(kernel: K) {
    kernel.run(Avx512Bf16(Avx512(())));
}

impl Avx512Bf16 {
    #[inline(always)]
    pub(crate) fn simd(self) -> Avx512 {
        self.0
    }

    /// 32 elements.
    ///
    /// # Safety
    /// They must lie at `from`.
    #[inline(always)]
    pub(crate) unsafe fn load(self, from: *const bf16) -> __m512i {
        // SAFETY: the caller's promise; `self` proves the instruction.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    /// Stores 32 elements.
    ///
    /// # Safety
    /// There must be room for them.
    #[inline(always)]
    pub(crate) unsafe fn store(self, to: *mut bf16, v: __m512i) {
        // SAFETY: the caller's promise; `self` proves the instruction.
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }

    /// Adds the products of 16 pairs.
    #[inline(always)]
    pub(crate) fn dot(self, sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: `self` proves the instruction; both types are 64 plain bytes.
        unsafe { _mm512_dpbf16_ps(sum, std::mem::transmute(a), std::mem::transmute(b)) }
    }
}

/// Sums of the lanes of four vectors of 8, as `_mm_hadd_ps` pairs them.
#[inline(always)]
pub(super) fn sum4_of_8(v: [__m256; 4]) -> [f32; 4] {
    // SAFETY: callers hold a proof of AVX2 or more.
    unsafe {
        let ab = _mm256_hadd_ps(v[0], v[1]);
        let cd = _mm256_hadd_ps(v[2], v[3]);
        let abcd = _mm256_hadd_ps(ab, cd);
        let sums = _mm_add_ps(
            _mm256_castps256_ps128(abcd),
            _mm256_extractf128_ps::<1>(abcd),
        );
        std::mem::transmute(sums)
    }
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read or written, the caller promises that the elements are there.
impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE: (usize, usize) = (4, 6);

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: see above.
        unsafe { run(kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn exp2_of_integer(self, n: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn sum4(self, v: [__m512; 4]) -> [f32; 4] {
        // SAFETY: see above. (No closure: it would not have the features, and not be inlined.)
        unsafe {
            let mut halves = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                let upper = _mm512_extractf32x8_ps::<1>(v[i]);
                halves[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i]), upper);
            }
            sum4_of_8(halves)
        }
    }

    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        // SAFETY: see above.
        unsafe { _mm512_reduce_max_ps(v) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_even(self, from: *const bf16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_loadu_si512(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_odd(self, from: *const bf16) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(from.cast()), upper))
        }
    }

    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, shift: u32, mask: u32) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let dwords = _mm512_loadu_si512(from.cast());
            let dwords = _mm512_srlv_epi32(dwords, _mm512_set1_epi32(shift as i32));
            _mm512_cvtepi32_ps(_mm512_and_si512(dwords, _mm512_set1_epi32(mask as i32)))
        }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    fn prefetch_once(self, address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_NTA>(address.cast()) }
    }

    #[inline(always)]
    fn pin(self, v: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { pin(v) }
    }
}

/// See [`Simd::pin`].
#[inline]
#[target_feature(enable = "avx512f")]
fn pin(mut v: __m512) -> __m512 {
    // SAFETY: no instruction at all. It is said to touch memory, which keeps its place.
    unsafe { asm!("/* {0} */", inout(zmm_reg) v, options(nostack, preserves_flags)) };
    v
}
