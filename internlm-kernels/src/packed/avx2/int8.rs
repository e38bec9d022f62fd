//! Products of codes and 8-bit activations, by `vpmaddubsw`.

use std::arch::x86_64::*;

use super::super::dot::run;
use super::super::product::Task;
use super::{Integers, Vectors, broadcast};

/// 8-bit activations and codes of `BITS` bits. Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct Int8<const BITS: u32>(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn int8<const BITS: u32>(task: &Task<'_>) {
    run(Vectors(Int8::<BITS>(())), task);
}

/// The low and the high codes of 8 outputs of a step of 4 bits.
///
/// # Safety
/// They must lie at `from`, aligned to 32 bytes; the processor must have AVX2.
#[inline(always)]
unsafe fn nibbles(from: *const __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let both = _mm256_load_si256(from);
        [
            _mm256_and_si256(both, mask),
            _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask),
        ]
    }
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32> Int8<BITS> {
    /// Adds the products of 4 codes and 4 activations of each of 8 outputs: of 4 bits to two sums an output, of
    /// 8 bits to one.
    #[inline(always)]
    fn dot(self, few: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe {
            if BITS == 4 {
                return _mm256_add_epi16(few, _mm256_maddubs_epi16(codes, x));
            }
            // Two products of 8-bit codes do not fit 16 bits, so these go half by half.
            let mask = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
            let low = _mm256_and_si256(codes, mask);
            let high = _mm256_madd_epi16(_mm256_maddubs_epi16(high, x), _mm256_set1_epi16(16));
            let low = _mm256_madd_epi16(_mm256_maddubs_epi16(low, x), _mm256_set1_epi16(1));
            _mm256_add_epi32(few, _mm256_add_epi32(high, low))
        }
    }
}

impl<const BITS: u32> Integers for Int8<BITS> {
    /// The first and the last 4 inputs of a step, of 8 outputs each.
    type Codes = [[__m256i; 2]; 2];
    type X = [__m256i; 2];
    const STEP: (usize, usize) = (8, 16 * BITS as usize);
    // Few steps of 4 bits are summed in 16, twice an output, the even and the odd pairs of inputs. Each adds four products
    // to a sum: 4 · 4 · 15 · 127 < 2¹⁵.
    const FEW_STEPS: usize = if BITS == 4 { 4 } else { usize::MAX };

    #[inline(always)]
    unsafe fn codes(self, from: *const __m256i) -> [[__m256i; 2]; 2] {
        // SAFETY: see above; a step is one line for 4 bits and two for 8.
        unsafe {
            if BITS == 4 {
                let (left, right) = (nibbles(from), nibbles(from.add(1)));
                return [[left[0], right[0]], [left[1], right[1]]];
            }
            [
                [_mm256_load_si256(from), _mm256_load_si256(from.add(1))],
                [
                    _mm256_load_si256(from.add(2)),
                    _mm256_load_si256(from.add(3)),
                ],
            ]
        }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const i32) -> [__m256i; 2] {
        // SAFETY: see above; a step is two dwords.
        unsafe { [broadcast(from, 0), broadcast(from, 1)] }
    }

    #[inline(always)]
    fn few(self, sums: [__m256i; 2]) -> [__m256i; 2] {
        if BITS == 8 {
            return sums;
        }
        // SAFETY: see above.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    fn add(self, mut few: [__m256i; 2], codes: [[__m256i; 2]; 2], x: [__m256i; 2]) -> [__m256i; 2] {
        for half in 0..2 {
            few[half] = self.dot(few[half], codes[0][half], x[0]);
            few[half] = self.dot(few[half], codes[1][half], x[1]);
        }
        few
    }

    #[inline(always)]
    fn sums(self, before: [__m256i; 2], few: [__m256i; 2]) -> [__m256i; 2] {
        if BITS == 8 {
            return few;
        }
        // SAFETY: see above.
        unsafe {
            let one = _mm256_set1_epi16(1);
            [
                _mm256_add_epi32(before[0], _mm256_madd_epi16(few[0], one)),
                _mm256_add_epi32(before[1], _mm256_madd_epi16(few[1], one)),
            ]
        }
    }
}
