//! What a run found, as plain data, and its forms: a table for the terminal, Markdown, CSV, JSON, and one HTML page.
//!
//! `println!("{report}")` is the table; `{report:80}` keeps it to a width.

mod bars;
mod compare;
mod csv;
pub(crate) mod file;
mod group;
mod heat;
mod html;
mod items;
mod json;
mod markdown;
mod record;
mod rows;
mod table;
pub(crate) mod time;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use crate::benchmark::{Benchmark, Identity, Sample, Score};
use crate::error::{Error, Result};
use crate::opencompass::main_score;
use crate::run::{ModelIdentity, Outcome, Planned, Shard};

pub use compare::{Comparison, PairedScore};
pub use group::GroupReport;
pub use record::{Answer, Record};

/// Columns of the table where nobody says otherwise.
const WIDTH: usize = 100;

/// What a run found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Who was asked.
    pub model: ModelIdentity,
    /// The model that judged, where there was one.
    pub judge: Option<String>,
    /// How code that the model wrote was confined, where it was run.
    pub code: Option<String>,
    /// The part of the run.
    pub shard: Shard,
    /// When the run in the folder first began, seconds since 1970.
    pub started: u64,
    /// How long this call took, seconds.
    pub seconds: f64,
    /// From the beginning of this call until a model was asked first, seconds; none where nothing was asked.
    pub asked_after: Option<f64>,
    /// Requests of the run.
    pub requests: usize,
    /// Of these: how many an earlier call had answered.
    pub resumed: usize,
    /// In the run's order.
    pub benchmarks: Vec<BenchmarkReport>,
    /// Names of benchmarks that were asked for and are not in the run.
    pub missing: Vec<String>,
    /// Means over benchmarks, in the order in which the benchmarks name them; several for groups with several metrics.
    pub groups: Vec<GroupReport>,
}

/// What a run found of one benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BenchmarkReport {
    /// Its name.
    pub name: String,
    /// Rule set, mode, shots and hashes.
    pub identity: Identity,
    /// Its figures, of the items that were judged; none if all failed.
    pub scores: Vec<Score>,
    /// Items of this part of the run.
    pub items: usize,
    /// Items that were judged.
    pub judged: usize,
    /// Items that failed.
    pub failed: usize,
    /// The items, in the order of the data.
    pub records: Vec<Record>,
}

impl BenchmarkReport {
    /// The figure that stands for the benchmark in means and plots: OpenCompass's choice, else the first.
    pub fn headline(&self) -> Option<&Score> {
        match self.identity.rules.as_str() {
            "opencompass" => main_score(&self.scores),
            _ => self.scores.first(),
        }
    }

    /// The beginning of the prompt's hash, OpenCompass's `version`.
    pub fn version(&self) -> &str {
        self.identity.prompt_hash.get(..6).unwrap_or("-")
    }

    /// Digits after the point: OpenCompass counts in per cent.
    fn decimals(&self) -> usize {
        if self.identity.rules == "opencompass" {
            2
        } else {
            4
        }
    }
}

impl Report {
    pub(crate) fn of(
        benchmarks: &[&dyn Benchmark],
        items: &[Planned],
        model: ModelIdentity,
        shard: Shard,
    ) -> Result<Self> {
        let mut reports = Vec::with_capacity(benchmarks.len());
        for (number, benchmark) in benchmarks.iter().enumerate() {
            let own = || items.iter().filter(move |item| item.benchmark == number);
            let judged = |item: &Planned| match &item.outcome {
                Some(Outcome::Judged(sample)) => Some(sample.clone()),
                _ => None,
            };
            let samples: Vec<Sample> = own().filter_map(judged).collect();
            let scores =
                match samples.is_empty() {
                    true => Vec::new(),
                    false => catch_unwind(AssertUnwindSafe(|| benchmark.scores(&samples)))
                        .map_err(|_| Error::Benchmark {
                            benchmark: benchmark.name().to_owned(),
                            what: "its figures could not be computed: a panic".to_owned(),
                        })?,
                };
            let records: Vec<Record> = own().map(Record::of).collect();
            reports.push(BenchmarkReport {
                name: benchmark.name().to_owned(),
                identity: benchmark.identity().clone(),
                scores,
                items: records.len(),
                judged: samples.len(),
                failed: records.len() - samples.len(),
                records,
            });
        }
        let memberships: Vec<_> = benchmarks.iter().map(|b| b.memberships()).collect();
        Ok(Self {
            model,
            shard,
            groups: group::groups(&reports, &memberships),
            benchmarks: reports,
            ..Self::default()
        })
    }

    /// The table, at most this many columns wide where that is possible; wide characters count as two.
    pub fn table(&self, width: usize) -> String {
        format!("{}\n{}", self.rows().text(width), self.footer())
    }

    /// The table in Markdown, with hashes.
    pub fn markdown(&self) -> String {
        markdown::markdown(self)
    }

    /// The figures as CSV, with OpenCompass's columns first.
    pub fn csv(&self) -> String {
        csv::csv(self)
    }

    /// Everything but the items.
    pub fn json(&self) -> serde_json::Value {
        json::report(self)
    }

    /// What was run, without what came of it.
    pub(crate) fn config_json(&self) -> serde_json::Value {
        json::config(self)
    }

    /// One page that needs nothing else: table, plots and the items.
    pub fn html(&self) -> String {
        html::page(self, None)
    }

    /// The same with a comparison to another run.
    pub fn html_compared(&self, comparison: &Comparison) -> String {
        html::page(self, Some(comparison))
    }

    /// Paired tests of this run and a later one, on the items that both judged.
    pub fn compare(&self, other: &Report) -> Comparison {
        Comparison::of(self, other)
    }

    /// Items that failed.
    pub fn failed(&self) -> usize {
        self.benchmarks.iter().map(|b| b.failed).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table(f.width().unwrap_or(WIDTH)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_is_what_opencompass_prefers() {
        let score = |metric: &str| Score {
            metric: metric.to_owned(),
            value: 0.0,
            stderr: None,
            n: 1,
            higher_is_better: true,
        };
        let mut report = BenchmarkReport {
            scores: ["rougeL", "f1", "bleurt_diff"].map(score).into(),
            ..BenchmarkReport::default()
        };
        let headline = |report: &BenchmarkReport| report.headline().map(|s| s.metric.clone());
        assert_eq!(headline(&report).as_deref(), Some("rougeL"));
        "opencompass".clone_into(&mut report.identity.rules);
        assert_eq!(headline(&report).as_deref(), Some("bleurt_diff"));
    }
}
