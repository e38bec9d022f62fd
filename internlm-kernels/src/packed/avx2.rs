//! Products of codes with 256-bit vectors: 16 outputs are two of them.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::dot::{Dot, run};
use super::layout::TILE;
use super::product::Task;

/// 8-bit activations and codes of `BITS` bits. Proof of AVX2, FMA and F16C.
#[derive(Clone, Copy)]
struct Int8<const BITS: u32>(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn int8<const BITS: u32>(task: &Task<'_>) {
    run(Int8::<BITS>(()), task);
}

/// Scales and zeros of 16 outputs: points as dwords, or minimums.
#[derive(Clone, Copy)]
struct Header {
    scales: [__m256; 2],
    points: [__m256i; 2],
    minimums: [__m256; 2],
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32> Int8<BITS> {
    /// Adds the products of 4 codes and 4 activations of each output.
    #[inline(always)]
    fn dot(self, sums: __m256i, codes: __m256i, x: __m256i) -> __m256i {
        // SAFETY: see above.
        unsafe {
            // Two products of 4-bit codes are at most 2 · 15 · 127 and fit 16 bits; of 8-bit codes
            // they do not, so these go half by half.
            let pairs = |codes, weight: i16| {
                _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(weight))
            };
            if BITS == 4 {
                return _mm256_add_epi32(sums, pairs(codes, 1));
            }
            let mask = _mm256_set1_epi8(15);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
            let low = _mm256_and_si256(codes, mask);
            _mm256_add_epi32(_mm256_add_epi32(sums, pairs(high, 16)), pairs(low, 1))
        }
    }
}

impl<const BITS: u32> Dot for Int8<BITS> {
    type Header = Header;
    /// The first and the last 4 inputs of a step, of 8 outputs each.
    type Codes = [[__m256i; 2]; 2];
    type X = [__m256i; 2];
    type Sums = [__m256i; 2];
    type Totals = [__m256; 2];
    const BLOCK: (usize, usize) = (4, 1);
    const STEP: (usize, usize) = (8, 16 * BITS as usize);

    #[inline(always)]
    unsafe fn header(self, tile: *const u8, zeros: *const u8, f16: bool, minimums: bool) -> Header {
        // SAFETY: see above; a header holds 16 scales, then 16 zeros, in these types.
        unsafe {
            let f32s =
                |from: *const u8, half: usize| _mm256_loadu_ps(from.cast::<f32>().add(8 * half));
            Header {
                scales: [0, 1].map(|half| {
                    if f16 {
                        _mm256_cvtph_ps(_mm_loadu_si128(tile.cast::<__m128i>().add(half)))
                    } else {
                        f32s(tile, half)
                    }
                }),
                points: [0, 1].map(|half| {
                    if minimums {
                        _mm256_setzero_si256()
                    } else {
                        _mm256_cvtepu8_epi32(_mm_loadl_epi64(zeros.add(8 * half).cast()))
                    }
                }),
                minimums: [0, 1].map(|half| {
                    if minimums {
                        f32s(zeros, half)
                    } else {
                        _mm256_setzero_ps()
                    }
                }),
            }
        }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, _: Header) -> [[__m256i; 2]; 2] {
        // SAFETY: see above; a step is one line for 4 bits and two for 8.
        unsafe {
            let line = |at: usize| {
                let from = from.cast::<__m256i>();
                [
                    _mm256_load_si256(from.add(at)),
                    _mm256_load_si256(from.add(at + 1)),
                ]
            };
            if BITS == 8 {
                return [line(0), line(2)];
            }
            let mask = _mm256_set1_epi8(15);
            let both = line(0);
            [
                both.map(|both| _mm256_and_si256(both, mask)),
                both.map(|both| _mm256_and_si256(_mm256_srli_epi16::<4>(both), mask)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> [__m256i; 2] {
        // SAFETY: see above; a step is two dwords.
        unsafe { [0, 1].map(|at| _mm256_set1_epi32(from.cast::<i32>().add(at).read_unaligned())) }
    }

    #[inline(always)]
    fn start(self, header: Header, x_sum: f32, minimums: bool) -> [__m256i; 2] {
        header.points.map(|points| {
            // SAFETY: see above.
            unsafe {
                if minimums {
                    return _mm256_setzero_si256();
                }
                let sum = _mm256_set1_epi32((x_sum.to_bits() as i32).wrapping_neg());
                _mm256_mullo_epi32(points, sum)
            }
        })
    }

    #[inline(always)]
    fn add(self, sums: [__m256i; 2], codes: [[__m256i; 2]; 2], x: [__m256i; 2]) -> [__m256i; 2] {
        let half = |half: usize| {
            let sums = self.dot(sums[half], codes[0][half], x[0]);
            self.dot(sums, codes[1][half], x[1])
        };
        [half(0), half(1)]
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
        header: Header,
        (scale, x_sum): (f32, f32),
        minimums: bool,
    ) -> [__m256; 2] {
        [0, 1].map(|half| {
            // SAFETY: see above.
            unsafe {
                let scales = _mm256_mul_ps(header.scales[half], _mm256_set1_ps(scale));
                let totals = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[half]), scales, totals[half]);
                if minimums {
                    _mm256_fmadd_ps(header.minimums[half], _mm256_set1_ps(x_sum), totals)
                } else {
                    totals
                }
            }
        })
    }

    #[inline(always)]
    fn read(self, totals: [__m256; 2]) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
