//! Products of packed activations and row-major weights, in tiles of sums that stay in registers.
//!
//! Each element of the result is a dot product along k: lane by lane over a block of [`Product::K_BLOCK`], then
//! the lanes in a fixed order, then block after block. The order depends on k alone, so a row's result
//! is the same whatever tile computed it.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::matmul::pack::PACK;
use crate::simd::{Kernel, Simd, Stored};

/// Rows that go over a tile of weights while it is in the cache.
const M_BLOCK: usize = 128;

/// From so many rows on, a tile of weights is widened once for all rows. The values and the order of
/// sums stay the same.
const STAGE_ROWS: usize = 9;

/// Memory for a tile of staged weights, and its columns at most.
const STAGE_BYTES: usize = 24 * 1024;
const STAGE_COLUMNS: usize = 6;

/// How one step along k is loaded and summed.
pub(crate) trait Product<S: Simd>: Copy {
    /// Packed activations.
    type X: Copy;
    /// Weights.
    type W: Stored;
    /// What one load gives.
    type Operand: Copy;
    /// Elements of k of one step; divides `K_BLOCK` and the packing of activations.
    const STEP: usize;
    /// Loads of each operand in one step.
    const PARTS: usize;
    /// Elements of k between two sums of lanes. So many of the weights of a tile, staged, and of the
    /// activations of its rows fit the first-level cache, and those of [`M_BLOCK`] rows the second.
    const K_BLOCK: usize = STAGE_BYTES / STAGE_COLUMNS / size_of::<Self::X>();
    /// Columns of a tile of one row. Memory is read fastest in one run, a column after the other; where
    /// a cache line takes several sums that wait for each other, two columns hide the waiting.
    const COLUMNS_ALONE: usize = if S::LANES * size_of::<Self::W>() < 64 {
        2
    } else {
        1
    };

    /// Stores an operand where [`Product::x`] finds it as part 0.
    ///
    /// # Safety
    /// There must be room for `STEP / PARTS` elements.
    unsafe fn store(self, s: S, to: *mut Self::X, operand: Self::Operand);

    /// # Safety
    /// `STEP` elements must lie at `from`.
    unsafe fn x(self, s: S, from: *const Self::X, part: usize) -> Self::Operand;

    /// # Safety
    /// `STEP` elements must lie at `from`.
    unsafe fn w(self, s: S, from: *const Self::W, part: usize) -> Self::Operand;

    /// Adds products lane by lane.
    fn add(self, s: S, sums: S::V, x: Self::Operand, w: Self::Operand) -> S::V;
}

/// Weights widened to f32 in registers.
struct Widened<W>(PhantomData<W>);

impl<W> Clone for Widened<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Widened<W> {}

impl<S: Simd, W: Stored> Product<S> for Widened<W> {
    type X = f32;
    type W = W;
    type Operand = S::V;
    const STEP: usize = 2 * S::LANES;
    const PARTS: usize = 2;

    #[inline(always)]
    unsafe fn store(self, s: S, to: *mut f32, operand: S::V) {
        // SAFETY: the caller's promise is the same.
        unsafe { s.store(to, operand) }
    }

    #[inline(always)]
    unsafe fn x(self, s: S, from: *const f32, part: usize) -> S::V {
        // SAFETY: the caller promises both vectors.
        unsafe { s.load(from.add(part * S::LANES)) }
    }

    #[inline(always)]
    unsafe fn w(self, s: S, from: *const W, part: usize) -> S::V {
        // SAFETY: the caller's promise is the same.
        unsafe { W::load_half(s, from, part) }
    }

    #[inline(always)]
    fn add(self, s: S, sums: S::V, x: S::V, w: S::V) -> S::V {
        s.fma(x, w, sums)
    }
}

/// Operands of one product: `out[i][j] += x[i] · w[j]`.
///
/// # Shapes
/// - x: `rows` rows of `k` elements, packed: padded with zeros to whole steps
/// - w: `columns` rows of `k` elements
/// - out: `(rows, columns)`
///
/// Strides are in elements.
#[derive(Clone, Copy)]
pub(crate) struct Panel<X, W> {
    pub(crate) x: *const X,
    pub(crate) x_stride: usize,
    pub(crate) rows: usize,
    pub(crate) w: *const W,
    pub(crate) w_stride: usize,
    /// Memory that is needed after this, as much as the weights take. It is asked for on the way where
    /// rows are few, and need not exist.
    pub(crate) ahead: *const W,
    pub(crate) columns: usize,
    pub(crate) k: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// Adds a product of weights of any type, widened to f32, to `out`.
///
/// # Safety
/// As [`add_product`].
#[inline(always)]
pub(crate) unsafe fn add_widened<S: Simd, W: Stored>(s: S, panel: Panel<f32, W>) {
    /// A function of its own, as several kernels need this much code.
    struct Add<W>(Panel<f32, W>);

    impl<W: Stored> Kernel for Add<W> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            // SAFETY: it is made below alone, from what the caller of `add_widened` vouches for.
            unsafe { add_product(s, Widened::<W>(PhantomData), &self.0) }
        }
    }

    s.call(Add(panel));
}

/// Adds a product to `out`.
///
/// # Safety
/// The operands must lie where the panel says, and nothing else may refer to `out`.
#[inline(always)]
pub(crate) unsafe fn add_product<S: Simd, P: Product<S>>(s: S, p: P, panel: &Panel<P::X, P::W>) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        match S::TILE {
            (3, 4) => add_product_tiled::<S, P, 3, 4>(s, p, panel),
            _ => add_product_tiled::<S, P, 4, 6>(s, p, panel),
        }
    }
}

/// # Safety
/// As [`add_product`].
#[inline(always)]
unsafe fn add_product_tiled<S: Simd, P: Product<S>, const M: usize, const N: usize>(
    s: S,
    p: P,
    panel: &Panel<P::X, P::W>,
) {
    let staged = panel.rows >= STAGE_ROWS;
    let width = if panel.rows == 1 { P::COLUMNS_ALONE } else { N };
    // Few rows: each tile of weights over all of k, so that memory is read in long runs.
    let at_once = staged || panel.k <= P::K_BLOCK;
    let columns_at_once = if at_once { panel.columns } else { width };
    let mut stage = Stage([MaybeUninit::uninit(); STAGE_BYTES / 4]);
    for column in (0..panel.columns).step_by(columns_at_once.max(1)) {
        for k in (0..panel.k).step_by(P::K_BLOCK) {
            for row in (0..panel.rows).step_by(M_BLOCK) {
                let mut block = *panel;
                block.rows = M_BLOCK.min(panel.rows - row);
                block.columns = columns_at_once.min(panel.columns - column);
                block.k = P::K_BLOCK.min(panel.k - k);
                // SAFETY: row, column and k are within the panel.
                unsafe {
                    block.x = panel.x.add(row * panel.x_stride + k);
                    block.w = panel.w.add(column * panel.w_stride + k);
                    block.out = panel.out.add(row * panel.out_stride + column);
                    block.ahead = panel
                        .ahead
                        .wrapping_add(column * panel.w_stride + k * width);
                    add_block::<S, P, M, N>(s, p, block, width, staged.then_some(&mut stage));
                }
            }
        }
    }
}

/// One block of k and of rows: tiles of weights, at most `width` columns wide, and for each all rows.
///
/// # Safety
/// As [`add_product`].
#[inline(always)]
unsafe fn add_block<S: Simd, P: Product<S>, const M: usize, const N: usize>(
    s: S,
    p: P,
    mut block: Panel<P::X, P::W>,
    width: usize,
    mut stage: Option<&mut Stage>,
) {
    let mut rest = block.columns;
    while rest > 0 {
        // SAFETY: the columns are there.
        let done = unsafe {
            match stage.as_deref_mut() {
                Some(stage) if rest >= N => {
                    let staged = stage_columns::<S, P, N>(s, p, &block, stage);
                    add_columns::<S, P, _, M, N>(s, p, &block, staged);
                    N
                }
                None if rest.min(width) >= N => {
                    add_columns::<S, P, _, M, N>(s, p, &block, Direct::new(&block));
                    N
                }
                _ if rest.min(width) >= 2 => {
                    add_columns::<S, P, _, M, 2>(s, p, &block, Direct::new(&block));
                    2
                }
                _ => {
                    add_columns::<S, P, _, M, 1>(s, p, &block, Direct::new(&block));
                    1
                }
            }
        };
        rest -= done;
        // SAFETY: the next column, or one past the last.
        unsafe {
            block.w = block.w.add(done * block.w_stride);
            block.ahead = block.ahead.wrapping_add(done * block.w_stride);
            block.out = block.out.add(done);
        }
    }
}

/// Where a tile's weights come from.
trait Weights<S: Simd, P: Product<S>, const N: usize>: Copy {
    /// Part of the step at `k` of column `j`.
    ///
    /// # Safety
    /// The step must be there and whole, `j` below `N`.
    unsafe fn load(self, s: S, p: P, k: usize, part: usize, j: usize) -> P::Operand;

    /// Part of the last step, which has only `len` elements.
    ///
    /// # Safety
    /// The elements must be there, `j` below `N`.
    unsafe fn load_rest(
        self,
        s: S,
        p: P,
        k: usize,
        len: usize,
        part: usize,
        j: usize,
    ) -> P::Operand;
}

/// Rows of `k` elements where they lie.
#[derive(Clone, Copy)]
struct Direct<W> {
    w: *const W,
    stride: usize,
    /// Memory that will be needed next, asked for step by step in one run.
    ahead: *const W,
}

impl<W> Direct<W> {
    #[inline(always)]
    fn new<X>(block: &Panel<X, W>) -> Self {
        Self {
            w: block.w,
            stride: block.w_stride,
            ahead: block.ahead,
        }
    }
}

impl<S: Simd, P: Product<S>, const N: usize> Weights<S, P, N> for Direct<P::W> {
    #[inline(always)]
    unsafe fn load(self, s: S, p: P, k: usize, part: usize, j: usize) -> P::Operand {
        // SAFETY: the caller's promise is the same. The prefetched address need not exist.
        unsafe {
            // One per cache line: both parts of a step of 2-byte elements share it.
            let part_len = P::STEP / P::PARTS;
            if part == 0 || part_len * size_of::<P::W>() >= 64 {
                let offset = k * N + j * P::STEP + part * part_len;
                s.prefetch_once(self.ahead.wrapping_add(offset).cast());
            }
            p.w(s, self.w.add(j * self.stride + k), part)
        }
    }

    #[inline(always)]
    unsafe fn load_rest(
        self,
        s: S,
        p: P,
        k: usize,
        len: usize,
        part: usize,
        j: usize,
    ) -> P::Operand {
        let mut step = [P::W::ZERO; PACK];
        // SAFETY: the caller promises the elements; a step is no longer than `PACK`.
        unsafe {
            self.w
                .add(j * self.stride + k)
                .copy_to_nonoverlapping(step.as_mut_ptr(), len);
            p.w(s, step.as_ptr(), part)
        }
    }
}

/// Memory for [`Staged`].
#[repr(align(64))]
struct Stage([MaybeUninit<f32>; STAGE_BYTES / 4]);

/// Operands one after the other as a tile loads them: step, part, column.
#[derive(Clone, Copy)]
struct Staged<X>(*const X);

impl<S: Simd, P: Product<S>, const N: usize> Weights<S, P, N> for Staged<P::X> {
    #[inline(always)]
    unsafe fn load(self, s: S, p: P, k: usize, part: usize, j: usize) -> P::Operand {
        let unit = P::STEP / P::PARTS;
        // SAFETY: the caller's promise is the same.
        unsafe { p.x(s, self.0.add(k * N + (part * N + j) * unit), 0) }
    }

    #[inline(always)]
    unsafe fn load_rest(self, s: S, p: P, k: usize, _: usize, part: usize, j: usize) -> P::Operand {
        // SAFETY: the caller's promise; staging has filled the step with zeros.
        unsafe { Weights::<S, P, N>::load(self, s, p, k, part, j) }
    }
}

/// Stages the first `N` columns of a block.
///
/// # Safety
/// As [`add_product`]; the columns must be there.
#[inline(always)]
unsafe fn stage_columns<S: Simd, P: Product<S>, const N: usize>(
    s: S,
    p: P,
    block: &Panel<P::X, P::W>,
    stage: &mut Stage,
) -> Staged<P::X> {
    const { assert!(N <= STAGE_COLUMNS) };
    let from = Direct::new(block);
    let start: *mut P::X = stage.0.as_mut_ptr().cast();
    let mut to = start;
    for k in (0..block.k).step_by(P::STEP) {
        let rest = block.k - k;
        for part in 0..P::PARTS {
            for j in 0..N {
                // SAFETY: the columns are there; a block of `N <= STAGE_COLUMNS` columns and at most
                // `K_BLOCK` elements, which whole steps divide, fits the stage.
                unsafe {
                    let operand = if rest >= P::STEP {
                        let from = block.w.add(j * block.w_stride + k);
                        if part == 0 {
                            s.prefetch(from.wrapping_add(N * block.w_stride).cast());
                        }
                        p.w(s, from, part)
                    } else {
                        Weights::<S, P, N>::load_rest(from, s, p, k, rest, part, j)
                    };
                    p.store(s, to, operand);
                    to = to.add(P::STEP / P::PARTS);
                }
            }
        }
    }
    Staged(start)
}

/// All rows of a block, its first `N` columns.
///
/// # Safety
/// As [`add_product`]; the columns must be there.
#[inline(always)]
unsafe fn add_columns<S, P, W, const M: usize, const N: usize>(
    s: S,
    p: P,
    block: &Panel<P::X, P::W>,
    w: W,
) where
    S: Simd,
    P: Product<S>,
    W: Weights<S, P, N>,
{
    let mut row = 0;
    while row < block.rows {
        // SAFETY: the rows are there.
        unsafe {
            let x = block.x.add(row * block.x_stride);
            let out = block.out.add(row * block.out_stride);
            row += match block.rows - row {
                rest if rest >= M => {
                    add_tile::<S, P, W, M, N>(s, p, block, x, w, out);
                    M
                }
                1 => {
                    add_tile::<S, P, W, 1, N>(s, p, block, x, w, out);
                    1
                }
                _ => {
                    add_tile::<S, P, W, 2, N>(s, p, block, x, w, out);
                    2
                }
            };
        }
    }
}

/// `M` rows from `x` and `out` on, `N` columns.
///
/// # Safety
/// As [`add_product`]; the rows and columns must be there.
#[inline(always)]
unsafe fn add_tile<S, P, W, const M: usize, const N: usize>(
    s: S,
    p: P,
    block: &Panel<P::X, P::W>,
    x: *const P::X,
    w: W,
    out: *mut f32,
) where
    S: Simd,
    P: Product<S>,
    W: Weights<S, P, N>,
{
    // SAFETY of all blocks: the caller promises `M` rows and `N` columns of `k` elements, activations
    // padded to whole steps, so each address below is within them.
    let mut sums = [[s.zero(); N]; M];
    let whole = block.k / P::STEP * P::STEP;
    let mut k = 0;
    while k < whole {
        for part in 0..P::PARTS {
            // SAFETY: see above.
            unsafe {
                let mut xs = [p.x(s, x.add(k), part); M];
                for i in 1..M {
                    xs[i] = p.x(s, x.add(i * block.x_stride + k), part);
                }
                for j in 0..N {
                    let w = w.load(s, p, k, part, j);
                    for i in 0..M {
                        // Pinned, as the compiler would load all weights before it sums any, and
                        // run out of registers.
                        sums[i][j] = s.pin(p.add(s, sums[i][j], xs[i], w));
                    }
                }
            }
        }
        k += P::STEP;
    }
    if k < block.k {
        for part in 0..P::PARTS {
            for j in 0..N {
                // SAFETY: see above.
                unsafe {
                    let w = w.load_rest(s, p, k, block.k - k, part, j);
                    for i in 0..M {
                        let x = p.x(s, x.add(i * block.x_stride + k), part);
                        sums[i][j] = p.add(s, sums[i][j], x, w);
                    }
                }
            }
        }
    }
    for group in (0..M * N).step_by(4) {
        let mut four = [s.zero(); 4];
        for index in group..(M * N).min(group + 4) {
            four[index - group] = sums[index / N][index % N];
        }
        let totals = s.sum4(four);
        for (index, total) in (group..M * N).zip(totals) {
            // SAFETY: see above.
            unsafe { *out.add(index / N * block.out_stride + index % N) += total };
        }
    }
}
