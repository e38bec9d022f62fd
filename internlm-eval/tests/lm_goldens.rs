//! Prompts, choices, answers and figures against lm-evaluation-harness 0.4.13, run on the same files.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{lines, said, scored, shared};
use internlm_core::chat_model::Input;
use internlm_eval::task::spec::Rules;
use internlm_eval::{Benchmark, Item, Request, Response, Sample, Task, TaskOptions, task};
use serde_json::Value;

fn load(name: &str, options: &TaskOptions) -> Option<Task> {
    let folder = shared("datasets")?;
    let mut loaded = task::load(name, Some(Rules::LmEval), &folder, options).unwrap();
    assert_eq!(loaded.tasks.len(), 1);
    loaded.tasks.pop()
}

fn golden(name: &str) -> Option<Vec<Value>> {
    shared(&format!("goldens/eval/{name}.jsonl")).map(|file| lines(&file))
}

/// Renders the golden's items, checks every string, judges the golden's log-likelihoods and checks every prediction.
fn check(file: &str, task: &str, shots: usize, all: usize) {
    let Some(golden) = golden(file) else { return };
    let options = TaskOptions {
        limit: Some(all),
        shots: Some(shots),
        ..TaskOptions::default()
    };
    let Some(task) = load(task, &options) else {
        return;
    };
    let items = task.items(None).unwrap();
    assert_eq!(items.len(), all);
    let mut samples = Vec::new();
    for want in &golden {
        let item = &items[want["item"].as_u64().unwrap() as usize];
        let choices = want["choices"].as_array().unwrap();
        assert_eq!(item.requests.len(), choices.len());
        let mut responses = Vec::new();
        for (request, choice) in item.requests.iter().zip(choices) {
            let Request::Loglikelihood {
                context,
                continuation,
            } = request
            else {
                panic!("{request:?}");
            };
            assert_eq!(Value::from(context.spelled()), want["context"]);
            assert_eq!(Value::from(continuation.as_str()), choice["continuation"]);
            responses.push(scored(
                choice["ll"].as_f64().unwrap(),
                choice["is_greedy"].as_bool().unwrap(),
            ));
        }
        let sample = task.judge(item, &responses, None).unwrap();
        check_sample(&sample, want);
        samples.push(sample);
    }
    check_scores(&task, &samples, &golden);
}

fn check_sample(sample: &Sample, want: &Value) {
    assert_eq!(sample.gold, want["gold"], "{want}");
    assert_eq!(sample.prediction, want["pred"], "{want}");
    for (metric, value) in want["metrics"].as_object().unwrap() {
        let (got, value) = (
            sample.metrics[metric].as_f64().unwrap(),
            value.as_f64().unwrap(),
        );
        assert!((got - value).abs() < 1e-6, "{metric}: {got}, not {value}");
    }
    let gold = want["gold"].as_u64();
    for (metric, prediction) in [("acc_norm", "pred_norm"), ("acc_bytes", "pred_bytes")] {
        if let Some(got) = sample.metrics.get(metric).and_then(Value::as_f64) {
            assert_eq!(got == 1.0, want[prediction].as_u64() == gold);
        }
    }
}

/// The means over the items that the golden has.
fn check_scores(task: &Task, samples: &[Sample], golden: &[Value]) {
    for score in task.scores(samples) {
        let values: Vec<f64> = golden
            .iter()
            .filter_map(|want| want["metrics"][&score.metric].as_f64())
            .collect();
        assert_eq!(values.len(), score.n);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        assert!((score.value - mean).abs() < 1e-6, "{score:?}");
        let variance = values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / (n - 1.0);
        assert!(
            (score.stderr.unwrap() - (variance / n).sqrt()).abs() < 1e-6,
            "{score:?}"
        );
    }
}

#[test]
fn hellaswag() {
    check("lm_hellaswag", "hellaswag", 0, 200);
}

#[test]
fn arc_easy() {
    check("lm_arc_easy", "arc_easy", 0, 200);
}

#[test]
fn cmmlu_with_five_examples() {
    check("lm_cmmlu_agronomy", "cmmlu_agronomy", 5, 60);
}

#[test]
fn truthfulqa() {
    check("lm_truthfulqa_mc1", "truthfulqa_mc1", 0, 40);
    check("lm_truthfulqa_mc2", "truthfulqa_mc2", 0, 20);
}

/// The generator of examples begins anew in each batch of the golden's run.
#[test]
fn gsm8k_with_random_examples() {
    let Some(golden) = golden("lm_gsm8k") else {
        return;
    };
    for batch in ["0:10", "10:20"] {
        let (begin, end) = batch.split_once(':').unwrap();
        let options = TaskOptions {
            rows: Some((begin.parse().unwrap()..end.parse().unwrap()).collect()),
            ..TaskOptions::default()
        };
        let Some(task) = load("gsm8k", &options) else {
            return;
        };
        let items = task.items(None).unwrap();
        for want in golden.iter().filter(|want| want["batch"] == batch) {
            let index = want["item"].as_u64().unwrap() as usize;
            let item = items.iter().find(|item| item.index == index).unwrap();
            assert_eq!(Value::from(prompt(item)), want["prompt"]);
            assert_eq!(item.gold, want["target"]);
            let Request::Generate { sampling, .. } = &item.requests[0] else {
                panic!("{item:?}");
            };
            assert_eq!(Value::from(sampling.stop.clone()), want["gen"]["until"]);
            assert_eq!(sampling.temperature, 0.0);
            let response = said(want["response"].as_str().unwrap());
            let sample = task.judge(item, &[response], None).unwrap();
            for (filter, want) in want["filters"].as_object().unwrap() {
                assert_eq!(sample.prediction[filter], want["filtered"]);
                let metric = &sample.metrics[&format!("exact_match,{filter}")];
                assert_eq!(metric.as_f64(), want["exact_match"].as_f64());
            }
        }
    }
}

fn prompt(item: &Item) -> String {
    match &item.requests[0] {
        Request::Generate {
            input: Input::Prompt(parts),
            ..
        } => parts.iter().map(|part| part.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The units of perplexities, and the figures made of them.
#[test]
fn rolling_units() {
    let Some(golden) = golden("lm_edge") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<&Value> = golden
        .iter()
        .filter(|line| line["kind"] == "loglikelihood_rolling" && line["words"].is_u64())
        .collect();
    assert!(!rows.is_empty());
    let text: Vec<String> = rows
        .iter()
        .map(|row| serde_json::json!({"body": row["text"]}).to_string())
        .collect();
    std::fs::write(folder.path().join("texts.jsonl"), text.join("\n")).unwrap();
    let spec = "name = 'texts'\nmode = 'rolling'\nprompt = '{{ body }}'\ndata.file = 'texts.jsonl'";
    let spec = internlm_eval::TaskSpec::from_toml(spec, "texts.toml".as_ref()).unwrap();
    let task = Task::new(&spec, None, folder.path(), &TaskOptions::default()).unwrap();
    let items = task.items(None).unwrap();
    let (mut ll, mut words, mut bytes) = (0.0, 0.0, 0.0);
    let mut samples = Vec::new();
    for (item, row) in items.iter().zip(&rows) {
        assert_eq!(
            item.requests,
            [Request::Rolling {
                text: row["text"].as_str().unwrap().into()
            }]
        );
        let response: Response = scored(row["ll"].as_f64().unwrap(), false);
        let sample = task.judge(item, &[response], None).unwrap();
        assert_eq!(sample.metrics["word_perplexity"][1], row["words"]);
        assert_eq!(sample.metrics["byte_perplexity"][1], row["bytes"]);
        ll += row["ll"].as_f64().unwrap();
        words += row["words"].as_f64().unwrap();
        bytes += row["bytes"].as_f64().unwrap();
        samples.push(sample);
    }
    let want = [
        ("word_perplexity", f64::exp(-ll / words)),
        ("byte_perplexity", f64::exp(-ll / bytes)),
        ("bits_per_byte", -ll / bytes / std::f64::consts::LN_2),
    ];
    for (score, (name, value)) in task.scores(&samples).iter().zip(want) {
        assert_eq!(score.metric, name);
        assert!(
            (score.value / value - 1.0).abs() < 1e-6,
            "{score:?}, not {value}"
        );
        assert!(!score.higher_is_better);
    }
}
