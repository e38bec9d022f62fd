//! Parts of codes.

use internlm_quant::{Codes, Zeros};

/// Some rows of codes with zero points.
pub(crate) fn slice(whole: &Codes, rows: std::ops::Range<usize>) -> Codes {
    let groups = rows.start * whole.groups()..rows.end * whole.groups();
    let Zeros::Points(points) = &whole.zeros else {
        unreachable!("made with points")
    };
    Codes {
        rows: rows.len(),
        codes: whole.codes[rows.start * whole.columns..rows.end * whole.columns].to_vec(),
        scales: whole.scales[groups.clone()].to_vec(),
        zeros: Zeros::Points(points[groups].to_vec()),
        ..whole.clone()
    }
}
