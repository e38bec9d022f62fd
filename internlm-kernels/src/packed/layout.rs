//! Where codes, scales and zeros lie.
//!
//! A tile holds 16 outputs and one group of inputs: a header (16 scales, then 16 zeros, unless one
//! constant is the zero of all) and steps of 8 inputs. A step of 4-bit codes is one cache line of 16
//! dwords, one an output; byte `j` of a dword is `q[j] | q[4 + j] << 4`. A step of 8-bit codes is two such
//! lines, byte `j` being `q[j]` in the first and `q[4 + j]` in the second. So a line, masked, is an operand
//! of `vpdpbusd`, and a row of a tile of AMX.
//!
//! All headers come first, then all steps, so that headers need not fill cache lines and steps
//! are aligned to them. In both parts the tiles of 16 outputs follow one another, and within these the
//! groups; headers of 16 outputs are filled up to whole lines, groups with zeros to whole steps, outputs
//! to whole tiles.

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
    /// The code of 0.0, the same of all groups. It takes no memory.
    Constant(u8),
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

    /// Bytes of the matrix in memory.
    ///
    /// # Errors
    /// As [`PackedMatrix::new`](super::PackedMatrix::new).
    pub fn bytes(&self) -> Result<usize> {
        Ok(Layout::new(*self)?.bytes)
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
    /// Bytes of a header.
    header: usize,
    step: usize,
    /// Bytes of the headers of a tile of outputs.
    pub(super) headers: usize,
    /// Bytes of the steps of a tile of outputs.
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
        if let ZeroType::Constant(point) = shape.zeros
            && u32::from(point) >= 1 << shape.bits
        {
            return refuse("zeros", point.into(), "a code");
        }
        let (groups, padded_group) = (shape.groups(), group.next_multiple_of(STEP));
        let scale_bytes = match shape.scales {
            ScaleType::F16 => 2,
            ScaleType::F32 => 4,
        };
        let zero_bytes = match shape.zeros {
            ZeroType::Constant(_) => 0,
            ZeroType::Points => 1,
            ZeroType::Minimums => 4,
        };
        let header = TILE * (scale_bytes + zero_bytes);
        let step = LINE * shape.bits as usize / 4;
        let size = || {
            let whole = groups.saturating_sub(1);
            let last = (shape.k - whole * group).next_multiple_of(STEP);
            let padded_k = whole.checked_mul(padded_group)?.checked_add(last)?;
            let column = (padded_k / STEP).checked_mul(step)?;
            let headers = groups.checked_mul(header)?.checked_next_multiple_of(LINE)?;
            let columns = shape.n.div_ceil(TILE);
            let bytes = column.checked_add(headers)?.checked_mul(columns)?;
            let fits = bytes <= isize::MAX as usize - LINE;
            fits.then_some((padded_k, headers, column, columns, bytes))
        };
        let Some((padded_k, headers, column, columns, bytes)) = size() else {
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
            headers,
            column,
            columns,
            bytes,
        })
    }

    /// Inputs of a group.
    pub(super) fn inputs(&self, group: usize) -> std::ops::Range<usize> {
        group * self.group..self.shape.k.min((group + 1) * self.group)
    }

    /// Whether sums of a group's products with 16-bit activations fit 32 bits.
    pub(super) fn fits_int16(&self) -> bool {
        self.padded_group <= 1 << (16 - self.shape.bits)
    }

    /// Steps of a group.
    #[inline(always)]
    pub(super) fn steps(&self, group: usize) -> usize {
        let start = group * self.padded_group;
        (self.padded_k - start).min(self.padded_group) / STEP
    }

    /// Distance of the steps of all tiles from the first byte, where the headers begin.
    #[inline(always)]
    pub(super) fn steps_start(&self) -> usize {
        self.headers * self.columns
    }

    /// The header of a group: distance from the first of its tile of outputs.
    #[inline(always)]
    pub(super) fn header(&self, group: usize) -> usize {
        group * self.header
    }

    /// The steps of a group: distance from the first of its tile of outputs.
    #[inline(always)]
    pub(super) fn codes(&self, group: usize) -> usize {
        group * (self.padded_group / STEP * self.step)
    }

    /// Distance of the zeros from the start of a header, which the scales begin.
    #[inline(always)]
    pub(super) fn zeros(&self) -> usize {
        match self.shape.scales {
            ScaleType::F16 => 2 * TILE,
            ScaleType::F32 => 4 * TILE,
        }
    }

    /// Bytes of a header.
    #[inline(always)]
    pub(super) fn header_bytes(&self) -> usize {
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
        // Eighths of a bit a weight.
        let eighths = |group_size, scales, zeros| {
            let layout = Layout::new(PackedShape {
                group_size,
                scales,
                zeros,
                ..shape()
            });
            layout.unwrap().bytes * 64 / (2048 * 2048)
        };
        let (f16, f32) = (ScaleType::F16, ScaleType::F32);
        assert_eq!(eighths(32, f16, ZeroType::Constant(8)), 36); // as ggml's Q4_0
        assert_eq!(eighths(32, f16, ZeroType::Points), 38);
        assert_eq!(eighths(32, f16, ZeroType::Minimums), 44);
        assert_eq!(eighths(32, f32, ZeroType::Minimums), 48);
        assert_eq!(eighths(64, f16, ZeroType::Points), 35);
        assert_eq!(eighths(128, f16, ZeroType::Constant(8)), 33);
        let layout = Layout::new(shape()).unwrap();
        assert_eq!((layout.header(1), layout.codes(1)), (48, 1024));
        assert_eq!((layout.headers, layout.column), (16 * 48, 16 * 1024));
        assert_eq!(layout.columns, 128);
        assert_eq!(layout.bytes, 128 * (16 * 48 + 16 * 1024));
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
        assert_eq!((layout.headers, layout.column), (192, 8 * 128));
        assert_eq!(layout.columns, 2);
        assert_eq!(layout.steps_start(), 384);
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
        assert_eq!(refused(&|s| s.zeros = ZeroType::Constant(16)), "zeros");
        assert_eq!(refused(&|s| s.n = usize::MAX), "n");
        assert_eq!(refused(&|s| s.k = usize::MAX), "n");
    }
}
