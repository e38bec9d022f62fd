//! The gate of a feed-forward layer.

use crate::compute::Compute;
use crate::error::{Result, check_len};
use crate::norm::over_rows;
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch, exp};

/// `out = silu(gate) * up` with `silu(x) = x / (1 + exp(-x))`.
///
/// # Shapes
/// - gate_up: `(rows, 2 * intermediate_size)`, each row the gate and then up
/// - out: `(rows, intermediate_size)`
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where `out` is not whole rows or `gate_up` is not twice as
/// long.
pub fn silu_mul(
    compute: &Compute,
    gate_up: &[f32],
    intermediate_size: usize,
    out: &mut [f32],
) -> Result<()> {
    let rows = out.len().checked_div(intermediate_size).unwrap_or(0);
    check_len("silu_mul", "out", out.len(), &[rows, intermediate_size])?;
    check_len(
        "silu_mul",
        "gate_up",
        gate_up.len(),
        &[rows, 2, intermediate_size],
    )?;
    let out = Output::new(out);
    over_rows(compute, rows, intermediate_size, |row| {
        let gate_up = &gate_up[row * 2 * intermediate_size..][..2 * intermediate_size];
        let (gate, up) = gate_up.split_at(intermediate_size);
        // SAFETY: each row is one task's alone.
        let out = unsafe { out.part(row * intermediate_size, intermediate_size) };
        if let Err(row) = dispatch(compute.isa(), Row { gate, up, out }) {
            scalar(row.gate, row.up, row.out);
        }
    });
    Ok(())
}

/// The reference: one row.
fn scalar(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}

/// The same with vectors.
struct Row<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Row<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (gates, ups) = (self.gate.chunks(S::LANES), self.up.chunks(S::LANES));
        for ((gate, up), out) in gates.zip(ups).zip(self.out.chunks_mut(S::LANES)) {
            if gate.len() == S::LANES {
                // SAFETY: all three chunks are whole vectors.
                unsafe {
                    let y = silu_times(s, s.load(gate.as_ptr()), s.load(up.as_ptr()));
                    s.store(out.as_mut_ptr(), y);
                }
            } else {
                s.store_some(out, silu_times(s, s.load_some(gate), s.load_some(up)));
            }
        }
    }
}

#[inline(always)]
fn silu_times<S: Simd>(s: S, gate: S::V, up: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp(s, s.sub(s.zero(), gate));
    s.mul(s.div(gate, s.add(one, e)), up)
}
