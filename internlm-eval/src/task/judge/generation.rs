//! Generated texts.

mod code;
mod instructions;
mod text;
mod tool;

use std::collections::BTreeMap;

use internlm_core::CodeExecutor;
use serde_json::{Value as Json, json};

use super::super::Task;
use super::super::metric::{MetricKind, MetricSpec};
use super::{bad_responses, finished};
use crate::benchmark::Sample;
use crate::error::Result;
use crate::extract::compare::ExactMatch;
use crate::item::{Item, Response};
use crate::pattern::Pattern;

pub(super) use text::{bleu, chrf};

pub(super) fn judge(
    task: &Task,
    item: &Item,
    responses: &[Response],
    executor: Option<&dyn CodeExecutor>,
) -> Result<Sample> {
    let [Response::Texts { answers }] = responses else {
        return Err(bad_responses(task, item, "texts were expected".to_owned()));
    };
    // Of several turns the last one is judged.
    let texts: Vec<String> = answers
        .iter()
        .map(|turns| turns.last().cloned().unwrap_or_default())
        .collect();
    if texts.is_empty() {
        return Err(bad_responses(task, item, "there is no text".to_owned()));
    }
    let choices = task.rendered_choices(item)?.unwrap_or_default();
    let mut metrics = BTreeMap::new();
    let mut predictions = serde_json::Map::new();
    let mut note = None;
    for filter in &task.filters {
        let filtered = filter.apply(&texts, &choices)?;
        for metric in &task.metrics {
            let wanted = metric.filter.as_ref();
            if wanted.is_some_and(|wanted| *wanted != filter.name) {
                continue;
            }
            match metric.kind() {
                Some(MetricKind::PassAtK) => {
                    let failure =
                        code::judge(task, item, metric, &filtered, executor, &mut metrics)?;
                    note = note.or(failure);
                }
                Some(kind) => {
                    if let Some(value) = value(task, item, metric, kind, &filtered)? {
                        metrics.insert(task.key(metric, &filter.name), value);
                    }
                }
                None => {}
            }
        }
        let prediction = match <[String; 1]>::try_from(filtered) {
            Ok([one]) => json!(one),
            Err(many) => json!(many),
        };
        predictions.insert(filter.name.clone(), prediction);
    }
    if task.spec.needle.is_some() {
        for name in ["length", "depth"] {
            metrics.insert(
                name.to_owned(),
                item.row.get(name).cloned().unwrap_or_default(),
            );
        }
    }
    let prediction = match predictions.len() {
        1 => predictions
            .into_iter()
            .next()
            .map_or(Json::Null, |(_, text)| text),
        _ => Json::Object(predictions),
    };
    let mut judged = finished(task, item, prediction, metrics);
    let empty = texts.iter().all(|text| text.trim().is_empty());
    judged.note = match judged.correct {
        Some(false) if empty => Some("the answer is empty".to_owned()),
        _ => note,
    };
    Ok(judged)
}

/// The item's part of a metric for the first of the filtered answers.
fn value(
    task: &Task,
    item: &Item,
    metric: &MetricSpec,
    kind: MetricKind,
    answers: &[String],
) -> Result<Option<Json>> {
    let answer = answers.first().map_or("", String::as_str);
    Ok(match kind {
        MetricKind::PromptLevelStrictAcc
        | MetricKind::InstLevelStrictAcc
        | MetricKind::PromptLevelLooseAcc
        | MetricKind::InstLevelLooseAcc => Some(instructions::judge(item, kind, answer)?),
        MetricKind::ToolFormat | MetricKind::ToolName | MetricKind::ToolArguments => Some(json!(
            tool::score(kind, answer, &task.labels(metric, item)?)
        )),
        _ => {
            let golds = match &metric.labels {
                Some(_) => texts(&task.labels(metric, item)?),
                None => task.texts_of_gold(item)?,
            };
            text::judge(metric, kind, answer, &golds)?
        }
    })
}

impl Task {
    /// The gold as texts, any of which is right.
    fn texts_of_gold(&self, item: &Item) -> Result<Vec<String>> {
        if let (Some(choices), Some(at)) = (self.rendered_choices(item)?, item.gold.as_u64()) {
            let choice = usize::try_from(at).ok().and_then(|at| choices.get(at));
            return Ok(choice.cloned().into_iter().collect());
        }
        Ok(texts(&item.gold))
    }
}

/// A text or a list of them.
fn texts(value: &Json) -> Vec<String> {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Json::Array(values) => values.iter().map(text).collect(),
        value => vec![text(value)],
    }
}

impl MetricSpec {
    /// How `exact_match` and `contains` compare.
    pub(in crate::task) fn exact_match(&self) -> Result<ExactMatch> {
        let patterns = self.regexes_to_ignore.iter();
        Ok(ExactMatch {
            regexes_to_ignore: patterns
                .map(|pattern| Pattern::new(pattern))
                .collect::<Result<_>>()?,
            ignore_case: self.ignore_case,
            ignore_punctuation: self.ignore_punctuation,
            ignore_numbers: self.ignore_numbers,
        })
    }
}
