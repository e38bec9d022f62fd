//! Attention of some query rows to spans of keys, in blocks with a running softmax.
//!
//! The running softmax (arXiv 1805.02867, as in FlashAttention, arXiv 2205.14135) keeps for each row the
//! largest score so far, the sum of `exp(score - largest)` and the values weighted by it. Blocks and
//! spans start at multiples of their size counted from position 0, and a row skips what it doesn't
//! see, so its result doesn't depend on the rows beside it or on how its sequence was cut into chunks.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};

use crate::attention::kv::{BLOCK, KvBlocks, KvElements};
use crate::attention::{AttentionSequence, AttentionShape};
use crate::elements::Elements;
use crate::matmul::pack::{Pack, stride};
use crate::matmul::tile::{Panel, add_widened};
use crate::output::Output;
use crate::simd::{Kernel, MAX_LANES, Simd, Stored, exp};

/// Keys after which a running softmax is closed and merged into those before, so that spans may be
/// computed by several threads.
pub(super) const SPAN: usize = 512;

/// Tokens of one sequence, and the query heads that share one key-value head. Row `r` is head
/// `r % group` of token `r / group`.
pub(super) struct Rows<'a> {
    pub(super) q: &'a [f32],
    pub(super) shape: &'a AttentionShape,
    pub(super) sequence: &'a AttentionSequence<'a>,
    pub(super) kv_head: usize,
    pub(super) tokens: Range<usize>,
}

/// Another way to go over a block of keys that all rows of a task see.
pub(super) trait FullBlocks {
    /// `q · k` for all rows and the keys.
    ///
    /// # Shapes
    /// - keys: `(BLOCK, head_dim)`
    /// - scores: `(rows, BLOCK)`
    fn scores(&mut self, keys: Elements<'_>, scores: &mut [f32]);

    /// Adds the values, weighted.
    ///
    /// # Shapes
    /// - weights: `(rows, BLOCK)`
    /// - values: `(BLOCK, head_dim)`
    /// - sums: `(rows, head_dim padded to MAX_LANES)`
    fn add_values(&mut self, weights: &[f32], values: Elements<'_>, sums: &mut [f32]);
}

/// Where there is no other way.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl FullBlocks for std::convert::Infallible {
    fn scores(&mut self, _: Elements<'_>, _: &mut [f32]) {
        match *self {}
    }

    fn add_values(&mut self, _: &[f32], _: Elements<'_>, _: &mut [f32]) {
        match *self {}
    }
}

/// Memory that a thread's tasks use in turn.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of [`Rows::pack`].
    packed: Vec<f32>,
    /// `(rows, BLOCK)`
    scores: Vec<f32>,
    /// Keys of a block that each row sees.
    limits: Vec<usize>,
    /// The values of quantized rows.
    widened: Vec<f32>,
}

/// The running softmax of some rows.
#[derive(Default)]
pub(super) struct State {
    /// The largest score of each row.
    max: Vec<f32>,
    /// The sum of `exp(score - max)`.
    sum: Vec<f32>,
    /// The sum of `exp(score - max) * value`: `(rows, head_dim padded to MAX_LANES)`.
    values: Vec<f32>,
}

impl State {
    fn reset(&mut self, rows: usize, width: usize) {
        for (v, len, value) in [
            (&mut self.max, rows, f32::NEG_INFINITY),
            (&mut self.sum, rows, 0.0),
            (&mut self.values, rows * width, 0.0),
        ] {
            v.clear();
            v.resize(len, value);
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn group(&self) -> usize {
        self.shape.num_attention_heads / self.shape.num_key_value_heads
    }

    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.tokens.len() * self.group()
    }

    /// `head_dim` elements.
    #[inline(always)]
    pub(super) fn query(&self, row: usize) -> &[f32] {
        &self.q[self.start(row)..][..self.shape.head_dim]
    }

    /// Elements from one row of values in a [`State`] to the next.
    #[inline(always)]
    fn width(&self) -> usize {
        self.shape.head_dim.next_multiple_of(MAX_LANES)
    }

    /// Keys that a row sees.
    #[inline(always)]
    fn visible(&self, row: usize) -> usize {
        self.sequence.len - self.sequence.q_len + self.tokens.start + row / self.group() + 1
    }

    /// Spans that the last row sees.
    #[inline(always)]
    pub(super) fn spans(&self) -> usize {
        self.visible(self.len() - 1).div_ceil(SPAN)
    }

    /// First element of a row in `q` and in the result.
    #[inline(always)]
    fn start(&self, row: usize) -> usize {
        let token = self.sequence.q_start + self.tokens.start + row / self.group();
        let head = self.kv_head * self.group() + row % self.group();
        (token * self.shape.num_attention_heads + head) * self.shape.head_dim
    }

    /// The row of a token in the cache.
    #[inline(always)]
    fn cached(&self, blocks: &KvBlocks<'_>, token: usize) -> usize {
        blocks.row(self.shape.num_key_value_heads, self.kv_head, token)
    }

    /// Where it lies.
    #[inline(always)]
    fn address(&self, blocks: &KvBlocks<'_>, token: usize) -> *const u8 {
        let (kv_heads, head_dim) = (self.shape.num_key_value_heads, self.shape.head_dim);
        blocks.address(kv_heads, self.kv_head, token, head_dim)
    }

    /// The rows as products read them: `(rows, stride(head_dim))`.
    #[inline(always)]
    pub(super) fn pack<S: Simd>(&self, s: S, scratch: &mut Scratch) {
        let k = self.shape.head_dim;
        let packed = &mut scratch.packed;
        packed.resize(self.len() * stride(k), 0.0);
        for (row, to) in packed.chunks_exact_mut(stride(k)).enumerate() {
            let x = self.query(row);
            let round = false;
            match self.sequence.keys.elements {
                KvElements::Int8 { .. }
                | KvElements::Int4 { .. }
                | KvElements::Dense(Elements::F32(_)) => Pack::<f32> {
                    x,
                    k,
                    to,
                    round,
                    weights: PhantomData,
                }
                .run(s),
                KvElements::Dense(Elements::F16(_)) => Pack::<f16> {
                    x,
                    k,
                    to,
                    round,
                    weights: PhantomData,
                }
                .run(s),
                KvElements::Dense(Elements::Bf16(_)) => Pack::<bf16> {
                    x,
                    k,
                    to,
                    round,
                    weights: PhantomData,
                }
                .run(s),
            }
        }
    }

    /// The softmax of packed rows over one span of keys.
    #[inline(always)]
    pub(super) fn attend<S: Simd, F: FullBlocks>(
        &self,
        s: S,
        span: usize,
        full: &mut Option<F>,
        scratch: &mut Scratch,
        state: &mut State,
    ) {
        s.call(Attend {
            rows: self,
            span,
            full,
            scratch,
            state,
        });
    }

    /// Some rows of the cache from `row` on; those that are quantized as values in `widened`.
    #[inline(always)]
    fn block<'b, S: Simd>(
        &self,
        s: S,
        elements: KvElements<'b>,
        row: usize,
        rows: usize,
        widened: &'b mut Vec<f32>,
    ) -> Elements<'b> {
        let head_dim = self.shape.head_dim;
        match elements {
            KvElements::Dense(elements) => elements.part(row * head_dim, rows * head_dim),
            elements => {
                widened.resize(rows * head_dim, 0.0);
                s.call(Widen {
                    elements,
                    row,
                    rows,
                    out: widened,
                });
                Elements::F32(widened)
            }
        }
    }

    /// `q · k` for all rows and the keys of a block.
    ///
    /// # Shapes
    /// - keys: `(at most BLOCK, head_dim)`
    /// - scores: `(rows, BLOCK)`, zeros before
    #[inline(always)]
    fn score<S: Simd, T: Stored>(
        &self,
        s: S,
        packed: &[f32],
        keys: &[T],
        ahead: *const u8,
        scores: &mut [f32],
    ) {
        let k = self.shape.head_dim;
        assert!(packed.len() == self.len() * stride(k) && scores.len() == self.len() * BLOCK);
        let panel = Panel {
            x: packed.as_ptr(),
            x_stride: stride(k),
            rows: self.len(),
            w: keys.as_ptr(),
            w_stride: k,
            ahead: ahead.cast(),
            columns: keys.len() / k,
            k,
            out: scores.as_mut_ptr(),
            out_stride: BLOCK,
        };
        // SAFETY: the slices hold the panel (lengths are checked above), and `scores` is borrowed alone.
        unsafe { add_widened(s, panel) };
    }

    /// Adds the values of a block, weighted. A row takes the first `limits[row]`.
    ///
    /// # Shapes
    /// - weights: `(rows, BLOCK)`
    /// - values: `(at most BLOCK, head_dim)`
    #[inline(always)]
    fn add_values<S: Simd, T: Stored>(
        &self,
        s: S,
        weights: &[f32],
        limits: &[usize],
        values: &[T],
        ahead: *const u8,
        state: &mut State,
    ) {
        let block = Values {
            weights,
            values,
            head_dim: self.shape.head_dim,
            ahead,
        };
        let width = self.width();
        let mut row = 0;
        while row < limits.len() {
            let height = match limits.len() - row {
                1 => 1,
                2 | 3 => 2,
                _ => 4,
            };
            // Limits grow with rows, so all rows of the tile take what its first takes.
            let shared = 0..limits[row];
            let sums = &mut state.values[row * width..][..height * width];
            match height {
                4 => block.add::<S, 4>(s, row, shared, sums),
                2 => block.add::<S, 2>(s, row, shared, sums),
                _ => block.add::<S, 1>(s, row, shared, sums),
            }
            for (later, sums) in (row..).zip(sums.chunks_exact_mut(width)).skip(1) {
                block.add::<S, 1>(s, later, limits[row]..limits[later], sums);
            }
            row += height;
        }
    }

    /// Closes span `span` of all rows that see it.
    #[inline(always)]
    pub(super) fn merge<S: Simd>(&self, s: S, span: usize, total: &mut State, state: &State) {
        let width = self.width();
        for row in (0..self.len()).filter(|&row| self.visible(row) > span * SPAN) {
            let max = state.max[row].max(total.max[row]);
            let old = exp_of(s, total.max[row] - max);
            let new = exp_of(s, state.max[row] - max);
            total.max[row] = max;
            total.sum[row] = total.sum[row] * old + state.sum[row] * new;
            let range = row * width..(row + 1) * width;
            for (total, value) in total.values[range.clone()]
                .iter_mut()
                .zip(&state.values[range])
            {
                *total = *total * old + value * new;
            }
        }
    }

    /// Writes the result of all rows.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(&self, _: S, total: &State, out: Output<'_, f32>) {
        let head_dim = self.shape.head_dim;
        for row in 0..self.len() {
            // SAFETY: rows of sequences are disjoint, and heads and tokens belong to one task.
            let out = unsafe { out.part(self.start(row), head_dim) };
            let sum = total.sum[row];
            for (out, value) in out.iter_mut().zip(&total.values[row * self.width()..]) {
                *out = value / sum;
            }
        }
    }
}

/// [`Rows::attend`] as a function of its own.
struct Attend<'a, F> {
    rows: &'a Rows<'a>,
    span: usize,
    full: &'a mut Option<F>,
    scratch: &'a mut Scratch,
    state: &'a mut State,
}

impl<F: FullBlocks> Kernel for Attend<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Attend {
            rows,
            span,
            full,
            scratch,
            state,
        } = self;
        let (count, width) = (rows.len(), rows.width());
        state.reset(count, width);
        let Scratch {
            packed,
            scores,
            limits,
            widened,
        } = scratch;
        scores.resize(count * BLOCK, 0.0);
        limits.resize(count, 0);
        let end = rows.visible(count - 1).min((span + 1) * SPAN);
        for start in (span * SPAN..end).step_by(BLOCK) {
            let keys = BLOCK.min(end - start);
            let (k, v) = (&rows.sequence.keys, &rows.sequence.values);
            let (k_row, v_row) = (rows.cached(k, start), rows.cached(v, start));
            // The keys ask for the values of the block, and those for the next keys.
            let next = rows.address(v, start);
            // What the first row sees the others see too.
            let mut full = full.as_mut().filter(|_| rows.visible(0) >= start + BLOCK);
            let block = rows.block(s, k.elements, k_row, keys, widened);
            match &mut full {
                Some(full) => full.scores(block, scores),
                None => {
                    scores.fill(0.0);
                    match block {
                        Elements::F32(k) => rows.score(s, packed, k, next, scores),
                        Elements::F16(k) => rows.score(s, packed, k, next, scores),
                        Elements::Bf16(k) => rows.score(s, packed, k, next, scores),
                    }
                }
            }
            for row in 0..count {
                limits[row] = rows.visible(row).saturating_sub(start).min(keys);
                if limits[row] > 0 {
                    let scores = &mut scores[row * BLOCK..][..BLOCK];
                    let values = &mut state.values[row * width..][..width];
                    let (max, sum) = (&mut state.max[row], &mut state.sum[row]);
                    softmax(s, scores, limits[row], rows.shape.scale, max, sum, values);
                }
            }
            let next = rows.address(k, start + BLOCK);
            let block = rows.block(s, v.elements, v_row, keys, widened);
            match full {
                Some(full) => full.add_values(scores, block, &mut state.values),
                None => match block {
                    Elements::F32(v) => rows.add_values(s, scores, limits, v, next, state),
                    Elements::F16(v) => rows.add_values(s, scores, limits, v, next, state),
                    Elements::Bf16(v) => rows.add_values(s, scores, limits, v, next, state),
                },
            }
        }
    }
}

/// [`KvElements::dequantize`] as a function of its own.
struct Widen<'a> {
    elements: KvElements<'a>,
    row: usize,
    rows: usize,
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.elements.dequantize(self.row, self.rows, self.out);
    }
}

/// `exp` as vectors compute it.
#[inline(always)]
fn exp_of<S: Simd>(s: S, x: f32) -> f32 {
    let mut lane = [0.0];
    s.store_some(&mut lane, exp(s, s.splat(x)));
    lane[0]
}

/// One row and one block: scores become weights `exp(scale * score - max)`, zero from `limit` on, and the
/// row's state is brought to the new maximum.
#[inline(always)]
fn softmax<S: Simd>(
    s: S,
    scores: &mut [f32],
    limit: usize,
    scale: f32,
    max: &mut f32,
    sum: &mut f32,
    values: &mut [f32],
) {
    assert_eq!(scores.len(), BLOCK);
    let scale = s.splat(scale);
    let mut larger = s.splat(f32::NEG_INFINITY);
    for lane in (0..BLOCK).step_by(S::LANES) {
        let at = scores[lane..].as_mut_ptr();
        // SAFETY: `BLOCK` is a multiple of the lanes.
        unsafe { s.store(at, s.mul(s.load(at), scale)) };
    }
    scores[limit..].fill(f32::NEG_INFINITY);
    for lane in (0..BLOCK).step_by(S::LANES) {
        // SAFETY: as above.
        larger = s.max(larger, unsafe { s.load(scores[lane..].as_ptr()) });
    }
    let new_max = s.max_lane(larger).max(*max);
    let mut sums = s.zero();
    for lane in (0..BLOCK).step_by(S::LANES) {
        let at = scores[lane..].as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            let weight = exp(s, s.sub(s.load(at), s.splat(new_max)));
            sums = s.add(sums, weight);
            s.store(at, weight);
        }
    }
    let factor = if *max == new_max {
        1.0
    } else {
        exp_of(s, *max - new_max)
    };
    *max = new_max;
    *sum = *sum * factor + s.sum(sums);
    if factor != 1.0 {
        for value in values {
            *value *= factor;
        }
    }
}

/// Weights and values of a block.
struct Values<'a, T> {
    weights: &'a [f32],
    values: &'a [T],
    head_dim: usize,
    /// Memory that is needed after the values, as much as they take; it need not exist.
    ahead: *const u8,
}

impl<T: Stored> Values<'_, T> {
    /// Adds values `range` to the sums of `ROWS` rows from `row` on.
    #[inline(always)]
    fn add<S: Simd, const ROWS: usize>(
        &self,
        s: S,
        row: usize,
        range: Range<usize>,
        sums: &mut [f32],
    ) {
        let (head_dim, width) = (self.head_dim, sums.len() / ROWS);
        let weights = &self.weights[row * BLOCK..][..ROWS * BLOCK];
        assert!(range.end <= BLOCK && range.end * head_dim <= self.values.len());
        let mut column = 0;
        while column < head_dim {
            let rest = head_dim - column;
            // SAFETY: columns below `head_dim` and values of `range` are there (checked above); sums are
            // padded to whole vectors.
            unsafe {
                if rest >= 8 * S::LANES && ROWS <= 2 && S::TILE.1 > 4 {
                    self.add_vectors::<S, ROWS, 8>(s, weights, range.clone(), column, sums, width);
                    column += 8 * S::LANES;
                } else if rest >= 4 * S::LANES && (ROWS <= 2 || S::TILE.1 > 4) {
                    self.add_vectors::<S, ROWS, 4>(s, weights, range.clone(), column, sums, width);
                    column += 4 * S::LANES;
                } else if rest >= 2 * S::LANES {
                    self.add_vectors::<S, ROWS, 2>(s, weights, range.clone(), column, sums, width);
                    column += 2 * S::LANES;
                } else if rest >= S::LANES {
                    self.add_vectors::<S, ROWS, 1>(s, weights, range.clone(), column, sums, width);
                    column += S::LANES;
                } else {
                    for t in range.clone() {
                        let value = s.load_some(&self.values[t * head_dim + column..][..rest]);
                        for i in 0..ROWS {
                            let at = sums[i * width + column..].as_mut_ptr();
                            let weight = s.splat(weights[i * BLOCK + t]);
                            s.store(at, s.fma(weight, value, s.load(at)));
                        }
                    }
                    column += rest;
                }
            }
        }
    }

    /// `N` vectors of columns from `column` on.
    ///
    /// # Safety
    /// The columns must be there, in the values of `range` and in the sums.
    #[inline(always)]
    unsafe fn add_vectors<S: Simd, const ROWS: usize, const N: usize>(
        &self,
        s: S,
        weights: &[f32],
        range: Range<usize>,
        column: usize,
        sums: &mut [f32],
        width: usize,
    ) {
        // SAFETY of all blocks: the caller's promise. Prefetched addresses need not exist.
        let mut totals = [[s.zero(); N]; ROWS];
        for i in 0..ROWS {
            for j in 0..N {
                let at = i * width + column + j * S::LANES;
                // SAFETY: see above.
                totals[i][j] = unsafe { s.load(sums.as_ptr().add(at)) };
            }
        }
        for t in range {
            let at = t * self.head_dim + column;
            for j in 0..N {
                let at = at + j * S::LANES;
                if ROWS <= 2 && (j * S::LANES * size_of::<T>()).is_multiple_of(64) {
                    s.prefetch(self.ahead.wrapping_add(at * size_of::<T>()));
                }
                // SAFETY: see above.
                let value = unsafe { s.load_wide(self.values.as_ptr().add(at)) };
                for i in 0..ROWS {
                    // SAFETY: `weights` has `ROWS` rows of `BLOCK`, and `t` is below `BLOCK`.
                    let weight = s.splat(unsafe { *weights.get_unchecked(i * BLOCK + t) });
                    totals[i][j] = s.fma(weight, value, totals[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            for j in 0..N {
                let at = i * width + column + j * S::LANES;
                // SAFETY: see above.
                unsafe { s.store(sums.as_mut_ptr().add(at), totals[i][j]) };
            }
        }
    }
}
