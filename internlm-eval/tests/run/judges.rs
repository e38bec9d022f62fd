//! Judgement by a model, after a rule or without one.

use std::path::Path;

use internlm_core::scripted::ScriptedModel;
use internlm_core::{ChatModel, Error as CoreError};
use internlm_eval::judge::{Cascade, Pairwise, ScoredByJudge};
use internlm_eval::{Benchmark, Report, Run, RunConfig};

use crate::toy::{Kind, Made, Toy, figures};

fn made() -> Made {
    Made::new("text", Kind::Text(1), 4)
}

fn run(benchmark: &dyn Benchmark, judge: &dyn ChatModel, folder: Option<&Path>) -> Report {
    let toy = Toy::new();
    let mut config = RunConfig::default().with_concurrency(1);
    config.folder = folder.map(Path::to_owned);
    Run::new(config)
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_judge("j", judge)
        .with_benchmark(benchmark)
        .execute()
        .unwrap()
}

#[test]
fn grades_are_read_and_averaged() {
    let judge = ScriptedModel::new(["Good. [[7]]", "[[10]]", "[[11]]", "no grade"]);
    let benchmark = ScoredByJudge::new(made());
    let report = run(&benchmark, &judge, None);
    let score = &report.benchmarks[0].scores[0];
    assert_eq!((score.value, score.n, report.failed()), (8.5, 2, 2));
    assert_eq!(report.judge.as_deref(), Some("j"));
    let asked = judge.requests();
    let internlm_core::chat_model::Input::Messages(messages) = &asked[0].input else {
        panic!("a conversation")
    };
    assert!(messages[0].text().contains("text 0. 题"));
    assert!(report.benchmarks[0].identity.mode == "judge-score");
    assert_ne!(
        report.benchmarks[0].identity.prompt_hash,
        made().identity.prompt_hash
    );
}

#[test]
fn a_preference_counts_only_in_both_orders() {
    let others = (0..4).map(|n| (n, format!("other {n}"))).collect();
    let benchmark = Pairwise::new(made(), others);
    // Won, lost, the first place preferred, a tie.
    let verdicts = ["A", "B", "B", "A", "A", "A", "C", "C"];
    let judge = ScriptedModel::new(verdicts.map(|v| format!("[[{v}]]")));
    let report = run(&benchmark, &judge, None);
    let records = &report.benchmarks[0].records;
    let wins: Vec<f64> = records
        .iter()
        .map(|r| r.metrics["win_rate"].as_f64().unwrap())
        .collect();
    assert_eq!(wins, [1.0, 0.0, 0.5, 0.5]);
    assert_eq!(report.benchmarks[0].scores[0].value, 0.5);
    assert_eq!(report.benchmarks[0].scores[1].value, 0.75);
    assert!(records[2].note.is_some());
}

#[test]
fn a_cascade_asks_the_judge_what_the_rule_refuses() {
    // The toy's rule holds item 0 for right, as it has one response.
    let judge = ScriptedModel::new(["[[A]]", "[[B]]", "[[B]]"]);
    let benchmark = Cascade::new(made());
    let report = run(&benchmark, &judge, None);
    assert_eq!(judge.remaining(), 0);
    let scores: Vec<f64> = report.benchmarks[0]
        .scores
        .iter()
        .map(|s| s.value)
        .collect();
    assert_eq!(scores, [0.5, 0.25]);
}

#[test]
fn a_judge_that_fails_is_asked_again_later_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let benchmark = Cascade::new(made());
    let down = || {
        internlm_core::scripted::Reply::error(CoreError::NotOffered {
            url: "u".to_owned(),
            what: "judgement",
        })
    };
    let good = internlm_core::scripted::Reply::text;
    let judge = ScriptedModel::new([good("[[A]]"), down(), down()]);
    assert_eq!(run(&benchmark, &judge, Some(folder.path())).failed(), 2);
    let judge = ScriptedModel::new(["[[B]]", "[[B]]"]);
    let report = run(&benchmark, &judge, Some(folder.path()));
    assert_eq!((report.failed(), judge.remaining()), (0, 0));
    let idle = ScriptedModel::new([""; 0]);
    let again = run(&benchmark, &idle, Some(folder.path()));
    assert_eq!(figures(&again), figures(&report));
    assert!(idle.requests().is_empty());
}

#[test]
fn without_a_judge_the_items_fail() {
    let toy = Toy::new();
    let benchmark = ScoredByJudge::new(made());
    let report = Run::new(RunConfig::default())
        .with_chat_model(&toy)
        .with_benchmark(&benchmark)
        .execute()
        .unwrap();
    assert_eq!(report.failed(), 4);
}
