//! Products of codes with 256-bit vectors: 16 outputs are two of them.

mod int16;
mod int8;

use std::arch::x86_64::*;
use std::mem::transmute;

pub(super) use int8::int8;
pub(super) use int16::int16;

use super::dot::{Dot, Many, Start};
use super::layout::{ScaleType, TILE, ZeroType};

/// Activations that are integers: how steps of them and of codes are read and multiplied.
///
/// A value is the proof that the processor has AVX2, FMA and F16C.
trait Integers: Copy {
    /// A step of codes, unpacked.
    type Codes: Copy;
    /// A step of activations.
    type X: Copy;
    /// As [`Dot::STEP`].
    const STEP: (usize, usize);
    /// As [`Dot::FEW_STEPS`].
    const FEW_STEPS: usize;

    /// # Safety
    /// As [`Dot::codes`].
    unsafe fn codes(self, from: *const __m256i) -> Self::Codes;

    /// # Safety
    /// As [`Dot::x`].
    unsafe fn x(self, from: *const i32) -> Self::X;

    /// As [`Dot::few`].
    fn few(self, sums: [__m256i; 2]) -> [__m256i; 2];

    /// As [`Dot::add`].
    fn add(self, few: [__m256i; 2], codes: Self::Codes, x: Self::X) -> [__m256i; 2];

    /// As [`Dot::sums`].
    fn sums(self, before: [__m256i; 2], few: [__m256i; 2]) -> [__m256i; 2];
}

/// Scales and zeros of 8 outputs: points as dwords, or minimums.
#[derive(Clone, Copy)]
struct Half {
    scales: __m256,
    points: __m256i,
    minimums: __m256,
}

/// Sums of integers in dwords, two vectors of them.
#[derive(Clone, Copy)]
struct Vectors<I>(I);

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<I: Integers> Vectors<I> {
    #[inline(always)]
    fn start_half(self, half: Half, start: Start) -> __m256i {
        // SAFETY: see above.
        unsafe {
            match start {
                Start::Same(start) => _mm256_set1_epi32(start),
                Start::Times(sum) => _mm256_mullo_epi32(half.points, _mm256_set1_epi32(sum)),
            }
        }
    }

    #[inline(always)]
    fn finish_half(
        self,
        totals: __m256,
        sums: __m256i,
        half: Half,
        (scale, x_sum): (f32, f32),
        minimums: bool,
    ) -> __m256 {
        // SAFETY: see above.
        unsafe {
            let scales = _mm256_mul_ps(half.scales, _mm256_set1_ps(scale));
            let totals = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, totals);
            if minimums {
                _mm256_fmadd_ps(half.minimums, _mm256_set1_ps(x_sum), totals)
            } else {
                totals
            }
        }
    }
}

impl<I: Integers> Dot for Vectors<I> {
    type Header = [Half; 2];
    type Codes = I::Codes;
    type X = I::X;
    type Sums = [__m256i; 2];
    type Few = [__m256i; 2];
    type Totals = [__m256; 2];
    const BLOCK: (usize, usize) = (4, 1);
    const MANY: Many = Many::Staged(4);
    const STEP: (usize, usize) = I::STEP;
    const FEW_STEPS: usize = I::FEW_STEPS;

    #[inline(always)]
    unsafe fn header(self, from: *const u8, scales: ScaleType, zeros: ZeroType) -> [Half; 2] {
        // SAFETY: see above.
        unsafe { [half(from, scales, zeros, 0), half(from, scales, zeros, 1)] }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, _: [Half; 2]) -> I::Codes {
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.codes(from.cast()) }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> I::X {
        // SAFETY: the caller's promise is the same.
        unsafe { self.0.x(from.cast()) }
    }

    #[inline(always)]
    fn start(self, header: [Half; 2], start: Start) -> [__m256i; 2] {
        [
            self.start_half(header[0], start),
            self.start_half(header[1], start),
        ]
    }

    #[inline(always)]
    fn few(self, sums: [__m256i; 2]) -> [__m256i; 2] {
        self.0.few(sums)
    }

    #[inline(always)]
    fn add(self, few: [__m256i; 2], codes: I::Codes, x: I::X) -> [__m256i; 2] {
        self.0.add(few, codes, x)
    }

    #[inline(always)]
    fn sums(self, before: [__m256i; 2], few: [__m256i; 2]) -> [__m256i; 2] {
        self.0.sums(before, few)
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
        [
            self.finish_half(totals[0], sums[0], header[0], x, minimums),
            self.finish_half(totals[1], sums[1], header[1], x, minimums),
        ]
    }

    #[inline(always)]
    fn read(self, totals: [__m256; 2]) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }
}

/// Of outputs `8 * half` on.
///
/// # Safety
/// As [`Dot::header`](super::dot::Dot::header); the processor must have AVX2 and F16C.
#[inline(always)]
unsafe fn half(from: *const u8, scales: ScaleType, zeros: ZeroType, half: usize) -> Half {
    // SAFETY: a header holds 16 scales, then 16 zeros, in these types.
    unsafe {
        let (scales, zeros_at) = match scales {
            ScaleType::F16 => {
                let halves = _mm_loadu_si128(from.cast::<__m128i>().add(half));
                (_mm256_cvtph_ps(halves), 2 * TILE)
            }
            ScaleType::F32 => (_mm256_loadu_ps(from.cast::<f32>().add(8 * half)), 4 * TILE),
        };
        let from = from.add(zeros_at);
        let (points, minimums) = match zeros {
            ZeroType::Points => {
                let points = _mm_loadl_epi64(from.add(8 * half).cast());
                (_mm256_cvtepu8_epi32(points), _mm256_setzero_ps())
            }
            ZeroType::Constant(point) => (_mm256_set1_epi32(point.into()), _mm256_setzero_ps()),
            ZeroType::Minimums => {
                let minimums = _mm256_loadu_ps(from.cast::<f32>().add(8 * half));
                (_mm256_setzero_si256(), minimums)
            }
        };
        Half {
            scales,
            points,
            minimums,
        }
    }
}

/// Dword `at` of activations, once an output.
///
/// # Safety
/// It must lie there; the processor must have AVX2.
#[inline(always)]
unsafe fn broadcast(from: *const i32, at: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_set1_epi32(from.add(at).read_unaligned()) }
}

/// Asks for a cache line, which need not exist; `once` where it will be read once.
#[inline(always)]
pub(super) fn prefetch(address: *const u8, once: bool) {
    // SAFETY: a prefetch of any address is allowed.
    unsafe {
        if once {
            _mm_prefetch::<_MM_HINT_NTA>(address.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
}
