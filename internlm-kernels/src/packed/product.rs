//! The product: which kernel runs, and on which parts.

use std::ops::Range;

use super::activations::{Activations, Form};
use super::layout::TILE;
use super::matrix::PackedMatrix;
use super::wide::Wide;
use super::{dot, scalar};
use crate::compute::Compute;
use crate::error::{Result, check_len};
#[cfg(target_arch = "x86_64")]
use crate::isa::Isa;
use crate::matmul::{Activation, FEW_BYTES, FEW_ROWS, MOST_BYTES};
use crate::output::{Output, add_to};
use crate::parts::shrinking;
use crate::simd::{Simd, dispatch};

/// A linear layer of packed weights: `out = x · wᵀ + bias`.
///
/// Weights count exactly as [`PackedMatrix::dequantize`] gives them up to the rounding of sums, and a
/// row's result is the same bit for bit whatever the number of rows and threads; for the one exception
/// see [`Activation::Bf16`] below. `activation` says what happens to x:
/// - [`Activation::F32`]: nothing. Errors are those of sums in f32.
/// - [`Activation::Bf16`]: rounded to bf16, which is off by at most 2⁻⁸ of each activation. Sums stay
///   in f32; where the processor multiplies bf16 quickly, points and minimums are weighed in after a
///   group is summed, so that its rounding is relative to `Σ |x| · (code · scale + |minimum|)`. With
///   [`Isa::Amx`] products of 16 rows or more round weights to bf16 as well, which is off by at most 2⁻⁹
///   of each weight. There a row's result is the same bit for bit among products of 16 rows or more, and
///   among those of fewer, but not from one to the other. With [`Isa::Avx2`] activations are rounded to
///   16 bits per row and group instead, scaled by the group's largest magnitude, which is off by at most
///   1/65534 of that magnitude, and else are as [`Activation::Int8`]; groups of more than 4096 weights of
///   4 bits or 256 of 8 are computed with activations rounded to bf16.
/// - [`Activation::Int8`]: rounded to 8 bits per row and group of the matrix, scaled by the group's
///   largest magnitude. An activation is off by at most 1/254 of that magnitude. Sums of a group are
///   exact integers, and the result is the same on every instruction set. A row in which a number is
///   NaN or infinite becomes NaN, magnitudes below 1e-33 count as zeros.
///
/// # Shapes
/// - x: `(m, k)`
/// - w: `(n, k)`
/// - bias: `(n)`
/// - out: `(m, n)`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where a slice has another length.
pub fn packed_matmul(
    compute: &Compute,
    x: &[f32],
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
    m: usize,
) -> Result<()> {
    let shape = w.shape();
    let (n, k) = (shape.n, shape.k);
    check_len("packed_matmul", "x", x.len(), &[m, k])?;
    check_len("packed_matmul", "out", out.len(), &[m, n])?;
    if let Some(bias) = bias {
        check_len("packed_matmul", "bias", bias.len(), &[n])?;
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if compute.isa() == Isa::Amx && m >= crate::amx::MIN_ROWS {
        use super::amx;
        use crate::amx::Hardware;
        match activation {
            Activation::Bf16 => {
                amx::bf16::matmul::<Hardware>(compute, x, w, bias, out, m);
                return Ok(());
            }
            Activation::Int8 => {
                amx::int8::matmul::<Hardware>(compute, x, w, bias, out, m);
                return Ok(());
            }
            Activation::F32 => {}
        }
    }
    let form = match activation {
        Activation::F32 => Form::F32,
        Activation::Bf16 if compute.has_quick_bf16_dot() && shape.bits == 4 => Form::Bf16,
        Activation::Bf16 if compute.has_quick_int16_dot() && w.layout().fits_int16() => Form::Int16,
        Activation::Bf16 => Form::Rounded,
        Activation::Int8 => Form::Int8,
    };
    product(compute, x, w, bias, form, out, m);
    Ok(())
}

/// [`packed_matmul`] with activations in this form.
pub(super) fn product(
    compute: &Compute,
    x: &[f32],
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    form: Form,
    out: &mut [f32],
    m: usize,
) {
    form.prepare(compute, w.layout(), x, |x| {
        let out = Output::new(out);
        over_tasks(compute, m, w, form, |rows, tiles| {
            let task = Task {
                matrix: w,
                x,
                bias,
                out,
                rows,
                tiles,
            };
            match form {
                Form::F32 | Form::Rounded => {
                    if let Err(Wide(task)) = dispatch(compute.isa(), Wide(task)) {
                        scalar::wide(&task);
                    }
                }
                Form::Bf16 => dot::bf16(compute, &task),
                Form::Int16 => dot::int16(compute, &task),
                Form::Int8 => dot::int8(compute, &task),
            }
        });
    });
}

/// Some rows and tiles of a product; what one thread does at a time.
pub(super) struct Task<'a> {
    pub(super) matrix: &'a PackedMatrix,
    pub(super) x: Activations<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) out: Output<'a, f32>,
    pub(super) rows: Range<usize>,
    pub(super) tiles: Range<usize>,
}

impl<'a> Task<'a> {
    /// The same product, on these rows and tiles of it.
    #[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
    #[inline(always)]
    pub(super) fn over(&self, rows: Range<usize>, tiles: Range<usize>) -> Task<'a> {
        Task {
            rows,
            tiles,
            ..*self
        }
    }

    /// Begins the result with the bias.
    #[inline(always)]
    pub(super) fn begin(&self) {
        for row in self.rows.clone() {
            let (out, columns) = self.part(row, self.tiles.start * TILE, self.tiles.len() * TILE);
            match self.bias {
                Some(bias) => out.copy_from_slice(&bias[columns]),
                None => out.fill(0.0),
            }
        }
    }

    /// Stores sums of `W` columns from a tile on and adds the bias; those beyond the last column are
    /// dropped.
    #[inline(always)]
    pub(super) fn store<const W: usize>(&self, row: usize, tile: usize, totals: &[f32; W]) {
        let (out, columns) = self.part(row, tile * TILE, W);
        match out.as_mut_array::<W>() {
            // Whole, as nearly always: no call that copies any number of bytes.
            Some(out) => *out = *totals,
            None => out.copy_from_slice(&totals[..columns.len()]),
        }
        if let Some(bias) = self.bias {
            out.iter_mut()
                .zip(&bias[columns])
                .for_each(|(out, bias)| *out += bias);
        }
    }

    /// Adds sums of `W` columns from a tile on; those beyond the last column are dropped.
    #[inline(always)]
    pub(super) fn add<const W: usize>(&self, row: usize, tile: usize, sums: &[f32; W]) {
        let (out, _) = self.part(row, tile * TILE, W);
        add_to(out, sums);
    }

    /// Adds vectors of sums from a column on; those beyond the last column are dropped.
    #[inline(always)]
    pub(super) fn add_vectors<S: Simd, const V: usize>(
        &self,
        s: S,
        row: usize,
        column: usize,
        sums: [S::V; V],
    ) {
        let (out, _) = self.part(row, column, V * S::LANES);
        let whole = out.len() == V * S::LANES;
        // Indices, so that sums need not be in memory.
        for v in 0..V {
            let at = v * S::LANES;
            if whole || at + S::LANES <= out.len() {
                // SAFETY: a whole vector.
                unsafe {
                    let to = out.as_mut_ptr().add(at);
                    s.store(to, s.add(s.load(to), sums[v]));
                }
            } else if at < out.len() {
                let out = &mut out[at..];
                s.store_some(out, s.add(s.load_some(out), sums[v]));
            }
        }
    }

    /// A row's elements of `width` columns from `start` on, fewer at the end of the task's, and these
    /// columns.
    #[expect(clippy::mut_from_ref, reason = "see `Output::part`")]
    #[inline(always)]
    fn part(&self, row: usize, start: usize, width: usize) -> (&mut [f32], Range<usize>) {
        let n = self.matrix.shape().n;
        let end = n.min(self.tiles.end * TILE);
        let columns = start.min(end)..end.min(start + width);
        assert!(
            self.rows.contains(&row) && start >= self.tiles.start * TILE,
            "a part of this task"
        );
        // SAFETY: tasks have no element of the result in common, and a task takes one part at a time.
        let out = unsafe { self.out.part(row * n + columns.start, columns.len()) };
        (out, columns)
    }
}

/// Multiplications below which waking other threads costs more than it saves.
const SMALL: usize = 1 << 16;

/// Tiles of a task are a multiple of what the widest kernel takes at a time.
const TILES: usize = 4;

impl Form {
    /// Tiles that a kernel takes at a time where there are few rows.
    fn tiles(self) -> usize {
        match self {
            Form::F32 | Form::Rounded => TILES,
            Form::Bf16 | Form::Int16 | Form::Int8 => 2,
        }
    }
}

/// Splits a product among threads: calls `each` for rows and tiles that cover it.
fn over_tasks(
    compute: &Compute,
    m: usize,
    w: &PackedMatrix,
    form: Form,
    each: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let tiles = w.layout().columns;
    let (n, k) = (w.shape().n, w.shape().k);
    if m.saturating_mul(n).saturating_mul(k) <= SMALL {
        return each(0..m, 0..tiles);
    }
    if m <= FEW_ROWS {
        let least = FEW_BYTES.div_ceil(w.layout().column);
        let unit = least.next_multiple_of(form.tiles());
        let most = MOST_BYTES / (unit * w.layout().column);
        let parts = shrinking(tiles.div_ceil(unit), most, compute.threads());
        compute.announce::<u8>(&[]);
        return compute.run(parts.len(), |task| {
            let tiles = tiles.min(parts[task].start * unit)..tiles.min(parts[task].end * unit);
            if !tiles.is_empty() {
                each(0..m, tiles);
            }
        });
    }
    let enough = 8 * compute.threads();
    let at_once = (tiles / enough).next_multiple_of(TILES).max(TILES);
    let at_once = if m > 16 {
        at_once.min(2 * TILES)
    } else {
        at_once
    };
    let tile_tasks = tiles.div_ceil(at_once);
    // Rows are split too where there are many and tiles alone don't occupy the threads.
    let row_tasks = enough.div_ceil(tile_tasks).min(m.div_ceil(64));
    let rows = m.div_ceil(row_tasks).next_multiple_of(8);
    compute.run(tile_tasks * m.div_ceil(rows), |task| {
        let (row, tile) = (task / tile_tasks * rows, task % tile_tasks * at_once);
        each(row..m.min(row + rows), tile..tiles.min(tile + at_once));
    });
}

/// Whether AVX-512 runs, of its own or below AMX.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_avx512(isa: Isa) -> bool {
    matches!(isa, Isa::Avx512 | Isa::Amx)
}
