//! The instructions themselves.
//!
//! The compiler has no other use for tiles: nothing is built with the features that would let it emit
//! their instructions. So what one block of assembly leaves in them is there for the next one. Each
//! names all of them as clobbered.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::model::Model;
use super::{Block, Config, Kind, MAX_DEPTH, SIDE, Tiles, sample};

/// Whether tiles are there, may be used, and do what the model says. Asked and tried once.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        is_permitted()
            && [Kind::Signed, Kind::Mixed, Kind::Bf16]
                .into_iter()
                .all(|kind| {
                    [MAX_DEPTH, 24].into_iter().all(|depth| {
                        sample::<Hardware>(kind, depth) == sample::<Model>(kind, depth)
                    })
                })
    })
}

/// Whether the processor has tiles and the system lets this process use them.
fn is_permitted() -> bool {
    static PERMITTED: OnceLock<bool> = OnceLock::new();
    *PERMITTED.get_or_init(|| has_tiles() && request_permission())
}

/// CPUID leaf 7: edx bits 22 (bf16 products), 24 (tiles) and 25 (byte products). XCR0: bits 17 and 18,
/// their configuration and content (SDM, volume 1, section 13.3).
fn has_tiles() -> bool {
    const FEATURES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const STATE: u64 = 1 << 17 | 1 << 18;
    // The AVX-512 features are reported only where the system saves registers by `xsave`.
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("xsave")
        && __cpuid(0).eax >= 7
        && __cpuid_count(7, 0).edx & FEATURES == FEATURES
        // SAFETY: the processor has the instruction, and the system has enabled it.
        && unsafe { _xgetbv(0) } & STATE == STATE
}

/// Linux lets a process use the content of tiles (state 18) once it has asked, as that enlarges what is
/// saved of each thread. The answer holds for all threads, also for later ones.
fn request_permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: this request takes a number and touches no memory of the process.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

thread_local! {
    /// Whether a [`Hardware`] is alive on this thread.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
}

/// The tiles of the processor. Its existence proves that they are permitted and configured.
pub(crate) struct Hardware {
    config: Config,
    /// Tiles belong to a thread.
    thread: PhantomData<*mut ()>,
}

/// Assembly that changes tiles and no other register.
macro_rules! tiles {
    ([$($option:ident)?] $code:literal; $($operands:tt)*) => {
        asm!(
            $code,
            $($operands)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags $(, $option)?)
        )
    };
}

// SAFETY of all blocks below but the first: a `Hardware` exists, so its configuration is in force on this
// thread. `Config::new` gives the tiles shapes that fit each other in the roles that the constants check.
impl Tiles for Hardware {
    #[inline]
    fn configure(depth: usize) -> Hardware {
        assert!(is_permitted(), "tiles are there");
        let config = Config::new(depth);
        assert!(!IN_USE.replace(true), "one configuration at a time");
        // SAFETY: the processor has tiles; the instruction reads the 64 bytes of `config`.
        unsafe { tiles!([readonly] "ldtilecfg [{from}]"; from = in(reg) &raw const config,) };
        let thread = PhantomData;
        Hardware { config, thread }
    }

    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        const { assert!(T < 8) };
        // SAFETY: see above.
        unsafe { tiles!([nomem] "tilezero tmm{t}"; t = const T,) };
    }

    #[inline(always)]
    fn load<const T: usize>(&mut self, from: &[u8]) {
        const { assert!(4 <= T && T < 8) };
        assert_eq!(from.len(), self.config.bytes(T), "a whole tile");
        let stride = self.config.colsb(T);
        // SAFETY: see above; the rows of the tile, each of `stride` bytes, are `from` (checked).
        unsafe {
            tiles!([readonly] "tileloadd tmm{t}, [{from} + {stride}*1]";
                t = const T, from = in(reg) from.as_ptr(), stride = in(reg) stride,);
        }
    }

    #[inline(always)]
    fn store<const T: usize>(&mut self, to: &mut Block) {
        const { assert!(T < 4) };
        let stride = size_of_val(&to.0[0]);
        let to = &raw mut to.0[T / 2 * SIDE][T % 2 * SIDE];
        // SAFETY: see above; a tile of sums has 16 rows of 64 bytes, a quarter of the block.
        unsafe {
            tiles!([] "tilestored [{to} + {stride}*1], tmm{t}";
                t = const T, to = in(reg) to, stride = in(reg) stride,);
        }
    }

    #[inline(always)]
    fn add<const C: usize, const A: usize, const B: usize>(&mut self, kind: Kind) {
        const { assert!(C < 4 && (A == 4 || A == 5) && (B == 6 || B == 7)) };
        // SAFETY: see above.
        unsafe {
            match kind {
                Kind::Signed => {
                    tiles!([nomem] "tdpbssd tmm{c}, tmm{a}, tmm{b}";
                        c = const C, a = const A, b = const B,);
                }
                Kind::Mixed => {
                    tiles!([nomem] "tdpbsud tmm{c}, tmm{a}, tmm{b}";
                        c = const C, a = const A, b = const B,);
                }
                Kind::Bf16 => {
                    tiles!([nomem] "tdpbf16ps tmm{c}, tmm{a}, tmm{b}";
                        c = const C, a = const A, b = const B,);
                }
            }
        }
    }
}

impl Drop for Hardware {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the processor has tiles. Without content the system has less to save.
        unsafe { tiles!([nomem] "tilerelease";) };
        IN_USE.set(false);
    }
}
