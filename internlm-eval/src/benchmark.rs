//! What a run needs to know of a benchmark. `Task` implements it for tasks written as data.

use std::collections::BTreeMap;

use internlm_core::{CodeExecutor, Scorer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::item::{Item, Request, Response};

/// Items to ask, and how the answers are judged.
pub trait Benchmark: Send + Sync {
    /// A name for reports and file names, such as `cmmlu-agronomy`.
    fn name(&self) -> &str;

    /// What identifies it in a report: rule set, version, hashes of the prompt and of the data.
    fn identity(&self) -> &Identity;

    /// The items, in the order of the data. Those whose prompt depends on the model (a chat template, examples
    /// dropped until the prompt fits) ask `scorer`; without one they are rendered as for a base model without limit.
    ///
    /// # Errors
    /// A row that cannot be rendered.
    fn items(&self, scorer: Option<&dyn Scorer>) -> Result<Vec<Item>>;

    /// What it says about the groups that [`identity`](Benchmark::identity) names. Without an answer a report sums up
    /// the headlines of the members that it has.
    fn memberships(&self) -> Vec<Membership> {
        let groups = self.identity().groups.iter();
        groups
            .map(|group| Membership {
                group: group.clone(),
                ..Membership::default()
            })
            .collect()
    }

    /// Whether judging runs code that the model wrote. A run refuses such a benchmark before it asks anything if it
    /// has no executor.
    fn needs_code(&self) -> bool {
        false
    }

    /// Questions to the judge model, once the item's own requests are answered; none for benchmarks that are judged
    /// by rule. Whoever needs them gets the judge's responses in [`judge`](Benchmark::judge) after those to the
    /// item's requests. Called again when a run is resumed: the same responses must give the same questions.
    ///
    /// # Errors
    /// As [`judge`](Benchmark::judge).
    fn judge_requests(
        &self,
        _item: &Item,
        _responses: &[Response],
        _code: Option<&dyn CodeExecutor>,
    ) -> Result<Vec<Request>> {
        Ok(Vec::new())
    }

    /// Judges one item. `responses` are those to its requests, in order, and then those to
    /// [`judge_requests`](Benchmark::judge_requests); none of them is [`Response::Failed`].
    ///
    /// # Errors
    /// A response of another kind than was asked for, code to run without an executor.
    fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        code: Option<&dyn CodeExecutor>,
    ) -> Result<Sample>;

    /// The figures of the benchmark; `samples` are the judged items in the order of the data.
    fn scores(&self, samples: &[Sample]) -> Vec<Score>;
}

/// What a report prints so that a figure can be made again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The rule set: `lm-eval` or `opencompass`.
    pub rules: String,
    /// How the model is asked: `ppl`, `ll`, `gen`, `chat`, ...
    pub mode: String,
    /// In-context examples before each item.
    pub shots: usize,
    /// SHA-256 of the task's text, in hex.
    pub prompt_hash: String,
    /// SHA-256 of the data files, in hex.
    pub data_hash: String,
    /// Names of the groups that its score is part of, such as `cmmlu-stem`.
    pub groups: Vec<String>,
}

/// What a benchmark says about a group that it is part of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Membership {
    /// The group's name.
    pub group: String,
    /// The metrics that are summed up, by their names in a report; the headline of the members if there are none.
    pub metrics: Vec<String>,
    /// The mean that the rule set itself gives of the group, if it gives one.
    pub mean: Option<GroupMean>,
    /// The benchmark's weight, where the rule set lists weights (OpenCompass's `weights`). Otherwise members weigh as
    /// many as they have items.
    pub weight: Option<f64>,
    /// Names of all members that the rule set gives the group; only the run's own are known if empty.
    pub members: Vec<String>,
}

/// A mean over the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupMean {
    /// Each member counts the same.
    Naive,
    /// Each member counts by its weight.
    Weighted,
}

/// One judged item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The item's number, [`Item::index`].
    pub index: usize,
    /// What the model is taken to have answered.
    pub prediction: Value,
    /// The right answer.
    pub gold: Value,
    /// Whether it is right, where that is a question of yes or no.
    pub correct: Option<bool>,
    /// The item's part of each metric: a number, or what the aggregation needs (sums and weights, pairs of texts).
    pub metrics: BTreeMap<String, Value>,
    /// Why it is wrong, in one line, where that can be said.
    pub note: Option<String>,
}

/// One figure of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Its name, such as `acc_norm` or `exact_match,flexible-extract`.
    pub metric: String,
    /// Its value, in the rule set's unit (OpenCompass counts in per cent).
    pub value: f64,
    /// Its standard error in the same unit, where one is defined.
    pub stderr: Option<f64>,
    /// Items it is made of.
    pub n: usize,
    /// Whether more is better.
    pub higher_is_better: bool,
}
