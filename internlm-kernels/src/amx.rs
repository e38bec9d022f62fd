//! Tiles of Intel's AMX: eight registers of 16 rows of 64 bytes, and products of them.
//!
//! Kernels are written for [`Tiles`], which has two implementations: `asm::Hardware`, one instruction
//! of the processor a method, and [`model::Model`], which does in plain Rust what Intel's manual says
//! of the instruction (Software Developer's Manual, volume 2). So what tests run on any processor is
//! what runs on tiles, but for the instructions themselves; and where there are tiles, [`is_available`]
//! compares them with the model before anything relies on them.
//!
//! A product is `C += A · B`. Tiles 0 to 3 hold sums C, 4 and 5 rows of activations A, 6 and 7 weights
//! B: two by two products for four loads. A row of A holds `depth` bytes of inputs, a row of B four
//! bytes of inputs of each of 16 columns, so that both are `16 · depth` bytes.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod asm;
pub(crate) mod bf16;
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::mem;
use std::ops::{Deref, DerefMut, Range};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use asm::{Hardware, is_available};

use crate::compute::Compute;
use crate::memory::Line;

/// Rows of A and C, columns of B and C.
pub(crate) const SIDE: usize = 16;

/// Bytes of a whole row.
pub(crate) const MAX_DEPTH: usize = 64;

/// From so many rows of activations on, tiles are used.
pub(crate) const MIN_ROWS: usize = SIDE;

/// Rows that a block of 2 × 2 products takes.
pub(crate) const BLOCK_ROWS: usize = 2 * SIDE;

/// What a product multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Signed bytes by signed bytes, summed as i32.
    Signed,
    /// Signed bytes of A by unsigned ones of B, summed as i32.
    Mixed,
    /// bf16 by bf16, summed as f32; numbers below 2⁻¹²⁶ count as zeros.
    Bf16,
}

/// Four tiles of sums: f32, or the bits of i32. Tiles 0 and 1 side by side, 2 and 3 below them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Block(pub(crate) [[f32; 2 * SIDE]; 2 * SIDE]);

impl Block {
    pub(crate) const ZERO: Block = Block([[0.0; 2 * SIDE]; 2 * SIDE]);

    /// 16 numbers of a row.
    #[inline(always)]
    pub(crate) fn lanes(&self, row: usize, column: usize) -> [f32; SIDE] {
        let mut lanes = [0.0; SIDE];
        lanes.copy_from_slice(&self.0[row][column..][..SIDE]);
        lanes
    }
}

/// The tiles of the current thread from their configuration to their release, which is when the value
/// is dropped. `T`, `C`, `A` and `B` are numbers of tiles.
///
/// # Panics
/// All methods, for a slice of another length than `16 · depth`.
pub(crate) trait Tiles {
    /// Configures the tiles; all are zeros. `depth` is a multiple of 4 up to [`MAX_DEPTH`].
    ///
    /// # Panics
    /// Where tiles are in use on this thread, or are not there.
    fn configure(depth: usize) -> Self;

    /// Zeroes a tile.
    fn zero<const T: usize>(&mut self);

    /// Loads a tile of A or B, row after row.
    fn load<const T: usize>(&mut self, from: &[u8]);

    /// Stores a tile of C in its place.
    fn store<const T: usize>(&mut self, to: &mut Block);

    /// `C += A · B`. Of a row of A and a column of B the products of four bytes, or of two bf16, that
    /// face each other are added to one sum.
    fn add<const C: usize, const A: usize, const B: usize>(&mut self, kind: Kind);
}

/// What `ldtilecfg` reads (SDM, volume 1, section 18.3, palette 1).
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row.
    colsb: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    pub(crate) fn new(depth: usize) -> Config {
        assert!(
            depth > 0 && depth <= MAX_DEPTH && depth.is_multiple_of(4),
            "a depth that tiles have"
        );
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            colsb: [0; 16],
            rows: [0; 16],
        };
        for tile in 0..8 {
            let (rows, colsb) = match tile {
                4 | 5 => (SIDE, depth),
                6 | 7 => (depth / 4, MAX_DEPTH),
                _ => (SIDE, MAX_DEPTH),
            };
            (config.rows[tile], config.colsb[tile]) = (rows as u8, colsb as u16);
        }
        config
    }

    /// Bytes of a row of a tile.
    #[inline(always)]
    fn colsb(&self, tile: usize) -> usize {
        usize::from(self.colsb[tile])
    }

    /// Bytes of a tile.
    #[inline(always)]
    fn bytes(&self, tile: usize) -> usize {
        usize::from(self.rows[tile]) * self.colsb(tile)
    }
}

/// Sums of products of all bytes, or of small integers in bf16, which are exact in any order.
fn sample<T: Tiles>(kind: Kind, depth: usize) -> Vec<u32> {
    let numbers = |step: usize| -> Vec<u8> {
        let byte = |i: usize| (i * step + i / 64) as u8;
        match kind {
            Kind::Signed | Kind::Mixed => (0..SIDE * depth).map(byte).collect(),
            Kind::Bf16 => (0..SIDE * depth / 2)
                .flat_map(|i| half::bf16::from_f32(f32::from(byte(i) as i8)).to_le_bytes())
                .collect(),
        }
    };
    let (a, b) = (numbers(37), numbers(101));
    let mut sums = Block::ZERO;
    let mut tiles = T::configure(depth);
    tiles.load::<5>(&a);
    tiles.load::<6>(&b);
    tiles.load::<7>(&a);
    tiles.zero::<3>();
    tiles.add::<3, 5, 6>(kind);
    tiles.add::<3, 5, 7>(kind);
    tiles.store::<3>(&mut sums);
    sums.0.as_flattened().iter().map(|x| x.to_bits()).collect()
}

/// Adds the products of all tiles of `a` and `b` to the sums, which begin with zeros:
/// `[a0 · b0, a0 · b1, a1 · b0, a1 · b1]`. Without `LOWER`, `a[1]` and its sums are left out.
///
/// The sums stay in the tiles until [`store`] reads them: products take long, so there is time to do
/// something else.
#[inline(always)]
pub(crate) fn products<T: Tiles, const LOWER: bool>(
    tiles: &mut T,
    kind: Kind,
    depth: usize,
    a: [&[u8]; 2],
    b: [&[u8]; 2],
) {
    tiles.zero::<0>();
    tiles.zero::<1>();
    if LOWER {
        tiles.zero::<2>();
        tiles.zero::<3>();
    }
    let tile = SIDE * depth;
    let a = a[0].chunks_exact(tile).zip(a[1].chunks_exact(tile));
    let b = b[0].chunks_exact(tile).zip(b[1].chunks_exact(tile));
    for ((a0, a1), (b0, b1)) in a.zip(b) {
        tiles.load::<4>(a0);
        tiles.load::<6>(b0);
        tiles.load::<7>(b1);
        tiles.add::<0, 4, 6>(kind);
        tiles.add::<1, 4, 7>(kind);
        if LOWER {
            tiles.load::<5>(a1);
            tiles.add::<2, 5, 6>(kind);
            tiles.add::<3, 5, 7>(kind);
        }
    }
}

/// Reads the sums of [`products`].
#[inline(always)]
pub(crate) fn store<T: Tiles, const LOWER: bool>(tiles: &mut T, sums: &mut Block) {
    tiles.store::<0>(sums);
    tiles.store::<1>(sums);
    if LOWER {
        tiles.store::<2>(sums);
        tiles.store::<3>(sums);
    }
}

thread_local! {
    /// What the last [`Stage`] of this thread leaves to the next one.
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Memory for unpacked weights. Contents are arbitrary.
pub(crate) struct Stage(Vec<Line>);

impl Stage {
    pub(crate) fn new(lines: usize) -> Stage {
        let kept = KEPT.take();
        Stage(if kept.len() < lines {
            vec![Line::ZERO; lines]
        } else {
            kept
        })
    }
}

impl Deref for Stage {
    type Target = [Line];

    #[inline(always)]
    fn deref(&self) -> &[Line] {
        &self.0
    }
}

impl DerefMut for Stage {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [Line] {
        &mut self.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        KEPT.set(mem::take(&mut self.0));
    }
}

/// Tiles of 16 columns of a task, at most.
const TASK_TILES: usize = 8;

/// Multiplications below which waking other threads costs more than it saves: fewer than for vectors
/// would be, by as much as tiles are faster.
const SMALL: usize = 1 << 20;

/// Splits a product among threads: calls `each` for rows, and tiles of 16 columns, that cover it. Rows
/// begin at multiples of 32.
pub(crate) fn over_tasks(
    compute: &Compute,
    (m, n, k): (usize, usize, usize),
    each: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let tiles = n.div_ceil(SIDE);
    if m.saturating_mul(n).saturating_mul(k) <= SMALL {
        return each(0..m, 0..tiles);
    }
    let enough = 8 * compute.threads();
    let at_once = (tiles / enough).next_multiple_of(2).clamp(2, TASK_TILES);
    let tile_tasks = tiles.div_ceil(at_once);
    // Rows are split too where columns alone don't occupy the threads; weights are then unpacked twice.
    let row_tasks = enough.div_ceil(tile_tasks).min(m.div_ceil(2 * BLOCK_ROWS));
    let rows = m.div_ceil(row_tasks).next_multiple_of(BLOCK_ROWS);
    compute.run(tile_tasks * m.div_ceil(rows), |task| {
        let (row, tile) = (task / tile_tasks * rows, task % tile_tasks * at_once);
        each(row..m.min(row + rows), tile..tiles.min(tile + at_once));
    });
}
