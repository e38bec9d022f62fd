//! Words of eight 4-bit codes, and the matrices of them that AWQ and GPTQ share.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::raw::RawTensor;

/// Codes of a word.
pub(crate) const PER_WORD: usize = 8;

/// Lines that are turned at a time: reads stay in a few pages, writes in the first cache.
const LINES: usize = 64;

/// Reads words that hold neighbouring outputs, for a range of outputs: `(lines, out / 8)` words
/// become `(outputs, lines)` codes.
///
/// Output `8 · word + j` is at nibble `nibble_of[j]`, counted from the lowest bits.
pub(crate) fn unpack_outputs(
    words: &[[u8; 4]],
    lines: usize,
    words_per_line: usize,
    nibble_of: [u32; PER_WORD],
    outputs: Range<usize>,
) -> Vec<u8> {
    let mut codes = vec![0; outputs.len() * lines];
    let mut turned = [0u32; LINES];
    for first in (0..lines).step_by(LINES) {
        let turned = &mut turned[..LINES.min(lines - first)];
        for word in outputs.start / PER_WORD..outputs.end.div_ceil(PER_WORD) {
            for (i, turned) in turned.iter_mut().enumerate() {
                *turned = u32::from_le_bytes(words[(first + i) * words_per_line + word]);
            }
            for (j, nibble) in nibble_of.into_iter().enumerate() {
                let output = word * PER_WORD + j;
                if !outputs.contains(&output) {
                    continue;
                }
                let to = &mut codes[(output - outputs.start) * lines + first..][..turned.len()];
                for (to, word) in to.iter_mut().zip(turned.iter()) {
                    *to = (word >> (4 * nibble) & 15) as u8;
                }
            }
        }
    }
    codes
}

/// The inverse of [`unpack_outputs`] over all outputs, a multiple of 8: the words as bytes.
pub(crate) fn pack_outputs(codes: &[u8], lines: usize, nibble_of: [u32; PER_WORD]) -> Vec<u8> {
    let outputs = codes.len().checked_div(lines).unwrap_or(0);
    let mut bytes = Vec::with_capacity(codes.len() / 2);
    for line in 0..lines {
        for word in 0..outputs / PER_WORD {
            let mut packed = 0u32;
            for (j, nibble) in nibble_of.into_iter().enumerate() {
                let code = codes[(word * PER_WORD + j) * lines + line];
                packed |= u32::from(code & 15) << (4 * nibble);
            }
            bytes.extend(packed.to_le_bytes());
        }
    }
    bytes
}

/// Checks a range of outputs.
pub(crate) fn check_outputs(outputs: &Range<usize>, out_features: usize) -> Result<()> {
    if outputs.start <= outputs.end && outputs.end <= out_features {
        return Ok(());
    }
    Err(Error::Shape {
        what: "the range of outputs",
        got: vec![outputs.start, outputs.end],
        want: format!("inside of 0..{out_features}"),
    })
}

/// The scales `(groups, out)` of a range of outputs as `(outputs, groups)`.
///
/// Steps of zero or without a value are refused: no quantizer writes them, and every weight of the
/// group would be lost.
pub(crate) fn turned_scales(
    scales: &RawTensor<'_>,
    groups: usize,
    out_features: usize,
    outputs: Range<usize>,
) -> Result<Vec<f32>> {
    let mut turned = vec![0.0; outputs.len() * groups];
    for group in 0..groups {
        for output in outputs.clone() {
            let scale = scales.float(group * out_features + output);
            check_scale(scale, output, group)?;
            turned[(output - outputs.start) * groups + group] = scale;
        }
    }
    Ok(turned)
}

/// Refuses a scale that is 0 or not finite.
pub(crate) fn check_scale(scale: f32, output: usize, group: usize) -> Result<()> {
    if scale.is_finite() && scale != 0.0 {
        return Ok(());
    }
    Err(Error::Codes {
        what: "scales",
        message: format!("{scale} at output {output}, group {group}"),
    })
}

/// Groups of a line of inputs.
///
/// # Errors
/// [`Error::GroupSize`] if they do not fill it.
pub(crate) fn groups(in_features: usize, group_size: usize) -> Result<usize> {
    if group_size > 0 && in_features.is_multiple_of(group_size) {
        return Ok(in_features / group_size);
    }
    let divides = |size: &usize| in_features > 0 && in_features.is_multiple_of(*size);
    Err(Error::GroupSize {
        group_size,
        in_features,
        offers: [128, 64, 32].into_iter().filter(divides).collect(),
    })
}
