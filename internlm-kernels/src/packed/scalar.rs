//! The reference: plain loops.

use std::ops::Range;

use super::activations::{Activations, IN_PAIRS};
use super::layout::{STEP, TILE};
use super::matrix::{Header, PackedMatrix, code};
use super::product::Task;
use super::wide::{K_BLOCK, Stage, pieces};

/// Products in f32: as with vectors, but products are rounded before they are added.
pub(super) fn wide(task: &Task<'_>) {
    task.begin();
    let padded_k = task.matrix.layout().padded_k;
    let mut stage = Stage([[[0.0; TILE]]; K_BLOCK]);
    for tile in task.tiles.clone() {
        for k in (0..padded_k).step_by(K_BLOCK) {
            let block = k..padded_k.min(k + K_BLOCK);
            widen(task.matrix, tile, block.clone(), &mut stage);
            for row in task.rows.clone() {
                let x = &task.x.values[row * task.x.stride..][block.clone()];
                let mut sums = [0.0; TILE];
                for (x, [w]) in x.iter().zip(&stage.0) {
                    for lane in 0..TILE {
                        sums[lane] += x * w[lane];
                    }
                }
                task.add(row, tile, &sums);
            }
        }
    }
}

/// Widens the inputs `block`, counted with padding, of a tile.
fn widen(matrix: &PackedMatrix, tile: usize, block: Range<usize>, stage: &mut Stage<1>) {
    let layout = matrix.layout();
    let bits = layout.shape.bits;
    for (group, steps, to) in pieces(matrix, block) {
        let header = Header::read(layout, matrix.header(tile, group));
        let codes = matrix.codes(tile, group);
        for (k, [to]) in (steps.start * STEP..steps.end * STEP).zip(&mut stage.0[to..]) {
            for (lane, to) in to.iter_mut().enumerate() {
                *to = header.value(lane, code(bits, codes, k, lane));
            }
        }
    }
}

/// Products of codes and 8-bit activations; see [`integers`].
pub(super) fn int8(task: &Task<'_>) {
    integers(task, |x, k| {
        let bytes: &[i8] = bytemuck::cast_slice(x);
        bytes[k].into()
    });
}

/// Products of codes and 16-bit activations; see [`integers`].
pub(super) fn int16(task: &Task<'_>) {
    let mut places = [0; STEP];
    for (place, input) in IN_PAIRS.into_iter().enumerate() {
        places[input] = place;
    }
    integers(task, |x, k| {
        let words: &[i16] = bytemuck::cast_slice(x);
        words[k / STEP * STEP + places[k % STEP]].into()
    });
}

/// Products of codes and activations that are integers; `input` reads one of a row.
///
/// Of each group, with activations `q · x_scale`: the integer `i = Σ (code - point) · q`, then
/// `total = i · (scale · x_scale) + total`, and for minimums `total = minimum · (x_scale · Σ q) + total`,
/// each rounded once. Every instruction set computes just this.
fn integers(task: &Task<'_>, input: impl Fn(&[f32], usize) -> i32) {
    let layout = task.matrix.layout();
    let bits = layout.shape.bits;
    for tile in task.tiles.clone() {
        for row in task.rows.clone() {
            let mut totals = [0.0f32; TILE];
            let Activations {
                values,
                stride,
                scales,
                sums,
            } = task.x;
            let x = &values[row * stride..][..stride];
            for group in 0..layout.groups {
                let header = Header::read(layout, task.matrix.header(tile, group));
                let codes = task.matrix.codes(tile, group);
                let at = row * layout.groups + group;
                let (x_scale, x_sum) = (scales[at], sums[at]);
                let start = group * layout.padded_group;
                for lane in 0..TILE {
                    let mut sum = 0i32;
                    for k in 0..layout.steps(group) * STEP {
                        let code = code(bits, codes, k, lane);
                        sum += (i32::from(code) - header.points[lane]) * input(x, start + k);
                    }
                    let total = &mut totals[lane];
                    *total = (sum as f32).mul_add(header.scales[lane] * x_scale, *total);
                    if let Some(minimums) = header.minimums {
                        *total = minimums[lane].mul_add(x_sum, *total);
                    }
                }
            }
            task.store(row, tile, &totals);
        }
    }
}
