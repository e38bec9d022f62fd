//! Products of codes by instructions that add several products at once.
//!
//! A tile of results stays in registers along a group: each step of codes is unpacked once for all
//! rows. At the end of a group its sums are weighed with the scales and added to f32 totals. 16
//! outputs are lanes, so nothing is summed across them.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::layout::{PackedShape, STEP, ScaleType, TILE, ZeroType};
#[cfg(target_arch = "aarch64")]
use super::neon::{self, prefetch};
use super::product::Task;
#[cfg(target_arch = "x86_64")]
use super::product::is_avx512;
use super::scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use super::wide::HEADERS_AHEAD;
#[cfg(target_arch = "x86_64")]
use super::{
    avx2::{self, prefetch},
    avx512, staged,
};
use crate::compute::Compute;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::isa::Isa;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::memory::LINE;

/// A task of a product of 8-bit activations.
pub(super) fn int8(compute: &Compute, task: &Task<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        let isa = compute.isa();
        let four = task.matrix.shape().bits == 4;
        if is_avx512(isa) {
            // SAFETY: a `Compute` holds no level that the processor lacks (`Isa::check`), and `has_vnni` is
            // what the processor says.
            return unsafe {
                match (compute.has_vnni(), four) {
                    (true, true) => avx512::vnni::<4>(task),
                    (true, false) => avx512::vnni::<8>(task),
                    (false, true) => avx512::plain::<4>(task),
                    (false, false) => avx512::plain::<8>(task),
                }
            };
        }
        if isa == Isa::Avx2 {
            // SAFETY: a `Compute` holds no level that the processor lacks (`Isa::check`).
            return unsafe {
                if four {
                    avx2::int8::<4>(task)
                } else {
                    avx2::int8::<8>(task)
                }
            };
        }
    }
    #[cfg(target_arch = "aarch64")]
    if compute.isa() == Isa::Neon {
        // SAFETY: a `Compute` holds no level that the processor lacks (`Isa::check`).
        return unsafe {
            if task.matrix.shape().bits == 4 {
                neon::int8::<4>(task)
            } else {
                neon::int8::<8>(task)
            }
        };
    }
    let _ = compute;
    scalar::int8(task);
}

/// A task of a product of 16-bit activations, where the layout says that sums fit.
pub(super) fn int16(compute: &Compute, task: &Task<'_>) {
    #[cfg(target_arch = "x86_64")]
    if compute.isa() == Isa::Avx2 {
        // SAFETY: a `Compute` holds no level that the processor lacks (`Isa::check`).
        return unsafe {
            if task.matrix.shape().bits == 4 {
                avx2::int16::<4>(task)
            } else {
                avx2::int16::<8>(task)
            }
        };
    }
    let _ = compute;
    scalar::int16(task);
}

/// A task of a product of bf16 activations; only where [`Compute::has_quick_bf16_dot`].
pub(super) fn bf16(compute: &Compute, task: &Task<'_>) {
    assert!(
        compute.has_quick_bf16_dot(),
        "chosen only where it is quick"
    );
    #[cfg(target_arch = "x86_64")]
    // SAFETY: checked above.
    unsafe {
        avx512::bf16(task);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = task;
}

/// Bytes of codes that are asked for ahead of their use.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const AHEAD: usize = 2048;

/// What integer sums of a group begin with, so that they end without the zeros of its codes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// The same for every output.
    Same(i32),
    /// This times an output's point.
    Times(i32),
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Start {
    /// `x_sum` is the group's, of [`Sums::of_codes`](super::activations::Sums::of_codes).
    #[inline(always)]
    pub(super) fn of(zeros: ZeroType, x_sum: f32) -> Start {
        let sum = x_sum.to_bits() as i32;
        match zeros {
            ZeroType::Points => Start::Times(sum.wrapping_neg()),
            ZeroType::Constant(point) => Start::Same(sum.wrapping_mul(-i32::from(point))),
            ZeroType::Minimums => Start::Same(0),
        }
    }
}

/// How steps of codes are unpacked and summed.
///
/// A value is the proof that the processor has the instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) trait Dot: Copy {
    /// Scales and zeros of 16 outputs.
    type Header: Copy;
    /// A step of codes, unpacked.
    type Codes: Copy;
    /// A step of activations.
    type X: Copy;
    /// The sums of a group, of 16 outputs.
    type Sums: Copy;
    /// The sums of at most [`Dot::FEW_STEPS`] steps: in fewer bits, where that is quicker.
    type Few: Copy;
    /// 16 f32.
    type Totals: Copy;
    /// Rows and tiles of results at a time where rows are few: (4, 1) or (4, 2).
    const BLOCK: (usize, usize);
    /// What is done where there are 8 rows or more.
    const MANY: Many;
    /// Bytes of a step of activations, and of codes.
    const STEP: (usize, usize);
    /// Steps whose products a [`Dot::Few`] holds.
    const FEW_STEPS: usize;

    /// # Safety
    /// A header of these types must lie at `from`.
    unsafe fn header(self, from: *const u8, scales: ScaleType, zeros: ZeroType) -> Self::Header;

    /// # Safety
    /// A step of codes must lie at `from`, aligned to a cache line.
    unsafe fn codes(self, from: *const u8, header: Self::Header) -> Self::Codes;

    /// # Safety
    /// A step of activations must lie at `from`.
    unsafe fn x(self, from: *const u8) -> Self::X;

    /// The sums of no inputs.
    fn start(self, header: Self::Header, start: Start) -> Self::Sums;

    /// What the next few steps are added to, when a group has these sums.
    fn few(self, sums: Self::Sums) -> Self::Few;

    /// Adds a step.
    fn add(self, few: Self::Few, codes: Self::Codes, x: Self::X) -> Self::Few;

    /// The sums of a group after the few steps that came after these.
    fn sums(self, before: Self::Sums, few: Self::Few) -> Self::Sums;

    /// No totals.
    fn zero(self) -> Self::Totals;

    /// Adds a group to totals.
    fn finish(
        self,
        totals: Self::Totals,
        sums: Self::Sums,
        header: Self::Header,
        x: (f32, f32),
        minimums: bool,
    ) -> Self::Totals;

    fn read(self, totals: Self::Totals) -> [f32; TILE];
}

/// What a product of 8 rows or more does otherwise than one of fewer.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[expect(dead_code, reason = "no processor needs all of them")]
#[derive(Clone, Copy)]
pub(super) enum Many {
    /// Nothing.
    Same,
    /// Takes blocks of 8 rows and two tiles.
    Rows,
    /// Unpacks codes once for all rows, and takes so many of them at a time: 4 or 8. Where unpacking is slow, or
    /// registers are few.
    Staged(usize),
}

/// A task, all of it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn run<D: Dot>(d: D, task: &Task<'_>) {
    #[cfg(target_arch = "x86_64")]
    if let Many::Staged(_) = D::MANY
        && task.rows.len() >= 8
        && staged::fits(task)
    {
        return staged::run(d, task);
    }
    let step = D::BLOCK.1;
    for first in task.tiles.clone().step_by(step) {
        let mut row = task.rows.start;
        while row < task.rows.end {
            row += match (task.rows.end - row, D::MANY, step) {
                (8.., Many::Rows, _) => block::<D, 8, 2>(d, task, first, row),
                (4.., _, 1) => block::<D, 4, 1>(d, task, first, row),
                (4.., _, _) => block::<D, 4, 2>(d, task, first, row),
                (2.., _, 1) => block::<D, 2, 1>(d, task, first, row),
                (2.., _, _) => block::<D, 2, 2>(d, task, first, row),
                (_, _, 1) => block::<D, 1, 1>(d, task, first, row),
                _ => block::<D, 1, 2>(d, task, first, row),
            };
        }
    }
}

/// `M` rows of activations: each holds the steps of all groups, and of each group a scale and a sum.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) struct Rows<const M: usize> {
    pub(super) values: [*const u8; M],
    pub(super) scales: [*const f32; M],
    pub(super) x_sums: [*const f32; M],
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl<const M: usize> Rows<M> {
    /// From `row` on.
    #[inline(always)]
    pub(super) fn new<D: Dot>(task: &Task<'_>, row: usize) -> Self {
        let (layout, x) = (task.matrix.layout(), &task.x);
        assert!(layout.step() == D::STEP.1 && layout.padded_k / STEP * D::STEP.0 == 4 * x.stride);
        let mut rows = Self {
            values: [std::ptr::null(); M],
            scales: [std::ptr::null(); M],
            x_sums: [std::ptr::null(); M],
        };
        // A loop, not closures: those are functions without the instructions.
        for i in 0..M {
            let (row, groups) = (row + i, layout.groups);
            rows.values[i] = x.values[row * x.stride..][..x.stride].as_ptr().cast();
            rows.scales[i] = x.scales[row * groups..][..groups].as_ptr();
            rows.x_sums[i] = x.sums[row * groups..][..groups].as_ptr();
        }
        rows
    }
}

/// `M` rows from `row` on, `N` tiles from `first` on. Returns `M`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
fn block<D: Dot, const M: usize, const N: usize>(
    d: D,
    task: &Task<'_>,
    first: usize,
    row: usize,
) -> usize {
    let layout = *task.matrix.layout();
    let PackedShape {
        scales: scale_type,
        zeros,
        ..
    } = layout.shape;
    let minimums = zeros == ZeroType::Minimums;
    // A tile beyond the last is computed as the last, and dropped.
    let tile = |j: usize| (first + j).min(task.tiles.end - 1);
    let columns: [&[u8]; N] = std::array::from_fn(|j| task.matrix.steps(tile(j)));
    let headers_of: [&[u8]; N] = std::array::from_fn(|j| task.matrix.headers(tile(j)));
    let Rows {
        values,
        scales,
        x_sums,
    } = Rows::<M>::new::<D>(task, row);
    let once = task.rows.len() <= M;
    let mut totals = [[d.zero(); N]; M];
    for group in 0..layout.groups {
        let at = layout.codes(group);
        let mut x_at = group * (layout.padded_group / STEP) * D::STEP.0;
        // Near the end of its column a stream goes on with the column after the others.
        let ahead = if at + AHEAD < layout.column {
            AHEAD
        } else {
            AHEAD + (N - 1) * layout.column
        };
        // SAFETY: the group is one of the layout, so its steps lie in each column, its header among
        // those of the column and its activations in each row; `scales` and `x_sums` hold a number for each group ([`Rows`]).
        unsafe {
            // Loops, not closures: those are functions without the instructions.
            let header_at = layout.header(group);
            let mut headers =
                [d.header(headers_of[0].as_ptr().add(header_at), scale_type, zeros); N];
            for j in 1..N {
                headers[j] = d.header(headers_of[j].as_ptr().add(header_at), scale_type, zeros);
            }
            for j in 0..N {
                let address = headers_of[j]
                    .as_ptr()
                    .wrapping_add(header_at + HEADERS_AHEAD);
                prefetch(address, once);
            }
            let mut sums = [[d.start(headers[0], Start::of(zeros, *x_sums[0].add(group))); N]; M];
            for i in 0..M {
                let start = Start::of(zeros, *x_sums[i].add(group));
                for j in 0..N {
                    sums[i][j] = d.start(headers[j], start);
                }
            }
            let (mut from, mut left) = (at, layout.steps(group));
            while left > 0 {
                let steps = left.min(D::FEW_STEPS);
                left -= steps;
                let mut few = [[d.few(sums[0][0]); N]; M];
                for i in 0..M {
                    for j in 0..N {
                        few[i][j] = d.few(sums[i][j]);
                    }
                }
                for _ in 0..steps {
                    let mut codes = [d.codes(columns[0].as_ptr().add(from), headers[0]); N];
                    for j in 1..N {
                        codes[j] = d.codes(columns[j].as_ptr().add(from), headers[j]);
                    }
                    for j in 0..N {
                        let address = columns[j].as_ptr().wrapping_add(from + ahead);
                        prefetch(address, once);
                        if D::STEP.1 > LINE {
                            prefetch(address.wrapping_add(LINE), once);
                        }
                    }
                    for i in 0..M {
                        let x = d.x(values[i].add(x_at));
                        for j in 0..N {
                            few[i][j] = d.add(few[i][j], codes[j], x);
                        }
                    }
                    from += D::STEP.1;
                    x_at += D::STEP.0;
                }
                for i in 0..M {
                    for j in 0..N {
                        sums[i][j] = d.sums(sums[i][j], few[i][j]);
                    }
                }
            }
            for i in 0..M {
                let x = (*scales[i].add(group), *x_sums[i].add(group));
                for j in 0..N {
                    totals[i][j] = d.finish(totals[i][j], sums[i][j], headers[j], x, minimums);
                }
            }
        }
    }
    for i in 0..M {
        for j in 0..N {
            if first + j < task.tiles.end {
                task.store(row + i, first + j, &d.read(totals[i][j]));
            }
        }
    }
    M
}
