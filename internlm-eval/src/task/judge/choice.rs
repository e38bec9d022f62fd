//! Choices, by the rules of lm-evaluation-harness (`ConfigurableTask.process_results`).

use serde_json::{Value as Json, json};

use super::super::Task;
use super::super::metric::MetricKind;
use super::{bad_responses, loglikelihoods, sample};
use crate::benchmark::Sample;
use crate::error::Result;
use crate::item::{Item, Request, Response};

pub(super) fn judge(task: &Task, item: &Item, responses: &[Response]) -> Result<Sample> {
    let scored = loglikelihoods(task, item, responses)?;
    let unconditional = task.asks_unconditionally();
    let count = if unconditional {
        scored.len() / 2
    } else {
        scored.len()
    };
    let (scored, alone) = scored.split_at(count);
    let lls: Vec<f64> = scored.iter().map(|(ll, _)| *ll).collect();
    let texts = task.choice_texts(item)?;
    if texts.len() != lls.len() {
        return Err(bad_responses(
            task,
            item,
            format!("{} log-likelihoods for {} choices", lls.len(), texts.len()),
        ));
    }
    let characters: Vec<f64> = lls
        .iter()
        .zip(&texts)
        .map(|(ll, text)| ll / text.chars().count() as f64)
        .collect();
    let bytes: Vec<f64> = lls
        .iter()
        .zip(&texts)
        .map(|(ll, text)| ll / text.len() as f64)
        .collect();
    let golds = golds(&item.gold, &texts);
    let right = |prediction: Option<usize>| -> Json {
        let right = prediction.is_some_and(|prediction| golds.contains(&prediction));
        json!(if right { 1.0 } else { 0.0 })
    };
    let predicted = argmax(&lls);
    let mut note = None;
    if golds.is_empty() {
        note = Some("the right answer is none of the choices".to_owned());
    }
    let prediction = json!(predicted);
    let mut judged = sample(task, item, prediction, |metric, kind| {
        Ok(Some(match kind {
            MetricKind::Acc => right(predicted),
            MetricKind::AccNorm => right(argmax(&characters)),
            MetricKind::AccBytes => right(argmax(&bytes)),
            MetricKind::AccMutualInfo => {
                let gained: Vec<f64> = lls
                    .iter()
                    .zip(alone)
                    .map(|(ll, (alone, _))| ll - alone)
                    .collect();
                right(argmax(&gained))
            }
            MetricKind::ExactMatch => {
                let greedy = golds.iter().any(|gold| scored[*gold].1);
                json!(if greedy { 1.0 } else { 0.0 })
            }
            MetricKind::BrierScore => {
                let shares = shares(&lls);
                let gold = golds.first().copied();
                let sum: f64 = shares
                    .iter()
                    .enumerate()
                    .map(|(at, share)| {
                        let truth = if Some(at) == gold { 1.0 } else { 0.0 };
                        (share - truth) * (share - truth)
                    })
                    .sum();
                json!(sum)
            }
            MetricKind::F1 | MetricKind::Mcc => json!([golds.first(), predicted]),
            MetricKind::ProbabilityMass => {
                let labels = task.labels(metric, item)?;
                let labels: Vec<f64> = match labels {
                    Json::Array(labels) => labels.iter().filter_map(Json::as_f64).collect(),
                    _ => Vec::new(),
                };
                if labels.len() != lls.len() {
                    return Err(bad_responses(
                        task,
                        item,
                        format!("{} labels for {} choices", labels.len(), lls.len()),
                    ));
                }
                // The peer's own arithmetic: no maximum is taken out before exp.
                let sum: f64 = lls.iter().map(|ll| ll.exp()).sum();
                let right: f64 = lls
                    .iter()
                    .zip(&labels)
                    .filter(|(_, label)| **label == 1.0)
                    .map(|(ll, _)| ll.exp() / sum)
                    .sum();
                json!(right)
            }
            _ => return Ok(None),
        }))
    })?;
    judged.gold = match golds.as_slice() {
        [] => item.gold.clone(),
        [gold] => json!(gold),
        golds => json!(golds),
    };
    judged.note = note.or_else(|| {
        let wrong = judged.correct == Some(false);
        let (Some(predicted), Some(gold)) = (predicted, golds.first()) else {
            return None;
        };
        wrong.then(|| {
            format!(
                "choice {predicted} has the log-likelihood {:.3}, the right one, {gold}, {:.3}",
                lls[predicted], lls[*gold]
            )
        })
    });
    Ok(judged)
}

impl Task {
    /// Whether each choice is also scored without the question.
    pub(in crate::task) fn asks_unconditionally(&self) -> bool {
        self.metrics
            .iter()
            .any(|metric| metric.kind() == Some(MetricKind::AccMutualInfo))
    }

    /// The texts whose lengths the normalised accuracies divide by: the choices without delimiter. Where the choices are
    /// contexts, the contexts as the task gives them.
    fn choice_texts(&self, item: &Item) -> Result<Vec<String>> {
        if let Some(texts) = self.rendered_choices(item)? {
            return Ok(texts);
        }
        Ok(item
            .requests
            .iter()
            .filter_map(|request| match request {
                Request::Loglikelihood { context, .. } => Some(context.clone()),
                _ => None,
            })
            .collect())
    }
}

/// Numbers of the right choices; those that are no choice are left out.
fn golds(gold: &Json, texts: &[String]) -> Vec<usize> {
    let number = |gold: &Json| -> Option<usize> {
        match gold {
            Json::Number(number) => {
                // A negative number counts from the end, as it does for the peer.
                let at = number.as_i64()?;
                let at = if at < 0 { at + texts.len() as i64 } else { at };
                usize::try_from(at).ok()
            }
            Json::Bool(truth) => Some(usize::from(*truth)),
            Json::String(text) => texts.iter().position(|choice| choice == text),
            _ => None,
        }
        .filter(|at| *at < texts.len())
    };
    match gold {
        Json::Array(golds) => golds.iter().filter_map(number).collect(),
        gold => number(gold).into_iter().collect(),
    }
}

/// The first largest; like numpy, the first that is not a number is larger than all.
fn argmax(values: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, value) in values.iter().enumerate() {
        if value.is_nan() {
            return Some(at);
        }
        if best.is_none_or(|(_, largest)| *value > largest) {
            best = Some((at, *value));
        }
    }
    best.map(|(at, _)| at)
}

/// Softmax.
fn shares(lls: &[f64]) -> Vec<f64> {
    let largest = lls.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = lls.iter().map(|ll| (ll - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}
