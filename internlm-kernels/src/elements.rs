//! Numbers in the types that checkpoints and caches store.

use half::{bf16, f16};

use crate::error::{Result, check_len};

/// A slice in a stored type. Kernels widen each element to f32, which is exact.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The upper half of an f32.
    Bf16(&'a [bf16]),
}

impl<'a> Elements<'a> {
    /// `len` elements from `start` on.
    #[inline(always)]
    pub(crate) fn part(self, start: usize, len: usize) -> Elements<'a> {
        match self {
            Elements::F32(s) => Elements::F32(&s[start..start + len]),
            Elements::F16(s) => Elements::F16(&s[start..start + len]),
            Elements::Bf16(s) => Elements::Bf16(&s[start..start + len]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Elements::F32(s) => s.len(),
            Elements::F16(s) => s.len(),
            Elements::Bf16(s) => s.len(),
        }
    }

    /// Where an element lies, or would lie.
    pub(crate) fn address(&self, index: usize) -> *const u8 {
        match self {
            Elements::F32(s) => s.as_ptr().wrapping_add(index).cast(),
            Elements::F16(s) => s.as_ptr().wrapping_add(index).cast(),
            Elements::Bf16(s) => s.as_ptr().wrapping_add(index).cast(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Elements::F32(s) => size_of_val(*s),
            Elements::F16(s) => size_of_val(*s),
            Elements::Bf16(s) => size_of_val(*s),
        }
    }
}

/// Rounds to the nearest bf16, ties to even.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the lengths differ.
pub fn to_bf16(from: &[f32], to: &mut [bf16]) -> Result<()> {
    check_len("to_bf16", "to", to.len(), &[from.len()])?;
    for (to, &from) in to.iter_mut().zip(from) {
        *to = round_bf16(from);
    }
    Ok(())
}

/// Rounds to the nearest f16, ties to even; values beyond 65504 become infinite.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the lengths differ.
pub fn to_f16(from: &[f32], to: &mut [f16]) -> Result<()> {
    check_len("to_f16", "to", to.len(), &[from.len()])?;
    for (to, &from) in to.iter_mut().zip(from) {
        *to = f16::from_f32(from);
    }
    Ok(())
}

/// Widens to f32, exactly.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where the lengths differ.
pub fn to_f32(from: Elements<'_>, to: &mut [f32]) -> Result<()> {
    check_len("to_f32", "to", to.len(), &[from.len()])?;
    match from {
        Elements::F32(from) => to.copy_from_slice(from),
        Elements::F16(from) => to
            .iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = from.to_f32()),
        Elements::Bf16(from) => to
            .iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = from.to_f32()),
    }
    Ok(())
}

/// Rounds to the nearest bf16, ties to even; a NaN stays a NaN. Branch-free, so loops vectorise.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> bf16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x40;
    bf16::from_bits(if x.is_nan() { quiet } else { rounded } as u16)
}

/// Two numbers rounded to bf16, the first in the lower half.
#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
#[inline(always)]
pub(crate) fn bf16_pair(low: f32, high: f32) -> u32 {
    u32::from(round_bf16(low).to_bits()) | u32::from(round_bf16(high).to_bits()) << 16
}

/// A stored element.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    /// The value.
    fn widen(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Element for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_agrees_with_half_on_every_upper_half_and_at_ties() {
        for upper in 0..=u16::MAX {
            for lower in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                let (got, want) = (round_bf16(x), bf16::from_f32(x));
                assert!(got == want || (got.is_nan() && want.is_nan()), "{x:e}");
            }
        }
    }

    #[test]
    fn conversions_round_trip_and_check_lengths() {
        let x = [0.0, -1.5, 3.25, f32::INFINITY];
        let (mut b, mut h) = ([bf16::ZERO; 4], [f16::ZERO; 4]);
        to_bf16(&x, &mut b).unwrap();
        to_f16(&x, &mut h).unwrap();
        for from in [Elements::F32(&x), Elements::F16(&h), Elements::Bf16(&b)] {
            let mut back = [0.0; 4];
            to_f32(from, &mut back).unwrap();
            assert_eq!(back, x);
        }
        assert!(to_bf16(&x, &mut b[1..]).is_err());
        assert!(to_f16(&x[1..], &mut h).is_err());
        assert!(to_f32(Elements::F32(&x), &mut [0.0; 3]).is_err());
    }
}
