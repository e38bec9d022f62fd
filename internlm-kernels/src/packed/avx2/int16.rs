//! Products of codes and 16-bit activations, by `vpmaddwd`: half the instructions of multiply-adds in f32, whose codes must
//! be made numbers one by one.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::super::dot::{Dot, Many, Start, run};
use super::super::layout::{ScaleType, TILE, ZeroType};
use super::super::product::Task;
use super::{Half, halves};

/// 16-bit activations and codes of `BITS` bits. Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct Int16<const BITS: u32>(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn int16<const BITS: u32>(task: &Task<'_>) {
    run(Int16::<BITS>(()), task);
}

/// The codes of 8 outputs of a step, as pairs of words: inputs 0 and 2, 4 and 6, 1 and 3, 5 and 7.
type Pairs = [__m256i; 4];

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32> Int16<BITS> {
    /// Of outputs `8 * half` on.
    ///
    /// # Safety
    /// As [`Dot::codes`].
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

impl<const BITS: u32> Dot for Int16<BITS> {
    type Header = [Half; 2];
    type Codes = [Pairs; 2];
    type X = [__m256i; 4];
    type Sums = [__m256i; 2];
    type Few = [__m256i; 2];
    type Totals = [__m256; 2];
    const BLOCK: (usize, usize) = (4, 1);
    const MANY: Many = Many::Staged(4);
    const STEP: (usize, usize) = (16, 16 * BITS as usize);
    const FEW_STEPS: usize = usize::MAX;

    #[inline(always)]
    unsafe fn header(self, from: *const u8, scales: ScaleType, zeros: ZeroType) -> [Half; 2] {
        // SAFETY: see above.
        unsafe { halves(from, scales, zeros) }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, _: [Half; 2]) -> [Pairs; 2] {
        // SAFETY: see above.
        unsafe { [self.pairs(from.cast(), 0), self.pairs(from.cast(), 1)] }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> [__m256i; 4] {
        let from = from.cast::<i32>();
        // SAFETY: see above; a step is four dwords.
        unsafe {
            [
                _mm256_set1_epi32(from.read_unaligned()),
                _mm256_set1_epi32(from.add(1).read_unaligned()),
                _mm256_set1_epi32(from.add(2).read_unaligned()),
                _mm256_set1_epi32(from.add(3).read_unaligned()),
            ]
        }
    }

    #[inline(always)]
    fn start(self, header: [Half; 2], start: Start) -> [__m256i; 2] {
        // SAFETY: see above.
        unsafe { [header[0].start(start), header[1].start(start)] }
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

    #[inline(always)]
    fn zero(self) -> [__m256; 2] {
        // SAFETY: see above.
        unsafe { [_mm256_setzero_ps(); 2] }
    }

    #[inline(always)]
    fn finish(
        self,
        totals: [__m256; 2],
        sums: [__m256i; 2],
        header: [Half; 2],
        x: (f32, f32),
        minimums: bool,
    ) -> [__m256; 2] {
        // SAFETY: see above.
        unsafe {
            [
                header[0].finish(totals[0], sums[0], x, minimums),
                header[1].finish(totals[1], sums[1], x, minimums),
            ]
        }
    }

    #[inline(always)]
    fn read(self, totals: [__m256; 2]) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }
}
