//! 8-bit activations: codes are unpacked to bytes, and the sums of each group are weighed with the scales
//! as by every other kernel, so that results are the same bit for bit.

use std::hint::black_box;
use std::marker::PhantomData;

use crate::amx::{
    BLOCK_ROWS, Block, Kind, MAX_DEPTH, SIDE, Stage, Tiles, over_tasks, products, store,
};
use crate::compute::Compute;
use crate::memory::{LINE, Line};
use crate::output::Output;
use crate::packed::PackedMatrix;
use crate::packed::activations::{Activations, Quantizer, Sums};
use crate::packed::layout::{Layout, STEP, TILE};
use crate::packed::matrix::Header;
use crate::packed::product::Task;
use crate::simd::{Kernel, Simd, dispatch};

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
        let depth = layout.padded_group.div_ceil(tiles_of_group);
        Plan {
            depth: depth.next_multiple_of(STEP),
            tiles_of_group,
            groups: layout.groups,
        }
    }

    /// Bytes of 16 rows or columns of a group.
    fn group(&self) -> usize {
        SIDE * self.depth * self.tiles_of_group
    }
}

/// Activations of 8 bits, 16 rows at a time. Rows that are not there have scales of 0.
///
/// # Shapes
/// - values: `(panels, groups, tiles of a group, 16, depth)`
/// - scales, sums: `(panels, groups)`, of 16 rows each
#[derive(Clone, Copy)]
struct Panels<'a> {
    values: &'a [u8],
    scales: &'a [[f32; SIDE]],
    sums: &'a [[f32; SIDE]],
}

/// The arguments of [`crate::packed_matmul`], checked, with activations of [`crate::Activation::Int8`].
pub(in crate::packed) fn matmul<T: Tiles>(
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
    quantize(compute, layout, plan, x, m, |panels| {
        let shape = (m, layout.shape.n, layout.shape.k);
        over_tasks(compute, shape, |rows, tiles| {
            let task = Task {
                matrix: w,
                x: Activations::default(),
                bias,
                out,
                rows,
                tiles,
            };
            let kernel = Int8 {
                task,
                panels,
                plan,
                kind: PhantomData::<T>,
            };
            if let Err(kernel) = dispatch(compute.isa(), kernel) {
                kernel.compute();
            }
        });
    });
}

/// Calls `f` with quantized activations.
fn quantize(
    compute: &Compute,
    layout: &Layout,
    plan: Plan,
    x: &[f32],
    m: usize,
    f: impl FnOnce(Panels<'_>),
) {
    let (k, panels, groups) = (layout.shape.k, m.div_ceil(SIDE), plan.groups);
    // In f32: of a panel's values, and of its scales.
    let (of_values, of_scales) = (groups * plan.group() / size_of::<f32>(), groups * SIDE);
    compute.with_scratch(panels * (of_values + 2 * of_scales), |words| {
        let (values, rest) = words.split_at_mut(panels * of_values);
        let (scales, sums) = rest.split_at_mut(panels * of_scales);
        let outputs = [&mut *values, &mut *scales, &mut *sums].map(Output::new);
        compute.run(panels, |panel| {
            let rows = panel * SIDE..m.min((panel + 1) * SIDE);
            let [values, scales, sums] = &outputs;
            // SAFETY: each panel is one task's alone.
            let kernel = unsafe {
                Quantize {
                    layout,
                    plan,
                    x: &x[rows.start * k..rows.end * k],
                    values: values.part(panel * of_values, of_values),
                    scales: scales.part(panel * of_scales, of_scales),
                    sums: sums.part(panel * of_scales, of_scales),
                }
            };
            if let Err(kernel) = dispatch(compute.isa(), kernel) {
                kernel.quantize();
            }
        });
        f(Panels {
            values: bytemuck::cast_slice(values),
            scales: scales.as_chunks().0,
            sums: sums.as_chunks().0,
        });
    });
}

/// Quantizes up to 16 rows.
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
        self.scales.fill(0.0);
        self.sums.fill(0.0);
        for (row, x) in self.x.chunks_exact(self.layout.shape.k.max(1)).enumerate() {
            for group in 0..groups {
                let x = &x[self.layout.inputs(group)];
                let quantizer = Quantizer::bytes(x);
                let mut sum = 0;
                for tile in 0..tiles_of_group {
                    let x = &x[x.len().min(tile * depth)..x.len().min((tile + 1) * depth)];
                    let at = (group * tiles_of_group + tile) * SIDE + row;
                    sum += quantizer.codes(x, &mut values[at * depth..][..depth]);
                }
                self.scales[group * SIDE + row] = quantizer.scale();
                self.sums[group * SIDE + row] = kind.word(quantizer.scale(), sum);
            }
        }
    }
}

/// Bytes of unpacked codes that fit the second-level cache beside 32 rows of activations.
const STAGE_BYTES: usize = 1 << 19;

/// A task of a product of 8-bit activations.
struct Int8<'a, T> {
    task: Task<'a>,
    panels: Panels<'a>,
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
        let mut columns = Columns {
            lines: Stage::new(at_once.min(task.tiles.len()) * column),
            headers: Vec::with_capacity(at_once * plan.groups),
        };
        for start in task.tiles.clone().step_by(at_once) {
            let staged = start..task.tiles.end.min(start + at_once);
            columns.headers.clear();
            for (index, tile) in staged.clone().enumerate() {
                let to = &mut columns.lines[index * column..][..column];
                unpack::<BITS>(task.matrix, tile, *plan, to, &mut columns.headers);
            }
            for row in task.rows.clone().step_by(BLOCK_ROWS) {
                for first in staged.clone().step_by(2) {
                    let second = (first + 1).min(staged.end - 1);
                    let pair = [first - start, second - start];
                    if row + SIDE < task.rows.end {
                        self.block::<BITS, true>(&mut tiles, &columns, row, first, pair);
                    } else {
                        self.block::<BITS, false>(&mut tiles, &columns, row, first, pair);
                    }
                }
            }
        }
    }

    /// Up to 32 rows, and two tiles from `first` on, which are `pair` of the unpacked ones. Columns beyond
    /// the last tile are computed as its own, and dropped.
    #[inline(always)]
    fn block<const BITS: usize, const LOWER: bool>(
        &self,
        tiles: &mut T,
        columns: &Columns,
        row: usize,
        first: usize,
        pair: [usize; 2],
    ) {
        let Int8 {
            task, panels, plan, ..
        } = self;
        let (groups, bytes) = (plan.groups, plan.group());
        // Codes that fit a signed byte have their point subtracted.
        let kind = if BITS == 4 { Kind::Signed } else { Kind::Mixed };
        let codes: &[u8] = bytemuck::cast_slice::<Line, u8>(&columns.lines);
        // The lower panel is the upper one where it is left out.
        let panel = [row / SIDE, row / SIDE + usize::from(LOWER)];
        let mut sums = Block::ZERO;
        let mut totals = Block::ZERO;
        // The sums of a group are weighed while the products of the next one are under way.
        for group in 0..=groups {
            if group < groups {
                let a = |i: usize| &panels.values[(panel[i] * groups + group) * bytes..][..bytes];
                let b = |j: usize| &codes[(pair[j] * groups + group) * bytes..][..bytes];
                products::<T, LOWER>(tiles, kind, plan.depth, [a(0), a(1)], [b(0), b(1)]);
            }
            if let Some(group) = group.checked_sub(1) {
                for i in 0..1 + usize::from(LOWER) {
                    let x = panel[i] * groups + group;
                    let x = (&panels.scales[x], &panels.sums[x]);
                    for j in 0..2 {
                        let header = &columns.headers[pair[j] * groups + group];
                        weigh::<BITS>(&mut totals, &sums, (i, j), header, x);
                    }
                }
            }
            if group < groups {
                store::<T, LOWER>(tiles, &mut sums);
            }
        }
        let rows = row..task.rows.end.min(row + BLOCK_ROWS);
        let written = first..first + 1 + pair[1] - pair[0];
        for (row, totals) in rows.zip(&totals.0) {
            task.over(row..row + 1, written.clone())
                .store(row, first, totals);
        }
    }
}

/// Unpacked columns.
struct Columns {
    /// Codes, less their points where they have four bits: tile, group, 4 inputs a line.
    lines: Stage,
    /// Tile, group.
    headers: Vec<Header>,
}

/// Unpacks the codes of a tile. What faces the padding of activations, which is zeros, stays as it is.
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
        let header = Header::read(layout, matrix.header(tile, group));
        let mut points = [0; LINE];
        for (points, point) in points.as_chunks_mut::<4>().0.iter_mut().zip(header.points) {
            points.fill(point as u8);
        }
        let steps = matrix
            .codes(tile, group)
            .chunks_exact(16 * BITS)
            .take(layout.steps(group));
        for (step, to) in steps.zip(to.as_chunks_mut::<2>().0) {
            let lines: &[[u8; LINE]] = step.as_chunks().0;
            let [first, second] = to;
            if BITS == 4 {
                let (mut low, mut high) = (lines[0], lines[0]);
                for at in 0..LINE {
                    low[at] = (low[at] & 15).wrapping_sub(points[at]);
                    high[at] = (high[at] >> 4).wrapping_sub(points[at]);
                }
                (first.0, second.0) = (low, high);
            } else {
                (first.0, second.0) = (lines[0], lines[1]);
            }
        }
        headers.push(header);
    }
}

/// Adds the sums of a group to totals, in tile `(i, j)` of both, with the operations of
/// [`crate::packed::scalar::int8`] in their order.
#[inline(always)]
fn weigh<const BITS: usize>(
    totals: &mut Block,
    sums: &Block,
    (i, j): (usize, usize),
    header: &Header,
    (x_scales, x_sums): (&[f32; SIDE], &[f32; SIDE]),
) {
    let Header { scales, points, .. } = *header;
    let column = j * SIDE;
    for row in 0..SIDE {
        // Opaque, so that lanes become vectors; else compilers gather rows.
        let row = black_box(row) % SIDE;
        let mut total = totals.lanes(i * SIDE + row, column);
        let mut integers: [i32; SIDE] = bytemuck::cast(sums.lanes(i * SIDE + row, column));
        for lane in 0..TILE {
            if BITS == 8 {
                // Where there are minimums all points are 0, and the sum of x is no integer.
                let point = points[lane].wrapping_mul(x_sums[row].to_bits() as i32);
                integers[lane] = integers[lane].wrapping_sub(point);
            }
            let scale = scales[lane] * x_scales[row];
            total[lane] = (integers[lane] as f32).mul_add(scale, total[lane]);
        }
        totals.0[i * SIDE + row][column..][..SIDE].copy_from_slice(&total);
    }
    if let Some(minimums) = header.minimums {
        for row in 0..SIDE {
            let row = black_box(row) % SIDE;
            let mut total = totals.lanes(i * SIDE + row, column);
            for lane in 0..TILE {
                total[lane] = minimums[lane].mul_add(x_sums[row], total[lane]);
            }
            totals.0[i * SIDE + row][column..][..SIDE].copy_from_slice(&total);
        }
    }
}
