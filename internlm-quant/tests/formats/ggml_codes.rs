//! Codes of ggml blocks against the values that the same blocks are dequantized to.

use internlm_quant::Error;
use internlm_quant::ggml::GgmlType;
use proptest::prelude::*;

use crate::common::{Numbers, bits, cases};

const TYPES: [GgmlType; 8] = [
    GgmlType::Q4_0,
    GgmlType::Q4_1,
    GgmlType::Q5_0,
    GgmlType::Q5_1,
    GgmlType::Q8_0,
    GgmlType::Q4K,
    GgmlType::Q5K,
    GgmlType::Q6K,
];

/// Where a block's f16 numbers are.
fn halves(ggml_type: GgmlType) -> &'static [usize] {
    match ggml_type {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 => &[0],
        GgmlType::Q6K => &[208],
        _ => &[0, 2],
    }
}

/// Random blocks; exponents are not all ones.
fn blocks(ggml_type: GgmlType, count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Numbers::new(seed).bytes(count * ggml_type.block_bytes());
    for block in bytes.chunks_mut(ggml_type.block_bytes()) {
        for &at in halves(ggml_type) {
            block[at + 1] &= 0xbf;
        }
    }
    bytes
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn values_are_equal_bitwise(rows in 0usize..4, blocks_per_row in 1usize..4, seed: u64) {
        for ggml_type in TYPES {
            let columns = blocks_per_row * ggml_type.block_size();
            let data = blocks(ggml_type, rows * blocks_per_row, seed);
            let mut want = vec![0.0; rows * columns];
            ggml_type.dequantize(&data, &mut want)?;
            let codes = ggml_type.codes(&data, rows, columns)?;
            codes.check()?;
            prop_assert_eq!((codes.rows, codes.columns), (rows, columns));
            let layout = ggml_type.code_layout().expect("has codes");
            prop_assert_eq!((codes.bits, codes.group_size), (layout.bits, layout.group_size));
            prop_assert_eq!(bits(&codes.dequantize()), bits(&want), "{}", ggml_type.name());
        }
    }
}

#[test]
fn blocks_of_zeros_are_zeros() -> Result<(), Error> {
    for ggml_type in TYPES {
        let data = vec![0; 2 * ggml_type.block_bytes()];
        let codes = ggml_type.codes(&data, 2, ggml_type.block_size())?;
        assert!(
            codes.dequantize().iter().all(|value| *value == 0.0),
            "{}",
            ggml_type.name()
        );
    }
    Ok(())
}

#[test]
fn other_types_lengths_and_scales_are_refused() {
    for ggml_type in GgmlType::ALL {
        let (size, bytes) = (ggml_type.block_size(), ggml_type.block_bytes());
        if !TYPES.contains(&ggml_type) {
            assert_eq!(ggml_type.code_layout(), None);
            let refused = ggml_type.codes(&vec![0; bytes], 1, size);
            assert!(
                matches!(refused, Err(Error::NoCodes { .. })),
                "{}",
                ggml_type.name()
            );
            continue;
        }
        let length = |bytes: usize, rows, columns| {
            let refused = ggml_type.codes(&vec![0; bytes], rows, columns);
            assert!(
                matches!(refused, Err(Error::BlockLength { .. })),
                "{}",
                ggml_type.name()
            );
        };
        length(bytes - 1, 1, size);
        length(bytes + 1, 1, size);
        length(bytes, 2, size / 2); // as many elements, but rows cut a block
        length(bytes, usize::MAX, size);
        for &at in halves(ggml_type) {
            let mut block = vec![1; bytes];
            block[at..at + 2].copy_from_slice(&[0x00, 0x7c]); // infinity
            let refused = ggml_type.codes(&block, 1, size);
            assert!(
                matches!(refused, Err(Error::Codes { .. })),
                "{}",
                ggml_type.name()
            );
        }
    }
}
