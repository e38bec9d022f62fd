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
        let Row { gate, up, out } = self;
        assert!(
            gate.len() == out.len() && up.len() == out.len(),
            "slices of one row"
        );
        let whole = out.len() / S::LANES * S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            // SAFETY: a whole vector of each slice.
            unsafe {
                let (gate, up) = (s.load(gate.as_ptr().add(at)), s.load(up.as_ptr().add(at)));
                s.store(out.as_mut_ptr().add(at), silu_times(s, gate, up));
            }
        }
        if whole < out.len() {
            let (gate, up) = (s.load_some(&gate[whole..]), s.load_some(&up[whole..]));
            s.store_some(&mut out[whole..], silu_times(s, gate, up));
        }
    }
}

#[inline(always)]
fn silu_times<S: Simd>(s: S, gate: S::V, up: S::V) -> S::V {
    let one = s.splat(1.0);
    let e = exp(s, s.sub(s.zero(), gate));
    s.mul(s.div(gate, s.add(one, e)), up)
}
