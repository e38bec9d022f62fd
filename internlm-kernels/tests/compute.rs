//! The worker pool under load, with panics and with several callers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test panics and prints"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use internlm_kernels::{Activation, Compute, Elements, Error, Isa, matmul};

#[track_caller]
fn each_once(compute: &Compute, tasks: usize) {
    let runs: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    compute.run(tasks, |task| {
        runs[task].fetch_add(1, Relaxed);
    });
    assert!(runs.iter().all(|runs| runs.load(Relaxed) == 1));
}

#[test]
fn every_task_runs_once() {
    for threads in [1, 2, 3, 8] {
        let compute = Compute::new(Some(threads)).unwrap();
        assert_eq!(compute.threads(), threads);
        for tasks in 0..200 {
            each_once(&compute, tasks);
        }
        for _ in 0..3000 {
            each_once(&compute, 5);
        }
    }
}

#[test]
fn workers_wake_after_they_slept() {
    let compute = Compute::new(Some(4)).unwrap();
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(2));
        each_once(&compute, 50);
    }
}

#[test]
fn a_region_inside_a_task_runs_on_the_spot() {
    let (outer, other) = (
        Compute::new(Some(3)).unwrap(),
        Compute::new(Some(2)).unwrap(),
    );
    let count = AtomicUsize::new(0);
    outer.run(10, |_| {
        outer.run(10, |_| {
            count.fetch_add(1, Relaxed);
        });
        other.run(10, |_| {
            count.fetch_add(1, Relaxed);
        });
    });
    assert_eq!(count.into_inner(), 200);
}

#[test]
fn callers_on_several_threads_take_turns() {
    let compute = Compute::new(Some(3)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..500).for_each(|_| each_once(&compute, 7)));
        }
    });
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    let compute = Compute::new(Some(4)).unwrap();
    for round in 0..300 {
        let result = catch_unwind(AssertUnwindSafe(|| {
            compute.run(16, |task| {
                if task == round % 16 {
                    std::panic::panic_any(round);
                }
            });
        }));
        assert_eq!(*result.unwrap_err().downcast::<usize>().unwrap(), round);
        each_once(&compute, 16);
    }
}

#[test]
fn a_panic_of_every_task_is_one_panic() {
    let compute = Compute::new(Some(4)).unwrap();
    for tasks in [1, 2, 64] {
        let result = catch_unwind(AssertUnwindSafe(|| {
            compute.run(tasks, |_| std::panic::panic_any("all"));
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "all");
    }
    each_once(&compute, 64);
}

#[test]
fn a_panic_of_one_caller_does_not_reach_another() {
    let compute = Compute::new(Some(3)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    compute.run(8, |_| std::panic::panic_any(()));
                }));
                assert!(result.is_err());
            }
        });
        scope.spawn(|| (0..200).for_each(|_| each_once(&compute, 8)));
    });
}

#[test]
fn pools_come_and_go() {
    for threads in [1, 2, 5] {
        for tasks in [0, 1, 9] {
            let compute = Compute::new(Some(threads)).unwrap();
            if tasks > 0 {
                each_once(&compute, tasks);
            }
        }
    }
}

#[test]
fn levels_and_threads_that_are_not_there_are_errors() {
    assert!(matches!(Compute::new(Some(0)), Err(Error::NoThreads)));
    let foreign = if cfg!(target_arch = "aarch64") {
        Isa::Avx512
    } else {
        Isa::Neon
    };
    let got = Compute::with_isa(foreign, Some(1));
    assert!(matches!(got, Err(Error::IsaUnavailable { isa, .. }) if isa == foreign));
    assert!(Compute::new(None).unwrap().threads() >= 1);
}

#[test]
fn announced_memory_need_not_be_there_and_changes_no_result() {
    let compute = Compute::new(Some(3)).unwrap();
    let (n, k) = (1000, 640);
    let x: Vec<f32> = (0..k).map(|i| (i as f32 * 0.3).sin()).collect();
    let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.7).cos()).collect();
    let product = || {
        let mut out = vec![0.0; n];
        let weights = Elements::F32(&w);
        matmul(
            &compute,
            &x,
            weights,
            None,
            Activation::F32,
            &mut out,
            1,
            n,
            k,
        )
        .unwrap();
        out
    };
    let plain = product();
    for gone in [w.clone(), Vec::new(), vec![0.0; 1]] {
        compute.announce(&gone);
        drop(gone);
        std::thread::yield_now();
        compute.announce(&w);
        assert_eq!(product(), plain);
    }
}
