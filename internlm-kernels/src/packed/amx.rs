//! Products of codes by tiles.
//!
//! With bf16 activations weights are unpacked to bf16, scales and zeros applied. With 8-bit ones codes
//! are unpacked to bytes, and the sums of each group are weighed with the scales as by every other
//! kernel, so that results are the same bit for bit.

use std::marker::PhantomData;
use std::ops::Range;

use super::activations::{Activations, Quantizer, Sums};
use super::layout::{Layout, STEP, TILE};
use super::matrix::{Header, PackedMatrix};
use super::product::Task;
use super::wide::pieces;
use crate::amx::bf16::{self, Inputs, Pairs};
use crate::amx::{BLOCK_ROWS, Kind, MAX_DEPTH, SIDE, Square, Tiles, over_tasks, products, store};
use crate::compute::Compute;
use crate::elements::bf16_pair;
use crate::memory::{LINE, Line};
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch};

/// The arguments of [`super::packed_matmul`], checked, with activations of [`crate::Activation::Bf16`].
pub(super) fn bf16<T: Tiles>(
    compute: &Compute,
    x: &[f32],
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
    m: usize,
) {
    let layout = w.layout();
    let inputs = Inputs {
        k: layout.shape.k,
        group: layout.group,
        padded_group: layout.padded_group,
        padded_k: layout.padded_k,
    };
    let task = Task {
        matrix: w,
        x: Activations::default(),
        bias,
        out: Output::new(out),
        rows: 0..m,
        tiles: 0..layout.columns,
    };
    bf16::product::<T>(compute, x, inputs, (m, layout.shape.n), &task);
}

impl bf16::Product for Task<'_> {
    #[inline(always)]
    fn begin(&self, rows: Range<usize>, tiles: Range<usize>) {
        let part = self.clone();
        Task {
            rows,
            tiles,
            ..part
        }
        .begin();
    }

    #[inline(always)]
    fn unpack(&self, tile: usize, inputs: Range<usize>, to: &mut [Pairs]) {
        if self.matrix.shape().bits == 4 {
            values::<4>(self.matrix, tile, inputs, to);
        } else {
            values::<8>(self.matrix, tile, inputs, to);
        }
    }

    #[inline(always)]
    fn add(&self, row: usize, tile: usize, sums: &[f32; SIDE]) {
        Task::add(self, row, tile, sums);
    }
}

/// Unpacks weights of a tile to bf16.
#[inline(always)]
fn values<const BITS: usize>(
    matrix: &PackedMatrix,
    tile: usize,
    inputs: Range<usize>,
    to: &mut [Pairs],
) {
    /// Pairs of inputs of a step.
    const PAIRS: usize = STEP / 2;
    let layout = matrix.layout();
    for (group, steps, at) in pieces(matrix, inputs) {
        let memory = matrix.tile(tile, group);
        let header = Header::read(layout, memory);
        // Where there is no minimum, -0.0 keeps the sign of a zero.
        let minimums = header.minimums.unwrap_or([-0.0; TILE]);
        let codes = &memory[layout.codes()..][steps.start * layout.step()..];
        let to = to[at / 2..].as_chunks_mut::<PAIRS>().0;
        for (step, to) in codes.chunks_exact(16 * BITS).take(steps.len()).zip(to) {
            for (pair, to) in to.iter_mut().enumerate() {
                // Four bits: the upper halves of bytes are the last two pairs; eight: the second line.
                let line: &[u8; LINE] = &step.as_chunks().0[pair / 2 * (BITS / 8)];
                let shift = pair % 2 * 16 + pair / 2 * (8 - BITS);
                let mask = (1 << BITS) - 1;
                let dwords = line.as_chunks::<4>().0;
                for lane in 0..TILE {
                    let dword = u32::from_le_bytes(dwords[lane]);
                    let mut pair = [0.0; 2];
                    for (half, value) in pair.iter_mut().enumerate() {
                        let code = (dword >> (shift + 8 * half) & mask) as i32;
                        let code = (code - header.points[lane]) as f32;
                        *value = code * header.scales[lane] + minimums[lane];
                    }
                    to[lane] = bf16_pair(pair[0], pair[1]);
                }
            }
        }
    }
}

/// How inputs of 8 bits lie in tiles: each group is filled up with zeros to so many of this depth.
#[derive(Clone, Copy)]
struct Plan {
    depth: usize,
    tiles_of_group: usize,
    groups: usize,
}

impl Plan {
    fn new(layout: &Layout) -> Plan {
        let tiles_of_group = layout.padded_group.div_ceil(MAX_DEPTH);
        Plan {
            depth: layout
                .padded_group
                .div_ceil(tiles_of_group)
                .next_multiple_of(STEP),
            tiles_of_group,
            groups: layout.groups,
        }
    }

    /// Bytes of 16 rows or columns of a group.
    fn group(&self) -> usize {
        SIDE * self.depth * self.tiles_of_group
    }

    /// Words of a row.
    fn stride(&self) -> usize {
        self.groups * self.group() / SIDE / size_of::<f32>()
    }
}

/// The arguments of [`super::packed_matmul`], checked, with activations of [`crate::Activation::Int8`].
pub(super) fn int8<T: Tiles>(
    compute: &Compute,
    x: &[f32],
    w: &PackedMatrix,
    bias: Option<&[f32]>,
    out: &mut [f32],
    m: usize,
) {
    let layout = w.layout();
    let plan = Plan::new(layout);
    let out = Output::new(out);
    prepare(compute, layout, plan, x, m, |x| {
        let shape = (m, layout.shape.n, layout.shape.k);
        over_tasks(compute, shape, |rows, tiles| {
            let task = Task {
                matrix: w,
                x,
                bias,
                out,
                rows,
                tiles,
            };
            let kernel = Int8 {
                task,
                plan,
                kind: PhantomData::<T>,
            };
            if let Err(kernel) = dispatch(compute.isa(), kernel) {
                kernel.compute();
            }
        });
    });
}

/// Quantizes activations, 16 rows at a time.
fn prepare(
    compute: &Compute,
    layout: &Layout,
    plan: Plan,
    x: &[f32],
    m: usize,
    f: impl FnOnce(Activations<'_>),
) {
    let (k, groups, stride) = (layout.shape.k, plan.groups, plan.stride());
    let panels = m.div_ceil(SIDE);
    compute.with_scratch(panels * SIDE * stride + 2 * m * groups, |words| {
        let (values, rest) = words.split_at_mut(panels * SIDE * stride);
        let (scales, group_sums) = rest.split_at_mut(m * groups);
        let outputs = [&mut *values, &mut *scales, &mut *group_sums].map(Output::new);
        compute.run(panels, |panel| {
            let rows = panel * SIDE..m.min((panel + 1) * SIDE);
            let [values, scales, sums] = &outputs;
            // SAFETY: each panel is one task's alone.
            let quantize = unsafe {
                Quantize {
                    layout,
                    plan,
                    x: &x[rows.start * k..rows.end * k],
                    values: values.part(panel * SIDE * stride, SIDE * stride),
                    scales: scales.part(rows.start * groups, rows.len() * groups),
                    sums: sums.part(rows.start * groups, rows.len() * groups),
                }
            };
            if let Err(quantize) = dispatch(compute.isa(), quantize) {
                quantize.quantize();
            }
        });
        f(Activations {
            values,
            stride,
            scales,
            sums: group_sums,
        });
    });
}

/// Quantizes up to 16 rows into tiles. Rows that are not there stay as they are.
struct Quantize<'a> {
    layout: &'a Layout,
    plan: Plan,
    x: &'a [f32],
    values: &'a mut [f32],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Kernel for Quantize<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.quantize();
    }
}

impl Quantize<'_> {
    #[inline(always)]
    fn quantize(self) {
        let Plan {
            depth,
            tiles_of_group,
            groups,
        } = self.plan;
        let values: &mut [u8] = bytemuck::cast_slice_mut(self.values);
        let kind = Sums::of_codes(self.layout);
        for (row, x) in self.x.chunks_exact(self.layout.shape.k.max(1)).enumerate() {
            for group in 0..groups {
                let x = &x[self.layout.inputs(group)];
                let quantizer = Quantizer::new(x);
                let mut sum = 0;
                for tile in 0..tiles_of_group {
                    let x = &x[x.len().min(tile * depth)..x.len().min((tile + 1) * depth)];
                    let at = (group * tiles_of_group + tile) * SIDE + row;
                    sum += quantizer.codes(x, &mut values[at * depth..][..depth]);
                }
                self.scales[row * groups + group] = quantizer.scale();
                self.sums[row * groups + group] = kind.word(quantizer.scale(), sum);
            }
        }
    }
}

/// Bytes of unpacked codes that fit the second-level cache beside 32 rows of activations.
const STAGE_BYTES: usize = 1 << 19;

/// A task of a product of 8-bit activations.
struct Int8<'a, T> {
    task: Task<'a>,
    plan: Plan,
    kind: PhantomData<T>,
}

impl<T: Tiles> Kernel for Int8<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.compute();
    }
}

impl<T: Tiles> Int8<'_, T> {
    #[inline(always)]
    fn compute(&self) {
        if self.task.matrix.shape().bits == 4 {
            self.over_stages::<4>();
        } else {
            self.over_stages::<8>();
        }
    }

    #[inline(always)]
    fn over_stages<const BITS: usize>(&self) {
        let Int8 { task, plan, .. } = self;
        let mut tiles = T::configure(plan.depth);
        let column = plan.groups * plan.group() / LINE;
        let at_once =
            (STAGE_BYTES / (column * LINE).max(1) / 2 * 2).clamp(2, task.tiles.len().max(2));
        let mut stage = Stage {
            lines: vec![Line::ZERO; at_once.min(task.tiles.len()) * column],
            headers: Vec::with_capacity(at_once * plan.groups),
        };
        for start in task.tiles.clone().step_by(at_once) {
            let staged = start..task.tiles.end.min(start + at_once);
            stage.headers.clear();
            for (index, tile) in staged.clone().enumerate() {
                let to = &mut stage.lines[index * column..][..column];
                unpack::<BITS>(task.matrix, tile, *plan, to, &mut stage.headers);
            }
            for row in task.rows.clone().step_by(BLOCK_ROWS) {
                for first in staged.clone().step_by(2) {
                    let second = (first + 1).min(staged.end - 1);
                    let pair = [first - start, second - start];
                    if row + SIDE < task.rows.end {
                        self.block::<BITS, true>(&mut tiles, &stage, row, first, pair);
                    } else {
                        self.block::<BITS, false>(&mut tiles, &stage, row, first, pair);
                    }
                }
            }
        }
    }

    /// Up to 32 rows, and two tiles from `first` on, which are these of the stage. Columns beyond the
    /// last tile are computed as its own, and dropped.
    #[inline(always)]
    fn block<const BITS: usize, const LOWER: bool>(
        &self,
        tiles: &mut T,
        stage: &Stage,
        row: usize,
        first: usize,
        pair: [usize; 2],
    ) {
        let Int8 { task, plan, .. } = self;
        let (groups, bytes) = (plan.groups, plan.group());
        // Codes that fit a signed byte have their point subtracted.
        let kind = if BITS == 4 { Kind::Signed } else { Kind::Mixed };
        let values: &[u8] = bytemuck::cast_slice(task.x.values);
        let codes: &[u8] = bytemuck::cast_slice(&stage.lines);
        let rows = row..task.rows.end.min(row + BLOCK_ROWS);
        let mut sums = [Square::ZERO; 4];
        let mut totals = [[[0.0; TILE]; 2]; BLOCK_ROWS];
        // The sums of a group are weighed while the products of the next one are under way.
        for group in 0..=groups {
            if group < groups {
                let panel =
                    |at: usize| &values[((row / SIDE + at) * groups + group) * bytes..][..bytes];
                let column = |at: usize| &codes[(pair[at] * groups + group) * bytes..][..bytes];
                let a = [panel(0), panel(usize::from(LOWER))];
                products::<T, LOWER>(tiles, kind, plan.depth, a, [column(0), column(1)]);
            }
            if let Some(group) = group.checked_sub(1) {
                for at in 0..2 {
                    let header = &stage.headers[pair[at] * groups + group];
                    for (index, row) in rows.clone().enumerate() {
                        let sums = sums[index / SIDE * 2 + at].integers(index % SIDE);
                        let x = (
                            task.x.scales[row * groups + group],
                            task.x.sums[row * groups + group],
                        );
                        weigh::<BITS>(&mut totals[index][at], sums, header, x);
                    }
                }
            }
            if group < groups {
                store::<T, LOWER>(tiles, &mut sums);
            }
        }
        for (index, row) in rows.enumerate() {
            for at in 0..=pair[1] - pair[0] {
                task.store(row, first + at, &totals[index][at]);
            }
        }
    }
}

/// Unpacked columns.
struct Stage {
    /// Codes, less their points where they have four bits: tile, group, 4 inputs a line.
    lines: Vec<Line>,
    /// Tile, group.
    headers: Vec<Header>,
}

/// Unpacks the codes of a tile. Inputs that a short group lacks stay as they are: zeros.
#[inline(always)]
fn unpack<const BITS: usize>(
    matrix: &PackedMatrix,
    tile: usize,
    plan: Plan,
    to: &mut [Line],
    headers: &mut Vec<Header>,
) {
    let layout = matrix.layout();
    for (group, to) in to.chunks_exact_mut(plan.group() / LINE).enumerate() {
        let memory = matrix.tile(tile, group);
        let header = Header::read(layout, memory);
        let mut points = [0; LINE];
        for (points, point) in points.as_chunks_mut::<4>().0.iter_mut().zip(header.points) {
            points.fill(point as u8);
        }
        let steps = memory[layout.codes()..]
            .chunks_exact(16 * BITS)
            .take(layout.steps(group));
        for (step, to) in steps.zip(to.as_chunks_mut::<2>().0) {
            let lines: &[[u8; LINE]] = step.as_chunks().0;
            let [first, second] = to;
            if BITS == 4 {
                for at in 0..LINE {
                    first.0[at] = (lines[0][at] & 15).wrapping_sub(points[at]);
                    second.0[at] = (lines[0][at] >> 4).wrapping_sub(points[at]);
                }
            } else {
                (first.0, second.0) = (lines[0], lines[1]);
            }
        }
        headers.push(header);
    }
}

/// Adds the sums of a group to totals, with the operations of [`super::scalar::int8`] in their order.
#[inline(always)]
fn weigh<const BITS: usize>(
    totals: &mut [f32; TILE],
    sums: [i32; TILE],
    header: &Header,
    (x_scale, x_sum): (f32, f32),
) {
    for lane in 0..TILE {
        let mut sum = sums[lane];
        if BITS == 8 {
            // Where there are minimums all points are 0, and the sum of x is no integer.
            sum = sum.wrapping_sub(header.points[lane].wrapping_mul(x_sum.to_bits() as i32));
        }
        totals[lane] = (sum as f32).mul_add(header.scales[lane] * x_scale, totals[lane]);
    }
    if let Some(minimums) = &header.minimums {
        for lane in 0..TILE {
            totals[lane] = minimums[lane].mul_add(x_sum, totals[lane]);
        }
    }
}
