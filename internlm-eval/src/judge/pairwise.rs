//! A judge's preference between two models.

use std::collections::BTreeMap;

use internlm_core::{CodeExecutor, Scorer};
use serde_json::{Value, json};

use super::prompt::{JudgePrompt, bracketed, prediction, question, reference};
use super::{identity, means, unit, unreadable, verdict};
use crate::benchmark::{Benchmark, Identity, Sample, Score};
use crate::error::{Error, Result};
use crate::item::{Item, Request, Response};
use crate::report::BenchmarkReport;

/// A benchmark whose answers a judge compares with another model's, in both orders: judges prefer the first answer,
/// or the second. Only a preference that both orders give is a win or a loss; all else is a tie.
#[derive(Clone, Debug)]
pub struct Pairwise<B> {
    inner: B,
    others: BTreeMap<usize, String>,
    prompt: JudgePrompt,
    identity: Identity,
}

impl<B: Benchmark> Pairwise<B> {
    /// Compares with answers by the numbers of their items, by [`JudgePrompt::pairwise`].
    pub fn new(inner: B, others: BTreeMap<usize, String>) -> Self {
        Self::with_prompt(inner, others, JudgePrompt::pairwise())
    }

    /// Compares with the answers of an earlier run.
    pub fn with_report(inner: B, report: &BenchmarkReport) -> Self {
        let answers = report.records.iter().filter_map(|record| {
            let first = record.answers.first()?;
            Some((record.index, first.text.clone()))
        });
        Self::new(inner, answers.collect())
    }

    /// Compares by a prompt of one's own, which asks for `[[A]]`, `[[B]]` or `[[C]]`.
    pub fn with_prompt(inner: B, others: BTreeMap<usize, String>, prompt: JudgePrompt) -> Self {
        let more = format!("{others:?}");
        Self {
            identity: identity(inner.identity(), "judge-pairwise", &prompt, &more),
            inner,
            others,
            prompt,
        }
    }
}

/// A verdict in terms of the two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    Ours,
    Theirs,
    Neither,
}

impl<B: Benchmark> Benchmark for Pairwise<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn items(&self, scorer: Option<&dyn Scorer>) -> Result<Vec<Item>> {
        self.inner.items(scorer)
    }

    fn judge_requests(
        &self,
        item: &Item,
        responses: &[Response],
        _: Option<&dyn CodeExecutor>,
    ) -> Result<Vec<Request>> {
        let other = self
            .others
            .get(&item.index)
            .ok_or_else(|| Error::Benchmark {
                benchmark: self.name().to_owned(),
                what: format!("there is no answer to compare with for item {}", item.index),
            })?;
        let (question, reference) = (question(item), reference(&item.gold));
        let own = prediction(responses).unwrap_or_default();
        let ask = |first: &str, second: &str| {
            self.prompt.request(&[
                ("question", &question),
                ("prediction", first),
                ("other", second),
                ("reference", &reference),
            ])
        };
        Ok(vec![ask(own, other), ask(other, own)])
    }

    fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        _: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        let read = |place: usize, first: Preference, second: Preference| {
            let text = verdict(self.name(), responses.get(item.requests.len() + place))?;
            match bracketed(text) {
                Some("A") => Ok(first),
                Some("B") => Ok(second),
                Some("C") => Ok(Preference::Neither),
                _ => Err(unreadable(self.name(), "[[A]], [[B]] or [[C]]", text)),
            }
        };
        let straight = read(0, Preference::Ours, Preference::Theirs)?;
        let swapped = read(1, Preference::Theirs, Preference::Ours)?;
        let consistent = straight == swapped;
        let win = match (consistent, straight) {
            (true, Preference::Ours) => 1.0,
            (true, Preference::Theirs) => 0.0,
            _ => 0.5,
        };
        let note = (!consistent).then(|| {
            format!(
                "the judge prefers {straight:?} in one order and {swapped:?} in the other: a tie"
            )
        });
        Ok(Sample {
            index: item.index,
            prediction: prediction(responses).map_or(Value::Null, Value::from),
            gold: self
                .others
                .get(&item.index)
                .map_or(Value::Null, |o| Value::from(o.as_str())),
            correct: None,
            metrics: [
                ("win_rate".to_owned(), json!(win)),
                ("consistent".to_owned(), json!(u8::from(consistent))),
            ]
            .into(),
            note,
        })
    }

    fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        means(&["win_rate", "consistent"], samples, unit(&self.identity))
    }
}
