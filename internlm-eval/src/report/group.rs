//! Means over benchmarks.

use serde::{Deserialize, Serialize};

use super::BenchmarkReport;
use crate::metric::count;
use crate::metric::group::{Aggregate, aggregate};
use crate::metric::standard_error::pooled;

/// The means of a group. OpenCompass's is the naive one; lm-evaluation-harness weighs by items.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// The rule set of its members.
    pub rules: String,
    /// The metric that all members have, the headline of the first.
    pub metric: String,
    /// Names of the members that are in the run.
    pub members: Vec<String>,
    /// Items that were judged, over all members.
    pub items: usize,
    /// Items that failed, over all members.
    pub failed: usize,
    /// Each member counts the same; none if a member has no such figure.
    pub naive: Option<f64>,
    /// Each item counts the same.
    pub weighted: Option<f64>,
    /// The standard error of the weighted mean, pooled as lm-evaluation-harness pools it (`pooled_sample_stderr`).
    pub stderr: Option<f64>,
}

impl GroupReport {
    pub(super) fn decimals(&self) -> usize {
        if self.rules == "opencompass" { 2 } else { 4 }
    }
}

/// The groups that the benchmarks name, in the order in which they first name them. A group that has members of two
/// rule sets is two groups.
pub(super) fn groups(benchmarks: &[BenchmarkReport]) -> Vec<GroupReport> {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for benchmark in benchmarks {
        for group in &benchmark.identity.groups {
            let name = (group.as_str(), benchmark.identity.rules.as_str());
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let of_name = |(name, rules): (&str, &str)| {
        let has = |b: &&BenchmarkReport| {
            b.identity.rules == rules && b.identity.groups.iter().any(|g| g == name)
        };
        let members: Vec<&BenchmarkReport> = benchmarks.iter().filter(has).collect();
        group(name, rules, &members)
    };
    names.into_iter().map(of_name).collect()
}

fn group(name: &str, rules: &str, members: &[&BenchmarkReport]) -> GroupReport {
    let headline = members.iter().find_map(|member| member.headline());
    let metric = headline.map(|score| score.metric.clone());
    let score = |member: &&BenchmarkReport| {
        let mut scores = member.scores.iter();
        scores
            .find(|score| Some(&score.metric) == metric.as_ref())
            .cloned()
    };
    let scores: Option<Vec<_>> = members.iter().map(score).collect();
    let mut report = GroupReport {
        name: name.to_owned(),
        rules: rules.to_owned(),
        metric: metric.clone().unwrap_or_else(|| "-".to_owned()),
        members: members.iter().map(|member| member.name.clone()).collect(),
        items: members.iter().map(|member| member.judged).sum(),
        failed: members.iter().map(|member| member.failed).sum(),
        ..GroupReport::default()
    };
    if let Some(scores) = scores {
        let weighted: Vec<(f64, f64)> = scores.iter().map(|s| (s.value, count(s.n))).collect();
        report.naive = aggregate(Aggregate::NaiveAverage, &weighted).ok();
        report.weighted = aggregate(Aggregate::WeightedAverage, &weighted).ok();
        let errors: Option<Vec<(f64, usize)>> =
            scores.iter().map(|s| Some((s.stderr?, s.n))).collect();
        report.stderr = errors.and_then(|errors| pooled(&errors).ok());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::{Identity, Score};

    fn member(name: &str, value: f64, n: usize, rules: &str) -> BenchmarkReport {
        BenchmarkReport {
            name: name.to_owned(),
            identity: Identity {
                rules: rules.to_owned(),
                groups: vec!["g".to_owned()],
                ..Identity::default()
            },
            scores: vec![Score {
                metric: "acc".to_owned(),
                value,
                stderr: Some(0.1),
                n,
                higher_is_better: true,
            }],
            judged: n,
            ..BenchmarkReport::default()
        }
    }

    #[test]
    fn means_and_the_pooled_error() {
        let members = [
            member("a", 0.5, 10, "lm-eval"),
            member("b", 0.2, 30, "lm-eval"),
        ];
        let [group] = &groups(&members)[..] else {
            panic!("one group")
        };
        assert!((group.naive.unwrap() - 0.35).abs() < 1e-12);
        assert!((group.weighted.unwrap() - 0.275).abs() < 1e-12);
        // sqrt((9 * 0.01 * 10 + 29 * 0.01 * 30) / 38 / 40)
        let want = ((0.9 + 8.7) / 38.0 / 40.0_f64).sqrt();
        assert!((group.stderr.unwrap() - want).abs() < 1e-12);
        assert_eq!((group.items, group.members.len()), (40, 2));
    }

    #[test]
    fn a_member_without_a_figure_leaves_no_mean() {
        let mut failed = member("b", 0.0, 0, "lm-eval");
        failed.scores.clear();
        let group = &groups(&[member("a", 0.5, 10, "lm-eval"), failed])[0];
        assert_eq!((group.naive, group.weighted), (None, None));
    }

    #[test]
    fn rule_sets_are_not_mixed() {
        let members = [
            member("a", 0.5, 10, "lm-eval"),
            member("b", 50.0, 10, "opencompass"),
        ];
        assert_eq!(groups(&members).len(), 2);
    }
}
