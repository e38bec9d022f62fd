//! Where codes, scales and zeros lie.
//!
//! A tile holds 16 outputs and one group of inputs: a header of whole cache lines (16 scales, then 16
//! zeros), then steps of 8 inputs. A step of 4-bit codes is one line of 16 dwords, one an output;
//! byte `j` of a dword is `q[j] | q[4 + j] << 4`. A step of 8-bit codes is two such lines, byte `j`
//! being `q[j]` in the first and `q[4 + j]` in the second. So a line, masked, is an operand of
//! `vpdpbusd`, and a row of a tile of AMX. The tiles of 16 outputs follow one another; groups
//! are filled up with zeros to whole steps, outputs to whole tiles.

use crate::error::{Error, Result};
use crate::memory::LINE;

/// Outputs of a tile.
pub(super) const TILE: usize = 16;
/// Inputs of a step.
pub(super) const STEP: usize = 8;
/// Sums of so many products of a code and an 8-bit activation fit 32 bits: 255 · 127 · 65536 < 2³¹.
const MAX_GROUP: usize = 1 << 16;

/// How a packed matrix stores its scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// Half precision, for scales that it holds exactly.
    F16,
    /// Single precision.
    F32,
}

impl ScaleType {
    /// [`ScaleType::F16`] where each of these scales is exactly an f16.
    pub fn of(scales: &[f32]) -> ScaleType {
        if scales.iter().all(|&scale| is_f16(scale)) {
            ScaleType::F16
        } else {
            ScaleType::F32
        }
    }
}

pub(super) fn is_f16(x: f32) -> bool {
    half::f16::from_f32(x).to_f32() == x
}

/// What a packed matrix knows of each group beside its scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ZeroType {
    /// The code of 0.0.
    Points,
    /// The value of code 0, in f32.
    Minimums,
}

/// What a packed matrix is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedShape {
    /// Output features.
    pub n: usize,
    /// Input features.
    pub k: usize,
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Neighbouring inputs that share a scale and a zero; at most 65536. The last group may be short.
    pub group_size: usize,
    /// Type of the scales.
    pub scales: ScaleType,
    /// Type of the zeros.
    pub zeros: ZeroType,
}

impl PackedShape {
    /// Groups of an output.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group_size.max(1))
    }
}

/// Distances in bytes, and inputs with their padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) shape: PackedShape,
    pub(super) groups: usize,
    /// Inputs of a group, but the last.
    pub(super) group: usize,
    /// The same with padding.
    pub(super) padded_group: usize,
    /// All inputs with padding.
    pub(super) padded_k: usize,
    header: usize,
    step: usize,
    /// From one tile of outputs to the next.
    pub(super) column: usize,
    /// Tiles of outputs.
    pub(super) columns: usize,
    /// Size of the matrix.
    pub(super) bytes: usize,
}

impl Layout {
    /// # Errors
    /// [`Error::Packed`] for other bits, a group of no or too many inputs, or a size that overflows.
    pub(super) fn new(shape: PackedShape) -> Result<Layout> {
        let refuse = |what, got, want| Err(Error::Packed { what, got, want });
        if !matches!(shape.bits, 4 | 8) {
            return refuse("bits", shape.bits as usize, "4 or 8");
        }
        let group = shape.group_size.min(shape.k.max(1));
        if group == 0 || group > MAX_GROUP {
            return refuse("group_size", shape.group_size, "1 to 65536");
        }
        let (groups, padded_group) = (shape.groups(), group.next_multiple_of(STEP));
        let scale_bytes = match shape.scales {
            ScaleType::F16 => 2,
            ScaleType::F32 => 4,
        };
        let zero_bytes = match shape.zeros {
            ZeroType::Points => 1,
            ZeroType::Minimums => 4,
        };
        let header = (TILE * (scale_bytes + zero_bytes)).next_multiple_of(LINE);
        let step = LINE * shape.bits as usize / 4;
        let size = || {
            let whole = groups.saturating_sub(1);
            let last = (shape.k - whole * group).next_multiple_of(STEP);
            let padded_k = whole.checked_mul(padded_group)?.checked_add(last)?;
            let column = (padded_k / STEP)
                .checked_mul(step)?
                .checked_add(groups.checked_mul(header)?)?;
            let columns = shape.n.div_ceil(TILE);
            let bytes = column.checked_mul(columns)?;
            (bytes <= isize::MAX as usize - LINE).then_some((padded_k, column, columns, bytes))
        };
        let Some((padded_k, column, columns, bytes)) = size() else {
            return refuse("n", shape.n, "a size that memory can hold");
        };
        Ok(Layout {
            shape,
            groups,
            group,
            padded_group,
            padded_k,
            header,
            step,
            column,
            columns,
            bytes,
        })
    }

    /// Inputs of a group.
    pub(super) fn inputs(&self, group: usize) -> std::ops::Range<usize> {
        group * self.group..self.shape.k.min((group + 1) * self.group)
    }

    /// Steps of a group.
    #[inline(always)]
    pub(super) fn steps(&self, group: usize) -> usize {
        let start = group * self.padded_group;
        (self.padded_k - start).min(self.padded_group) / STEP
    }

    /// The tile of a group: distance from the start of its column of tiles.
    #[inline(always)]
    pub(super) fn tile(&self, group: usize) -> usize {
        group * (self.header + self.padded_group / STEP * self.step)
    }

    /// Distance of the zeros from the start of a tile, which the scales begin.
    #[inline(always)]
    pub(super) fn zeros(&self) -> usize {
        match self.shape.scales {
            ScaleType::F16 => 2 * TILE,
            ScaleType::F32 => 4 * TILE,
        }
    }

    /// Distance of the codes from the start of a tile.
    #[inline(always)]
    pub(super) fn codes(&self) -> usize {
        self.header
    }

    /// Distance of one step from the next.
    #[inline(always)]
    pub(super) fn step(&self) -> usize {
        self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> PackedShape {
        PackedShape {
            n: 2048,
            k: 2048,
            bits: 4,
            group_size: 128,
            scales: ScaleType::F16,
            zeros: ZeroType::Points,
        }
    }

    #[test]
    fn four_bits_take_little_more_than_four_bits() {
        let layout = Layout::new(shape()).unwrap();
        assert_eq!(layout.bytes * 8 * 4, 2048 * 2048 * 17); // 4.25 bits a weight
        assert_eq!(layout.tile(1), 1088);
        assert_eq!((layout.columns, layout.column), (128, 16 * 1088));
    }

    #[test]
    fn short_groups_and_columns_are_filled_up() {
        let shape = PackedShape {
            n: 17,
            k: 50,
            group_size: 20,
            bits: 8,
            ..shape()
        };
        let layout = Layout::new(shape).unwrap();
        assert_eq!((layout.groups, layout.padded_k), (3, 24 + 24 + 16));
        assert_eq!((layout.steps(0), layout.steps(2)), (3, 2));
        assert_eq!(layout.inputs(2), 40..50);
        assert_eq!(layout.column, 3 * 64 + 8 * 128);
        assert_eq!(layout.columns, 2);
    }

    #[test]
    fn impossible_forms_are_named() {
        let refused = |change: &dyn Fn(&mut PackedShape)| {
            let mut shape = shape();
            change(&mut shape);
            match Layout::new(shape) {
                Err(Error::Packed { what, .. }) => what,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(&|s| s.bits = 3), "bits");
        assert_eq!(refused(&|s| s.group_size = 0), "group_size");
        assert_eq!(
            refused(&|s| (s.k, s.group_size) = (70_000, 70_000)),
            "group_size"
        );
        assert_eq!(refused(&|s| s.n = usize::MAX), "n");
        assert_eq!(refused(&|s| s.k = usize::MAX), "n");
    }
}
