//! Generated texts.

use std::collections::BTreeMap;
use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};
use serde_json::{Value as Json, json};

use super::super::Task;
use super::super::metric::{MetricKind, MetricSpec};
use super::{bad_responses, finished, tool};
use crate::benchmark::Sample;
use crate::error::{Error, Result};
use crate::item::{Item, Response};
use crate::template::regex;

pub(super) fn judge(
    task: &Task,
    item: &Item,
    responses: &[Response],
    code: Option<&dyn CodeExecutor>,
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
    let mut metrics = BTreeMap::new();
    let mut predictions = serde_json::Map::new();
    let mut note = None;
    for filter in &task.filters {
        let filtered = filter.apply(&texts);
        predictions.insert(
            filter.name.clone(),
            match &filtered[..] {
                [one] => json!(one),
                many => json!(many),
            },
        );
        for metric in &task.metrics {
            let Some(kind) = metric.kind() else {
                continue;
            };
            if metric.filter.as_ref().is_some_and(|wanted| *wanted != filter.name) {
                continue;
            }
            let key = task.key(metric, &filter.name);
            if kind == MetricKind::PassAtK {
                let said = pass_at_k(task, item, metric, &filtered, code, &mut metrics)?;
                note = note.or(said);
            } else if let Some(value) = value(task, item, metric, kind, &filtered)? {
                metrics.insert(key, value);
            }
            if kind == MetricKind::Needle {
                for name in ["length", "depth"] {
                    let value = item.row.get(name).cloned().unwrap_or(Json::Null);
                    metrics.insert(name.to_owned(), value);
                }
            }
        }
    }
    let prediction = match predictions.len() {
        1 => predictions.into_iter().next().map_or(Json::Null, |(_, text)| text),
        _ => Json::Object(predictions),
    };
    let mut judged = finished(task, item, prediction, metrics);
    judged.note = note;
    if judged.note.is_none() && judged.correct == Some(false) && texts.iter().all(|text| text.trim().is_empty()) {
        judged.note = Some("the answer is empty".to_owned());
    }
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
    let golds = task.texts_of_gold(item)?;
    let truth = |right: bool| json!(if right { 1.0 } else { 0.0 });
    Ok(Some(match kind {
        MetricKind::ExactMatch => truth(
            golds
                .iter()
                .any(|gold| normalised(metric, gold) == normalised(metric, answer)),
        ),
        MetricKind::Contains => truth(golds.iter().any(|gold| {
            let (gold, answer) = (normalised(metric, gold), normalised(metric, answer));
            !gold.is_empty() && answer.contains(&gold)
        })),
        MetricKind::NumericMatch => {
            let said = last_number(answer);
            truth(golds.iter().any(|gold| {
                let gold = last_number(gold);
                said.is_some() && said.zip(gold).is_some_and(|(a, b)| (a - b).abs() < 1e-6)
            }))
        }
        MetricKind::Needle => {
            let said = answer.to_lowercase();
            let found = golds
                .iter()
                .filter(|keyword| said.contains(&keyword.to_lowercase()))
                .count();
            json!(found as f64 / golds.len().max(1) as f64)
        }
        MetricKind::ToolFormat | MetricKind::ToolName | MetricKind::ToolArguments => {
            json!(tool::score(kind, answer, &task.labels(metric, item)?))
        }
        _ => return Ok(None),
    }))
}

/// A text as `exact_match` compares it: what the patterns match is left out, then case, ASCII punctuation and digits.
fn normalised(metric: &MetricSpec, text: &str) -> String {
    let mut text = text.to_owned();
    for pattern in &metric.regexes_to_ignore {
        // The patterns were compiled when the task file was read.
        if let Ok(replaced) = regex::replace_all(&text, pattern, "") {
            text = replaced;
        }
    }
    if metric.ignore_case {
        text = text.to_lowercase();
    }
    if metric.ignore_punctuation {
        text.retain(|character| !character.is_ascii_punctuation());
    }
    if metric.ignore_numbers {
        text.retain(|character| !character.is_ascii_digit());
    }
    text
}

/// The last number of a text; commas between its digits do not count.
fn last_number(text: &str) -> Option<f64> {
    let text = text.replace(',', "");
    let mut last = None;
    let mut number = String::new();
    for character in text.chars().chain([' ']) {
        let fits = match character {
            '-' => number.is_empty(),
            '.' => !number.is_empty() && number != "-" && !number.contains('.'),
            digit => digit.is_ascii_digit(),
        };
        if fits {
            number.push(character);
            continue;
        }
        last = number.trim_end_matches('.').parse().ok().or(last);
        number.clear();
        if character == '-' {
            number.push(character);
        }
    }
    last
}

/// Runs the program of each answer; of n that were run c passed, and pass@k is the chance that one of k does.
fn pass_at_k(
    task: &Task,
    item: &Item,
    metric: &MetricSpec,
    answers: &[String],
    code: Option<&dyn CodeExecutor>,
    metrics: &mut BTreeMap<String, Json>,
) -> Result<Option<String>> {
    let Some(code) = code else {
        return Err(Error::NoExecutor {
            task: task.name.clone(),
        });
    };
    let mut passed = 0;
    let mut note = None;
    for answer in answers {
        let program = task.program(metric.program.as_deref().unwrap_or_default(), item, answer)?;
        let timeout = Duration::from_secs_f64(metric.timeout_seconds.clamp(0.1, 3600.0));
        let output = code.run(&CodeRequest::new("python", program).with_timeout(timeout))?;
        match output.status {
            CodeStatus::Exited(0) => passed += 1,
            CodeStatus::Exited(_) => {
                let said = output.stderr.trim_end().rsplit('\n').next().unwrap_or_default();
                note.get_or_insert_with(|| said.chars().take(200).collect());
            }
            CodeStatus::TimedOut => {
                note.get_or_insert_with(|| "the program ran out of time".to_owned());
            }
            CodeStatus::Killed(by) => {
                note.get_or_insert_with(|| format!("the program was killed: {by}"));
            }
        }
    }
    for k in &metric.k {
        metrics.insert(format!("pass@{k}"), json!(chance(answers.len(), passed, *k)));
    }
    Ok(note)
}

/// The unbiased estimate of Chen et al. (2021): one less the chance that k of n have none of the c.
fn chance(n: usize, c: usize, k: usize) -> f64 {
    if n < c + k {
        return 1.0;
    }
    let none: f64 = (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product();
    1.0 - none
}

impl Task {
    /// The gold as texts, any of which is right.
    fn texts_of_gold(&self, item: &Item) -> Result<Vec<String>> {
        let text = |gold: &Json| match gold {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        if let (Some(choices), Some(at)) = (self.rendered_choices(item)?, item.gold.as_u64()) {
            return Ok(choices.get(at as usize).cloned().into_iter().collect());
        }
        Ok(match &item.gold {
            Json::Array(golds) => golds.iter().map(text).collect(),
            gold => vec![text(gold)],
        })
    }
}

/// BLEU or chrF over all pairs of answer and reference.
pub(super) fn corpus(_kind: MetricKind, _metric: &MetricSpec, _parts: &[&Json]) -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_numbers() {
        assert_eq!(last_number("it is 1,234.50 or -7."), Some(-7.0));
        assert_eq!(last_number("3-4"), Some(-4.0));
        assert_eq!(last_number("none - ."), None);
        assert_eq!(last_number("1.2.3"), Some(3.0));
    }

    #[test]
    fn chances() {
        assert_eq!(chance(1, 1, 1), 1.0);
        assert_eq!(chance(1, 0, 1), 0.0);
        assert!((chance(10, 3, 1) - 0.3).abs() < 1e-12);
        assert!((chance(10, 3, 5) - (1.0 - 21.0 / 252.0)).abs() < 1e-12);
    }
}
