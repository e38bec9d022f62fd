//! Grades by a judge.

use internlm_core::{CodeExecutor, Scorer};
use serde_json::{Value, json};

use super::prompt::{JudgePrompt, bracketed, prediction};
use super::{identity, means, unreadable, verdict};
use crate::benchmark::{Benchmark, Identity, Sample, Score};
use crate::error::Result;
use crate::item::{Item, Request, Response};

const SCORE: &str = "score";

/// A benchmark whose answers a judge grades.
#[derive(Clone, Debug)]
pub struct ScoredByJudge<B> {
    inner: B,
    prompt: JudgePrompt,
    range: (f64, f64),
    identity: Identity,
}

impl<B: Benchmark> ScoredByJudge<B> {
    /// Grades from 1 to 10 by [`JudgePrompt::score`].
    pub fn new(inner: B) -> Self {
        Self::with_prompt(inner, JudgePrompt::score(), (1.0, 10.0))
    }

    /// Grades by a prompt of one's own, which asks for a number in double brackets from `range.0` to `range.1`. A
    /// number outside fails the item.
    pub fn with_prompt(inner: B, prompt: JudgePrompt, range: (f64, f64)) -> Self {
        let more = format!("{range:?}");
        Self {
            identity: identity(inner.identity(), "judge-score", &prompt, &more),
            inner,
            prompt,
            range,
        }
    }
}

impl<B: Benchmark> Benchmark for ScoredByJudge<B> {
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
        Ok(vec![self.prompt.about(item, responses, &item.gold)])
    }

    fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        _: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        let text = verdict(self.name(), responses.get(item.requests.len()))?;
        let grade = bracketed(text).and_then(|grade| grade.parse::<f64>().ok());
        let (low, high) = self.range;
        let grade = grade
            .filter(|grade| (low..=high).contains(grade))
            .ok_or_else(|| {
                unreadable(
                    self.name(),
                    &format!("number from {low} to {high} in double brackets"),
                    text,
                )
            })?;
        Ok(Sample {
            index: item.index,
            prediction: prediction(responses).map_or(Value::Null, Value::from),
            gold: item.gold.clone(),
            correct: None,
            metrics: [(SCORE.to_owned(), json!(grade))].into(),
            note: None,
        })
    }

    fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        means(&[SCORE], samples, 1.0)
    }
}
