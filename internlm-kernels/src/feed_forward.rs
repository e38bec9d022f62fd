//! The gate of a feed-forward layer.

use crate::compute::Compute;
use crate::error::{Result, check_len};
use crate::norm::over_rows;
use crate::output::Output;

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
        let (gate, up) = gate_up[row * 2 * intermediate_size..][..2 * intermediate_size]
            .split_at(intermediate_size);
        // SAFETY: each row is one task's alone.
        scalar(gate, up, unsafe {
            out.part(row * intermediate_size, intermediate_size)
        });
    });
    Ok(())
}

/// The reference: one row.
fn scalar(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
        *out = gate / (1.0 + (-gate).exp()) * up;
    }
}
