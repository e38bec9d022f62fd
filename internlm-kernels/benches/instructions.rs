//! Calls one kernel a number of times, for counting instructions: `benches/instructions.py` runs it
//! under callgrind and compares the counts with those on record.
//!
//! `instructions CASE CALLS`; without a case it prints their names. One thread, so that counts repeat;
//! the level of `INTERNLM_KERNELS` (callgrind knows AVX2, not AVX-512).
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use internlm_kernels::half::bf16;
use internlm_kernels::{
    Activation, AttentionSequence, AttentionShape, Compute, Elements, KvBlocks, PackedMatrix,
    PackedRows, PackedShape, PackedZeros, ScaleType, ZeroType, attention, matmul, packed_matmul,
    rms_norm, silu_mul,
};

const N: usize = 96;
const K: usize = 256;
/// Rows of a prompt, and of a batch that decodes.
const MANY: usize = 64;
const FEW: usize = 8;

const CASES: [&str; 14] = [
    "matmul bf16 1",
    "matmul bf16 8",
    "matmul bf16 64",
    "matmul f32 1",
    "matmul f32 64",
    "packed int8 1",
    "packed int8 64",
    "packed bf16 1",
    "packed bf16 64",
    "packed f32 1",
    "packed f32 64",
    "attention 1",
    "attention 64",
    "norm and gate",
];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let [case, calls] = arguments.as_slice() else {
        CASES.iter().for_each(|case| println!("{case}"));
        return;
    };
    let mut kernel = kernel(case);
    (0..calls.parse().unwrap()).for_each(|_| kernel());
}

fn kernel(case: &str) -> Box<dyn FnMut()> {
    let compute = Compute::new(Some(1)).unwrap();
    let (kind, rows) = case.rsplit_once(' ').unwrap();
    let m = match rows {
        "8" => FEW,
        "64" => MANY,
        _ => 1,
    };
    let x = numbers(m * K);
    let mut out = vec![0.0; m * N.max(K)];
    match kind {
        "matmul bf16" => {
            let w: Vec<bf16> = numbers(N * K).into_iter().map(bf16::from_f32).collect();
            Box::new(move || {
                let (w, out) = (Elements::Bf16(&w), &mut out[..m * N]);
                matmul(&compute, &x, w, None, Activation::Bf16, out, m, N, K).unwrap();
            })
        }
        "matmul f32" => {
            let w = numbers(N * K);
            Box::new(move || {
                let (w, out) = (Elements::F32(&w), &mut out[..m * N]);
                matmul(&compute, &x, w, None, Activation::F32, out, m, N, K).unwrap();
            })
        }
        "packed int8" | "packed bf16" | "packed f32" => {
            let activation = match kind {
                "packed int8" => Activation::Int8,
                "packed bf16" => Activation::Bf16,
                _ => Activation::F32,
            };
            let w = packed();
            Box::new(move || {
                packed_matmul(&compute, &x, &w, None, activation, &mut out[..m * N], m).unwrap();
            })
        }
        "attention" => {
            const LEN: usize = 512;
            let shape = AttentionShape {
                num_attention_heads: 4,
                num_key_value_heads: 2,
                head_dim: K / 4,
                scale: 0.125,
                activation: Activation::F32,
            };
            let cache: Vec<bf16> = numbers(LEN * K / 2)
                .into_iter()
                .map(bf16::from_f32)
                .collect();
            Box::new(move || {
                let sequence = AttentionSequence {
                    q_start: 0,
                    q_len: m,
                    keys: KvBlocks::contiguous(Elements::Bf16(&cache), LEN),
                    values: KvBlocks::contiguous(Elements::Bf16(&cache), LEN),
                    len: LEN,
                };
                attention(&compute, &x, &[sequence], &shape, &mut out[..m * K]).unwrap();
            })
        }
        "norm and" => {
            let weight = numbers(K);
            Box::new(move || {
                rms_norm(&compute, &x, &weight, 1e-5, &mut out[..K]).unwrap();
                silu_mul(&compute, &x, K / 2, &mut out[..K / 2]).unwrap();
            })
        }
        _ => panic!("no case {case}"),
    }
}

fn packed() -> PackedMatrix {
    let shape = PackedShape {
        n: N,
        k: K,
        bits: 4,
        group_size: 128,
        scales: ScaleType::F32,
        zeros: ZeroType::Points,
    };
    let codes: Vec<u8> = (0..N * K).map(|i| (i * 7 % 16) as u8).collect();
    let groups = N * shape.groups();
    let mut matrix = PackedMatrix::new(shape).unwrap();
    let rows = PackedRows {
        codes: &codes,
        scales: &vec![0.01; groups],
        zeros: PackedZeros::Points(&vec![8; groups]),
    };
    matrix.fill(0, rows).unwrap();
    matrix
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
        .collect()
}
