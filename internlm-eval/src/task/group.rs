//! Groups of tasks: one figure for many.

use super::spec::{GroupSpec, GroupWeight};
use crate::benchmark::Score;

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
        let weight = |score: &Score| match group.weight {
            GroupWeight::Items => score.n as f64,
            GroupWeight::Equal => 1.0,
        };
        let total: f64 = found.iter().map(|score| weight(score)).sum();
        let value = found
            .iter()
            .map(|score| score.value * weight(score))
            .sum::<f64>()
            / total;
        let stderrs: Option<Vec<f64>> = found.iter().map(|score| score.stderr).collect();
        let stderr = stderrs.map(|stderrs| match group.weight {
            GroupWeight::Items => pooled(&stderrs, &found),
            GroupWeight::Equal => {
                stderrs.iter().map(|stderr| stderr * stderr).sum::<f64>().sqrt()
                    / stderrs.len() as f64
            }
        });
        summed.push(Score {
            metric: metric.clone(),
            value,
            stderr: stderr.filter(|stderr| stderr.is_finite()),
            n: found.iter().map(|score| score.n).sum(),
            higher_is_better: found[0].higher_is_better,
        });
    }
    summed
}

/// The standard error over all items, from those of the parts.
fn pooled(stderrs: &[f64], members: &[&Score]) -> f64 {
    let sizes: Vec<f64> = members.iter().map(|score| score.n as f64).collect();
    let total: f64 = sizes.iter().sum();
    let sum: f64 = stderrs
        .iter()
        .zip(&sizes)
        .map(|(stderr, size)| (size - 1.0) * stderr * stderr * size)
        .sum();
    (sum / (total - sizes.len() as f64) / total).sqrt()
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
        assert!((summed[0].stderr.unwrap() - 0.076_627_4).abs() < 1e-6, "{summed:?}");
        group.weight = GroupWeight::Equal;
        assert!((scores(&group, &[&a, &b])[0].value - 0.65).abs() < 1e-12);
    }
}
