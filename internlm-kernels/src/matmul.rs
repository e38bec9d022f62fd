//! Products of activations and dense weights.

#[cfg(any(test, all(target_arch = "x86_64", target_os = "linux")))]
mod amx;
pub(crate) mod pack;
mod scalar;
pub(crate) mod tile;

use std::marker::PhantomData;
use std::ops::Range;

use half::bf16;

use crate::compute::Compute;
use crate::elements::{Elements, round_bf16};
use crate::error::{Result, check_len};
use crate::isa::Isa;
use crate::output::Output;
use crate::parts::shrinking;
use crate::simd::{Kernel, Simd, Stored, dispatch};
use pack::Pack;
use tile::{Panel, add_widened};

/// How activations are rounded before a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    /// Not at all.
    #[default]
    F32,
    /// To the nearest bf16, as a network that runs in bf16 does. Sums stay in f32. Where weights are packed and AVX2 is
    /// all there is, to 16 bits of another kind, see [`packed_matmul`](crate::packed_matmul).
    Bf16,
    /// To 8 bits where weights are packed, see [`packed_matmul`](crate::packed_matmul). Dense weights
    /// are multiplied as with [`Activation::F32`].
    Int8,
}

/// A linear layer: `out = x · wᵀ + bias`.
///
/// A row's result is the same bit for bit whatever the number of rows, with one exception: where weights
/// are bf16, activations are [`Activation::Bf16`] and the level is [`Isa::Amx`], products of 16 rows or more
/// run on tiles, which sum in an order of their own and count numbers below 2⁻¹²⁶ as zeros. Among
/// themselves these agree bit for bit, too.
///
/// # Shapes
/// - x: `(m, k)`
/// - w: `(n, k)`, row-major as in a checkpoint
/// - bias: `(n)`
/// - out: `(m, n)`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where a slice has another length.
#[expect(
    clippy::too_many_arguments,
    reason = "a product has this many operands"
)]
pub fn matmul(
    compute: &Compute,
    x: &[f32],
    w: Elements<'_>,
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
    m: usize,
    n: usize,
    k: usize,
) -> Result<()> {
    check_len("matmul", "x", x.len(), &[m, k])?;
    check_len("matmul", "w", w.len(), &[n, k])?;
    check_len("matmul", "out", out.len(), &[m, n])?;
    if let Some(bias) = bias {
        check_len("matmul", "bias", bias.len(), &[n])?;
    }
    if m == 0 || n == 0 {
        return Ok(());
    }
    let shape = Shape { m, n, k };
    match w {
        Elements::Bf16(w) if activation == Activation::Bf16 => {
            rounded_bf16(compute, x, w, bias, out, shape);
        }
        Elements::Bf16(w) => widened(compute, x, w, bias, activation, out, shape),
        Elements::F16(w) => widened(compute, x, w, bias, activation, out, shape),
        Elements::F32(w) => widened(compute, x, w, bias, activation, out, shape),
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Shape {
    m: usize,
    n: usize,
    k: usize,
}

/// bf16 weights with activations rounded to bf16.
fn rounded_bf16(
    compute: &Compute,
    x: &[f32],
    w: &[bf16],
    bias: Option<&[f32]>,
    out: &mut [f32],
    shape: Shape,
) {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if compute.isa() == Isa::Amx && shape.m >= crate::amx::MIN_ROWS {
        return amx::matmul::<crate::amx::Hardware>(compute, x, w, bias, out, shape);
    }
    #[cfg(target_arch = "x86_64")]
    if compute.has_quick_bf16_dot() {
        return dot::matmul(compute, x, w, bias, out, shape);
    }
    widened(compute, x, w, bias, Activation::Bf16, out, shape);
}

/// Weights of any type, widened to f32.
fn widened<W: Stored>(
    compute: &Compute,
    x: &[f32],
    w: &[W],
    bias: Option<&[f32]>,
    activation: Activation,
    out: &mut [f32],
    shape: Shape,
) {
    let Shape { m, k, .. } = shape;
    let isa = compute.isa();
    if isa == Isa::Scalar {
        return scalar::matmul(compute, x, w, bias, activation, out, shape);
    }
    let round = activation == Activation::Bf16;
    let x_stride = pack::stride(k);
    compute.with_scratch(m * x_stride, |packed| {
        pack::over_tasks(compute, x, k, packed, |x, to| {
            // Never refused: the scalar case has left above.
            let _ = dispatch(
                isa,
                Pack {
                    x,
                    k,
                    to,
                    round,
                    weights: PhantomData::<W>,
                },
            );
        });
        let (packed, out) = (&*packed, Output::new(out));
        over_tiles::<W>(compute, shape, |rows, columns| {
            let task = Task {
                x: packed,
                x_stride,
                w,
                bias,
                out,
                shape,
                rows,
                columns,
            };
            let _ = dispatch(isa, Widen(task));
        });
    });
}

/// Some rows and columns of a product; what one thread does at a time.
struct Task<'a, X, W> {
    /// Packed.
    x: &'a [X],
    x_stride: usize,
    w: &'a [W],
    bias: Option<&'a [f32]>,
    out: Output<'a, f32>,
    shape: Shape,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<X: Copy, W: Stored> Task<'_, X, W> {
    /// The operands, the result begun with the bias.
    fn panel(&self) -> Panel<X, W> {
        let Shape { n, k, .. } = self.shape;
        let width = self.columns.len();
        for row in self.rows.clone() {
            // SAFETY: tasks have no element of the result in common.
            let out = unsafe { self.out.part(row * n + self.columns.start, width) };
            match self.bias {
                Some(bias) => out.copy_from_slice(&bias[self.columns.clone()]),
                None => out.fill(0.0),
            }
        }
        let x = &self.x[self.rows.start * self.x_stride..self.rows.end * self.x_stride];
        let w = &self.w[self.columns.start * k..self.columns.end * k];
        Panel {
            x: x.as_ptr(),
            x_stride: self.x_stride,
            rows: self.rows.len(),
            w: w.as_ptr(),
            w_stride: k,
            ahead: w.as_ptr().wrapping_byte_add(AHEAD_BYTES),
            columns: width,
            k,
            out: self.out.at(self.rows.start * n + self.columns.start),
            out_stride: n,
        }
    }
}

struct Widen<'a, W>(Task<'a, f32, W>);

impl<W: Stored> Kernel for Widen<'_, W> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the task's slices hold the panel, and its part of the result is its alone.
        unsafe { add_widened(s, self.0.panel()) };
    }
}

/// Columns of a task are multiples of the columns of every tile.
const COLUMNS: usize = 24;

/// Rows that make a product a matter of reading its weights.
pub(crate) const FEW_ROWS: usize = 8;

/// Columns of a task when many rows share the weights.
const MANY_COLUMNS: usize = 96;

/// Bytes of weights of a task when few rows share them, at least: enough to hide the handing out.
pub(crate) const FEW_BYTES: usize = 16 << 10;

/// The same at most: some microseconds of reading, which others wait for where a thread is held up.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// How far ahead of the sums weights are asked for where few rows share them: so much is on its way at
/// a time that a core reads as fast as it can (measured on Zen 5 with 4 to 32 KiB).
const AHEAD_BYTES: usize = 16 << 10;

/// Multiplications below which waking other threads costs more than it saves.
const SMALL: usize = 1 << 16;

/// Splits a product with weights of type `W` among threads: calls `each` for parts that cover it.
fn over_tiles<W>(
    compute: &Compute,
    shape: Shape,
    each: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let Shape { m, n, k } = shape;
    if m.saturating_mul(n).saturating_mul(k) <= SMALL {
        return each(0..m, 0..n);
    }
    if m <= FEW_ROWS {
        let least = FEW_BYTES.div_ceil(k * size_of::<W>());
        let unit = least.next_multiple_of(COLUMNS);
        let most = MOST_BYTES / (unit * k * size_of::<W>());
        let parts = shrinking(n.div_ceil(unit), most, compute.threads());
        compute.announce::<W>(&[]);
        return compute.run(parts.len(), |task| {
            let columns = n.min(parts[task].start * unit)..n.min(parts[task].end * unit);
            if !columns.is_empty() {
                each(0..m, columns);
            }
        });
    }
    let enough = 4 * compute.threads();
    let columns = if n < MANY_COLUMNS * enough {
        COLUMNS
    } else {
        MANY_COLUMNS
    };
    let column_tasks = n.div_ceil(columns);
    // Rows are split too where there are many and columns alone don't occupy the threads.
    let row_tasks = enough.div_ceil(column_tasks).min(m.div_ceil(64));
    let rows = m.div_ceil(row_tasks).next_multiple_of(4);
    compute.run(column_tasks * m.div_ceil(rows), |task| {
        let (row, column) = (task / column_tasks * rows, task % column_tasks * columns);
        each(row..m.min(row + rows), column..n.min(column + columns));
    });
}

/// Products by `vdpbf16ps`, which multiplies pairs of bf16 and adds them to f32.
#[cfg(target_arch = "x86_64")]
mod dot {
    use std::arch::x86_64::{__m512, __m512i};

    use super::*;
    use crate::matmul::pack::Round;
    use crate::matmul::tile::{Product, add_product};
    use crate::simd::avx512::{Avx512, Avx512Bf16, DotKernel, run_dot};

    impl Product<Avx512> for Avx512Bf16 {
        type X = bf16;
        type W = bf16;
        type Operand = __m512i;
        const STEP: usize = 32;
        const PARTS: usize = 1;

        #[inline(always)]
        unsafe fn store(self, _: Avx512, to: *mut bf16, operand: __m512i) {
            // SAFETY: the caller's promise is the same.
            unsafe { self.store(to, operand) }
        }

        #[inline(always)]
        unsafe fn x(self, _: Avx512, from: *const bf16, _: usize) -> __m512i {
            // SAFETY: the caller's promise is the same.
            unsafe { self.load(from) }
        }

        #[inline(always)]
        unsafe fn w(self, _: Avx512, from: *const bf16, _: usize) -> __m512i {
            // SAFETY: the caller's promise is the same.
            unsafe { self.load(from) }
        }

        #[inline(always)]
        fn add(self, _: Avx512, sums: __m512, x: __m512i, w: __m512i) -> __m512 {
            self.dot(sums, x, w)
        }
    }

    struct Dot<'a>(Task<'a, bf16, bf16>);

    impl DotKernel for Dot<'_> {
        #[inline(always)]
        fn run(self, s: Avx512Bf16) {
            // SAFETY: the task's slices hold the panel, and its part of the result is its alone.
            unsafe { add_product(s.simd(), s, &self.0.panel()) };
        }
    }

    pub(super) fn matmul(
        compute: &Compute,
        x: &[f32],
        w: &[bf16],
        bias: Option<&[f32]>,
        out: &mut [f32],
        shape: Shape,
    ) {
        let Shape { m, k, .. } = shape;
        let x_stride = pack::stride(k);
        compute.with_scratch(m * x_stride / 2, |packed| {
            let packed: &mut [bf16] = bytemuck::cast_slice_mut(packed);
            pack::over_tasks(compute, x, k, packed, |x, to| {
                let _ = dispatch(Isa::Avx512, Round { x, k, to });
            });
            let (packed, out) = (&*packed, Output::new(out));
            over_tiles::<bf16>(compute, shape, |rows, columns| {
                let task = Task {
                    x: packed,
                    x_stride,
                    w,
                    bias,
                    out,
                    shape,
                    rows,
                    columns,
                };
                // SAFETY: `has_quick_bf16_dot` is true only on processors with these instructions.
                unsafe { run_dot(Dot(task)) };
            });
        });
    }
}

/// Activations as they enter a product.
fn rounded(x: &[f32], activation: Activation) -> std::borrow::Cow<'_, [f32]> {
    match activation {
        Activation::F32 | Activation::Int8 => x.into(),
        Activation::Bf16 => x.iter().map(|&x| round_bf16(x).to_f32()).collect(),
    }
}
