//! Instruction sets, found at run time.

use std::fmt;

use crate::error::{Error, Result};

/// An instruction set that kernels are written for, from the plainest to the widest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust: the reference of all others, on any processor.
    Scalar,
    /// 128-bit vectors of 64-bit Arm.
    Neon,
    /// 256-bit vectors of x86-64: AVX2, FMA and F16C.
    Avx2,
    /// 512-bit vectors of x86-64: AVX-512 F, BW, DQ and VL.
    Avx512,
    /// [`Isa::Avx512`], and AMX tiles for products of 16 rows or more with activations of
    /// [`Activation::Bf16`](crate::Activation::Bf16) or, of packed weights,
    /// [`Activation::Int8`](crate::Activation::Int8). Linux only, which must allow the use of tiles.
    Amx,
}

impl Isa {
    const ALL: [Isa; 5] = [Isa::Scalar, Isa::Neon, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The widest instruction set of this processor.
    pub fn detect() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Scalar)
    }

    /// All instruction sets of this processor, the widest last. [`Isa::Scalar`] is always among them.
    pub fn available() -> Vec<Isa> {
        Isa::ALL
            .into_iter()
            .filter(|isa| isa.is_available())
            .collect()
    }

    /// The level that the variable `INTERNLM_KERNELS` names (`scalar`, `avx2`, `avx512`, `amx`,
    /// `neon`), or [`Isa::detect`] where it is unset or empty.
    ///
    /// # Errors
    /// [`Error::UnknownIsa`] for another word, [`Error::IsaUnavailable`] for a level that this
    /// processor lacks.
    pub fn from_env() -> Result<Isa> {
        match std::env::var("INTERNLM_KERNELS") {
            Ok(name) if !name.is_empty() => Isa::from_name(&name),
            _ => Ok(Isa::detect()),
        }
    }

    /// The level of this name.
    fn from_name(name: &str) -> Result<Isa> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| Error::UnknownIsa {
                name: name.to_owned(),
            })?;
        isa.check()
    }

    /// Itself, where the processor has it.
    pub(crate) fn check(self) -> Result<Isa> {
        if self.is_available() {
            Ok(self)
        } else {
            Err(Error::IsaUnavailable {
                isa: self,
                available: Isa::available(),
            })
        }
    }

    /// The name that `INTERNLM_KERNELS` uses.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            Isa::Neon => false,
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            Isa::Amx => Isa::Avx512.is_available() && has_amx(),
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn is_available(self) -> bool {
        matches!(self, Isa::Scalar | Isa::Neon)
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_available(self) -> bool {
        self == Isa::Scalar
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether tiles are there and work: see [`crate::amx`].
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn has_amx() -> bool {
    crate::amx::is_available()
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn has_amx() -> bool {
    false
}

/// Whether `vdpbf16ps` outruns two f32 multiply-adds: so on AMD's processors (twice the rate on
/// Zen 4), not on Intel's (half the rate on Granite Rapids).
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_quick_bf16_dot() -> bool {
    use std::arch::x86_64::__cpuid;
    let id = __cpuid(0);
    let vendor = [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes);
    vendor.as_flattened() == b"AuthenticAMD" && is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_quick_bf16_dot() -> bool {
    false
}

/// Whether AVX-512 adds products of bytes to integers (`vpdpbusd`).
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn has_vnni() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(Isa::from_name("Scalar ").unwrap(), Isa::Scalar);
        assert!(
            matches!(Isa::from_name("sse9"), Err(Error::UnknownIsa { name }) if name == "sse9")
        );
    }

    #[test]
    fn a_level_of_another_processor_is_named() {
        let foreign = if cfg!(target_arch = "aarch64") {
            Isa::Avx2
        } else {
            Isa::Neon
        };
        let got = Isa::from_name(foreign.name());
        assert!(matches!(got, Err(Error::IsaUnavailable { isa, .. }) if isa == foreign));
    }

    #[test]
    fn the_ladder_starts_at_scalar_and_ends_at_the_detected_level() {
        let available = Isa::available();
        assert_eq!(available.first(), Some(&Isa::Scalar));
        assert_eq!(available.last(), Some(&Isa::detect()));
    }
}
