//! Choices, by the rules of lm-evaluation-harness (`ConfigurableTask.process_results`).

use serde_json::{Value as Json, json};

use super::super::Task;
use super::super::metric::MetricKind;
use super::super::spec::Mode;
use super::{bad_responses, loglikelihoods, sample};
use crate::benchmark::Sample;
use crate::error::Result;
use crate::item::{Item, Request, Response};
use crate::metric::choice::{Choice, mutual_information, picks, softmax, true_share};

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
    let choices: Vec<Choice<'_>> = texts
        .iter()
        .zip(&lls)
        .map(|(text, ll)| Choice {
            text,
            loglikelihood: *ll,
        })
        .collect();
    let picks = picks(&choices)?;
    // For the peer a negative number is no choice that could be picked, but an index from the end.
    let pickable = golds(&item.gold, &texts, false);
    let golds = golds(&item.gold, &texts, true);
    let right =
        |picked: usize| -> Json { json!(if pickable.contains(&picked) { 1.0 } else { 0.0 }) };
    let predicted = picks.plain;
    let mut note = None;
    if golds.is_empty() {
        note = Some("the right answer is none of the choices".to_owned());
    }
    let prediction = json!(predicted);
    let mut judged = sample(task, item, prediction, |metric, kind| {
        Ok(Some(match kind {
            MetricKind::Acc => right(predicted),
            MetricKind::AccNorm => right(picks.per_character),
            MetricKind::AccBytes => right(picks.per_byte),
            MetricKind::AccMutualInfo => {
                let alone: Vec<f64> = alone.iter().map(|(ll, _)| *ll).collect();
                right(mutual_information(&lls, &alone)?)
            }
            MetricKind::ExactMatch => {
                let greedy = golds.iter().any(|gold| scored[*gold].1);
                json!(if greedy { 1.0 } else { 0.0 })
            }
            MetricKind::BrierScore => {
                let gold = golds.first().copied();
                let sum: f64 = softmax(&lls)
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
                let labels = labels.as_array().map_or(&[][..], Vec::as_slice);
                let is_true: Vec<bool> = labels
                    .iter()
                    .map(|label| label.as_f64() == Some(1.0))
                    .collect();
                json!(true_share(&lls, &is_true)?)
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
        let gold = golds.first()?;
        let score = match task.spec.mode {
            Mode::Reward => "reward",
            _ => "log-likelihood",
        };
        wrong.then(|| {
            format!(
                "choice {predicted} has the {score} {:.3}, the right one, {gold}, {:.3}",
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
                Request::Loglikelihood { context, .. } => Some(context.spelled().into_owned()),
                _ => None,
            })
            .collect())
    }
}

/// Numbers of the right choices; those that are no choice are left out. Negative ones may count from the end.
fn golds(gold: &Json, texts: &[String], from_end: bool) -> Vec<usize> {
    let number = |gold: &Json| -> Option<usize> {
        match gold {
            Json::Number(number) => {
                let at = number.as_i64()?;
                let wraps = from_end && at < 0;
                let at = if wraps { at + texts.len() as i64 } else { at };
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
