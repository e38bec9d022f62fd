//! What fails is one item, and what is impossible is told before anything is asked.

use std::sync::atomic::Ordering;

use internlm_core::scripted::{Reply, ScriptedModel};
use internlm_eval::{Error, Run, RunConfig};

use crate::toy::{Kind, Made, Toy, all, as_benchmarks, figures};

#[test]
fn a_request_that_fails_is_one_failed_item() {
    let toy = Toy::new().poisoned("choice 5.");
    let made = vec![Made::new("choice", Kind::Choice, 12)];
    let report = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    let benchmark = &report.benchmarks[0];
    assert_eq!(
        (benchmark.items, benchmark.judged, benchmark.failed),
        (12, 11, 1)
    );
    let error = benchmark.records[5].error.as_deref();
    assert_eq!(error, Some("`text`: is poison"));
    assert_eq!(benchmark.scores[0].n, 11);
    assert!(report.to_string().contains("failed: 1 items"), "{report}");
}

#[test]
fn a_judge_that_panics_fails_its_item_alone() {
    let toy = Toy::new();
    let mut made = vec![Made::new("text", Kind::Text(1), 5)];
    made[0].panics = Some(3);
    let report = Run::new(RunConfig::default())
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    assert_eq!((report.benchmarks[0].judged, report.failed()), (4, 1));
    let error = report.benchmarks[0].records[3].error.clone().unwrap();
    assert!(error.starts_with("a panic:"), "{error}");
}

#[test]
fn what_failed_is_asked_again_unless_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let made = vec![Made::new("choice", Kind::Choice, 6)];
    let config = || RunConfig::default().with_folder(folder.path());
    let run = |toy: &Toy, config: RunConfig| {
        let run = Run::new(config).with_scorer(toy);
        run.with_benchmarks(as_benchmarks(&made)).execute().unwrap()
    };
    assert_eq!(run(&Toy::new().poisoned("choice 2."), config()).failed(), 1);
    let toy = Toy::new();
    assert_eq!(run(&toy, config().with_retry_failed(false)).failed(), 1);
    assert!(toy.asked().is_empty());
    assert_eq!(run(&toy, config()).failed(), 0);
    assert_eq!(toy.asked().len(), 4);
}

#[test]
fn models_that_are_missing_are_told_at_once() {
    let toy = Toy::new();
    let made = all();
    let benchmark = |place: usize| as_benchmarks(&made)[place];
    let run = || Run::new(RunConfig::default());
    let error = run()
        .with_chat_model(&toy)
        .with_benchmark(benchmark(0))
        .execute()
        .unwrap_err();
    assert!(matches!(error, Error::Needs { .. }), "{error}");
    let error = run()
        .with_scorer(&toy)
        .with_benchmark(benchmark(3))
        .execute()
        .unwrap_err();
    assert!(matches!(error, Error::Needs { .. }), "{error}");
    let error = run()
        .with_scorer(&toy)
        .with_benchmark(benchmark(0))
        .with_benchmark(benchmark(0))
        .execute()
        .unwrap_err();
    assert!(matches!(error, Error::Benchmark { .. }), "{error}");
    assert!(toy.asked().is_empty());
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let made = vec![Made::new("text", Kind::Text(1), 2)];
    let inner = std::sync::Mutex::new(None);
    let toy = Toy::new();
    let nested = |_: &internlm_eval::run::Progress| {
        let mut inner = inner.lock().unwrap();
        if inner.is_none() {
            let second = Run::new(RunConfig::default().with_folder(folder.path()))
                .with_chat_model(&toy)
                .with_benchmarks(as_benchmarks(&made))
                .execute();
            *inner = Some(second.unwrap_err());
        }
        std::ops::ControlFlow::Continue(())
    };
    Run::new(RunConfig::default().with_folder(folder.path()))
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .with_on_progress(&nested)
        .execute()
        .unwrap();
    let inner = inner.into_inner().unwrap();
    assert!(matches!(inner, Some(Error::Locked { .. })), "{inner:?}");
}

#[test]
fn a_folder_that_cannot_be_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let toy = Toy::new();
    let made = vec![Made::new("text", Kind::Text(1), 2)];
    let error = Run::new(RunConfig::default().with_folder(file.join("run")))
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // A journal that is a device: nothing is read from it.
    #[cfg(target_os = "linux")]
    {
        std::os::unix::fs::symlink("/dev/full", folder.path().join("journal.jsonl")).unwrap();
        let error = Run::new(RunConfig::default().with_folder(folder.path()))
            .with_chat_model(&toy)
            .with_benchmarks(as_benchmarks(&made))
            .execute()
            .unwrap_err();
        assert!(matches!(error, Error::Journal { .. }), "{error}");
    }
    assert!(toy.asked().is_empty());
}

#[test]
fn an_answer_that_does_not_end_fails_its_item() {
    let whole = |n: usize| Reply::text(format!("{n}"));
    let cut = Reply::text("1").with_failure(internlm_core::Error::Protocol {
        url: "u".to_owned(),
        what: "cut".to_owned(),
    });
    let model = ScriptedModel::new([whole(0), cut.clone(), cut, whole(2)]);
    let made = vec![Made::new("text", Kind::Text(1), 3)];
    let config = RunConfig::default()
        .with_concurrency(1)
        .with_retries(1)
        .with_backoff(std::time::Duration::ZERO);
    let report = Run::new(config)
        .with_chat_model(&model)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    assert_eq!((report.benchmarks[0].judged, report.failed()), (2, 1));
}

#[test]
fn contexts_are_one_call_and_order_changes_nothing() {
    let made = all();
    let figures_with = |batch: usize, threads: usize| {
        let toy = Toy::new();
        let config = RunConfig::default()
            .with_score_batch(batch)
            .with_score_concurrency(threads)
            .with_concurrency(threads);
        let report = Run::new(config)
            .with_scorer(&toy)
            .with_chat_model(&toy)
            .with_benchmarks(as_benchmarks(&made))
            .execute()
            .unwrap();
        (figures(&report), toy.calls.load(Ordering::SeqCst))
    };
    let (want, one_by_one) = figures_with(1, 1);
    let (got, in_batches) = figures_with(64, 4);
    assert_eq!(want, got);
    assert!(in_batches < one_by_one / 8, "{in_batches} {one_by_one}");
}

#[test]
fn perplexities_are_those_of_whole_texts() {
    use internlm_core::Scorer as _;
    use internlm_core::scorer::{ScoreRequest, Tokens};
    let toy = Toy::new();
    let made = vec![Made::new("perplexity", Kind::Perplexity, 6)];
    let report = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    for record in &report.benchmarks[0].records {
        for (label, answer) in record.answers.iter().enumerate() {
            let text = format!("{}{}", record.prompt, answer.text);
            let ids = toy.encode(&text, true).unwrap();
            let request = ScoreRequest {
                context: Tokens::Ids(ids[..1].to_vec()),
                continuation: Tokens::Ids(ids[1..].to_vec()),
            };
            let tokens = toy.score(&[request]).unwrap().remove(0);
            let (dropped, divisor) = match label {
                2 => (2, ids.len() - 3),
                _ => (0, ids.len()),
            };
            let sum: f64 = tokens[dropped..].iter().map(|t| f64::from(t.logprob)).sum();
            let want = -sum / divisor as f64;
            assert!((answer.score.unwrap() - want).abs() < 1e-12);
        }
    }
}
