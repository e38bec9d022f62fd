//! Figures of a group of tasks.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::metric::{count, mean};

/// How the members' scores become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Their plain mean.
    #[default]
    NaiveAverage,
    /// Their mean weighted by each member's weight; members of weight 0 are left out even if not a number.
    WeightedAverage,
    /// Their standard deviation, n below.
    StandardDeviation,
    /// Their sum (weighted, where there are weights).
    Sum,
    /// Their harmonic mean. As in OpenCompass, scores are per cent and one that is not positive makes every score below
    /// 1 count as 1.
    HarmonicMean,
}

/// One figure of the members' scores and weights.
///
/// # Errors
/// [`Error::Metric`] for no members or weights that add up to 0.
pub fn aggregate(how: Aggregate, members: &[(f64, f64)]) -> Result<f64> {
    let scores: Vec<f64> = members.iter().map(|&(score, _)| score).collect();
    let mean = mean(&scores)?;
    let weighted = || -> f64 {
        let counted = members.iter().filter(|(_, weight)| *weight != 0.0);
        counted.map(|(score, weight)| score * weight).sum()
    };
    Ok(match how {
        Aggregate::NaiveAverage => mean,
        Aggregate::WeightedAverage => {
            let weights: f64 = members.iter().map(|&(_, weight)| weight).sum();
            if weights == 0.0 {
                return Err(Error::metric("weighted_average", "the weights add up to 0"));
            }
            weighted() / weights
        }
        Aggregate::StandardDeviation => {
            let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
            (squares / count(scores.len())).sqrt()
        }
        Aggregate::Sum => weighted(),
        Aggregate::HarmonicMean => {
            let floor = if scores.iter().any(|&score| score <= 0.0) {
                1.0
            } else {
                0.0
            };
            let inverses: f64 = scores.iter().map(|score| 1.0 / score.max(floor)).sum();
            count(scores.len()) / inverses
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(how: Aggregate, members: &[(f64, f64)], want: f64) {
        let got = aggregate(how, members).unwrap();
        assert!((got - want).abs() < 1e-12, "{got}");
    }

    #[test]
    fn figures() {
        let members = [(20.0, 1.0), (80.0, 3.0)];
        check(Aggregate::NaiveAverage, &members, 50.0);
        check(Aggregate::WeightedAverage, &members, 65.0);
        check(Aggregate::StandardDeviation, &members, 30.0);
        check(Aggregate::Sum, &members, 260.0);
        check(Aggregate::HarmonicMean, &members, 32.0);
        check(Aggregate::HarmonicMean, &[(0.0, 1.0), (1.0, 1.0)], 1.0);
        check(
            Aggregate::WeightedAverage,
            &[(f64::NAN, 0.0), (2.0, 1.0)],
            2.0,
        );
        assert!(aggregate(Aggregate::NaiveAverage, &[]).is_err());
        assert!(aggregate(Aggregate::WeightedAverage, &[(1.0, 0.0)]).is_err());
    }
}
