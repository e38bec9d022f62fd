//! Groups of tasks: one figure for many.

use std::sync::Arc;

use super::builtin;
use super::spec::{GroupSpec, GroupWeight, TaskSpec};
use crate::benchmark::{GroupMean, Membership, Score};
use crate::error::Result;
use crate::item::Row;
use crate::metric::group::{Aggregate, aggregate};
use crate::metric::standard_error;

/// Sums up the figures of a group's members, by the rule of lm-evaluation-harness (`aggregate_subtask_metrics`,
/// `pooled_sample_stderr`). A metric that a member lacks is left out.
pub fn scores(group: &GroupSpec, members: &[&[Score]]) -> Vec<Score> {
    let mut summed = Vec::new();
    for metric in &group.metrics {
        let found: Vec<&Score> = members
            .iter()
            .filter_map(|scores| scores.iter().find(|score| score.metric == *metric))
            .collect();
        if found.is_empty() || found.len() < members.len() {
            continue;
        }
        let errors: Option<Vec<(f64, usize)>> = found
            .iter()
            .map(|score| score.stderr.map(|stderr| (stderr, score.n)))
            .collect();
        let (how, stderr) = match group.weight {
            GroupWeight::Items => (
                Aggregate::WeightedAverage,
                errors.and_then(|errors| standard_error::pooled(&errors).ok()),
            ),
            GroupWeight::Equal => (
                Aggregate::NaiveAverage,
                errors.and_then(|errors| {
                    let errors: Vec<f64> = errors.iter().map(|(stderr, _)| *stderr).collect();
                    standard_error::of_unweighted_mean(&errors).ok()
                }),
            ),
        };
        let weighted: Vec<(f64, f64)> = found
            .iter()
            .map(|score| (score.value, score.n as f64))
            .collect();
        if let Ok(value) = aggregate(how, &weighted) {
            summed.push(Score {
                metric: metric.clone(),
                value,
                stderr,
                n: found.iter().map(|score| score.n).sum(),
                higher_is_better: found[0].higher_is_better,
            });
        }
    }
    summed
}

/// What a task says about each of its groups.
pub(super) fn memberships(
    spec: &Arc<TaskSpec>,
    subset: Option<&Row>,
    groups: &[String],
) -> Result<Vec<Membership>> {
    let weight = subset.and_then(builtin::weight_of);
    let of = |group: &String| {
        let summed = spec.group_specs.iter().find(|summed| summed.name == *group);
        let mean = summed.map(|summed| match (summed.weight, weight) {
            (GroupWeight::Equal, None) => GroupMean::Naive,
            _ => GroupMean::Weighted,
        });
        let members = builtin::group_members(spec, group)?.into_iter();
        Ok(Membership {
            group: group.clone(),
            metrics: summed
                .map(|summed| summed.metrics.clone())
                .unwrap_or_default(),
            mean,
            weight,
            members: members.map(|(name, _)| name).collect(),
        })
    };
    groups.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(value: f64, stderr: f64, n: usize) -> Score {
        Score {
            metric: "acc".to_owned(),
            value,
            stderr: Some(stderr),
            n,
            higher_is_better: true,
        }
    }

    #[test]
    fn by_items_and_equal() {
        let (a, b) = ([score(0.5, 0.1, 30)], [score(0.8, 0.05, 10)]);
        let mut group = GroupSpec {
            name: "g".to_owned(),
            metrics: vec!["acc".to_owned(), "absent".to_owned()],
            weight: GroupWeight::Items,
        };
        let summed = scores(&group, &[&a, &b]);
        assert_eq!(summed.len(), 1);
        assert!((summed[0].value - 0.575).abs() < 1e-12);
        // ((29*0.01*30 + 9*0.0025*10) / 38 / 40) ** 0.5
        assert!(
            (summed[0].stderr.unwrap() - 0.076_627_4).abs() < 1e-6,
            "{summed:?}"
        );
        group.weight = GroupWeight::Equal;
        assert!((scores(&group, &[&a, &b])[0].value - 0.65).abs() < 1e-12);
    }
}
