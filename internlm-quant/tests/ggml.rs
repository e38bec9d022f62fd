//! Block formats against candle's, and by hand where candle lacks the type.

use candle_core::Device;
use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use internlm_quant::Error;
use internlm_quant::ggml::GgmlType;
use proptest::prelude::*;

/// Random bytes, but with scales that are finite.
fn blocks(ggml_type: GgmlType, count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut bytes: Vec<u8> = (0..count * ggml_type.block_bytes())
        .map(|_| next())
        .collect();
    let halves: &[usize] = match ggml_type {
        GgmlType::Q4_0 | GgmlType::Q5_0 | GgmlType::Q8_0 | GgmlType::Iq4Nl | GgmlType::Iq4Xs => {
            &[0]
        }
        GgmlType::Q4_1 | GgmlType::Q5_1 | GgmlType::Q8_1 | GgmlType::Q4K | GgmlType::Q5K => &[0, 2],
        GgmlType::Q2K => &[80, 82],
        GgmlType::Q3K => &[108],
        GgmlType::Q6K => &[208],
        GgmlType::F16 | GgmlType::Bf16 => &[0],
        GgmlType::F32 | GgmlType::Q8K => &[2],
        _ => &[],
    };
    for block in bytes.chunks_mut(ggml_type.block_bytes()) {
        for &at in halves {
            block[at + 1] &= 0xbf; // the exponent is not all ones
        }
    }
    bytes
}

fn dequantize(ggml_type: GgmlType, bytes: &[u8]) -> Vec<f32> {
    let blocks = bytes.len() / ggml_type.block_bytes();
    let mut out = vec![0.0; blocks * ggml_type.block_size()];
    ggml_type.dequantize(bytes, &mut out).expect("whole blocks");
    out
}

#[track_caller]
fn check_twin(ggml_type: GgmlType, twin: GgmlDType, seed: u64) {
    let bytes = blocks(ggml_type, 8, seed);
    let ours = dequantize(ggml_type, &bytes);
    let theirs = qtensor_from_ggml(twin, &bytes, vec![ours.len()], &Device::Cpu)
        .and_then(|t| t.dequantize(&Device::Cpu)?.to_vec1::<f32>())
        .expect("candle reads it");
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&ours), bits(&theirs), "{}", ggml_type.name());
}

proptest! {
    #[test]
    fn equals_candle_bitwise(seed in any::<u64>()) {
        for (ours, theirs) in [
            (GgmlType::F32, GgmlDType::F32),
            (GgmlType::F16, GgmlDType::F16),
            (GgmlType::Bf16, GgmlDType::BF16),
            (GgmlType::Q4_0, GgmlDType::Q4_0),
            (GgmlType::Q4_1, GgmlDType::Q4_1),
            (GgmlType::Q5_0, GgmlDType::Q5_0),
            (GgmlType::Q5_1, GgmlDType::Q5_1),
            (GgmlType::Q8_0, GgmlDType::Q8_0),
            (GgmlType::Q2K, GgmlDType::Q2K),
            (GgmlType::Q3K, GgmlDType::Q3K),
            (GgmlType::Q4K, GgmlDType::Q4K),
            (GgmlType::Q5K, GgmlDType::Q5K),
            (GgmlType::Q6K, GgmlDType::Q6K),
        ] {
            check_twin(ours, theirs, seed);
        }
    }
}

/// 0.5 as f16.
const HALF: [u8; 2] = [0x00, 0x38];

#[test]
fn q8_1_skips_its_sum() {
    let mut block = [0u8; 36];
    block[..2].copy_from_slice(&HALF);
    block[2..4].copy_from_slice(&[0xff, 0xff]);
    for (i, q) in block[4..].iter_mut().enumerate() {
        *q = (i as i8 - 20) as u8;
    }
    let out = dequantize(GgmlType::Q8_1, &block);
    assert!((0..32).all(|i| out[i] == (i as f32 - 20.0) * 0.5));
}

#[test]
fn q8_k_has_an_f32_scale() {
    let mut block = [0u8; 292];
    block[..4].copy_from_slice(&0.25f32.to_le_bytes());
    for (i, q) in block[4..260].iter_mut().enumerate() {
        *q = i as u8;
    }
    let out = dequantize(GgmlType::Q8K, &block);
    assert!((0..256).all(|i| out[i] == f32::from(i as u8 as i8) * 0.25));
}

/// The table of IQ4_NL and IQ4_XS, from `ggml-common.h`.
const TABLE: [f32; 16] = [
    -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.,
];

#[test]
fn iq4_nl_looks_nibbles_up() {
    let mut block = [0u8; 18];
    block[..2].copy_from_slice(&HALF);
    for (j, q) in block[2..].iter_mut().enumerate() {
        *q = j as u8 | (15 - j as u8) << 4;
    }
    let out = dequantize(GgmlType::Iq4Nl, &block);
    assert!((0..16).all(|j| out[j] == TABLE[j] * 0.5 && out[16 + j] == TABLE[15 - j] * 0.5));
}

#[test]
fn iq4_xs_scales_of_six_bits() {
    // Scale of sub-block ib: 7 * ib + 1, of which the low nibbles and the high bits are apart.
    let scale = |ib: usize| 7 * ib as u16 + 1;
    let mut block = [0u8; 136];
    block[..2].copy_from_slice(&HALF);
    let mut top = 0;
    for ib in 0..8 {
        top |= (scale(ib) >> 4) << (2 * ib);
        block[4 + ib / 2] |= ((scale(ib) & 15) as u8) << (ib % 2 * 4);
        for j in 0..16 {
            block[8 + ib * 16 + j] = j as u8 | (15 - j as u8) << 4;
        }
    }
    block[2..4].copy_from_slice(&top.to_le_bytes());
    let out = dequantize(GgmlType::Iq4Xs, &block);
    for ib in 0..8 {
        let d = 0.5 * (f32::from(scale(ib)) - 32.0);
        for j in 0..16 {
            assert_eq!(out[ib * 32 + j], d * TABLE[j]);
            assert_eq!(out[ib * 32 + 16 + j], d * TABLE[15 - j]);
        }
    }
}

#[test]
fn refuses_partial_blocks_and_names_types() {
    for ggml_type in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(ggml_type.id()), Some(ggml_type));
        let (size, bytes) = (ggml_type.block_size(), ggml_type.block_bytes());
        let refused = |data: usize, out: usize| {
            matches!(
                ggml_type.dequantize(&vec![0; data], &mut vec![0.0; out]),
                Err(Error::BlockLength { .. })
            )
        };
        assert!(refused(bytes - 1, size) && refused(bytes + 1, size) && refused(bytes, 2 * size));
        assert!(size == 1 || refused(bytes, size - 1));
        assert!(ggml_type.dequantize(&[], &mut []).is_ok());
    }
    assert_eq!(GgmlType::name_of(19), Some("IQ1_S"));
    assert_eq!((GgmlType::from_id(19), GgmlType::name_of(4)), (None, None));
}
