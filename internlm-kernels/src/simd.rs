//! Vectors of f32 on each instruction set behind one trait, so that a kernel is written once.
//!
//! A kernel is a [`Kernel`]: a struct of operands whose `run` is generic over [`Simd`]. [`dispatch`]
//! calls it inside a function that enables the instructions, and everything below is `inline(always)`,
//! so it compiles to them. The value `s: S` that kernels pass on is a proof that the processor has the
//! instructions: only `dispatch` makes one.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

use half::{bf16, f16};

use crate::elements::Element;
use crate::isa::Isa;

/// The largest number of lanes of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// Vectors of `LANES` f32.
///
/// Loads and stores need no alignment. They are unsafe as any access through a pointer: `LANES`
/// elements (where not said otherwise) must lie there.
pub(crate) trait Simd: Copy {
    /// One vector.
    type V: Copy;
    /// Its elements.
    const LANES: usize;
    /// Rows and columns of the tile of sums that fits the registers.
    const TILE: (usize, usize);

    /// Runs another kernel as a function of its own, not inlined.
    fn call<K: Kernel>(self, kernel: K);

    fn splat(self, x: f32) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of each pair; a NaN in `b` is kept.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair; a NaN in `b` is kept.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer.
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for integers `-127 <= n <= 128`; the ends give 0 and infinity.
    fn exp2_of_integer(self, n: Self::V) -> Self::V;
    /// The sums of the lanes of four vectors, each in the same order.
    fn sum4(self, v: [Self::V; 4]) -> [f32; 4];

    /// The largest lane. What a NaN gives is not said.
    fn max_lane(self, v: Self::V) -> f32;

    /// # Safety
    /// See the trait.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// # Safety
    /// See the trait.
    unsafe fn load_f16(self, from: *const f16) -> Self::V;
    /// # Safety
    /// See the trait.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::V;
    /// The even elements of `2 * LANES`.
    ///
    /// # Safety
    /// `2 * LANES` elements must lie at `from`.
    unsafe fn load_bf16_even(self, from: *const bf16) -> Self::V;
    /// The odd elements of `2 * LANES`.
    ///
    /// # Safety
    /// `2 * LANES` elements must lie at `from`.
    unsafe fn load_bf16_odd(self, from: *const bf16) -> Self::V;
    /// Bits of `LANES` dwords, little-endian: shifted right, masked to less than 2²⁴, as numbers.
    ///
    /// # Safety
    /// The dwords must lie at `from`.
    #[inline(always)]
    unsafe fn load_codes(self, from: *const u8, shift: u32, mask: u32) -> Self::V {
        let mut lanes = [0.0; MAX_LANES];
        for (lane, code) in lanes[..Self::LANES].iter_mut().enumerate() {
            // SAFETY: `lane < LANES`, and the caller promises so many dwords.
            let dword = unsafe { from.cast::<u32>().add(lane).read_unaligned() };
            *code = (u32::from_le(dword) >> shift & mask) as f32;
        }
        // SAFETY: `lanes` holds `MAX_LANES >= LANES` elements.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Asks for the cache line at an address, which need not exist.
    fn prefetch(self, address: *const u8);

    /// The same for a line that is read once: it should not displace what else the caches hold.
    fn prefetch_once(self, address: *const u8);

    /// The same vector, at this point of the program: loads and stores that come later in the source
    /// stay behind its computation.
    fn pin(self, v: Self::V) -> Self::V;

    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }

    /// The sum of the lanes, in the order of [`Simd::sum4`].
    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        let zero = self.zero();
        self.sum4([v, zero, zero, zero])[0]
    }

    /// `LANES` elements of any stored type, in order.
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn load_wide<T: Stored>(self, from: *const T) -> Self::V {
        // SAFETY: the caller's promise is the same.
        unsafe { T::load(self, from) }
    }

    /// The first elements of `from`, fewer than `LANES`, and zeros.
    #[inline(always)]
    fn load_some<T: Stored>(self, from: &[T]) -> Self::V {
        let mut lanes = [T::ZERO; MAX_LANES];
        lanes[..from.len()].copy_from_slice(from);
        // SAFETY: `lanes` holds `MAX_LANES >= LANES` elements.
        unsafe { self.load_wide(lanes.as_ptr()) }
    }

    /// The first lanes, as many as `to` takes.
    #[inline(always)]
    fn store_some(self, to: &mut [f32], v: Self::V) {
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: `lanes` holds `MAX_LANES >= LANES` elements.
        unsafe { self.store(lanes.as_mut_ptr(), v) };
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// A stored type that vectors load.
pub(crate) trait Stored: Element {
    const ZERO: Self;

    /// Whether [`Stored::load_half`] takes the even and the odd elements, not the first and the last.
    const INTERLEAVED: bool = false;

    /// # Safety
    /// `S::LANES` elements must lie at `from`.
    unsafe fn load<S: Simd>(s: S, from: *const Self) -> S::V;

    /// Half 0 or 1 of `2 * S::LANES` elements, whichever halves are quick to widen.
    ///
    /// # Safety
    /// `2 * S::LANES` elements must lie at `from`.
    #[inline(always)]
    unsafe fn load_half<S: Simd>(s: S, from: *const Self, half: usize) -> S::V {
        // SAFETY: the caller promises twice the elements.
        unsafe { Self::load(s, from.add(half * S::LANES)) }
    }
}

impl Stored for f32 {
    const ZERO: f32 = 0.0;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f32) -> S::V {
        // SAFETY: the caller's promise is the same.
        unsafe { s.load(from) }
    }
}

impl Stored for f16 {
    const ZERO: f16 = f16::ZERO;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const f16) -> S::V {
        // SAFETY: the caller's promise is the same.
        unsafe { s.load_f16(from) }
    }
}

impl Stored for bf16 {
    const ZERO: bf16 = bf16::ZERO;
    const INTERLEAVED: bool = true;

    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, from: *const bf16) -> S::V {
        // SAFETY: the caller's promise is the same.
        unsafe { s.load_bf16(from) }
    }

    #[inline(always)]
    unsafe fn load_half<S: Simd>(s: S, from: *const bf16, half: usize) -> S::V {
        // SAFETY: the caller's promise is the same.
        unsafe {
            if half == 0 {
                s.load_bf16_even(from)
            } else {
                s.load_bf16_odd(from)
            }
        }
    }
}

/// Operands and what to do with them.
pub(crate) trait Kernel {
    /// Must be `inline(always)`, and so must be what it calls.
    fn run<S: Simd>(self, s: S);
}

/// Runs a kernel with the vectors of `isa`. Returns it untouched for [`Isa::Scalar`], which has none.
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> Result<(), K> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Compute` holds no level that the processor lacks (`Isa::check`).
        Isa::Avx2 => unsafe { avx2::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; tiles come on top of AVX-512.
        Isa::Avx512 | Isa::Amx => unsafe { avx512::run(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: every 64-bit Arm processor that Rust's standard targets allow has NEON.
        Isa::Neon => unsafe { neon::run(kernel) },
        _ => return Err(kernel),
    }
    Ok(())
}

/// `exp(x)` to about 1e-7 of its value; 0 below -87.7, infinite above 88.4, NaN for NaN.
///
/// `exp(x) = 2^n · exp(r)` with `n = round(x / ln 2)`, and the Taylor polynomial of degree 7, whose
/// error for `|r| <= ln 2 / 2` is below 6e-9. `exp(0)` is exactly 1.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // 1/7!, 1/6!, ... 1/2!
    const COEFFICIENTS: [f32; 6] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    let x = s.max(s.splat(-88.0), s.min(s.splat(89.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(COEFFICIENTS[0]);
    for &c in &COEFFICIENTS[1..] {
        p = s.fma(p, r, s.splat(c));
    }
    p = s.fma(p, r, s.splat(1.0));
    p = s.fma(p, r, s.splat(1.0));
    s.mul(p, s.exp2_of_integer(n))
}

#[cfg(test)]
mod tests;
