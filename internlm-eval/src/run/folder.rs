//! The files of a run, where users of OpenCompass and of lm-evaluation-harness look for them.
//!
//! ```text
//! journal.jsonl                                    every answer, as it came
//! configs/run.json                                 what was run: model, rule sets, hashes
//! configs/weights.json                             the hash of the model's files
//! predictions/{model}/{benchmark}.json             OpenCompass's: prompts, answers, gold
//! results/{model}/{benchmark}.json                 OpenCompass's: metrics
//! summary/summary_{time}.{txt,csv,md}              OpenCompass's tables
//! {model}/results_{time}.json                      lm-evaluation-harness's
//! {model}/samples_{benchmark}_{time}.jsonl         lm-evaluation-harness's
//! report.json, report.html                         everything
//! ```
//!
//! `{time}` is when the run in the folder first began (UTC), so that a run that goes on writes the same files. Each
//! file is written beside its place and moved there when it is whole.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::unit::Planned;
use crate::error::Result;
use crate::hash::sha256_hex;
use crate::report::file::{Replacement, file_name, replace};
use crate::report::time::{compact, iso};
use crate::report::{BenchmarkReport, Record, Report};

pub(super) fn write(folder: &Path, report: &Report, items: &[Planned]) -> Result<()> {
    let model = file_name(&report.model.name);
    for (number, benchmark) in report.benchmarks.iter().enumerate() {
        let name = file_name(&benchmark.name);
        let part = |kind: &str, suffix: &str| {
            folder
                .join(kind)
                .join(&model)
                .join(format!("{name}{suffix}"))
        };
        predictions(&part("predictions", ".json"), benchmark)?;
        json_file(&part("results", ".json"), &results(benchmark))?;
        let rows = items.iter().filter(|item| item.benchmark == number);
        let samples = format!("samples_{name}_{}.jsonl", iso(report.started));
        samples_file(&folder.join(&model).join(samples), benchmark, rows)?;
    }
    let time = compact(report.started);
    let summary = folder.join("summary");
    let text = |suffix: &str| summary.join(format!("summary_{time}.{suffix}"));
    replace(&text("txt"), format!("{}\n", report.table(120)).as_bytes())?;
    replace(&text("csv"), report.csv().as_bytes())?;
    replace(&text("md"), report.markdown().as_bytes())?;
    let name = format!("results_{}.json", iso(report.started));
    json_file(&folder.join(&model).join(name), &lm_eval_results(report))?;
    json_file(&folder.join("configs/run.json"), &report.config_json())?;
    json_file(&folder.join("report.json"), &report.json())?;
    replace(&folder.join("report.html"), report.html().as_bytes())
}

fn json_file(path: &Path, value: &Value) -> Result<()> {
    // Values have text keys and finite numbers, and can always be written.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    replace(path, text.as_bytes())
}

/// OpenCompass's predictions, an item at a time.
fn predictions(path: &Path, benchmark: &BenchmarkReport) -> Result<()> {
    let mut file = Replacement::new(path)?;
    file.write(b"{")?;
    let mut first = true;
    for record in &benchmark.records {
        let comma = if first { "" } else { "," };
        first = false;
        let index = record.index;
        let item = prediction(record);
        file.write(format!("{comma}\n    \"{index}\": {item}").as_bytes())?;
    }
    file.write(b"\n}\n")?;
    file.finish()
}

fn prediction(record: &Record) -> Value {
    let mut item = Map::new();
    let labels = record.answers.iter().all(|answer| answer.score.is_some());
    if labels && !record.answers.is_empty() {
        for (number, answer) in record.answers.iter().enumerate() {
            let prompt = format!(
                "{}{}",
                answer.context.as_ref().unwrap_or(&record.prompt),
                answer.text
            );
            let kind = match (answer.perplexity, answer.reward) {
                (true, _) => "PPL",
                (_, true) => "Reward",
                _ => "Loglikelihood",
            };
            item.insert(
                format!("label: {number}"),
                json!({"testing input": answer.text, "prompt": prompt, kind: answer.score}),
            );
        }
        item.insert("prediction".to_owned(), record.prediction.clone());
    } else {
        let origin = match &record.conversation {
            Some(turns) => turns
                .iter()
                .map(|(role, prompt)| json!({"role": role, "prompt": prompt}))
                .collect(),
            None => Value::String(record.prompt.clone()),
        };
        item.insert("origin_prompt".to_owned(), origin);
        let texts: Vec<&str> = record.answers.iter().map(|a| a.text.as_str()).collect();
        let made = match (&record.error, &texts[..]) {
            (Some(_), _) => Value::Null,
            (None, [one]) => Value::from(*one),
            (None, texts) => Value::from(texts.to_vec()),
        };
        item.insert("prediction".to_owned(), made);
    }
    item.insert("gold".to_owned(), record.gold.clone());
    if let Some(error) = &record.error {
        item.insert("error".to_owned(), Value::from(error.as_str()));
    }
    Value::Object(item)
}

/// OpenCompass's results: metric to number, and details.
fn results(benchmark: &BenchmarkReport) -> Value {
    let mut results = Map::new();
    for score in &benchmark.scores {
        results.insert(score.metric.clone(), json!(score.value));
    }
    if benchmark.judged == 0 {
        results.insert("error".to_owned(), json!("every item failed"));
    }
    results.insert("failed".to_owned(), json!(benchmark.failed));
    let detail = |record: &Record| {
        let detail = json!({
            "pred": record.prediction,
            "answer": record.gold,
            "correct": record.correct,
            "note": record.note,
            "error": record.error,
        });
        (record.index.to_string(), detail)
    };
    let details: Map<String, Value> = benchmark.records.iter().map(detail).collect();
    results.insert("details".to_owned(), Value::Object(details));
    Value::Object(results)
}

/// lm-evaluation-harness's samples.
fn samples_file<'a>(
    path: &Path,
    benchmark: &BenchmarkReport,
    items: impl Iterator<Item = &'a Planned>,
) -> Result<()> {
    let mut file = Replacement::new(path)?;
    for (record, planned) in benchmark.records.iter().zip(items) {
        let arguments: Map<String, Value> = record
            .answers
            .iter()
            .enumerate()
            .map(|(number, answer)| {
                let context = answer.context.as_ref().unwrap_or(&record.prompt);
                let asked = match answer.score {
                    Some(_) => json!({"arg_0": context, "arg_1": answer.text}),
                    None => json!({"arg_0": context}),
                };
                (format!("gen_args_{number}"), asked)
            })
            .collect();
        let resps: Vec<Value> = record
            .answers
            .iter()
            .map(|answer| match (answer.score, answer.is_greedy) {
                (Some(sum), Some(greedy)) => {
                    let greedy = if greedy { "True" } else { "False" };
                    json!([[sum.to_string(), greedy]])
                }
                (Some(value), None) => json!([value]),
                (None, _) => json!([answer.text]),
            })
            .collect();
        let resps = match record.answers.iter().any(|a| a.score.is_some()) {
            true => resps,
            // All texts are answers to one request.
            false => vec![record.answers.iter().map(|a| a.text.as_str()).collect()],
        };
        let target = match &record.gold {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let doc = Value::Object(planned.item.row.clone());
        let pretty = serde_json::to_string_pretty(&doc).unwrap_or_default();
        let mut line = json!({
            "doc_id": record.index,
            "doc": doc,
            "target": target,
            "arguments": arguments,
            "resps": resps,
            "filtered_resps": [record.prediction],
            "filter": "none",
            "metrics": record.metrics.keys().collect::<Vec<_>>(),
            "doc_hash": sha256_hex(pretty.as_bytes()),
            "prompt_hash": sha256_hex(record.prompt.as_bytes()),
            "target_hash": sha256_hex(target.as_bytes()),
        });
        if let Some(line) = line.as_object_mut() {
            line.extend(record.metrics.iter().map(|(k, v)| (k.clone(), v.clone())));
            if let Some(error) = &record.error {
                line.insert("error".to_owned(), json!(error));
            }
        }
        file.write(format!("{line}\n").as_bytes())?;
    }
    file.finish()
}

/// lm-evaluation-harness's results.
fn lm_eval_results(report: &Report) -> Value {
    let of_each = |value: &dyn Fn(&BenchmarkReport) -> Value| -> Value {
        let pairs = report.benchmarks.iter().map(|b| (b.name.clone(), value(b)));
        Value::Object(pairs.collect())
    };
    let scores = of_each(&|benchmark| {
        let mut scores = Map::new();
        scores.insert("alias".to_owned(), json!(benchmark.name));
        for score in &benchmark.scores {
            let (metric, filter) = score
                .metric
                .split_once(',')
                .unwrap_or((&score.metric, "none"));
            scores.insert(format!("{metric},{filter}"), json!(score.value));
            let stderr = score.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
            scores.insert(format!("{metric}_stderr,{filter}"), stderr);
        }
        Value::Object(scores)
    });
    let mut groups: Map<String, Value> = Map::new();
    for group in &report.groups {
        let scores = groups
            .entry(group.name.as_str())
            .or_insert_with(|| json!({"alias": group.name}));
        let (metric, filter) = group
            .metric
            .split_once(',')
            .unwrap_or((&group.metric, "none"));
        let figure = group.figure();
        scores[format!("{metric},{filter}")] = json!(figure.map(|(value, _)| value));
        let stderr = figure.and_then(|(_, stderr)| stderr);
        scores[format!("{metric}_stderr,{filter}")] =
            stderr.map_or(json!("N/A"), |stderr| json!(stderr));
    }
    let members: Map<String, Value> = report
        .groups
        .iter()
        .map(|g| (g.name.clone(), json!(g.members)))
        .collect();
    json!({
        "results": scores,
        "groups": groups,
        "group_subtasks": members,
        "configs": of_each(&|b| json!(b.identity)),
        "versions": of_each(&|b| json!(b.version())),
        "n-shot": of_each(&|b| json!(b.identity.shots)),
        "higher_is_better": of_each(&|b| {
            let better = b.scores.iter().map(|s| (s.metric.clone(), json!(s.higher_is_better)));
            Value::Object(better.collect())
        }),
        "n-samples": of_each(&|b| json!({"original": b.items, "effective": b.judged})),
        "config": {"model": report.model.name, "model_sha": report.model.model_hash},
        "date": report.started,
        "model_name": report.model.name,
        "model_name_sanitized": file_name(&report.model.name),
        "total_evaluation_time_seconds": report.seconds.to_string(),
    })
}
