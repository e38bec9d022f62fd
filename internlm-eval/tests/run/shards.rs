//! Shards and their merge make the whole.

use std::path::Path;

use internlm_eval::run::{Shard, merge};
use internlm_eval::{Error, Report, Result, Run, RunConfig};

use crate::toy::{Made, Toy, all, as_benchmarks, figures};

fn shard(folder: &Path, index: usize, made: &[Made]) -> Result<Report> {
    let toy = Toy::new();
    let config = RunConfig::default()
        .with_folder(folder)
        .with_shard(Shard { index, count: 3 });
    Run::new(config)
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(made))
        .execute()
}

fn offline(folder: &Path, made: &[Made]) -> Result<Report> {
    let config = RunConfig::default().with_folder(folder).with_offline(true);
    Run::new(config)
        .with_benchmarks(as_benchmarks(made))
        .execute()
}

#[test]
fn merged_shards_are_the_whole_run() {
    let made = all();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut items = 0;
    for index in 0..3 {
        let report = shard(&at(&index.to_string()), index, &made).unwrap();
        items += report.benchmarks.iter().map(|b| b.items).sum::<usize>();
    }
    assert_eq!(items, 12 + 6 + 3 + 7 + 4 + 3);
    let incomplete = merge(&[at("0"), at("2")], at("out")).unwrap_err();
    assert!(
        matches!(incomplete, Error::Incomplete { .. }),
        "{incomplete}"
    );
    // In any order, and one of them twice.
    merge(&[at("2"), at("0"), at("1"), at("0")], at("out")).unwrap();
    let merged = offline(&at("out"), &made).unwrap();
    let toy = Toy::new();
    let whole = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    assert_eq!(figures(&merged), figures(&whole));
    assert_eq!(merged.benchmarks, whole.benchmarks);
}

#[test]
fn shards_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    shard(&at("0"), 0, &all()).unwrap();
    let mut changed = all();
    changed[1].identity.data_hash = "x".to_owned();
    shard(&at("1"), 1, &changed).unwrap();
    let error = merge(&[at("0"), at("1")], at("out")).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }), "{error}");
    let mut fewer = vec![Made::new("choice", crate::toy::Kind::Choice, 5)];
    fewer[0].identity = all()[0].identity.clone();
    shard(&at("2"), 2, &fewer).unwrap();
    let error = merge(&[at("0"), at("2")], at("out")).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }), "{error}");
    let none = merge(&[at("nothing")], at("out")).unwrap_err();
    assert!(matches!(none, Error::Io { .. }), "{none}");
}

#[test]
fn an_offline_run_of_nothing_has_failed_items_and_no_figures() {
    let folder = tempfile::tempdir().unwrap();
    let report = offline(folder.path(), &all()).unwrap();
    assert_eq!(report.failed(), 35);
    assert!(report.benchmarks.iter().all(|b| b.scores.is_empty()));
    assert!(report.to_string().contains("-"));
}
