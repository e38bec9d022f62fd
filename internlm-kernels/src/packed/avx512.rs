//! Products of codes with 512-bit vectors.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::dot::{Dot, Many, Start, run};
use super::layout::{ScaleType, TILE, ZeroType};
use super::product::Task;

/// 8-bit activations and codes of `BITS` bits. Proof of AVX-512 F, BW, DQ, VL, and where `VNNI` of
/// that.
#[derive(Clone, Copy)]
struct Int8<const BITS: u32, const VNNI: bool>(());

/// bf16 activations and 4-bit codes. Proof of AVX-512 F, BW, DQ, VL and BF16.
#[derive(Clone, Copy)]
struct Bf16(());

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn vnni<const BITS: u32>(task: &Task<'_>) {
    run(Int8::<BITS, true>(()), task);
}

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn plain<const BITS: u32>(task: &Task<'_>) {
    run(Int8::<BITS, false>(()), task);
}

/// # Safety
/// The processor must have the features named below.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(super) unsafe fn bf16(task: &Task<'_>) {
    run(Bf16(()), task);
}

/// Scales and zeros of 16 outputs: points as dwords, or minimums.
#[derive(Clone, Copy)]
struct Header {
    scales: __m512,
    points: __m512i,
    minimums: __m512,
}

/// # Safety
/// As [`Dot::header`]; the processor must have AVX-512.
#[inline(always)]
unsafe fn header(from: *const u8, scales: ScaleType, zeros: ZeroType) -> Header {
    // SAFETY: a header holds 16 scales, then 16 zeros, in these types.
    unsafe {
        let (scales, zeros_at) = match scales {
            ScaleType::F16 => (_mm512_cvtph_ps(_mm256_loadu_si256(from.cast())), 2 * TILE),
            ScaleType::F32 => (_mm512_loadu_ps(from.cast()), 4 * TILE),
        };
        let from = from.add(zeros_at);
        let (points, minimums) = match zeros {
            ZeroType::Points => (
                _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())),
                _mm512_setzero_ps(),
            ),
            ZeroType::Constant(point) => (_mm512_set1_epi32(point.into()), _mm512_setzero_ps()),
            ZeroType::Minimums => (_mm512_setzero_si512(), _mm512_loadu_ps(from.cast())),
        };
        Header {
            scales,
            points,
            minimums,
        }
    }
}

/// Dword `at` of activations, once an output.
///
/// # Safety
/// It must lie there; the processor must have AVX-512.
#[inline(always)]
unsafe fn broadcast(from: *const u8, at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi32(from.cast::<i32>().add(at).read_unaligned()) }
}

/// The low and the high codes of a step of 4 bits.
///
/// # Safety
/// A step must lie at `from`, aligned to a cache line; the processor must have AVX-512.
#[inline(always)]
unsafe fn nibbles(from: *const u8) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = _mm512_set1_epi8(15);
        let both = _mm512_load_si512(from.cast());
        [
            _mm512_and_si512(both, mask),
            _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask),
        ]
    }
}

// SAFETY of all blocks below: `self` proves that the processor has the instructions; where memory is
// read, the caller promises that it is there.
impl<const BITS: u32, const VNNI: bool> Int8<BITS, VNNI> {
    /// Adds the products of 4 codes and 4 activations of each output.
    #[inline(always)]
    fn dot(self, sums: __m512i, codes: __m512i, x: __m512i) -> __m512i {
        // SAFETY: see above.
        unsafe {
            if VNNI {
                return _mm512_dpbusd_epi32(sums, codes, x);
            }
            // Two products of 4-bit codes are at most 2 · 15 · 127 and fit 16 bits; of 8-bit codes
            // they do not, so these go half by half.
            let one = _mm512_set1_epi16(1);
            if BITS == 4 {
                let pairs = _mm512_madd_epi16(_mm512_maddubs_epi16(codes, x), one);
                return _mm512_add_epi32(sums, pairs);
            }
            let mask = _mm512_set1_epi8(15);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
            let low = _mm512_and_si512(codes, mask);
            let high = _mm512_madd_epi16(_mm512_maddubs_epi16(high, x), _mm512_set1_epi16(16));
            let low = _mm512_madd_epi16(_mm512_maddubs_epi16(low, x), one);
            _mm512_add_epi32(sums, _mm512_add_epi32(high, low))
        }
    }
}

impl<const BITS: u32, const VNNI: bool> Dot for Int8<BITS, VNNI> {
    type Header = Header;
    type Codes = [__m512i; 2];
    type X = [__m512i; 2];
    type Sums = __m512i;
    type Few = __m512i;
    type Totals = __m512;
    const BLOCK: (usize, usize) = (4, 2);
    const MANY: Many = Many::Rows;
    const STEP: (usize, usize) = (8, 16 * BITS as usize);
    const FEW_STEPS: usize = usize::MAX;

    #[inline(always)]
    unsafe fn header(self, from: *const u8, scales: ScaleType, zeros: ZeroType) -> Header {
        // SAFETY: see above.
        unsafe { header(from, scales, zeros) }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, _: Header) -> [__m512i; 2] {
        // SAFETY: see above; a step of 8 bits is two lines.
        unsafe {
            if BITS == 4 {
                nibbles(from)
            } else {
                let from = from.cast::<__m512i>();
                [_mm512_load_si512(from), _mm512_load_si512(from.add(1))]
            }
        }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> [__m512i; 2] {
        // SAFETY: see above; a step is two dwords.
        unsafe { [broadcast(from, 0), broadcast(from, 1)] }
    }

    #[inline(always)]
    fn start(self, header: Header, start: Start) -> __m512i {
        // SAFETY: see above.
        unsafe {
            match start {
                Start::Same(start) => _mm512_set1_epi32(start),
                Start::Times(sum) => _mm512_mullo_epi32(header.points, _mm512_set1_epi32(sum)),
            }
        }
    }

    #[inline(always)]
    fn few(self, sums: __m512i) -> __m512i {
        sums
    }

    #[inline(always)]
    fn add(self, sums: __m512i, codes: [__m512i; 2], x: [__m512i; 2]) -> __m512i {
        self.dot(self.dot(sums, codes[0], x[0]), codes[1], x[1])
    }

    #[inline(always)]
    fn sums(self, _: __m512i, few: __m512i) -> __m512i {
        few
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn finish(
        self,
        totals: __m512,
        sums: __m512i,
        header: Header,
        (scale, x_sum): (f32, f32),
        minimums: bool,
    ) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let scales = _mm512_mul_ps(header.scales, _mm512_set1_ps(scale));
            let totals = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scales, totals);
            if minimums {
                _mm512_fmadd_ps(header.minimums, _mm512_set1_ps(x_sum), totals)
            } else {
                totals
            }
        }
    }

    #[inline(always)]
    fn read(self, totals: __m512) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }
}

/// bf16 of the numbers 0 to 15, then -16 to -1: what 5 bits mean with a sign.
const SIGNED: [u16; 32] = {
    let mut table = [0; 32];
    let mut index = 0;
    while index < 32 {
        let value = if index < 16 {
            index as f32
        } else {
            index as f32 - 32.0
        };
        table[index] = (value.to_bits() >> 16) as u16;
        index += 1;
    }
    table
};

impl Dot for Bf16 {
    /// With points as bytes, 4 equal ones an output.
    type Header = Header;
    /// Differences of codes and points: inputs 0 and 2, 1 and 3, 4 and 6, 5 and 7.
    type Codes = [__m512i; 4];
    type X = [__m512i; 4];
    /// Of the first and the last 4 inputs of steps.
    type Sums = [__m512; 2];
    type Few = [__m512; 2];
    type Totals = __m512;
    const BLOCK: (usize, usize) = (4, 2);
    const MANY: Many = Many::Staged(8);
    const STEP: (usize, usize) = (16, 64);
    const FEW_STEPS: usize = usize::MAX;

    #[inline(always)]
    unsafe fn header(self, from: *const u8, scales: ScaleType, zeros: ZeroType) -> Header {
        // SAFETY: see above.
        unsafe {
            let mut header = header(from, scales, zeros);
            header.points = _mm512_mullo_epi32(header.points, _mm512_set1_epi32(0x0101_0101));
            header
        }
    }

    #[inline(always)]
    unsafe fn codes(self, from: *const u8, header: Header) -> [__m512i; 4] {
        // SAFETY: see above; the table is one vector.
        unsafe {
            let table = _mm512_loadu_si512(SIGNED.as_ptr().cast());
            let [low, high] = nibbles(from);
            let low = _mm512_sub_epi8(low, header.points);
            let high = _mm512_sub_epi8(high, header.points);
            // The lowest 5 bits of each word are the index, so the byte above does no harm.
            [
                _mm512_permutexvar_epi16(low, table),
                _mm512_permutexvar_epi16(_mm512_srli_epi16::<8>(low), table),
                _mm512_permutexvar_epi16(high, table),
                _mm512_permutexvar_epi16(_mm512_srli_epi16::<8>(high), table),
            ]
        }
    }

    #[inline(always)]
    unsafe fn x(self, from: *const u8) -> [__m512i; 4] {
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
    fn start(self, _: Header, _: Start) -> [__m512; 2] {
        [self.zero(); 2]
    }

    #[inline(always)]
    fn few(self, sums: [__m512; 2]) -> [__m512; 2] {
        sums
    }

    #[inline(always)]
    fn add(self, [mut a, mut b]: [__m512; 2], codes: [__m512i; 4], x: [__m512i; 4]) -> [__m512; 2] {
        // SAFETY: see above; all types are 64 plain bytes.
        unsafe {
            a = _mm512_dpbf16_ps(a, transmute(codes[0]), transmute(x[0]));
            a = _mm512_dpbf16_ps(a, transmute(codes[1]), transmute(x[1]));
            b = _mm512_dpbf16_ps(b, transmute(codes[2]), transmute(x[2]));
            b = _mm512_dpbf16_ps(b, transmute(codes[3]), transmute(x[3]));
        }
        [a, b]
    }

    #[inline(always)]
    fn sums(self, _: [__m512; 2], few: [__m512; 2]) -> [__m512; 2] {
        few
    }

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn finish(
        self,
        totals: __m512,
        [a, b]: [__m512; 2],
        header: Header,
        (_, x_sum): (f32, f32),
        minimums: bool,
    ) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let totals = _mm512_fmadd_ps(_mm512_add_ps(a, b), header.scales, totals);
            if minimums {
                _mm512_fmadd_ps(header.minimums, _mm512_set1_ps(x_sum), totals)
            } else {
                totals
            }
        }
    }

    #[inline(always)]
    fn read(self, totals: __m512) -> [f32; TILE] {
        // SAFETY: both are 16 f32.
        unsafe { transmute(totals) }
    }
}
