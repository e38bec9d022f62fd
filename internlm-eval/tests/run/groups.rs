//! Means of groups, as each rule set gives them, in every form of a report.

use std::path::Path;

use internlm_core::chat_model::{Events, FinishReason, Usage};
use internlm_core::{ChatModel, ChatRequest, Event};
use internlm_eval::benchmark::GroupMean;
use internlm_eval::task::spec::Rules;
use internlm_eval::task::{self, builtin};
use internlm_eval::{Benchmark, Report, Run, RunConfig, TaskOptions};
use serde_json::json;

use crate::toy::Toy;

/// Whatever it is asked, it takes the first option.
struct FirstOption;

impl ChatModel for FirstOption {
    fn generate(&self, _: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        let events = [
            Event::Delta {
                text: "【答案】A<eoa>".to_owned(),
                ids: Vec::new(),
                logprobs: Vec::new(),
            },
            Event::Finish {
                reason: FinishReason::Stop,
                usage: Usage::default(),
            },
        ];
        Ok(Box::new(events.into_iter().map(Ok)))
    }
}

fn run(name: &str, rules: Rules, data: &Path, folder: &Path) -> Report {
    let options = TaskOptions::default();
    let loaded = task::load(name, Some(rules), data, &options).unwrap();
    let toy = Toy::new();
    Run::new(RunConfig::default().with_folder(folder))
        .with_scorer(&toy)
        .with_chat_model(&FirstOption)
        .with_benchmarks(loaded.tasks.iter().map(|task| task as &dyn Benchmark))
        .execute()
        .unwrap()
}

/// The subjects of GAOKAO-Bench that count, each of two questions with this answer to the first.
fn gaokao(folder: &Path, right: &str, subjects: &[(String, Option<f64>)]) {
    for (name, _) in subjects {
        let id = name.strip_prefix("GaokaoBench_").unwrap();
        let answer = if id == right { "A" } else { "B" };
        let row =
            json!({"question": "题目", "answer": [answer], "analysis": "", "index": 0, "score": 4});
        let file = json!({"keywords": id, "example": [row, row]}).to_string();
        let path = folder.join(format!("gaokao_bench/{id}.json"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
}

#[test]
fn gaokao_bench_is_weighted_as_open_compass_weighs_it() {
    let config = "GaokaoBench_gen_5cfe9e";
    let subjects = builtin::summary_group(config, "GaokaoBench").unwrap();
    let data = tempfile::tempdir().unwrap();
    gaokao(data.path(), "2010-2022_History_MCQs", &subjects);
    let out = tempfile::tempdir().unwrap();
    let report = run(config, Rules::Opencompass, data.path(), out.path());
    assert_eq!(report.benchmarks.len(), 14);
    let [group] = &report.groups[..] else {
        panic!("{:?}", report.groups);
    };
    let all: f64 = subjects.iter().map(|(_, weight)| weight.unwrap()).sum();
    let want = 100.0 * 1148.0 / all;
    assert!((group.weighted.unwrap() - want).abs() < 1e-9, "{group:?}");
    assert!((group.naive.unwrap() - 100.0 / 14.0).abs() < 1e-9);
    assert_eq!(group.own, Some(GroupMean::Weighted));
    let shown = format!("{want:.2}");
    for text in [
        report.table(200),
        report.markdown().replace('\\', ""),
        report.html(),
    ] {
        assert!(text.contains("score (naive)") && text.contains("score (weighted) *"));
        assert!(text.contains(&shown) && text.contains("7.14"), "{text}");
    }
    let csv = report.csv();
    let lines: Vec<&str> = csv
        .lines()
        .filter(|l| l.starts_with("GaokaoBench,"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains(",naive_average,") && lines[0].ends_with(",,no"));
    assert!(lines[1].contains(",weighted_average,") && lines[1].ends_with(",,yes"));
    let json = report.json();
    assert_eq!(json["groups"][0]["own"], "weighted");
    assert!((json["groups"][0]["weighted"].as_f64().unwrap() - want).abs() < 1e-9);
}

#[test]
fn a_part_of_a_group_is_no_figure_of_the_rule_set() {
    let subjects = builtin::summary_group("GaokaoBench_gen_5cfe9e", "GaokaoBench").unwrap();
    let data = tempfile::tempdir().unwrap();
    gaokao(data.path(), "none", &subjects[..3]);
    let out = tempfile::tempdir().unwrap();
    let report = run("GaokaoBench", Rules::Opencompass, data.path(), out.path());
    let group = &report.groups[0];
    assert_eq!(
        (group.members.len(), group.absent.len(), group.own),
        (3, 11, None)
    );
    let text = report.to_string();
    assert!(
        text.contains("parts of groups: GaokaoBench 3 of 14"),
        "{text}"
    );
    assert!(!text.contains(" *"), "{text}");
}

/// lm-evaluation-harness sums up each metric of a group by the items of its members.
#[test]
fn lm_evaluation_harness_sums_up_each_metric() {
    let data = tempfile::tempdir().unwrap();
    for (subject, rows) in [("agronomy", 3), ("anatomy", 1)] {
        for split in ["dev", "test"] {
            let mut text = "Question,A,B,C,D,Answer\n".to_owned();
            for row in 0..rows {
                text += &format!("问题{row},甲,乙,丙丙丙,丁,C\n");
            }
            let path = data.path().join(format!("cmmlu/{split}/{subject}.csv"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    let out = tempfile::tempdir().unwrap();
    let report = run("cmmlu", Rules::LmEval, data.path(), out.path());
    let metrics: Vec<&str> = report
        .groups
        .iter()
        .map(|group| group.metric.as_str())
        .collect();
    assert_eq!(metrics, ["acc", "acc_norm"]);
    for group in &report.groups {
        let of = |at: usize| {
            let mut scores = report.benchmarks[at].scores.iter();
            scores
                .find(|score| score.metric == group.metric)
                .unwrap()
                .value
        };
        assert!((group.naive.unwrap() - (of(0) + of(1)) / 2.0).abs() < 1e-12);
        assert!((group.weighted.unwrap() - (3.0 * of(0) + of(1)) / 4.0).abs() < 1e-12);
        assert_eq!(group.absent.len(), 65);
    }
    let folder = out.path().join("toy");
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let file = files
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("results_")
        })
        .unwrap();
    let results: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let cmmlu = &results["groups"]["cmmlu"];
    assert!(
        cmmlu["acc,none"].is_number() && cmmlu["acc_norm,none"].is_number(),
        "{cmmlu}"
    );
}
