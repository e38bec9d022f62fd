//! Rows of a key-value cache in 8 and 4 bits.

use internlm_quant::Error;
use internlm_quant::kv::{KvBits, KvStep};
use proptest::prelude::*;

use crate::common::cases;

fn round_trip(bits: KvBits, row: &[f32]) -> Result<(Vec<u8>, KvStep, Vec<f32>), Error> {
    let mut codes = vec![0xaa; bits.row_bytes(row.len())];
    let step = bits.quantize(row, &mut codes)?;
    let mut values = vec![f32::NAN; row.len()];
    bits.dequantize(&codes, step, &mut values)?;
    Ok((codes, step, values))
}

/// The code of each element, low nibbles first half.
fn unpacked(bits: KvBits, codes: &[u8]) -> Vec<u8> {
    match bits {
        KvBits::Eight => codes.to_vec(),
        KvBits::Four => codes
            .iter()
            .map(|b| b % 16)
            .chain(codes.iter().map(|b| b / 16))
            .collect(),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn values_come_back_within_half_a_step(
        half in proptest::collection::vec((-1f32..1.0, -1f32..1.0), 0..70),
        scale in -12i32..12, shift in -3f32..3.0,
    ) {
        let at = |x: f32| x * 2f32.powi(scale) + shift;
        let row: Vec<f32> = half.iter().flat_map(|(x, y)| [at(*x), at(*y)]).collect();
        let largest = row.iter().fold(0f32, |max, x| max.max(x.abs()));
        for bits in [KvBits::Eight, KvBits::Four] {
            let (codes, step, values) = round_trip(bits, &row)?;
            let codes = unpacked(bits, &codes);
            prop_assert!(step.scale > 0.0);
            for ((x, y), code) in row.iter().zip(&values).zip(codes) {
                // x / scale + zero is rounded, by as much as the largest value's last bits.
                let bound = step.scale * 0.5 + 4.0 * f32::EPSILON * largest;
                prop_assert!((x - y).abs() <= bound, "{:?}: {} {}", bits, x, y);
                prop_assert_eq!(y.to_bits(), ((f32::from(code) - step.zero) * step.scale).to_bits());
            }
            // LMDeploy's rule, where it divides by no zero.
            let (min, max) = row.iter().fold((f32::MAX, f32::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            let limit = if bits == KvBits::Eight { 255.0 } else { 15.0 };
            if max > min {
                prop_assert_eq!(step, KvStep { scale: (max - min) / limit, zero: -min / ((max - min) / limit) });
            }
        }
    }

    #[test]
    fn equal_values_come_back_exactly(x: f32, half in 1usize..65) {
        prop_assume!(x.is_finite());
        for bits in [KvBits::Eight, KvBits::Four] {
            let (_, _, values) = round_trip(bits, &vec![x; 2 * half])?;
            prop_assert!(values.iter().all(|y| *y == x));
        }
    }
}

#[test]
fn codes_are_truncated_after_a_half() -> Result<(), Error> {
    // A scale of 1 and a zero point of 0: codes are the values to the nearest, halves up.
    let (codes, step, _) = round_trip(KvBits::Eight, &[0.0, 255.0, 0.5, 1.499, 2.5, 254.5])?;
    assert_eq!(
        (codes, step),
        (
            vec![0, 255, 1, 1, 3, 255],
            KvStep {
                scale: 1.0,
                zero: 0.0
            }
        )
    );
    // A zero point between codes stays a fraction.
    let (_, step, _) = round_trip(KvBits::Four, &[-0.5, 14.5])?;
    assert_eq!(
        step,
        KvStep {
            scale: 1.0,
            zero: 0.5
        }
    );
    let (codes, _, values) =
        round_trip(KvBits::Four, &[0.0, 1.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0])?;
    assert_eq!(codes, [0xc0, 0xd1, 0xe2, 0xf3]);
    assert_eq!(values, [0.0, 1.0, 2.0, 3.0, 12.0, 13.0, 14.0, 15.0]);
    Ok(())
}

#[test]
fn a_difference_below_all_numbers_is_none() -> Result<(), Error> {
    let tiny = f32::from_bits(1);
    let (_, step, values) = round_trip(KvBits::Eight, &[0.0, tiny])?;
    assert_eq!((step.scale, values), (1.0, vec![0.0, 0.0]));
    Ok(())
}

#[test]
fn lengths_and_values_are_checked() {
    for bits in [KvBits::Eight, KvBits::Four] {
        for row in [
            [f32::NAN, 1.0],
            [f32::INFINITY, 1.0],
            [1.0, f32::NEG_INFINITY],
            [f32::MAX, f32::MIN],
        ] {
            let error = bits.quantize(&row, &mut vec![0; bits.row_bytes(2)]);
            assert!(matches!(error, Err(Error::NotFinite { .. })), "{row:?}");
        }
        let error = bits.quantize(&[0.0; 4], &mut [0; 3]);
        assert!(matches!(error, Err(Error::Shape { .. })));
        let step = KvStep {
            scale: 1.0,
            zero: 0.0,
        };
        assert!(matches!(
            bits.dequantize(&[0; 3], step, &mut [0.0; 4]),
            Err(Error::Shape { .. })
        ));
    }
    assert_eq!(
        (KvBits::Eight.row_bytes(128), KvBits::Four.row_bytes(128)),
        (128, 64)
    );
    let odd = KvBits::Four.quantize(&[0.0; 3], &mut [0; 2]);
    assert!(matches!(odd, Err(Error::Shape { .. })));
}
