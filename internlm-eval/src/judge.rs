//! Judgement by a model: scores, comparison with another model's answers, and a cascade in which a rule comes first.
//!
//! Each is a [`Benchmark`](crate::Benchmark) around another one, whose items and prompts it keeps. The questions to
//! the judge are a second stage of the run with lines of its own in the journal, so that a run that is killed between
//! an answer and its judgement asks neither again. The judge is given by
//! [`Run::with_judge`](crate::Run::with_judge).
//!
//! What a model wrote is put into the judge's prompt in one pass: a field that an answer spells stays text. A judge can
//! still be talked into a verdict by the answer that it reads; figures of judges are opinions.

mod cascade;
mod pairwise;
mod prompt;
mod score;

pub use cascade::Cascade;
pub use pairwise::Pairwise;
pub use prompt::JudgePrompt;
pub use score::ScoredByJudge;

use serde_json::Value;

use crate::benchmark::{Identity, Sample, Score};
use crate::error::{Error, Result};
use crate::hash::sha256_hex;
use crate::item::Response;
use crate::metric::mean;
use crate::metric::standard_error::of_mean;

/// The identity of a benchmark that a judge's prompt is part of.
fn identity(inner: &Identity, mode: &str, prompt: &JudgePrompt, more: &str) -> Identity {
    let text = format!("{}\n{mode}\n{}\n{more}", inner.prompt_hash, prompt.text());
    Identity {
        mode: mode.to_owned(),
        prompt_hash: sha256_hex(text.as_bytes()),
        ..inner.clone()
    }
}

/// The text that a judge wrote.
fn verdict<'a>(benchmark: &str, response: Option<&'a Response>) -> Result<&'a str> {
    let text = match response {
        Some(Response::Texts { answers }) => answers.first().and_then(|turns| turns.last()),
        _ => None,
    };
    text.map(String::as_str).ok_or_else(|| Error::Benchmark {
        benchmark: benchmark.to_owned(),
        what: "the judge gave no text".to_owned(),
    })
}

/// The judge said nothing that can be read as what was asked for.
fn unreadable(benchmark: &str, want: &str, text: &str) -> Error {
    let said: String = text.chars().rev().take(80).collect();
    let said: String = said.chars().rev().collect();
    Error::Benchmark {
        benchmark: benchmark.to_owned(),
        what: format!("the judge's answer has no {want}; it ends: {said}"),
    }
}

/// The means of metrics with their standard errors, times a unit; none of a metric that no sample has.
fn means(metrics: &[&str], samples: &[Sample], unit: f64) -> Vec<Score> {
    let of = |&metric: &&str| {
        let value = |sample: &Sample| sample.metrics.get(metric).and_then(Value::as_f64);
        let values: Vec<f64> = samples.iter().filter_map(value).collect();
        Some(Score {
            metric: metric.to_owned(),
            value: unit * mean(&values).ok()?,
            stderr: of_mean(&values).ok().map(|stderr| unit * stderr),
            n: values.len(),
            higher_is_better: true,
        })
    };
    metrics.iter().filter_map(of).collect()
}

/// 100 where the rule set counts in per cent.
fn unit(identity: &Identity) -> f64 {
    if identity.rules == "opencompass" {
        100.0
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_the_samples_that_have_the_metric() {
        let sample = |metrics: Value| Sample {
            metrics: serde_json::from_value(metrics).unwrap(),
            ..Sample::default()
        };
        let samples = [
            sample(serde_json::json!({"a": 1, "b": 3})),
            sample(serde_json::json!({"a": 0})),
        ];
        let scores = means(&["a", "b", "c"], &samples, 100.0);
        let figures = scores
            .iter()
            .map(|s| (&s.metric[..], s.value, s.stderr, s.n));
        let want = [("a", 50.0, Some(50.0), 2), ("b", 300.0, None, 1)];
        assert!(figures.eq(want), "{scores:?}");
    }
}
