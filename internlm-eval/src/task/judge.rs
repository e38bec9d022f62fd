//! From answers to figures.

mod choice;
mod generation;
mod perplexity;
mod scores;

use std::collections::BTreeMap;

use internlm_core::CodeExecutor;
use serde_json::Value as Json;

use super::Task;
use super::metric::{MetricKind, MetricSpec};
use super::spec::Mode;
use crate::benchmark::{Sample, Score};
use crate::error::{Error, Result};
use crate::item::{Item, Response};

/// Judges one item.
pub(super) fn judge(
    task: &Task,
    item: &Item,
    responses: &[Response],
    code: Option<&dyn CodeExecutor>,
) -> Result<Sample> {
    if responses.len() != item.requests.len() {
        return Err(bad_responses(
            task,
            item,
            format!(
                "{} responses to {} requests",
                responses.len(),
                item.requests.len()
            ),
        ));
    }
    match task.spec.mode {
        Mode::MultipleChoice | Mode::Rank | Mode::Reward => choice::judge(task, item, responses),
        Mode::Loglikelihood => perplexity::judge_target(task, item, responses),
        Mode::Rolling => perplexity::judge_text(task, item, responses),
        Mode::Generate | Mode::Chat | Mode::MultiTurn => {
            generation::judge(task, item, responses, code)
        }
    }
}

/// The figures of a task.
pub(super) fn scores(task: &Task, samples: &[Sample]) -> Vec<Score> {
    let mut all = Vec::new();
    for metric in &task.metrics {
        let Some(kind) = metric.kind() else {
            continue;
        };
        for key in task.keys_of(metric) {
            all.extend(scores::score(metric, kind, &key, samples));
        }
    }
    all
}

/// Log-likelihood and greediness of each response; a reward is as good as a log-likelihood.
fn loglikelihoods(task: &Task, item: &Item, responses: &[Response]) -> Result<Vec<(f64, bool)>> {
    responses
        .iter()
        .map(|response| {
            let scored = match (task.spec.mode, response) {
                (Mode::Reward, Response::Reward { value }) => Some((*value, false)),
                (Mode::Reward, _) => None,
                _ => response.loglikelihood(),
            };
            scored.ok_or_else(|| {
                let wanted = match task.spec.mode {
                    Mode::Reward => "rewards",
                    _ => "log-likelihoods",
                };
                bad_responses(task, item, format!("{wanted} were expected"))
            })
        })
        .collect()
}

fn bad_responses(task: &Task, item: &Item, what: String) -> Error {
    Error::Responses {
        task: task.name.clone(),
        index: item.index,
        what,
    }
}

/// A sample with the metrics that `part` gives.
fn sample(
    task: &Task,
    item: &Item,
    prediction: Json,
    mut part: impl FnMut(&MetricSpec, MetricKind) -> Result<Option<Json>>,
) -> Result<Sample> {
    let mut metrics = BTreeMap::new();
    for metric in &task.metrics {
        let Some(kind) = metric.kind() else {
            continue;
        };
        if let Some(value) = part(metric, kind)? {
            metrics.insert(metric.name.clone(), value);
        }
    }
    Ok(finished(task, item, prediction, metrics))
}

/// A sample whose yes or no is that of the task's main metric.
fn finished(task: &Task, item: &Item, prediction: Json, metrics: BTreeMap<String, Json>) -> Sample {
    let correct = metrics
        .get(&task.main_metric())
        .and_then(Json::as_f64)
        .filter(|value| *value == 0.0 || *value == 1.0)
        .map(|value| value == 1.0);
    Sample {
        index: item.index,
        prediction,
        gold: item.gold.clone(),
        correct,
        metrics,
        note: None,
    }
}
