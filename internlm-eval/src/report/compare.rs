//! Two runs side by side, with tests on the items that both judged.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Record;
use super::rows::figure;
use super::table::{Align, Table};
use super::{BenchmarkReport, Report, markdown};
use crate::metric::{mean, paired};

/// Flips of signs that a permutation test draws.
const DRAWS: usize = 10_000;

/// Two runs, item by item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The first run's model.
    pub first: String,
    /// The second run's model.
    pub second: String,
    /// One per benchmark of both and metric whose parts are numbers; the first of a benchmark is whether items are
    /// right.
    pub scores: Vec<PairedScore>,
    /// Benchmarks of one run that are not comparable or not in the other, and why.
    pub left_out: Vec<(String, String)>,
}

/// The items of one benchmark under one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PairedScore {
    /// The benchmark.
    pub benchmark: String,
    /// The metric; `correct` is whether an item is right.
    pub metric: String,
    /// Items that both runs judged.
    pub n: usize,
    /// The mean over these items in the first run.
    pub first: f64,
    /// The mean over these items in the second run.
    pub second: f64,
    /// The mean of the second's values minus the first's.
    pub difference: f64,
    /// The standard error of that mean.
    pub stderr: Option<f64>,
    /// Items that are right in the first run only.
    pub only_first: Option<usize>,
    /// Items that are right in the second run only.
    pub only_second: Option<usize>,
    /// How likely a difference at least this large is if the two are alike: McNemar's exact test for right and
    /// wrong, else a permutation test.
    pub p_value: f64,
}

impl Comparison {
    pub(super) fn of(first: &Report, second: &Report) -> Self {
        let mut comparison = Self {
            first: first.model.name.clone(),
            second: second.model.name.clone(),
            ..Self::default()
        };
        for a in &first.benchmarks {
            let Some(b) = second.benchmarks.iter().find(|b| b.name == a.name) else {
                comparison
                    .left_out
                    .push((a.name.clone(), "is not in the second run".to_owned()));
                continue;
            };
            match comparable(a, b) {
                Ok(()) => comparison.scores.extend(paired(a, b)),
                Err(why) => comparison.left_out.push((a.name.clone(), why)),
            }
        }
        for b in &second.benchmarks {
            if !first.benchmarks.iter().any(|a| a.name == b.name) {
                comparison
                    .left_out
                    .push((b.name.clone(), "is not in the first run".to_owned()));
            }
        }
        comparison
    }

    pub(super) fn rows(&self) -> Table {
        let mut table = Table::new(&[
            ("dataset", Align::Left),
            ("metric", Align::Left),
            ("n", Align::Right),
            (&self.first, Align::Right),
            (&self.second, Align::Right),
            ("difference", Align::Right),
            ("right in one only", Align::Right),
            ("p", Align::Right),
        ]);
        for score in &self.scores {
            let only = match (score.only_first, score.only_second) {
                (Some(first), Some(second)) => format!("{first} : {second}"),
                _ => "-".to_owned(),
            };
            table.push(vec![
                score.benchmark.clone(),
                score.metric.clone(),
                score.n.to_string(),
                figure(score.first, None, 4),
                figure(score.second, None, 4),
                figure(score.difference, score.stderr, 4),
                only,
                format!("{:.4}", score.p_value),
            ]);
        }
        table
    }

    /// The table in Markdown.
    pub fn markdown(&self) -> String {
        markdown::comparison(self)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rows().text(f.width().unwrap_or(super::WIDTH)))?;
        for (benchmark, why) in &self.left_out {
            write!(f, "\n{benchmark}: {why}")?;
        }
        Ok(())
    }
}

fn comparable(a: &BenchmarkReport, b: &BenchmarkReport) -> Result<(), String> {
    let (x, y) = (&a.identity, &b.identity);
    for (what, same) in [
        ("rule set", x.rules == y.rules),
        ("data", x.data_hash == y.data_hash),
    ] {
        if !same {
            return Err(format!("is of another {what} in the second run"));
        }
    }
    Ok(())
}

fn paired(a: &BenchmarkReport, b: &BenchmarkReport) -> Vec<PairedScore> {
    let others: HashMap<usize, &Record> = b.records.iter().map(|r| (r.index, r)).collect();
    let pairs: Vec<(&Record, &Record)> = a
        .records
        .iter()
        .filter_map(|record| others.get(&record.index).map(|other| (record, *other)))
        .filter(|(a, b)| a.error.is_none() && b.error.is_none())
        .collect();
    let mut scores = Vec::new();
    let right = |record: &Record| record.correct.map(|c| f64::from(u8::from(c)));
    scores.extend(score(&a.name, "correct", &pairs, &right));
    let names = a.records.iter().flat_map(|record| record.metrics.keys());
    let mut names: Vec<&String> = names.collect();
    names.sort();
    names.dedup();
    for name in names {
        let number = |record: &Record| record.metrics.get(name).and_then(as_number);
        scores.extend(score(&a.name, name, &pairs, &number));
    }
    scores
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        value => value.as_f64(),
    }
}

fn score(
    benchmark: &str,
    metric: &str,
    pairs: &[(&Record, &Record)],
    value: &dyn Fn(&Record) -> Option<f64>,
) -> Option<PairedScore> {
    let values: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((value(a)?, value(b)?)))
        .collect();
    if values.is_empty() {
        return None;
    }
    let (first, second): (Vec<f64>, Vec<f64>) = values.into_iter().unzip();
    let right = |values: &[f64]| -> Option<Vec<bool>> {
        let right = values.iter().map(|&value| match value {
            1.0 => Some(true),
            0.0 => Some(false),
            _ => None,
        });
        right.collect()
    };
    let (only_first, only_second, test) = match (right(&first), right(&second)) {
        (Some(a), Some(b)) => {
            let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|&(&a, &b)| a && !b).count();
            (
                Some(only(&a, &b)),
                Some(only(&b, &a)),
                paired::mcnemar(&a, &b),
            )
        }
        _ => (None, None, paired::permutation(&first, &second, DRAWS)),
    };
    // Lists of one length that are not empty have a test.
    let test = test.ok()?;
    Some(PairedScore {
        benchmark: benchmark.to_owned(),
        metric: metric.to_owned(),
        n: test.n,
        first: mean(&first).ok()?,
        second: mean(&second).ok()?,
        difference: test.difference,
        stderr: test.stderr,
        only_first,
        only_second,
        p_value: test.p_value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-10, "{a} {b}");
    }

    fn record(index: usize, correct: bool, f1: f64) -> Record {
        Record {
            index,
            correct: Some(correct),
            metrics: [("f1".to_owned(), Value::from(f1))].into(),
            ..Record::default()
        }
    }

    fn report(records: Vec<Record>) -> Report {
        Report {
            benchmarks: vec![BenchmarkReport {
                name: "b".to_owned(),
                records,
                ..BenchmarkReport::default()
            }],
            ..Report::default()
        }
    }

    #[test]
    fn items_of_both_runs_are_compared() {
        let first = report(vec![
            record(0, true, 0.5),
            record(1, false, 0.5),
            record(2, false, 0.0),
        ]);
        let failed = Record {
            error: Some("x".to_owned()),
            ..record(2, true, 1.0)
        };
        let second = report(vec![record(1, true, 1.0), record(0, true, 0.5), failed]);
        let comparison = first.compare(&second);
        let [correct, f1] = &comparison.scores[..] else {
            panic!("{comparison:?}")
        };
        assert_eq!(
            (correct.n, correct.only_first, correct.only_second),
            (2, Some(0), Some(1))
        );
        close(correct.p_value, 1.0);
        close(f1.difference, 0.25);
        close(f1.stderr.unwrap(), 0.25);
        // One item differs, and its sign may be either.
        close(f1.p_value, 1.0);
        assert!(comparison.to_string().contains("0 : 1"));
    }

    #[test]
    fn other_data_is_not_compared() {
        let first = report(vec![record(0, true, 0.5)]);
        let mut second = first.clone();
        second.benchmarks[0].identity.data_hash = "x".to_owned();
        let comparison = first.compare(&second);
        assert!(comparison.scores.is_empty());
        assert_eq!(comparison.left_out.len(), 1);
    }
}
