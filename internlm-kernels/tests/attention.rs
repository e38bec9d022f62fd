//! Attention against sums in f64, and its promise that a row depends on nothing but what it sees.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

mod common;

use common::{DTYPES, Dtype, Stored, bits, every_isa, numbers};
use internlm_kernels::{
    Activation, AttentionSequence, AttentionShape, Compute, Elements, Error, Isa, KvBlocks,
    KvElements, attention,
};
use proptest::prelude::*;

fn shape(
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
) -> AttentionShape {
    let scale = 2.0 / (head_dim as f32).sqrt();
    AttentionShape {
        num_attention_heads,
        num_key_value_heads,
        head_dim,
        scale,
        activation: Activation::F32,
    }
}

/// Queries, keys and values of one sequence; more room than tokens, filled with NaN.
struct Case {
    shape: AttentionShape,
    q: Vec<f32>,
    keys: Stored,
    values: Stored,
    capacity: usize,
    len: usize,
    q_len: usize,
}

impl Case {
    fn new(shape: AttentionShape, dtypes: (Dtype, Dtype), q_len: usize, len: usize) -> Case {
        let capacity = len + 3;
        let AttentionShape {
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            ..
        } = shape;
        let cache = |seed| {
            let mut x = numbers(num_key_value_heads * capacity * head_dim, seed);
            for head in x.chunks_exact_mut(capacity * head_dim) {
                head[len * head_dim..].fill(f32::NAN);
            }
            x
        };
        Case {
            shape,
            q: numbers(q_len * num_attention_heads * head_dim, 1)
                .into_iter()
                .map(|x| 3.0 * x)
                .collect(),
            keys: Stored::new(dtypes.0, &cache(2)),
            values: Stored::new(dtypes.1, &cache(3)),
            capacity,
            len,
            q_len,
        }
    }

    fn width(&self) -> usize {
        self.shape.num_attention_heads * self.shape.head_dim
    }

    /// Rows `range` of the queries, as if they were the last tokens.
    fn sequence(&self, range: std::ops::Range<usize>, q_start: usize) -> AttentionSequence<'_> {
        AttentionSequence {
            q_start,
            q_len: range.len(),
            keys: KvBlocks::contiguous(self.keys.elements(), self.capacity),
            values: KvBlocks::contiguous(self.values.elements(), self.capacity),
            len: self.len - self.q_len + range.end,
        }
    }

    fn run(&self, compute: &Compute, range: std::ops::Range<usize>) -> Vec<f32> {
        let q = &self.q[range.start * self.width()..range.end * self.width()];
        let mut out = vec![f32::NAN; q.len()];
        attention(
            compute,
            q,
            &[self.sequence(range, 0)],
            &self.shape,
            &mut out,
        )
        .unwrap();
        out
    }

    fn want(&self) -> Vec<f64> {
        let AttentionShape {
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            scale,
            ..
        } = self.shape;
        let (keys, values) = (self.keys.wide(), self.values.wide());
        let mut out = Vec::new();
        for row in 0..self.q_len {
            for head in 0..num_attention_heads {
                let q = &self.q[(row * num_attention_heads + head) * head_dim..][..head_dim];
                let kv_head = head / (num_attention_heads / num_key_value_heads);
                let token = |x: &[f32], t: usize| -> Vec<f64> {
                    let from = (kv_head * self.capacity + t) * head_dim;
                    x[from..][..head_dim]
                        .iter()
                        .map(|&x| f64::from(x))
                        .collect()
                };
                let visible = self.len - self.q_len + row + 1;
                let score = |t| -> f64 {
                    let dot: f64 = q
                        .iter()
                        .zip(token(&keys, t))
                        .map(|(q, k)| f64::from(*q) * k)
                        .sum();
                    f64::from(scale) * dot
                };
                let scores: Vec<f64> = (0..visible).map(score).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                let mut result = vec![0.0; head_dim];
                for (t, score) in scores.iter().enumerate() {
                    for (r, v) in result.iter_mut().zip(token(&values, t)) {
                        *r += (score - max).exp() / sum * v;
                    }
                }
                out.extend(result);
            }
        }
        out
    }

    #[track_caller]
    fn check(&self, compute: &Compute) {
        let got = self.run(compute, 0..self.q_len);
        for (index, (got, want)) in got.iter().zip(self.want()).enumerate() {
            assert!(
                (f64::from(*got) - want).abs() < 5e-6,
                "{compute:?} {:?} {} of {}: [{index}] {got} is not {want}",
                self.shape,
                self.q_len,
                self.len
            );
        }
    }
}

#[test]
fn shapes_around_blocks_and_spans_agree_with_f64() {
    for compute in every_isa() {
        for (heads, kv_heads, head_dim) in
            [(4, 2, 64), (1, 1, 20), (6, 2, 128), (5, 1, 7), (40, 1, 16)]
        {
            for (q_len, len) in [
                (1, 1),
                (1, 64),
                (1, 65),
                (3, 3),
                (1, 600),
                (2, 1025),
                (17, 130),
                (70, 70),
                (40, 513),
            ] {
                for dtype in DTYPES {
                    let shape = shape(heads, kv_heads, head_dim);
                    Case::new(shape, (dtype, dtype), q_len, len).check(&compute);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.min(256), ..Default::default() })]
    #[test]
    fn any_shape_agrees_with_f64(
        (kv_heads, group, head_dim) in (1usize..4, 1usize..6, 1usize..80),
        (q_len, past) in (1usize..40, 0usize..200),
        keys in prop::sample::select(&DTYPES),
        values in prop::sample::select(&DTYPES),
    ) {
        let shape = shape(kv_heads * group, kv_heads, head_dim);
        let case = Case::new(shape, (keys, values), q_len, past + q_len);
        for compute in every_isa() {
            case.check(&compute);
        }
    }
}

/// Whole, in chunks, token by token, in a batch, on one thread or several: the same bits.
#[test]
fn a_row_does_not_depend_on_chunks_neighbours_or_threads() {
    for isa in Isa::available() {
        let one = Compute::with_isa(isa, Some(1)).unwrap();
        let five = Compute::with_isa(isa, Some(5)).unwrap();
        for dtype in DTYPES {
            let len = 1200;
            // Arm is emulated, which is slow.
            let (heads, kv_heads) = if cfg!(target_arch = "aarch64") {
                (2, 1)
            } else {
                (6, 2)
            };
            let case = Case::new(shape(heads, kv_heads, 72), (dtype, dtype), len, len);
            let width = case.width();
            let want = bits(&case.run(&one, 0..len));
            assert!(bits(&case.run(&five, 0..len)) == want, "{isa} {dtype:?}");
            let chunks = [
                0..1,
                1..2,
                2..70,
                70..511,
                511..513,
                513..1100,
                1100..1199,
                1199..1200,
            ];
            for chunk in chunks.clone() {
                for compute in [&one, &five] {
                    assert!(
                        bits(&case.run(compute, chunk.clone()))
                            == want[chunk.start * width..chunk.end * width],
                        "{compute:?} {dtype:?} {chunk:?}"
                    );
                }
            }
            // All chunks as sequences of one call, in another order than their rows.
            let mut rows = Vec::new();
            let mut sequences = Vec::new();
            for chunk in chunks.iter().rev() {
                sequences.push(case.sequence(chunk.clone(), rows.len() / width));
                rows.extend_from_slice(&case.q[chunk.start * width..chunk.end * width]);
            }
            let mut out = vec![0.0; rows.len()];
            attention(&five, &rows, &sequences, &case.shape, &mut out).unwrap();
            let got: Vec<u32> = chunks
                .iter()
                .zip(sequences.iter().rev())
                .flat_map(|(chunk, s)| bits(&out[s.q_start * width..][..chunk.len() * width]))
                .collect();
            assert!(got == want, "{isa} {dtype:?}: batch");
        }
    }
}

fn quantized<'a>(bits: u8, codes: &'a [u8], steps: &'a [[f32; 2]]) -> KvElements<'a> {
    match bits {
        8 => KvElements::Int8 { codes, steps },
        _ => KvElements::Int4 { codes, steps },
    }
}

/// `(kv_heads, capacity, row)` as blocks of 64 tokens, `(num_blocks, kv_heads, 64, row)`, in the order of
/// `table`; what belongs to no token is `fill`.
fn in_blocks<T: Copy>(
    x: &[T],
    kv_heads: usize,
    row: usize,
    len: usize,
    table: &[u32],
    fill: T,
) -> Vec<T> {
    let capacity = x.len() / kv_heads / row;
    let num_blocks = table.iter().max().map_or(0, |&b| b as usize + 1);
    let mut out = vec![fill; num_blocks * kv_heads * 64 * row];
    for head in 0..kv_heads {
        for token in 0..len {
            let block = table[token / 64] as usize;
            let to = ((block * kv_heads + head) * 64 + token % 64) * row;
            let from = (head * capacity + token) * row;
            out[to..to + row].copy_from_slice(&x[from..from + row]);
        }
    }
    out
}

/// Blocks anywhere, in any order: the bits of one contiguous block.
#[test]
fn blocks_give_the_bits_of_a_contiguous_cache() {
    for compute in every_isa() {
        for dtype in DTYPES {
            for (q_len, len) in [(1, 1), (1, 64), (3, 65), (1, 700), (130, 200), (2, 1025)] {
                let case = Case::new(shape(6, 2, 40), (dtype, dtype), q_len, len);
                let table: Vec<u32> = (0..len.div_ceil(64) as u32)
                    .map(|i| (7 * i + 3) % 31)
                    .collect();
                let blocks = |stored: &Stored| {
                    Stored::new(
                        dtype,
                        &in_blocks(&stored.wide(), 2, 40, len, &table, f32::NAN),
                    )
                };
                let (keys, values) = (blocks(&case.keys), blocks(&case.values));
                let of = |stored| KvBlocks {
                    elements: KvElements::Dense(Stored::elements(stored)),
                    block_table: &table,
                    block_size: 64,
                };
                let sequence = AttentionSequence {
                    keys: of(&keys),
                    values: of(&values),
                    ..case.sequence(0..q_len, 0)
                };
                let mut out = vec![0.0; case.q.len()];
                attention(&compute, &case.q, &[sequence], &case.shape, &mut out).unwrap();
                assert!(
                    bits(&out) == bits(&case.run(&compute, 0..q_len)),
                    "{compute:?} {dtype:?} {q_len} of {len}"
                );
            }
        }
    }
}

/// Quantized rows are taken for the f32 values that they stand for, to the bit.
#[test]
fn quantized_rows_are_their_values() {
    for compute in every_isa() {
        for (bits_of, head_dim) in [(8, 20), (8, 64), (4, 16), (4, 96)] {
            for (q_len, len) in [(1, 5), (1, 600), (67, 130)] {
                let (kv_heads, capacity) = (2, len + 3);
                let mut case = Case::new(
                    shape(6, kv_heads, head_dim),
                    (Dtype::F32, Dtype::F32),
                    q_len,
                    len,
                );
                let row = head_dim * bits_of / 8;
                let rows = kv_heads * capacity;
                let codes: Vec<u8> = (0..rows * row).map(|i| (i * 37 % 251) as u8).collect();
                let steps: Vec<[f32; 2]> = (0..rows)
                    .map(|i| [0.01 + (i % 7) as f32 / 99.0, (i % 13) as f32 + 0.3])
                    .collect();
                let mut values = vec![0.0; rows * head_dim];
                for r in 0..rows {
                    for d in 0..head_dim {
                        let code = match bits_of {
                            8 => codes[r * row + d],
                            _ if d < head_dim / 2 => codes[r * row + d] & 15,
                            _ => codes[r * row + d - head_dim / 2] >> 4,
                        };
                        values[r * head_dim + d] = (f32::from(code) - steps[r][1]) * steps[r][0];
                    }
                }
                case.keys = Stored::F32(values.clone());
                case.values = Stored::F32(values);
                let table: Vec<u32> = (0..len.div_ceil(64) as u32).rev().collect();
                let codes = in_blocks(&codes, kv_heads, row, len, &table, 0);
                let steps = in_blocks(&steps, kv_heads, 1, len, &table, [f32::NAN; 2]);
                let blocks = KvBlocks {
                    elements: quantized(bits_of as u8, &codes, &steps),
                    block_table: &table,
                    block_size: 64,
                };
                let sequence = AttentionSequence {
                    keys: blocks,
                    values: blocks,
                    ..case.sequence(0..q_len, 0)
                };
                let mut out = vec![0.0; case.q.len()];
                attention(&compute, &case.q, &[sequence], &case.shape, &mut out).unwrap();
                let want = case.run(&compute, 0..q_len);
                assert!(
                    bits(&out) == bits(&want),
                    "{compute:?} {bits_of} {q_len} of {len}"
                );
            }
        }
    }
}

/// A token that a row doesn't see can hold anything.
#[test]
fn later_tokens_do_not_reach_earlier_rows() {
    for compute in every_isa() {
        let (len, width) = (90, 4 * 32);
        let mut case = Case::new(shape(4, 2, 32), (Dtype::F32, Dtype::F32), len, len);
        let before = case.run(&compute, 0..len);
        for stored in [&mut case.keys, &mut case.values] {
            let mut x = stored.wide();
            for head in x.chunks_exact_mut(case.capacity * 32) {
                head[80 * 32..].fill(f32::NAN);
            }
            *stored = Stored::F32(x);
        }
        let after = case.run(&compute, 0..len);
        assert_eq!(
            bits(&after[..80 * width]),
            bits(&before[..80 * width]),
            "{compute:?}"
        );
        assert!(
            after[80 * width..].iter().all(|x| x.is_nan()),
            "{compute:?}"
        );
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for compute in every_isa() {
        let mut case = Case::new(shape(2, 1, 16), (Dtype::F32, Dtype::F32), 3, 100);
        case.q.iter_mut().for_each(|q| *q *= 1e4);
        assert!(
            case.run(&compute, 0..3).iter().all(|x| x.abs() <= 1.0),
            "{compute:?}"
        );
    }
}

#[test]
fn rows_of_no_sequence_are_left_alone() {
    for compute in every_isa() {
        let case = Case::new(shape(2, 1, 8), (Dtype::F32, Dtype::F32), 1, 4);
        let q = numbers(3 * 16, 9);
        let mut out = vec![5.0; q.len()];
        attention(
            &compute,
            &q,
            &[case.sequence(0..1, 1)],
            &case.shape,
            &mut out,
        )
        .unwrap();
        assert!(out[..16].iter().chain(&out[32..]).all(|&x| x == 5.0));
        assert!(out[16..32].iter().all(|&x| x != 5.0));
        attention(&compute, &[], &[], &case.shape, &mut []).unwrap();
    }
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let compute = Compute::new(Some(1)).unwrap();
    let shape = shape(4, 2, 8);
    let (q, cache) = (numbers(3 * 32, 1), numbers(2 * 5 * 8, 2));
    let good = AttentionSequence {
        q_start: 0,
        q_len: 2,
        keys: KvBlocks::contiguous(Elements::F32(&cache), 5),
        values: KvBlocks::contiguous(Elements::F32(&cache), 5),
        len: 4,
    };
    let run = |sequences: &[AttentionSequence<'_>]| {
        attention(&compute, &q, sequences, &shape, &mut [0.0; 3 * 32])
    };
    run(&[good]).unwrap();
    run(&[
        good,
        AttentionSequence {
            q_start: 2,
            q_len: 1,
            ..good
        },
    ])
    .unwrap();
    let what = |sequences: &[AttentionSequence<'_>]| match run(sequences) {
        Err(Error::Sequence {
            sequence,
            what,
            got,
            limit,
        }) => (sequence, what, got, limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        what(&[AttentionSequence { q_start: 4, ..good }]),
        (0, "q_start", 4, 3)
    );
    assert_eq!(
        what(&[AttentionSequence { q_start: 2, ..good }]),
        (0, "q_len", 2, 1)
    );
    assert_eq!(
        what(&[AttentionSequence { len: 1, ..good }]),
        (0, "q_len", 2, 1)
    );
    assert_eq!(
        what(&[AttentionSequence { len: 6, ..good }]),
        (0, "len", 6, 5)
    );
    let other = AttentionSequence {
        q_start: 1,
        q_len: 1,
        ..good
    };
    assert_eq!(what(&[good, other]), (0, "q_len", 2, 1));
    let short = AttentionSequence {
        values: KvBlocks::contiguous(Elements::F32(&cache[1..]), 5),
        ..good
    };
    assert!(matches!(
        run(&[short]),
        Err(Error::Shape {
            argument: "values",
            ..
        })
    ));
    let huge = AttentionSequence {
        keys: KvBlocks::contiguous(Elements::F32(&cache), usize::MAX),
        ..good
    };
    assert!(matches!(
        run(&[huge]),
        Err(Error::Shape {
            argument: "keys",
            want: usize::MAX,
            ..
        })
    ));
    let table = |block_table, block_size| {
        let keys = KvBlocks {
            block_table,
            block_size,
            ..good.keys
        };
        what(&[AttentionSequence { keys, ..good }])
    };
    assert_eq!(table(&[1], 5), (0, "block_table", 1, 0));
    assert_eq!(table(&[], 5), (0, "len", 4, 0));
    assert_eq!(table(&[0, 0], 5), (0, "block_size % 64", 5, 0));
    let steps = [[1.0, 0.0]; 10];
    for (elements, fits) in [
        (quantized(8, &[0; 80], &steps), true),
        (quantized(4, &[0; 40], &steps), true),
        (quantized(8, &[0; 79], &steps), false),
        (quantized(8, &[0; 80], &steps[1..]), false),
        (quantized(4, &[0; 80], &steps), false),
    ] {
        let keys = KvBlocks {
            elements,
            ..good.keys
        };
        let got = run(&[AttentionSequence { keys, ..good }]);
        assert_eq!(got.is_ok(), fits, "{got:?}");
    }
    for (heads, kv_heads) in [(4, 3), (4, 0), (2, 4)] {
        let shape = AttentionShape {
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            ..shape
        };
        let got = attention(&compute, &q, &[good], &shape, &mut [0.0; 3 * 32]);
        assert!(matches!(got, Err(Error::Heads { .. })), "{got:?}");
    }
    let got = attention(&compute, &q[1..], &[good], &shape, &mut [0.0; 3 * 32]);
    assert!(matches!(got, Err(Error::Shape { argument: "q", .. })));
    let got = attention(&compute, &q, &[good], &shape, &mut [0.0; 32]);
    assert!(matches!(
        got,
        Err(Error::Shape {
            argument: "out",
            ..
        })
    ));
}
