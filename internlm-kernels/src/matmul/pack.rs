//! Activations in the order that a kernel reads them.

use half::bf16;

use crate::elements::round_bf16;
use crate::output::Output;
use crate::simd::{Kernel, Simd, Stored};

/// Elements that a packed row is a multiple of: two of the widest vectors.
pub(crate) const PACK: usize = 32;

/// Elements from one packed row to the next.
pub(crate) fn stride(k: usize) -> usize {
    k.next_multiple_of(PACK).max(PACK)
}

/// Copies rows of `x`, padded with zeros, in the order of [`Stored::load_half`] of the weights.
///
/// # Shapes
/// - x: `(rows, k)`
/// - to: `(rows, stride(k))`
pub(crate) struct Pack<'a, W> {
    pub(crate) x: &'a [f32],
    pub(crate) k: usize,
    pub(crate) to: &'a mut [f32],
    /// Whether elements are rounded to bf16.
    pub(crate) round: bool,
    pub(crate) weights: std::marker::PhantomData<W>,
}

impl<W: Stored> Kernel for Pack<'_, W> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let step = 2 * S::LANES;
        let rows = self.x.chunks_exact(self.k.max(1));
        for (x, to) in rows.zip(
            self.to
                .chunks_exact_mut(self.k.next_multiple_of(PACK).max(1)),
        ) {
            to[self.k..].fill(0.0);
            if W::INTERLEAVED {
                for (x, to) in x.chunks(step).zip(to.chunks_exact_mut(step)) {
                    let (even, odd) = to.split_at_mut(S::LANES);
                    if x.len() == step {
                        for lane in 0..S::LANES {
                            even[lane] = x[2 * lane];
                            odd[lane] = x[2 * lane + 1];
                        }
                    } else {
                        even.fill(0.0);
                        odd.fill(0.0);
                        for (index, &x) in x.iter().enumerate() {
                            if index % 2 == 0 {
                                even[index / 2] = x
                            } else {
                                odd[index / 2] = x
                            }
                        }
                    }
                }
            } else {
                to[..self.k].copy_from_slice(x);
            }
            if self.round {
                to.iter_mut().for_each(|x| *x = widen(round_bf16(*x)));
            }
        }
    }
}

/// Rounds rows of `x` to bf16, padded with zeros.
///
/// # Shapes
/// - x: `(rows, k)`
/// - to: `(rows, stride(k))`
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "for kernels of x86-64")
)]
pub(crate) struct Round<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) k: usize,
    pub(crate) to: &'a mut [bf16],
}

impl Kernel for Round<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let rows = self.x.chunks_exact(self.k.max(1));
        for (x, to) in rows.zip(
            self.to
                .chunks_exact_mut(self.k.next_multiple_of(PACK).max(1)),
        ) {
            to[self.k..].fill(bf16::ZERO);
            to.iter_mut()
                .zip(x)
                .for_each(|(to, &x)| *to = round_bf16(x));
        }
    }
}

#[inline(always)]
fn widen(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// Rows of `x` that one task packs.
const TASK_ROWS: usize = 8;

/// Packs on several threads: `pack` gets rows and where they go, both whole.
pub(crate) fn over_tasks<T: Send>(
    compute: &crate::compute::Compute,
    x: &[f32],
    k: usize,
    to: &mut [T],
    pack: impl Fn(&[f32], &mut [T]) + Sync,
) {
    let rows = x.len() / k.max(1);
    let stride = stride(k);
    let to = Output::new(to);
    compute.run(rows.div_ceil(TASK_ROWS), |task| {
        let rows = task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS);
        // SAFETY: each row is one task's alone.
        let to = unsafe { to.part(rows.start * stride, rows.len() * stride) };
        pack(&x[rows.start * k..rows.end * k], to);
    });
}
