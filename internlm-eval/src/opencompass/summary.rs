//! Figures of groups, as OpenCompass's summaries have them.

use crate::benchmark::Score;
use crate::error::Result;
use crate::metric::group::{Aggregate, aggregate};

/// The figures that a summary prefers, the most preferred first (`METRIC_WHITELIST`).
const PREFERRED: [&str; 12] = [
    "score",
    "auc_score",
    "accuracy",
    "humaneval_pass@1",
    "rouge1",
    "avg_toxicity_score",
    "bleurt_diff",
    "matthews_correlation",
    "truth",
    "f1",
    "exact_match",
    "extract_rate",
];

/// The figure of a task that stands in a summary: the most preferred, else the first.
pub fn main_score(scores: &[Score]) -> Option<&Score> {
    PREFERRED
        .iter()
        .find_map(|name| scores.iter().find(|score| score.metric == *name))
        .or(scores.first())
}

/// A member of a group: its figures, none if it was not evaluated, and its weight.
pub type Member<'a> = (Option<&'a [Score]>, Option<f64>);

/// The figure of a group: `naive_average` of the members' main figures, or `weighted_average` where members have
/// weights. None if a member was not evaluated.
///
/// # Errors
/// No members, or weights that add up to 0.
pub fn summarize(members: &[Member<'_>]) -> Result<Option<Score>> {
    let weighted = members.iter().any(|(_, weight)| weight.is_some());
    let mut values = Vec::with_capacity(members.len());
    let mut n = 0;
    for (scores, weight) in members {
        let Some(score) = scores.and_then(main_score) else {
            return Ok(None);
        };
        values.push((
            score.value,
            weight.unwrap_or(if weighted { 0.0 } else { 1.0 }),
        ));
        n += score.n;
    }
    let (metric, how) = if weighted {
        ("weighted_average", Aggregate::WeightedAverage)
    } else {
        ("naive_average", Aggregate::NaiveAverage)
    };
    Ok(Some(Score {
        metric: metric.into(),
        value: aggregate(how, &values)?,
        stderr: None,
        n,
        higher_is_better: true,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(metric: &str, value: f64) -> Score {
        Score {
            metric: metric.into(),
            value,
            stderr: None,
            n: 10,
            higher_is_better: true,
        }
    }

    #[test]
    fn groups_are_means_or_absent() {
        let first = [score("pass", 3.0), score("score", 30.0)];
        let second = [score("accuracy", 60.0)];
        let naive = summarize(&[(Some(&first), None), (Some(&second), None)])
            .unwrap()
            .unwrap();
        assert_eq!(
            (naive.metric.as_str(), naive.value, naive.n),
            ("naive_average", 45.0, 20)
        );
        let weighted = summarize(&[(Some(&first), Some(2.0)), (Some(&second), Some(1.0))]);
        let weighted = weighted.unwrap().unwrap();
        assert_eq!(
            (weighted.metric.as_str(), weighted.value),
            ("weighted_average", 40.0)
        );
        assert!(
            summarize(&[(Some(&first), None), (None, None)])
                .unwrap()
                .is_none()
        );
        assert!(summarize(&[]).is_err());
    }
}
