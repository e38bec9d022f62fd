//! Rates of the kernels beside the limits of the machine, as a table.
//!
//! `cargo bench -p internlm-kernels [-- THREADS [FILTER]]`. Each row is the best and the median of
//! interleaved rounds by the clock, and the best rate per second of processor time, which means more on a
//! machine that does other work. Baselines are in the same table: memory read by the same threads, and
//! the scalar kernels.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use internlm_kernels::half::{bf16, f16};
use internlm_kernels::{
    Activation, AttentionSequence, AttentionShape, Compute, Elements, Isa, KvBlocks, PackedMatrix,
    PackedRows, PackedShape, PackedZeros, ScaleType, ZeroType, attention, huge_pages, matmul,
    packed_matmul,
};

const ROUNDS: usize = 7;

/// One line of the table: units of work per call, and the calls' times.
struct Row<'a> {
    name: String,
    /// Bytes or floating-point operations of one call.
    work: f64,
    unit: &'static str,
    call: Box<dyn FnMut() + 'a>,
    seconds: Vec<f64>,
    cpu_seconds: Vec<f64>,
}

/// Processor time of all threads.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live value that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn row<'a>(
    name: impl Into<String>,
    work: f64,
    unit: &'static str,
    call: impl FnMut() + 'a,
) -> Row<'a> {
    Row {
        name: name.into(),
        work,
        unit,
        call: Box::new(call),
        seconds: Vec::new(),
        cpu_seconds: Vec::new(),
    }
}

/// Rounds go over all rows, so that a busy moment hits each alike. Short calls are repeated.
fn measure(title: &str, mut rows: Vec<Row<'_>>) {
    let filter = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .nth(1);
    rows.retain(|row| {
        let full = format!("{title} {}", row.name);
        filter
            .as_ref()
            .is_none_or(|filter| full.contains(filter.as_str()))
    });
    if rows.is_empty() {
        return;
    }
    for round in 0..=ROUNDS {
        for row in &mut rows {
            let (start, cpu) = (Instant::now(), cpu_seconds());
            let mut calls = 0;
            while calls == 0 || start.elapsed().as_secs_f64() < 0.03 {
                (row.call)();
                calls += 1;
            }
            if round > 0 {
                row.seconds
                    .push(start.elapsed().as_secs_f64() / f64::from(calls));
                row.cpu_seconds
                    .push((cpu_seconds() - cpu) / f64::from(calls));
            }
        }
    }
    println!(
        "\n{title}\n{:<48} {:>8} {:>8} {:>8}",
        "", "best", "median", "per CPU"
    );
    for mut row in rows {
        row.seconds.sort_by(f64::total_cmp);
        row.cpu_seconds.sort_by(f64::total_cmp);
        let rate = |seconds: f64| row.work / seconds / 1e9;
        let (best, median) = (rate(row.seconds[0]), rate(row.seconds[ROUNDS / 2]));
        let per_cpu = rate(row.cpu_seconds[0]);
        let Row { name, unit, .. } = row;
        println!("{name:<48} {best:>8.1} {median:>8.1} {per_cpu:>8.1} {unit}");
    }
}

fn numbers(len: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn filled<T: Copy>(len: usize, from: impl Fn(f32) -> T) -> Vec<T> {
    let pattern: Vec<T> = numbers(4093).into_iter().map(from).collect();
    let mut v = huge_pages(Vec::with_capacity(len));
    v.extend(pattern.iter().cycle().take(len));
    v
}

/// The sum of all words: reads memory as fast as plain loops do.
fn read(compute: &Compute, words: &[u64]) {
    const CHUNK: usize = 1 << 17;
    compute.run(words.len() / CHUNK, |task| {
        let mut sums = [0u64; 32];
        for chunk in words[task * CHUNK..][..CHUNK].as_chunks::<32>().0 {
            for (sum, word) in sums.iter_mut().zip(chunk) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
    });
}

/// A matrix of 4-bit codes in groups of 128, as AWQ has it.
fn packed(n: usize, k: usize) -> PackedMatrix {
    let mut matrix = PackedMatrix::new(PackedShape {
        n,
        k,
        bits: 4,
        group_size: 128,
        scales: ScaleType::F16,
        zeros: ZeroType::Points,
    })
    .unwrap();
    let codes: Vec<u8> = (0..16 * k).map(|i| (i * 7 % 13 + i % 3) as u8).collect();
    let rows = PackedRows {
        codes: &codes,
        scales: &vec![0.0625; 16 * k / 128],
        zeros: PackedZeros::Points(&vec![8; 16 * k / 128]),
    };
    for mut tile in matrix.tiles() {
        tile.fill(rows).unwrap();
    }
    matrix
}

/// The three modes of packed products of `m` rows, in GB/s of weights or in GFLOP/s.
fn packed_rows<'a>(
    compute: &'a Compute,
    matrix: &'a PackedMatrix,
    m: usize,
    x: &'a [f32],
) -> impl Iterator<Item = Row<'a>> {
    let PackedShape { n, k, .. } = matrix.shape();
    let modes = [Activation::Int8, Activation::Bf16, Activation::F32];
    modes.into_iter().map(move |activation| {
        let mut out = vec![0.0; m * n];
        let (work, unit) = if m == 1 {
            (matrix.bytes() as f64, "GB/s")
        } else {
            (2.0 * (m * n * k) as f64, "GFLOP/s")
        };
        let name = format!("m {m}, k {k}, {} packed, {activation:?}", compute.isa());
        row(name, work, unit, move || {
            packed_matmul(compute, &x[..m * k], matrix, None, activation, &mut out, m).unwrap();
        })
    })
}

/// Packed products beside dense ones and beside reading.
fn measure_packed(compute: &Compute, words: &[u64], dense: &[bf16], x: &[f32]) {
    let avx2 = Compute::with_isa(Isa::Avx2, Some(compute.threads())).ok();
    let wide = packed(61_440, 8192); // 255 MiB
    let long = packed(245_760, 2048);
    let bytes = size_of_val(words) as f64;
    let n = dense.len() / 2048;
    let mut out = vec![0.0; n];
    let mut rows = vec![
        row("read (sum of words)", bytes, "GB/s", || {
            read(compute, words);
        }),
        row("m 1, k 2048, dense bf16", bytes, "GB/s", || {
            let dense = Elements::Bf16(dense);
            matmul(
                compute,
                &x[..2048],
                dense,
                None,
                Activation::F32,
                &mut out,
                1,
                n,
                2048,
            )
            .unwrap();
        }),
    ];
    rows.extend(packed_rows(compute, &long, 1, x));
    rows.extend(packed_rows(compute, &wide, 1, x));
    rows.extend(avx2.iter().flat_map(|avx2| packed_rows(avx2, &long, 1, x)));
    measure("4 bits in groups of 128, memory", rows);

    let (n, k) = (2048, 2048);
    let (matrix, dense) = (packed(n, k), Elements::Bf16(&dense[..n * k]));
    let mut rows = Vec::new();
    for m in [8, 32, 512] {
        for activation in [Activation::Bf16, Activation::F32] {
            let mut out = vec![0.0; m * n];
            let name = format!("m {m}, dense bf16, {activation:?}");
            rows.push(row(name, 2.0 * (m * n * k) as f64, "GFLOP/s", move || {
                matmul(
                    compute,
                    &x[..m * k],
                    dense,
                    None,
                    activation,
                    &mut out,
                    m,
                    n,
                    k,
                )
                .unwrap();
            }));
        }
        rows.extend(packed_rows(compute, &matrix, m, x));
        rows.extend(
            avx2.iter()
                .flat_map(|avx2| packed_rows(avx2, &matrix, m, x)),
        );
    }
    measure("4 bits in groups of 128, n = k = 2048", rows);
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let compute = Compute::new(threads).unwrap();
    let scalar = Compute::with_isa(Isa::Scalar, threads).unwrap();
    println!("{compute:?}");
    let run = |c: &Compute, w: Elements<'_>, a, m: usize, n, k, x: &[f32], out: &mut [f32]| {
        matmul(c, &x[..m * k], w, None, a, &mut out[..m * n], m, n, k).unwrap();
    };

    let bytes = 1 << 28;
    let words = filled(bytes / 8, |x| u64::from(x.to_bits()));
    let w32 = filled(bytes / 4, |x| x);
    let w16 = filled(bytes / 2, bf16::from_f32);
    let h16 = filled(bytes / 2, f16::from_f32);
    let x = numbers(512 * 8192);
    let [
        mut out,
        mut out2,
        mut out3,
        mut out4,
        mut out5,
        mut out6,
        mut out7,
    ] = std::array::from_fn(|_| vec![0.0f32; 1 << 17]);
    let b = bytes as f64;
    let (compute_, scalar_) = (&compute, &scalar);
    measure(
        "m = 1, 256 MiB of weights",
        vec![
            row("read (sum of words)", b, "GB/s", || read(compute_, &words)),
            row("bf16, k 2048", b, "GB/s", || {
                run(
                    compute_,
                    Elements::Bf16(&w16),
                    Activation::F32,
                    1,
                    bytes / 4096,
                    2048,
                    &x,
                    &mut out,
                );
            }),
            row("bf16, k 8192", b, "GB/s", || {
                run(
                    compute_,
                    Elements::Bf16(&w16),
                    Activation::F32,
                    1,
                    bytes / 16384,
                    8192,
                    &x,
                    &mut out2,
                );
            }),
            row("bf16, bf16 activations, k 2048", b, "GB/s", || {
                run(
                    compute_,
                    Elements::Bf16(&w16),
                    Activation::Bf16,
                    1,
                    bytes / 4096,
                    2048,
                    &x,
                    &mut out3,
                );
            }),
            row("f16, k 2048", b, "GB/s", || {
                run(
                    compute_,
                    Elements::F16(&h16),
                    Activation::F32,
                    1,
                    bytes / 4096,
                    2048,
                    &x,
                    &mut out4,
                );
            }),
            row("f32, k 2048", b, "GB/s", || {
                run(
                    compute_,
                    Elements::F32(&w32),
                    Activation::F32,
                    1,
                    bytes / 8192,
                    2048,
                    &x,
                    &mut out5,
                );
            }),
            row("f32, k 8192", b, "GB/s", || {
                run(
                    compute_,
                    Elements::F32(&w32),
                    Activation::F32,
                    1,
                    bytes / 32768,
                    8192,
                    &x,
                    &mut out6,
                );
            }),
            row("bf16, k 2048, scalar", b, "GB/s", || {
                run(
                    scalar_,
                    Elements::Bf16(&w16),
                    Activation::F32,
                    1,
                    bytes / 4096,
                    2048,
                    &x,
                    &mut out7,
                );
            }),
        ],
    );

    measure_packed(&compute, &words, &w16, &x);

    let (n, k) = (2048, 2048);
    let mut outs: [_; 12] = std::array::from_fn(|_| vec![0.0f32; 512 * 2048]);
    let (w32, w16, h16, x) = (&w32[..n * k], &w16[..n * k], &h16[..n * k], &x);
    let mut outs = outs.iter_mut();
    let mut many = Vec::new();
    for m in [8, 32, 512] {
        for (name, w, activation) in [
            ("bf16", Elements::Bf16(w16), Activation::F32),
            (
                "bf16, bf16 activations",
                Elements::Bf16(w16),
                Activation::Bf16,
            ),
            ("f16", Elements::F16(h16), Activation::F32),
            ("f32", Elements::F32(w32), Activation::F32),
        ] {
            let out = outs.next().unwrap();
            let work = 2.0 * (m * n * k) as f64;
            many.push(row(format!("m {m}, {name}"), work, "GFLOP/s", move || {
                run(compute_, w, activation, m, n, k, x, out);
            }));
        }
    }
    measure("n = k = 2048", many);

    let shape = AttentionShape {
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 128,
        scale: 128f32.sqrt().recip(),
        activation: Activation::Bf16,
    };
    let cached = 8 * 32768 * 128;
    let keys = filled(cached, bf16::from_f32);
    let values = filled(cached, bf16::from_f32);
    let (wide_keys, wide_values) = (filled(cached, |x| x), filled(cached, |x| x));
    let mut outs: [_; 12] = std::array::from_fn(|_| vec![0.0f32; 512 * 16 * 128]);
    let mut outs = outs.iter_mut();
    let mut rows = Vec::new();
    for (q_len, len) in [(1, 512), (1, 4096), (1, 32768), (512, 512), (512, 4096)] {
        for (name, keys, values) in [
            ("bf16", Elements::Bf16(&keys), Elements::Bf16(&values)),
            (
                "f32",
                Elements::F32(&wide_keys),
                Elements::F32(&wide_values),
            ),
        ] {
            let sequence = AttentionSequence {
                q_start: 0,
                q_len,
                keys: KvBlocks::contiguous(keys, 32768),
                values: KvBlocks::contiguous(values, 32768),
                len,
            };
            let (out, q) = (outs.next().unwrap(), &x[..q_len * 2048]);
            let shape = &shape;
            let (work, unit) = if q_len == 1 {
                (keys.bytes() as f64 * 2.0 * len as f64 / 32768.0, "GB/s")
            } else {
                let visible = (len - q_len) * q_len + q_len * (q_len + 1) / 2;
                ((4 * 2048 * visible) as f64, "GFLOP/s")
            };
            rows.push(row(
                format!("{q_len} queries, {len} keys, {name}"),
                work,
                unit,
                move || {
                    attention(compute_, q, &[sequence], shape, &mut out[..q_len * 2048]).unwrap();
                },
            ));
        }
    }
    measure("attention, 16 heads on 8 of 128", rows);
}
