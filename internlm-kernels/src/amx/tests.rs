//! The model against arithmetic that shares nothing with it, and the processor against the model.

use half::bf16;

use super::model::Model;
use super::*;

/// A tile of sums.
type Sums = [[f32; SIDE]; SIDE];

/// Rows of A, columns of B and sums C, one number an element.
struct Operands<X> {
    a: Vec<Vec<X>>,
    b: Vec<Vec<X>>,
}

impl<X: Copy> Operands<X> {
    /// `inputs` inputs of 16 rows and columns.
    fn new(inputs: usize, number: impl Fn(usize) -> X) -> Self {
        let rows = |seed: usize| -> Vec<Vec<X>> {
            let row = |row: usize| {
                (0..inputs)
                    .map(|k| number(seed + row * 977 + k * 31))
                    .collect()
            };
            (0..SIDE).map(row).collect()
        };
        let (a, b) = (rows(1), rows(123_457));
        Operands { a, b }
    }

    /// Twice the products, by tiles.
    fn run<T: Tiles>(&self, kind: Kind, bytes: impl Fn(X) -> Vec<u8>) -> Sums {
        let a: Vec<u8> = self.a.iter().flatten().flat_map(|&x| bytes(x)).collect();
        let depth = a.len() / SIDE;
        // A dword of each column, then the next dwords.
        let columns: Vec<Vec<u8>> = self
            .b
            .iter()
            .map(|b| b.iter().flat_map(|&x| bytes(x)).collect())
            .collect();
        let b: Vec<u8> = (0..depth / 4)
            .flat_map(|k| {
                columns
                    .iter()
                    .flat_map(move |column| column[4 * k..4 * k + 4].to_vec())
            })
            .collect();
        let mut sums = Block::ZERO;
        let mut tiles = T::configure(depth);
        tiles.zero::<2>();
        tiles.load::<4>(&a);
        tiles.load::<7>(&b);
        tiles.add::<2, 4, 7>(kind);
        tiles.add::<2, 4, 7>(kind);
        tiles.store::<2>(&mut sums);
        std::array::from_fn(|row| sums.lanes(SIDE + row, 0))
    }
}

/// Numbers that look random.
fn byte(seed: usize) -> u8 {
    ((seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8
}

/// bf16 of all magnitudes between 2⁻⁸ and 2⁷.
fn number(seed: usize) -> bf16 {
    let magnitude = 2f32.powi(i32::from(byte(seed) % 16) - 8);
    bf16::from_f32((f32::from(byte(seed + 7)) - 128.0) / 128.0 * magnitude)
}

fn integer(bits: f32) -> i32 {
    bits.to_bits() as i32
}

fn check_bytes<T: Tiles>() {
    for depth in [4, 8, 24, 32, 60, 64] {
        let operands = Operands::new(depth, byte);
        for kind in [Kind::Signed, Kind::Mixed] {
            let sums = operands.run::<T>(kind, |x| vec![x]);
            for (row, a) in operands.a.iter().enumerate() {
                let want = operands.b.iter().map(|b| {
                    let product = |(&a, &b): (&u8, &u8)| {
                        let signed = |x: u8| {
                            if x < 128 {
                                i32::from(x)
                            } else {
                                i32::from(x) - 256
                            }
                        };
                        let b = if kind == Kind::Signed {
                            signed(b)
                        } else {
                            i32::from(b)
                        };
                        2 * signed(a) * b
                    };
                    a.iter().zip(b).map(product).sum::<i32>()
                });
                assert!(
                    sums[row].map(integer).into_iter().eq(want),
                    "{kind:?} {depth} {row}"
                );
            }
        }
    }
}

fn check_bf16<T: Tiles>() {
    for inputs in [2, 12, 30, 32] {
        let operands = Operands::new(inputs, number);
        let sums = operands.run::<T>(Kind::Bf16, |x| x.to_le_bytes().to_vec());
        for (a, sums) in operands.a.iter().zip(sums) {
            for (b, got) in operands.b.iter().zip(sums) {
                let products = a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64());
                let (want, magnitude) = products.fold((0.0, 0.0), |(sum, magnitude), x| {
                    (sum + 2.0 * x, magnitude + 2.0 * x.abs())
                });
                // Each of at most 20 additions rounds by 2⁻²⁴ of at most all magnitudes.
                let allowed = 20.0 * 2f64.powi(-24) * magnitude;
                assert!(
                    (f64::from(got) - want).abs() <= allowed,
                    "{inputs}: {got} is not {want}"
                );
            }
        }
    }
}

/// Numbers that only the manual's order of sums gives, and what it says of denormals.
fn check_order<T: Tiles>() {
    let run = |a: &[f32], b: &[f32]| {
        let row = |x: &[f32]| vec![x.iter().map(|&x| bf16::from_f32(x)).collect(); SIDE];
        let operands = Operands {
            a: row(a),
            b: row(b),
        };
        operands.run::<T>(Kind::Bf16, |x: bf16| x.to_le_bytes().to_vec())[3][5]
    };
    let big = 2f32.powi(24);
    // First and second elements have sums of their own, in which 1.0 is kept or lost.
    assert_eq!(run(&[big, 1.0, -big, 1.0], &[1.0; 4]), 4.0);
    assert_eq!(run(&[big, 0.0, 1.0, 0.0, -big, 0.0], &[1.0; 6]), 0.0);
    let least = f32::MIN_POSITIVE;
    assert_eq!(run(&[least / 2.0, 0.0], &[2f32.powi(100); 2]), 0.0);
    assert_eq!(run(&[least, 0.0], &[0.5; 2]), 0.0);
    assert_eq!(run(&[least, 0.0], &[1.0; 2]), 2.0 * least);
}

#[test]
fn the_model_multiplies() {
    check_bytes::<Model>();
    check_bf16::<Model>();
    check_order::<Model>();
}

#[test]
fn sums_of_bytes_wrap_around() {
    let mut tiles = Model::configure(64);
    let (a, b) = ([128; SIDE * 64], [255; SIDE * 64]);
    tiles.load::<4>(&a);
    tiles.load::<6>(&b);
    let mut want = 0i32;
    for _ in 0..2000 {
        tiles.add::<0, 4, 6>(Kind::Mixed);
        want = want.wrapping_add(-128 * 255 * 64);
    }
    let mut sums = Block::ZERO;
    tiles.store::<0>(&mut sums);
    assert_eq!(sums.lanes(15, 0).map(integer), [want; SIDE]);
}

/// Bytes as `ldtilecfg` reads them.
#[test]
fn a_configuration_lies_as_the_manual_says() {
    let config = Config::new(24);
    assert_eq!((size_of::<Config>(), align_of::<Config>()), (64, 64));
    // SAFETY: the fields are 64 bytes without padding (SDM, table 3-10 of `ldtilecfg`).
    let bytes: [u8; 64] = unsafe { std::mem::transmute(config) };
    let mut want = [0; 64];
    want[0] = 1;
    for tile in 0..8 {
        want[16 + 2 * tile] = if matches!(tile, 4 | 5) { 24 } else { 64 };
        want[48 + tile] = if tile < 6 { 16 } else { 6 };
    }
    assert_eq!(bytes, want);
}

#[test]
fn samples_tell_kinds_apart() {
    let samples = [Kind::Signed, Kind::Mixed, Kind::Bf16].map(|kind| sample::<Model>(kind, 24));
    assert!(samples[0] != samples[1] && samples[1] != samples[2] && samples[0] != samples[2]);
}

/// Each instruction of the processor, where it has them, against the model.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn the_processor_does_what_the_model_does() {
    if !is_available() {
        println!("skipped: this processor has no AMX, or its use is refused");
        return;
    }
    check_bytes::<Hardware>();
    check_bf16::<Hardware>();
    for depth in (4..=64).step_by(4) {
        for kind in [Kind::Signed, Kind::Mixed, Kind::Bf16] {
            assert_eq!(
                sample::<Hardware>(kind, depth),
                sample::<Model>(kind, depth),
                "{kind:?} {depth}"
            );
        }
    }
    let mut differ = 0;
    for inputs in (2..=32).step_by(2) {
        let operands = Operands::new(inputs, number);
        let bytes = |x: bf16| x.to_le_bytes().to_vec();
        let got = operands.run::<Hardware>(Kind::Bf16, bytes);
        let want = operands.run::<Model>(Kind::Bf16, bytes);
        differ += usize::from(got != want);
    }
    println!("bf16 sums that round otherwise than the manual says: {differ} of 16");
}
