//! Tiles in plain Rust, as the manual describes each instruction (SDM, volume 2): the scalar twin.

use super::{Block, Config, Kind, MAX_DEPTH, SIDE, Tiles};

/// Tiles and their configuration.
pub(crate) struct Model {
    config: Config,
    tiles: [[[u8; MAX_DEPTH]; SIDE]; 8],
}

impl Tiles for Model {
    /// `ldtilecfg`, with what it and the products refuse.
    fn configure(depth: usize) -> Model {
        let config = Config::new(depth);
        assert!(config.palette == 1 && config.start_row == 0 && config.reserved == [0; 14]);
        assert!(config.rows[8..] == [0; 8] && config.colsb[8..] == [0; 8]);
        for (rows, colsb) in config.rows.into_iter().zip(config.colsb).take(8) {
            assert!((1..=16).contains(&rows) && (4..=64).contains(&colsb) && colsb % 4 == 0);
        }
        let tiles = [[[0; MAX_DEPTH]; SIDE]; 8];
        Model { config, tiles }
    }

    /// `tilezero`.
    #[inline(always)]
    fn zero<const T: usize>(&mut self) {
        self.tiles[T] = [[0; MAX_DEPTH]; SIDE];
    }

    /// `tileloadd`: what lies beyond the configured rows and bytes becomes zero.
    #[inline(always)]
    fn load<const T: usize>(&mut self, from: &[u8]) {
        assert_eq!(from.len(), self.config.bytes(T), "a whole tile");
        self.zero::<T>();
        let colsb = self.config.colsb(T);
        for (to, from) in self.tiles[T].iter_mut().zip(from.chunks_exact(colsb)) {
            to[..colsb].copy_from_slice(from);
        }
    }

    /// `tilestored`.
    #[inline(always)]
    fn store<const T: usize>(&mut self, to: &mut Block) {
        let rows = to.0[T / 2 * SIDE..][..SIDE].iter_mut();
        for (to, from) in rows.zip(self.tiles[T]) {
            let from: [f32; SIDE] = bytemuck::cast(from);
            to[T % 2 * SIDE..][..SIDE].copy_from_slice(&from);
        }
    }

    /// `tdpbssd`, `tdpbsud`, `tdpbf16ps`.
    #[inline(always)]
    fn add<const C: usize, const A: usize, const B: usize>(&mut self, kind: Kind) {
        const { assert!(C != A && C != B && A != B, "three tiles") };
        let Config { rows, colsb, .. } = self.config;
        assert!(rows[C] == rows[A] && colsb[C] == colsb[B]);
        assert!(usize::from(rows[B]) == self.config.colsb(A) / 4);
        let (a, b) = (self.tiles[A], self.tiles[B]);
        let b = &b[..usize::from(rows[B])];
        for (sums, a) in self.tiles[C].iter_mut().zip(&a) {
            *sums = match kind {
                Kind::Signed => add_bytes::<true>(sums, a, b),
                Kind::Mixed => add_bytes::<false>(sums, a, b),
                Kind::Bf16 => add_bf16(sums, a, b),
            };
        }
    }
}

/// A row of `tdpbssd` or, with unsigned B, `tdpbsud`. Sums wrap around.
#[inline(always)]
fn add_bytes<const SIGNED: bool>(sums: &[u8; 64], a: &[u8; 64], b: &[[u8; MAX_DEPTH]]) -> [u8; 64] {
    let mut sums: [i32; SIDE] = bytemuck::cast(*sums);
    let a: [[u8; 4]; SIDE] = bytemuck::cast(*a);
    for (a, b) in a.into_iter().zip(b) {
        let b: [[u8; 4]; SIDE] = bytemuck::cast(*b);
        for (sum, b) in sums.iter_mut().zip(b) {
            for byte in 0..4 {
                let b = if SIGNED {
                    i32::from(b[byte] as i8)
                } else {
                    i32::from(b[byte])
                };
                *sum = sum.wrapping_add(i32::from(a[byte] as i8) * b);
            }
        }
    }
    bytemuck::cast(sums)
}

/// A row of `tdpbf16ps`: products of first and of second elements are summed on their own, each rounded
/// once to the nearest f32; then both sums are added, and that to the tile.
#[inline(always)]
fn add_bf16(sums: &[u8; 64], a: &[u8; 64], b: &[[u8; MAX_DEPTH]]) -> [u8; 64] {
    let mut halves = [[0.0f32; SIDE]; 2];
    let a: [[u16; 2]; SIDE] = bytemuck::cast(*a);
    for (a, b) in a.into_iter().zip(b) {
        let b: [[u16; 2]; SIDE] = bytemuck::cast(*b);
        for half in 0..2 {
            for column in 0..SIDE {
                let sum = &mut halves[half][column];
                *sum = flush(widen(a[half]).mul_add(widen(b[column][half]), *sum));
            }
        }
    }
    let mut sums: [f32; SIDE] = bytemuck::cast(*sums);
    for column in 0..SIDE {
        let sum = flush(halves[0][column] + halves[1][column]);
        sums[column] = flush(flush(sums[column]) + sum);
    }
    bytemuck::cast(sums)
}

/// The value of a bf16.
#[inline(always)]
fn widen(x: u16) -> f32 {
    flush(f32::from_bits(u32::from(x) << 16))
}

/// Denormal operands and results count as zeros of their sign.
#[inline(always)]
fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0f32.copysign(x)
    } else {
        x
    }
}
