//! A report for programs.

use serde_json::{Value, json};

use super::Report;

pub(super) fn report(report: &Report) -> Value {
    let benchmarks: Vec<Value> = report
        .benchmarks
        .iter()
        .map(|benchmark| {
            json!({
                "name": benchmark.name,
                "identity": benchmark.identity,
                "scores": benchmark.scores,
                "items": benchmark.items,
                "judged": benchmark.judged,
                "failed": benchmark.failed,
            })
        })
        .collect();
    let mut value = config(report);
    if let Some(value) = value.as_object_mut() {
        value.insert("seconds".to_owned(), json!(report.seconds));
        value.insert("asked_after".to_owned(), json!(report.asked_after));
        value.insert("requests".to_owned(), json!(report.requests));
        value.insert("resumed".to_owned(), json!(report.resumed));
        value.insert("benchmarks".to_owned(), json!(benchmarks));
        value.insert("missing".to_owned(), json!(report.missing));
        value.insert("groups".to_owned(), json!(report.groups));
    }
    value
}

pub(super) fn config(report: &Report) -> Value {
    let benchmarks: Vec<Value> = report
        .benchmarks
        .iter()
        .map(|benchmark| json!({"name": benchmark.name, "identity": benchmark.identity}))
        .collect();
    json!({
        "model": report.model,
        "judge": report.judge,
        "code": report.code,
        "shard": report.shard,
        "started": report.started,
        "benchmarks": benchmarks,
    })
}
