//! The matrix itself: filling it, reading it back.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::layout::{Layout, PackedShape, STEP, ScaleType, TILE, ZeroType, is_f16};
use crate::compute::Compute;
use crate::error::{Error, Result, check_len};
use crate::memory::{LINE, Line, huge_pages};

/// A matrix of 4- or 8-bit codes in the order that products read it; the only copy that is needed.
///
/// A weight is `(code - point) · scale` or `code · scale + minimum`, as the [`PackedShape`] says. A
/// new matrix is all zeros. 4-bit codes in groups of 128 with f16 scales and points take 4.19 bits a
/// weight.
///
/// ```
/// use internlm_kernels::{
///     Activation, Compute, PackedMatrix, PackedRows, PackedShape, PackedZeros, ScaleType,
///     ZeroType, packed_matmul,
/// };
///
/// # fn main() -> Result<(), internlm_kernels::Error> {
/// let shape = PackedShape {
///     n: 2,
///     k: 3,
///     bits: 4,
///     group_size: 128,
///     scales: ScaleType::F16,
///     zeros: ZeroType::Points,
/// };
/// let mut matrix = PackedMatrix::new(shape)?;
/// matrix.fill(0, PackedRows {
///     codes: &[8, 9, 10, 15, 0, 1], // (2, 3)
///     scales: &[0.5, 2.0],          // (2, 1)
///     zeros: PackedZeros::Points(&[8, 1]),
/// })?;
/// let mut out = [0.0; 2];
/// let compute = Compute::new(Some(1))?;
/// packed_matmul(&compute, &[1.0, 1.0, 1.0], &matrix, None, Activation::F32, &mut out, 1)?;
/// assert_eq!(out, [1.5, 26.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PackedMatrix {
    layout: Layout,
    lines: Vec<Line>,
}

/// Rows (outputs) of a matrix as they come from a file.
///
/// # Shapes
/// - codes: `(rows, k)`, one a byte
/// - scales, zeros: `(rows, groups)`
#[derive(Debug, Clone, Copy)]
pub struct PackedRows<'a> {
    /// Codes.
    pub codes: &'a [u8],
    /// Scales.
    pub scales: &'a [f32],
    /// Zeros.
    pub zeros: PackedZeros<'a>,
}

/// Zeros of the groups of some rows.
#[derive(Debug, Clone, Copy)]
pub enum PackedZeros<'a> {
    /// The code of 0.0.
    Points(&'a [u8]),
    /// The value of code 0.
    Minimums(&'a [f32]),
}

/// 16 neighbouring rows, the last time fewer: what one thread may fill while others fill others.
pub struct PackedTile<'a> {
    layout: Layout,
    headers: &'a mut [Line],
    steps: &'a mut [Line],
    rows: Range<usize>,
}

impl PackedMatrix {
    /// A matrix of zeros.
    ///
    /// # Errors
    /// [`Error::Packed`] for another number of bits than 4 and 8, a group size of 0 or above 65536,
    /// and a size that overflows.
    pub fn new(shape: PackedShape) -> Result<PackedMatrix> {
        let layout = Layout::new(shape)?;
        let count = layout.bytes / LINE;
        let mut lines = huge_pages(Vec::with_capacity(count));
        lines.resize(count, Line::ZERO);
        Ok(PackedMatrix { layout, lines })
    }

    /// What it is made for.
    pub fn shape(&self) -> PackedShape {
        self.layout.shape
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.layout.bytes
    }

    /// Sets rows from `start` on.
    ///
    /// # Errors
    /// [`Error::Shape`] where lengths don't fit each other, [`Error::Packed`] for rows beyond the
    /// last and zeros of the other type, [`Error::PackedValue`] for a value that the matrix can't hold.
    pub fn fill(&mut self, start: usize, rows: PackedRows<'_>) -> Result<()> {
        let count = rows.check(&self.layout, start, self.layout.shape.n)?;
        let (layout, tiles) = (self.layout, start / TILE..(start + count).div_ceil(TILE));
        let mut row = start;
        for tile in self.tiles().take(tiles.end).skip(tiles.start) {
            for lane in row - tile.rows.start..tile.rows.len().min(start + count - tile.rows.start)
            {
                rows.write(&layout, tile.headers, tile.steps, lane, row - start);
                row += 1;
            }
        }
        Ok(())
    }

    /// All rows in order, 16 at a time, for several threads to fill.
    pub fn tiles(&mut self) -> impl Iterator<Item = PackedTile<'_>> {
        let layout = self.layout;
        let (headers, steps) = self.lines.split_at_mut(layout.steps_start() / LINE);
        let headers = headers.chunks_exact_mut((layout.headers / LINE).max(1));
        let steps = steps.chunks_exact_mut((layout.column / LINE).max(1));
        let tiles = headers.zip(steps).enumerate();
        tiles.map(move |(index, (headers, steps))| PackedTile {
            layout,
            headers,
            steps,
            rows: index * TILE..layout.shape.n.min((index + 1) * TILE),
        })
    }

    /// The values of some rows.
    ///
    /// # Shapes
    /// - out: `(rows, k)`
    ///
    /// # Errors
    /// [`Error::Shape`] where `out` has another length, [`Error::Packed`] for rows beyond the last.
    pub fn dequantize(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let layout = &self.layout;
        let PackedShape { n, k, bits, .. } = layout.shape;
        check_range("rows", rows.start, rows.len(), n)?;
        check_len("dequantize", "out", out.len(), &[rows.len(), k])?;
        for (row, out) in rows.zip(out.chunks_exact_mut(k.max(1))) {
            for group in 0..layout.groups {
                let header = Header::read(layout, self.header(row / TILE, group));
                let codes = self.codes(row / TILE, group);
                for (k, input) in layout.inputs(group).enumerate() {
                    out[input] = header.value(row % TILE, code(bits, codes, k, row % TILE));
                }
            }
        }
        Ok(())
    }

    /// Everything, as it lies in memory: little-endian, the same on every processor.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    pub(super) fn of(layout: Layout, lines: Vec<Line>) -> PackedMatrix {
        PackedMatrix { layout, lines }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Says that the next product is with this matrix, see [`Compute::announce`].
    pub fn announce(&self, compute: &Compute) {
        compute.announce(&self.as_bytes()[self.layout.steps_start()..]);
    }

    /// The headers of a tile of 16 rows.
    #[inline(always)]
    pub(super) fn headers(&self, tile: usize) -> &[u8] {
        &self.as_bytes()[tile * self.layout.headers..][..self.layout.headers]
    }

    /// The steps of a tile of 16 rows.
    #[inline(always)]
    pub(super) fn steps(&self, tile: usize) -> &[u8] {
        let steps = &self.as_bytes()[self.layout.steps_start()..];
        &steps[tile * self.layout.column..][..self.layout.column]
    }

    /// The header of a group.
    #[inline(always)]
    pub(super) fn header(&self, tile: usize, group: usize) -> &[u8] {
        &self.headers(tile)[self.layout.header(group)..][..self.layout.header_bytes()]
    }

    /// The steps of a group, and what comes after it.
    #[inline(always)]
    pub(super) fn codes(&self, tile: usize, group: usize) -> &[u8] {
        &self.steps(tile)[self.layout.codes(group)..]
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedMatrix")
            .field("shape", &self.layout.shape)
            .finish_non_exhaustive()
    }
}

impl PackedTile<'_> {
    /// Its rows of the matrix.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Sets all of its rows.
    ///
    /// # Errors
    /// As [`PackedMatrix::fill`].
    pub fn fill(&mut self, rows: PackedRows<'_>) -> Result<()> {
        let count = rows.check(&self.layout, self.rows.start, self.rows.end)?;
        check_len(
            "fill",
            "codes",
            rows.codes.len(),
            &[self.rows.len(), self.layout.shape.k],
        )?;
        for row in 0..count {
            rows.write(&self.layout, self.headers, self.steps, row, row);
        }
        Ok(())
    }
}

fn check_range(what: &'static str, start: usize, count: usize, end: usize) -> Result<()> {
    match start.checked_add(count) {
        Some(got) if got <= end => Ok(()),
        got => Err(Error::Packed {
            what,
            got: got.unwrap_or(usize::MAX),
            want: "at most n",
        }),
    }
}

impl PackedRows<'_> {
    /// Checks lengths and values; returns the number of rows, the first of which is `start`.
    fn check(&self, layout: &Layout, start: usize, end: usize) -> Result<usize> {
        let PackedShape { k, bits, .. } = layout.shape;
        // A matrix of no inputs has nothing to fill.
        let count = self.codes.len().checked_div(k).unwrap_or(0);
        check_len("fill", "codes", self.codes.len(), &[count, k])?;
        let groups = [count, layout.groups];
        check_len("fill", "scales", self.scales.len(), &groups)?;
        check_range("rows", start, count, end)?;
        let refuse = |argument, row, problem| {
            Err(Error::PackedValue {
                argument,
                row: start + row,
                problem,
            })
        };
        let limit = limit(bits);
        // The union of all codes is found with vectors; the offender is looked for only if there is one.
        if self.codes.iter().fold(0, |all, code| all | code) > limit
            && let Some(at) = self.codes.iter().position(|&code| code > limit)
        {
            return refuse("codes", at / k, "does not fit the bits");
        }
        let row = |at: usize| at / layout.groups;
        if let Some(at) = self.scales.iter().position(|scale| !scale.is_finite()) {
            return refuse("scales", row(at), "is not finite");
        }
        if layout.shape.scales == ScaleType::F16
            && let Some(at) = self.scales.iter().position(|&scale| !is_f16(scale))
        {
            return refuse("scales", row(at), "is no f16");
        }
        match (layout.shape.zeros, self.zeros) {
            (ZeroType::Points, PackedZeros::Points(points)) => {
                check_len("fill", "points", points.len(), &groups)?;
                match points.iter().position(|&point| point > limit) {
                    Some(at) => refuse("points", row(at), "does not fit the bits"),
                    None => Ok(count),
                }
            }
            (ZeroType::Minimums, PackedZeros::Minimums(minimums)) => {
                check_len("fill", "minimums", minimums.len(), &groups)?;
                match minimums.iter().position(|minimum| !minimum.is_finite()) {
                    Some(at) => refuse("minimums", row(at), "is not finite"),
                    None => Ok(count),
                }
            }
            (ZeroType::Constant(constant), PackedZeros::Points(points)) => {
                check_len("fill", "points", points.len(), &groups)?;
                match points.iter().position(|&point| point != constant) {
                    Some(at) => refuse("points", row(at), "is not the constant"),
                    None => Ok(count),
                }
            }
            (ZeroType::Points | ZeroType::Constant(_), PackedZeros::Minimums(minimums)) => {
                Err(Error::Packed {
                    what: "zeros",
                    got: minimums.len(),
                    want: "points, not minimums",
                })
            }
            (ZeroType::Minimums, PackedZeros::Points(points)) => Err(Error::Packed {
                what: "zeros",
                got: points.len(),
                want: "minimums, not points",
            }),
        }
    }

    /// Writes row `from` of these, checked, as row `lane` of a tile.
    fn write(
        &self,
        layout: &Layout,
        headers: &mut [Line],
        steps: &mut [Line],
        lane: usize,
        from: usize,
    ) {
        let headers: &mut [u8] = bytemuck::cast_slice_mut(headers);
        let column: &mut [u8] = bytemuck::cast_slice_mut(steps);
        let PackedShape { k, bits, .. } = layout.shape;
        let codes = &self.codes[from * k..][..k];
        for group in 0..layout.groups {
            let header = &mut headers[layout.header(group)..];
            let at = from * layout.groups + group;
            let (scale, zeros) = (self.scales[at], layout.zeros());
            match layout.shape.scales {
                ScaleType::F16 => put(header, 2 * lane, f16::from_f32(scale).to_le_bytes()),
                ScaleType::F32 => put(header, 4 * lane, scale.to_le_bytes()),
            }
            match self.zeros {
                PackedZeros::Points(_) if layout.shape.zeros != ZeroType::Points => {}
                PackedZeros::Points(points) => put(header, zeros + lane, [points[at]]),
                PackedZeros::Minimums(minimums) => {
                    put(header, zeros + 4 * lane, minimums[at].to_le_bytes());
                }
            }
            let steps = column[layout.codes(group)..].chunks_exact_mut(layout.step());
            for (codes, step) in codes[layout.inputs(group)].chunks(STEP).zip(steps) {
                let mut q = [0; STEP];
                q[..codes.len()].copy_from_slice(codes);
                let [a, b, c, d, e, f, g, h] = q;
                if bits == 4 {
                    put(
                        step,
                        4 * lane,
                        [a | e << 4, b | f << 4, c | g << 4, d | h << 4],
                    );
                } else {
                    put(step, 4 * lane, [a, b, c, d]);
                    put(step, LINE + 4 * lane, [e, f, g, h]);
                }
            }
        }
    }
}

/// The largest code.
fn limit(bits: u32) -> u8 {
    if bits == 4 { 15 } else { 255 }
}

#[inline(always)]
fn put<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    to[at..at + N].copy_from_slice(&bytes);
}

/// The code of input `k` of a group.
pub(super) fn code(bits: u32, codes: &[u8], k: usize, lane: usize) -> u8 {
    let (step, j) = (k / STEP, k % STEP);
    if bits == 4 {
        codes[step * LINE + 4 * lane + j % 4] >> (j / 4 * 4) & 15
    } else {
        codes[(2 * step + j / 4) * LINE + 4 * lane + j % 4]
    }
}

#[inline(always)]
fn read_f32(from: &[u8], to: &mut [f32; TILE]) {
    for (to, word) in to.iter_mut().zip(from.as_chunks::<4>().0) {
        *to = f32::from_le_bytes(*word);
    }
}

/// Scales and zeros of a tile.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) scales: [f32; TILE],
    /// 0 where there are minimums.
    pub(super) points: [i32; TILE],
    /// `None` where there are points.
    pub(super) minimums: Option<[f32; TILE]>,
}

impl Header {
    /// Reads the header of a tile.
    #[inline(always)]
    pub(super) fn read(layout: &Layout, header: &[u8]) -> Header {
        // Loops over arrays, which become vectors.
        let mut scales = [0.0; TILE];
        match layout.shape.scales {
            ScaleType::F16 => {
                let mut halves = [f16::ZERO; TILE];
                for (half, word) in halves.iter_mut().zip(header.as_chunks::<2>().0) {
                    *half = f16::from_le_bytes(*word);
                }
                halves.convert_to_f32_slice(&mut scales);
            }
            ScaleType::F32 => read_f32(header, &mut scales),
        }
        let zeros = &header[layout.zeros()..];
        let (mut points, mut minimums) = ([0; TILE], None);
        match layout.shape.zeros {
            ZeroType::Points => {
                for (point, zero) in points.iter_mut().zip(zeros) {
                    *point = i32::from(*zero);
                }
            }
            ZeroType::Constant(point) => points = [point.into(); TILE],
            ZeroType::Minimums => read_f32(zeros, minimums.insert([0.0; TILE])),
        }
        Header {
            scales,
            points,
            minimums,
        }
    }

    /// The value of a code.
    #[inline(always)]
    pub(super) fn value(&self, lane: usize, code: u8) -> f32 {
        match self.minimums {
            None => (i32::from(code) - self.points[lane]) as f32 * self.scales[lane],
            Some(minimums) => f32::from(code) * self.scales[lane] + minimums[lane],
        }
    }

    /// Checks values that [`PackedMatrix::fill`] refuses.
    pub(super) fn check(&self, layout: &Layout, row: usize) -> Result<()> {
        let refuse = |argument, lane, problem| {
            Err(Error::PackedValue {
                argument,
                row: row + lane,
                problem,
            })
        };
        let limit = i32::from(limit(layout.shape.bits));
        for lane in 0..TILE {
            if !self.scales[lane].is_finite() {
                return refuse("scales", lane, "is not finite");
            }
            if self.points[lane] > limit {
                return refuse("points", lane, "does not fit the bits");
            }
            if self.minimums.is_some_and(|m| !m[lane].is_finite()) {
                return refuse("minimums", lane, "is not finite");
            }
        }
        Ok(())
    }
}
