//! Means over benchmarks.

use serde::{Deserialize, Serialize};

use super::BenchmarkReport;
use crate::benchmark::{GroupMean, Membership, Score};
use crate::opencompass::{main_score, summarize};
use crate::task::group::scores;
use crate::task::spec::{GroupSpec, GroupWeight};

/// The means of a group's members by one metric, over those that are in the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupReport {
    /// Its name.
    pub name: String,
    /// The rule set of its members.
    pub rules: String,
    /// The metric. OpenCompass takes the headline of each member; where they differ all their names stand here.
    pub metric: String,
    /// Names of the members that are in the run.
    pub members: Vec<String>,
    /// Names of members by the rule set that are not.
    pub absent: Vec<String>,
    /// Items that were judged, over all members.
    pub items: usize,
    /// Items that failed, over all members.
    pub failed: usize,
    /// Each member counts the same; none if a member has no such figure.
    pub naive: Option<f64>,
    /// The standard error of the naive mean (lm-evaluation-harness's of an unweighted mean).
    pub naive_stderr: Option<f64>,
    /// Each item counts the same, or each member by the weight that the rule set gives it (GAOKAO-Bench).
    pub weighted: Option<f64>,
    /// The standard error of the weighted mean, pooled as lm-evaluation-harness pools it (`pooled_sample_stderr`);
    /// none where the rule set gives weights.
    pub stderr: Option<f64>,
    /// Which of the two the rule set itself gives of the group. None where it gives none, as for the tags of
    /// lm-evaluation-harness, and where members are absent: neither rule set gives a figure for a part.
    pub own: Option<GroupMean>,
}

impl GroupReport {
    /// The mean that the rule set gives, else the weighted one, with its standard error.
    pub fn figure(&self) -> Option<(f64, Option<f64>)> {
        match self.own {
            Some(GroupMean::Naive) => self.naive.map(|value| (value, self.naive_stderr)),
            _ => self.weighted.map(|value| (value, self.stderr)),
        }
    }

    /// The name of that mean.
    pub(super) fn figure_name(&self) -> &'static str {
        match self.own {
            Some(GroupMean::Naive) => "naive",
            _ => "weighted",
        }
    }

    pub(super) fn decimals(&self) -> usize {
        if self.rules == "opencompass" { 2 } else { 4 }
    }
}

/// A benchmark of a group and what it says about the group.
type Part<'a> = (&'a BenchmarkReport, &'a Membership);

/// The groups that the benchmarks name, in the order in which they first name them, a report for each metric. A group
/// that has members of two rule sets is two groups.
pub(super) fn groups(
    benchmarks: &[BenchmarkReport],
    memberships: &[Vec<Membership>],
) -> Vec<GroupReport> {
    let all = || {
        benchmarks.iter().zip(memberships).flat_map(|(report, of)| {
            of.iter()
                .map(move |membership| -> Part<'_> { (report, membership) })
        })
    };
    let mut names: Vec<(&str, &str)> = Vec::new();
    for (report, membership) in all() {
        let name = (membership.group.as_str(), report.identity.rules.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut groups = Vec::new();
    for (name, rules) in names {
        let parts: Vec<Part<'_>> = all()
            .filter(|(report, of)| of.group == name && report.identity.rules == rules)
            .collect();
        let mut metrics: Vec<Option<&str>> = Vec::new();
        // OpenCompass sums up the headlines, whatever they are.
        if rules != "opencompass" {
            for metric in parts.iter().flat_map(|(_, of)| &of.metrics) {
                if !metrics.contains(&Some(metric)) {
                    metrics.push(Some(metric));
                }
            }
        }
        if metrics.is_empty() {
            metrics.push(None);
        }
        for metric in metrics {
            groups.push(group(name, rules, metric, &parts));
        }
    }
    groups
}

fn group(name: &str, rules: &str, metric: Option<&str>, parts: &[Part<'_>]) -> GroupReport {
    let headline = || {
        let mut headlines = parts.iter().filter_map(|(report, _)| report.headline());
        headlines.next().map(|score| score.metric.clone())
    };
    let metric = metric.map(str::to_owned).or_else(headline);
    let mut absent: Vec<String> = Vec::new();
    for member in parts.iter().flat_map(|(_, of)| &of.members) {
        if !absent.contains(member) && parts.iter().all(|(report, _)| report.name != *member) {
            absent.push(member.clone());
        }
    }
    let own = parts.iter().find_map(|(_, of)| of.mean);
    let mut group = GroupReport {
        name: name.to_owned(),
        rules: rules.to_owned(),
        metric: metric.clone().unwrap_or_else(|| "-".to_owned()),
        members: parts
            .iter()
            .map(|(report, _)| report.name.clone())
            .collect(),
        own: own.filter(|_| absent.is_empty()),
        absent,
        items: parts.iter().map(|(report, _)| report.judged).sum(),
        failed: parts.iter().map(|(report, _)| report.failed).sum(),
        ..GroupReport::default()
    };
    match rules {
        "opencompass" => headlines(&mut group, parts),
        _ => of_metric(&mut group, metric, parts),
    }
    if group.figure().is_none() {
        group.own = None;
    }
    group
}

/// The means of one metric, by the rule of lm-evaluation-harness.
fn of_metric(group: &mut GroupReport, metric: Option<String>, parts: &[Part<'_>]) {
    let members: Vec<&[Score]> = parts.iter().map(|(report, _)| &report.scores[..]).collect();
    let mean = |weight| {
        let summed = GroupSpec {
            name: group.name.clone(),
            metrics: metric.iter().cloned().collect(),
            weight,
        };
        scores(&summed, &members).pop()
    };
    let (naive, weighted) = (mean(GroupWeight::Equal), mean(GroupWeight::Items));
    group.naive = naive.as_ref().map(|score| score.value);
    group.naive_stderr = naive.and_then(|score| score.stderr);
    group.weighted = weighted.as_ref().map(|score| score.value);
    group.stderr = weighted.and_then(|score| score.stderr);
}

/// The means of the members' headlines, by the rule of OpenCompass's summaries.
fn headlines(group: &mut GroupReport, parts: &[Part<'_>]) {
    let mut names: Vec<&str> = Vec::new();
    for (report, _) in parts {
        if let Some(score) = main_score(&report.scores)
            && !names.contains(&score.metric.as_str())
        {
            names.push(&score.metric);
        }
    }
    if !names.is_empty() {
        group.metric = names.join("/");
    }
    let given = parts.iter().any(|(_, of)| of.weight.is_some());
    let mean = |weighted: bool| {
        let members: Vec<_> = parts
            .iter()
            .map(|(report, of)| {
                let scores = main_score(&report.scores).map(std::slice::from_ref);
                let items = scores.map(|scores| crate::metric::count(scores[0].n));
                let weight = if given { of.weight } else { items };
                (scores, weight.filter(|_| weighted))
            })
            .collect();
        let summed = summarize(&members).ok().flatten();
        summed.map(|score| score.value)
    };
    group.naive = mean(false);
    group.weighted = mean(true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::benchmark::Identity;

    fn member(name: &str, metric: &str, value: f64, n: usize, rules: &str) -> BenchmarkReport {
        BenchmarkReport {
            name: name.to_owned(),
            identity: Identity {
                rules: rules.to_owned(),
                ..Identity::default()
            },
            scores: vec![Score {
                metric: metric.to_owned(),
                value,
                stderr: Some(0.1),
                n,
                higher_is_better: true,
            }],
            judged: n,
            ..BenchmarkReport::default()
        }
    }

    /// Each is a member of the group `g` of these members.
    fn in_group(
        benchmarks: &[BenchmarkReport],
        mean: Option<GroupMean>,
        weights: &[f64],
        members: &[&str],
    ) -> Vec<GroupReport> {
        let memberships: Vec<Vec<Membership>> = (0..benchmarks.len())
            .map(|number| {
                vec![Membership {
                    group: "g".to_owned(),
                    metrics: Vec::new(),
                    mean,
                    weight: weights.get(number).copied(),
                    members: members.iter().map(|&name| name.to_owned()).collect(),
                }]
            })
            .collect();
        groups(benchmarks, &memberships)
    }

    #[test]
    fn means_and_the_pooled_error() {
        let members = [
            member("a", "acc", 0.5, 10, "lm-eval"),
            member("b", "acc", 0.2, 30, "lm-eval"),
        ];
        let groups = in_group(&members, Some(GroupMean::Weighted), &[], &["a", "b"]);
        let [group] = &groups[..] else {
            panic!("one group")
        };
        assert!((group.naive.unwrap() - 0.35).abs() < 1e-12);
        assert!((group.weighted.unwrap() - 0.275).abs() < 1e-12);
        // sqrt((9 * 0.01 * 10 + 29 * 0.01 * 30) / 38 / 40)
        let want = ((0.9 + 8.7) / 38.0 / 40.0_f64).sqrt();
        assert!((group.stderr.unwrap() - want).abs() < 1e-12);
        assert!((group.naive_stderr.unwrap() - 0.02_f64.sqrt() / 2.0).abs() < 1e-12);
        assert_eq!((group.items, group.members.len()), (40, 2));
        assert_eq!(
            group.figure(),
            Some((group.weighted.unwrap(), group.stderr))
        );
    }

    #[test]
    fn each_metric_of_a_group_is_summed_up() {
        let mut members = [
            member("a", "acc", 0.5, 10, "lm-eval"),
            member("b", "acc", 0.2, 30, "lm-eval"),
        ];
        for (member, value) in members.iter_mut().zip([0.7, 0.3]) {
            let norm = Score {
                metric: "acc_norm".to_owned(),
                value,
                ..member.scores[0].clone()
            };
            member.scores.push(norm);
        }
        let membership = Membership {
            group: "g".to_owned(),
            metrics: vec!["acc".to_owned(), "acc_norm".to_owned()],
            mean: Some(GroupMean::Weighted),
            ..Membership::default()
        };
        let groups = groups(&members, &[vec![membership.clone()], vec![membership]]);
        let metrics: Vec<&str> = groups.iter().map(|group| group.metric.as_str()).collect();
        assert_eq!(metrics, ["acc", "acc_norm"]);
        assert!((groups[1].weighted.unwrap() - 0.4).abs() < 1e-12);
    }

    #[test]
    fn open_compass_sums_up_headlines() {
        let members = [
            member("a", "accuracy", 30.0, 10, "opencompass"),
            member("b", "score", 60.0, 30, "opencompass"),
        ];
        let group = &in_group(&members, Some(GroupMean::Naive), &[], &["b", "a"])[0];
        assert_eq!(group.metric, "accuracy/score");
        assert_eq!(
            (group.naive, group.weighted, group.own),
            (Some(45.0), Some(52.5), Some(GroupMean::Naive))
        );
        // With the weights of the rule set in place of numbers of items.
        let weights = [2.0, 1.0];
        let group = &in_group(&members, Some(GroupMean::Weighted), &weights, &["b", "a"])[0];
        assert_eq!((group.naive, group.weighted), (Some(45.0), Some(40.0)));
        assert_eq!(group.figure(), Some((40.0, None)));
    }

    #[test]
    fn a_part_of_a_group_has_no_figure_of_the_rule_set() {
        let members = [member("a", "acc", 0.5, 10, "lm-eval")];
        let group = &in_group(&members, Some(GroupMean::Naive), &[], &["a", "b"])[0];
        assert_eq!(
            (&group.absent[..], group.own),
            (&["b".to_owned()][..], None)
        );
        assert_eq!(group.weighted, Some(0.5));
    }

    #[test]
    fn a_member_without_a_figure_leaves_no_mean() {
        let mut failed = member("b", "acc", 0.0, 0, "lm-eval");
        failed.scores.clear();
        let members = [member("a", "acc", 0.5, 10, "lm-eval"), failed];
        let group = &in_group(&members, Some(GroupMean::Naive), &[], &[])[0];
        assert_eq!((group.naive, group.weighted, group.own), (None, None, None));
    }

    #[test]
    fn rule_sets_are_not_mixed() {
        let members = [
            member("a", "acc", 0.5, 10, "lm-eval"),
            member("b", "accuracy", 50.0, 10, "opencompass"),
        ];
        assert_eq!(in_group(&members, None, &[], &[]).len(), 2);
    }
}
