//! Products of codes with 256-bit vectors: 16 outputs are two of them.

mod int16;
mod int8;

use std::arch::x86_64::*;

pub(super) use int8::int8;
pub(super) use int16::int16;

use super::dot::Start;
use super::layout::{ScaleType, TILE, ZeroType};

/// Scales and zeros of 8 outputs: points as dwords, or minimums.
#[derive(Clone, Copy)]
struct Half {
    scales: __m256,
    points: __m256i,
    minimums: __m256,
}

impl Half {
    /// What the sums of a group begin with.
    ///
    /// # Safety
    /// The processor must have AVX2.
    #[inline(always)]
    unsafe fn start(self, start: Start) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe {
            match start {
                Start::Same(start) => _mm256_set1_epi32(start),
                Start::Times(sum) => _mm256_mullo_epi32(self.points, _mm256_set1_epi32(sum)),
            }
        }
    }

    /// Adds the sums of a group to totals.
    ///
    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[inline(always)]
    unsafe fn finish(
        self,
        totals: __m256,
        sums: __m256i,
        (scale, x_sum): (f32, f32),
        minimums: bool,
    ) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe {
            let scales = _mm256_mul_ps(self.scales, _mm256_set1_ps(scale));
            let totals = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scales, totals);
            if minimums {
                _mm256_fmadd_ps(self.minimums, _mm256_set1_ps(x_sum), totals)
            } else {
                totals
            }
        }
    }
}

/// Those of a tile.
///
/// # Safety
/// As [`Dot::header`](super::dot::Dot::header); the processor must have AVX2 and F16C.
#[inline(always)]
unsafe fn halves(from: *const u8, scales: ScaleType, zeros: ZeroType) -> [Half; 2] {
    // SAFETY: the caller's promise.
    unsafe { [half(from, scales, zeros, 0), half(from, scales, zeros, 1)] }
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
