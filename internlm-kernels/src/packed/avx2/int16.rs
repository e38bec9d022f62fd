//! Products of codes and 16-bit activations, by `vpmaddwd`. 4-bit codes of a step of 16 outputs become words in 12
//! instructions, where numbers in f32 take 48.

use std::arch::x86_64::*;

use super::super::dot::run;
use super::super::product::Task;
use super::{Integers, Vectors, broadcast};

/// 16-bit activations and codes of `BITS` bits. Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct Int16<const BITS: u32>(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn int16<const BITS: u32>(task: &Task<'_>) {
    run(Vectors(Int16::<BITS>(())), task);
}

/// The codes of 8 outputs of a step, as pairs of words: inputs 0 and 2, 4 and 6, 1 and 3, 5 and 7.
type Pairs = [__m256i; 4];

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32> Int16<BITS> {
    /// Of outputs `8 * half` on.
    ///
    /// # Safety
    /// As [`Integers::codes`].
    #[inline(always)]
    unsafe fn pairs(self, from: *const __m256i, half: usize) -> Pairs {
        // SAFETY: see above; a step is one line for 4 bits and two for 8.
        unsafe {
            let first = _mm256_load_si256(from.add(half));
            if BITS == 4 {
                let mask = _mm256_set1_epi16(15);
                return [
                    _mm256_and_si256(first, mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<8>(first), mask),
                    _mm256_srli_epi16::<12>(first),
                ];
            }
            let mask = _mm256_set1_epi16(255);
            let last = _mm256_load_si256(from.add(2 + half));
            [
                _mm256_and_si256(first, mask),
                _mm256_and_si256(last, mask),
                _mm256_srli_epi16::<8>(first),
                _mm256_srli_epi16::<8>(last),
            ]
        }
    }
}

impl<const BITS: u32> Integers for Int16<BITS> {
    type Codes = [Pairs; 2];
    type X = [__m256i; 4];
    const STEP: (usize, usize) = (16, 16 * BITS as usize);
    const FEW_STEPS: usize = usize::MAX;

    #[inline(always)]
    unsafe fn codes(self, from: *const __m256i) -> [Pairs; 2] {
        // SAFETY: see above.
        unsafe { [self.pairs(from, 0), self.pairs(from, 1)] }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const i32) -> [__m256i; 4] {
        // SAFETY: see above; a step is four dwords.
        unsafe {
            [
                broadcast(from, 0),
                broadcast(from, 1),
                broadcast(from, 2),
                broadcast(from, 3),
            ]
        }
    }

    #[inline(always)]
    fn few(self, sums: [__m256i; 2]) -> [__m256i; 2] {
        sums
    }

    #[inline(always)]
    fn add(self, mut few: [__m256i; 2], codes: [Pairs; 2], x: [__m256i; 4]) -> [__m256i; 2] {
        for pair in 0..4 {
            for half in 0..2 {
                // SAFETY: see above.
                unsafe {
                    let products = _mm256_madd_epi16(codes[half][pair], x[pair]);
                    few[half] = _mm256_add_epi32(few[half], products);
                }
            }
        }
        few
    }

    #[inline(always)]
    fn sums(self, _: [__m256i; 2], few: [__m256i; 2]) -> [__m256i; 2] {
        few
    }
}
