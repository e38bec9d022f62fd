//! Norms and gates against f64.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

mod common;

use common::{bits, every_isa, numbers};
use internlm_kernels::{Compute, Error, add_rms_norm, rms_norm, silu_mul};
use proptest::prelude::*;

const EPS: f32 = 1e-5;

#[track_caller]
fn close(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(
            error <= 1e-6 * want.abs() + 1e-30,
            "{what} [{index}]: {got} is not {want}"
        );
    }
}

fn norm(x: &[f32], weight: &[f32]) -> Vec<f64> {
    let rows = x.chunks_exact(weight.len());
    rows.flat_map(|x| {
        let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let factor = (squares / x.len() as f64 + f64::from(EPS)).sqrt().recip();
        x.iter()
            .zip(weight)
            .map(|(&x, &w)| f64::from(x) * factor * f64::from(w))
            .collect::<Vec<_>>()
    })
    .collect()
}

proptest! {
    #[test]
    fn norms_agree_with_f64((rows, width) in (1usize..5, 1usize..200)) {
        check_norms(rows, width);
    }

    #[test]
    fn gates_agree_with_f64((rows, width) in (1usize..5, 1usize..200), size in 1f32..30.0) {
        check_gates(rows, width, size);
    }
}

#[test]
fn many_long_rows_agree_with_f64() {
    check_norms(70, 2048);
    check_gates(70, 1027, 8.0);
}

fn check_norms(rows: usize, width: usize) {
    let (x, delta) = (numbers(rows * width, 1), numbers(rows * width, 2));
    let weight = numbers(width, 3);
    let sum: Vec<f32> = x.iter().zip(&delta).map(|(x, d)| x + d).collect();
    for compute in every_isa() {
        let what = format!("{compute:?} {rows} {width}");
        let mut out = vec![f32::NAN; x.len()];
        rms_norm(&compute, &x, &weight, EPS, &mut out).unwrap();
        close(&out, &norm(&x, &weight), &what);
        let mut added = vec![f32::NAN; x.len()];
        add_rms_norm(&compute, &x, &delta, &weight, EPS, &mut added, &mut out).unwrap();
        assert_eq!(bits(&added), bits(&sum), "{what}");
        close(&out, &norm(&sum, &weight), &what);
        // The last row alone gives the same bits.
        let mut last = vec![0.0; width];
        rms_norm(
            &compute,
            &sum[(rows - 1) * width..],
            &weight,
            EPS,
            &mut last,
        )
        .unwrap();
        assert_eq!(bits(&last), bits(&out[(rows - 1) * width..]), "{what}");
    }
}

fn check_gates(rows: usize, width: usize, size: f32) {
    let x: Vec<f32> = numbers(2 * rows * width, 4)
        .into_iter()
        .map(|x| size * x)
        .collect();
    let mut want = Vec::new();
    for row in x.chunks_exact(2 * width) {
        let (gate, up) = row.split_at(width);
        want.extend(gate.iter().zip(up).map(|(&gate, &up)| {
            let gate = f64::from(gate);
            gate / (1.0 + (-gate).exp()) * f64::from(up)
        }));
    }
    for compute in every_isa() {
        let mut out = vec![f32::NAN; rows * width];
        silu_mul(&compute, &x, width, &mut out).unwrap();
        close(&out, &want, &format!("{compute:?} {rows} {width} {size}"));
    }
}

#[test]
fn gates_of_extreme_numbers() {
    let gate = [
        100.0,
        -100.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        0.0,
    ];
    let x: Vec<f32> = gate.into_iter().chain([1.0; 6]).collect();
    for compute in every_isa() {
        let mut out = [7.0; 6];
        silu_mul(&compute, &x, 6, &mut out).unwrap();
        assert_eq!(
            (out[0], out[2], out[5]),
            (100.0, f32::INFINITY, 0.0),
            "{compute:?}"
        );
        assert!(out[1].abs() < 1e-36, "{compute:?}: {}", out[1]);
        // -inf / (1 + exp(inf)), as the formula says.
        assert!(out[3].is_nan() && out[4].is_nan(), "{compute:?}: {out:?}");
    }
}

#[test]
fn a_nan_stays_in_its_row() {
    for compute in every_isa() {
        let mut x = numbers(3 * 40, 1);
        x[45] = f32::NAN;
        let mut out = vec![0.0; x.len()];
        rms_norm(&compute, &x, &[1.0; 40], EPS, &mut out).unwrap();
        assert!(out[40..80].iter().all(|x| x.is_nan()));
        assert!(out[..40].iter().chain(&out[80..]).all(|x| x.is_finite()));
    }
}

#[test]
fn lengths_that_do_not_fit_are_errors() {
    let compute = Compute::new(Some(1)).unwrap();
    let argument = |result| match result {
        Err(Error::Shape { argument, .. }) => argument,
        other => panic!("{other:?}"),
    };
    let (x, w) = ([0.0; 8], [0.0; 4]);
    assert_eq!(
        argument(rms_norm(&compute, &x[1..], &w, EPS, &mut [0.0; 7])),
        "x"
    );
    assert_eq!(
        argument(rms_norm(&compute, &x, &w, EPS, &mut [0.0; 7])),
        "out"
    );
    assert_eq!(
        argument(rms_norm(&compute, &x, &[], EPS, &mut [0.0; 8])),
        "x"
    );
    let add = |delta: &[f32], sum: &mut [f32], out: &mut [f32]| {
        argument(add_rms_norm(&compute, &x, delta, &w, EPS, sum, out))
    };
    assert_eq!(add(&x[1..], &mut [0.0; 8], &mut [0.0; 8]), "delta");
    assert_eq!(add(&x, &mut [0.0; 7], &mut [0.0; 8]), "sum");
    assert_eq!(add(&x, &mut [0.0; 8], &mut [0.0; 9]), "out");
    let (odd, sum, out) = (&x[1..], &mut [0.0; 7], &mut [0.0; 7]);
    let odd = add_rms_norm(&compute, odd, odd, &w, EPS, sum, out);
    assert_eq!(argument(odd), "x");
    assert_eq!(argument(silu_mul(&compute, &x, 3, &mut [0.0; 4])), "out");
    assert_eq!(
        argument(silu_mul(&compute, &x, 2, &mut [0.0; 2])),
        "gate_up"
    );
    assert_eq!(
        argument(silu_mul(&compute, &x, usize::MAX, &mut [])),
        "gate_up"
    );
    rms_norm(&compute, &[], &[], EPS, &mut []).unwrap();
    silu_mul(&compute, &[], 4, &mut []).unwrap();
}
