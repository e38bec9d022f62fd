//! A rule first, and a judge for what the rule does not accept.

use internlm_core::{CodeExecutor, Scorer};
use serde_json::json;

use super::prompt::{JudgePrompt, bracketed};
use super::{identity, means, unit, unreadable, verdict};
use crate::benchmark::{Benchmark, Identity, Sample, Score};
use crate::error::{Error, Result};
use crate::item::{Item, Request, Response};

/// A benchmark whose rule is asked first; answers that it holds for wrong go to a judge, who may accept them
/// (OpenCompass: `CascadeEvaluator`). Rules fail on notation; a judge costs a call.
#[derive(Clone, Debug)]
pub struct Cascade<B> {
    inner: B,
    prompt: JudgePrompt,
    identity: Identity,
}

impl<B: Benchmark> Cascade<B> {
    /// Judges by [`JudgePrompt::correct`].
    pub fn new(inner: B) -> Self {
        Self::with_prompt(inner, JudgePrompt::correct())
    }

    /// Judges by a prompt of one's own, which asks for `[[A]]` (right) or `[[B]]` (wrong).
    pub fn with_prompt(inner: B, prompt: JudgePrompt) -> Self {
        Self {
            identity: identity(inner.identity(), "cascade", &prompt, ""),
            inner,
            prompt,
        }
    }

    fn by_rule(
        &self,
        item: &Item,
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<(Sample, bool)> {
        let own = responses.get(..item.requests.len()).unwrap_or(responses);
        let sample = self.inner.judge(item, own, code)?;
        let correct = sample.correct.ok_or_else(|| Error::Benchmark {
            benchmark: self.name().to_owned(),
            what: "a cascade needs a rule that says right or wrong".to_owned(),
        })?;
        Ok((sample, correct))
    }
}

impl<B: Benchmark> Benchmark for Cascade<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn needs_code(&self) -> bool {
        self.inner.needs_code()
    }

    fn items(&self, scorer: Option<&dyn Scorer>) -> Result<Vec<Item>> {
        self.inner.items(scorer)
    }

    fn judge_requests(
        &self,
        item: &Item,
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Vec<Request>> {
        let (sample, correct) = self.by_rule(item, responses, code)?;
        if correct {
            return Ok(Vec::new());
        }
        Ok(vec![self.prompt.about(item, responses, &sample.gold)])
    }

    fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        let (mut sample, by_rule) = self.by_rule(item, responses, code)?;
        let accepted = by_rule || {
            let text = verdict(self.name(), responses.get(item.requests.len()))?;
            match bracketed(text) {
                Some("A") => true,
                Some("B") => false,
                // Neither.
                _ => return Err(unreadable(self.name(), "[[A]] or [[B]]", text)),
            }
        };
        if accepted && !by_rule {
            sample.note = Some("wrong by the rule, right by the judge".to_owned());
        }
        sample.correct = Some(accepted);
        let number = |yes: bool| json!(u8::from(yes));
        sample
            .metrics
            .insert("accuracy".to_owned(), number(accepted));
        sample
            .metrics
            .insert("accuracy_by_rule".to_owned(), number(by_rule));
        Ok(sample)
    }

    fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        let metrics = ["accuracy", "accuracy_by_rule"];
        means(&metrics, samples, unit(&self.identity))
    }
}
