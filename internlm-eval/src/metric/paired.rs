//! Two runs over the same items: is one better, or was it luck?

use crate::error::{Error, Result};
use crate::metric::standard_error::{self, Generator};
use crate::metric::{count, mean};

/// Up to this many differing items the permutation test goes through all signs.
const EXACT_ITEMS: usize = 16;

/// A comparison of two runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The mean of the second run minus that of the first.
    pub difference: f64,
    /// Its standard error, from the differences per item; `None` for fewer than two items.
    pub stderr: Option<f64>,
    /// The chance of a difference at least as large, were the runs alike (two-sided).
    pub p_value: f64,
    /// Items.
    pub n: usize,
}

/// McNemar's exact test, for items that are right or wrong: a binomial test over the items on which the runs differ.
///
/// # Errors
/// [`Error::Metric`] for no items or runs of different lengths.
pub fn mcnemar(first: &[bool], second: &[bool]) -> Result<Comparison> {
    let numbers = |run: &[bool]| {
        run.iter()
            .map(|&right| f64::from(u8::from(right)))
            .collect::<Vec<_>>()
    };
    let differences = differences(&numbers(first), &numbers(second))?;
    let gained = differences.iter().filter(|&&d| d > 0.0).count();
    let lost = differences.iter().filter(|&&d| d < 0.0).count();
    Ok(comparison(&differences, binomial_two_sided(gained, lost)))
}

/// A test for numbers: the signs of the differences are flipped at random (all ways, if few items differ). `draws`
/// bounds the number of random flips; the p-value counts the observed assignment as one of them, so it is never 0.
///
/// # Errors
/// [`Error::Metric`] for no items or runs of different lengths.
pub fn permutation(first: &[f64], second: &[f64], draws: usize) -> Result<Comparison> {
    let differences = differences(first, second)?;
    let moving: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let observed = moving.iter().sum::<f64>().abs();
    let scale: f64 = moving.iter().map(|d| d.abs()).sum();
    // Sums that differ by rounding alone are equal.
    let as_large = |sum: f64| sum.abs() >= observed - 1e-12 * scale;
    let signed = |bits: u64| -> f64 {
        let flipped = |i: usize| bits >> i & 1 == 1;
        moving
            .iter()
            .enumerate()
            .map(|(i, d)| if flipped(i) { -d } else { *d })
            .sum()
    };
    let p_value = if moving.len() <= EXACT_ITEMS {
        let all = 1_u64 << moving.len();
        let hits = (0..all).filter(|&bits| as_large(signed(bits))).count();
        count(hits) / count(usize::try_from(all).unwrap_or(usize::MAX))
    } else {
        let mut generator = Generator::new(0);
        let hits = (0..draws)
            .filter(|_| as_large(random_signs(&moving, &mut generator)))
            .count();
        count(hits + 1) / count(draws + 1)
    };
    Ok(comparison(&differences, p_value))
}

fn random_signs(values: &[f64], generator: &mut Generator) -> f64 {
    let mut sum = 0.0;
    for chunk in values.chunks(64) {
        let bits = generator.next();
        for (i, value) in chunk.iter().enumerate() {
            sum += if bits >> i & 1 == 1 { -value } else { *value };
        }
    }
    sum
}

/// A bootstrap interval of the difference: the quantiles that leave `1 - level` outside, half on each side.
///
/// # Errors
/// [`Error::Metric`] for fewer than two items or draws, runs of different lengths, or a level outside 0 to 1.
pub fn bootstrap_interval(
    first: &[f64],
    second: &[f64],
    draws: usize,
    level: f64,
) -> Result<(f64, f64)> {
    if !(0.0..1.0).contains(&level) {
        return Err(Error::metric(
            "interval",
            "the level is not between 0 and 1",
        ));
    }
    let differences = differences(first, second)?;
    let mut values = standard_error::replicates(differences.len(), draws, |indices| {
        indices.iter().map(|&i| differences[i]).sum::<f64>() / count(indices.len())
    })?;
    values.sort_unstable_by(f64::total_cmp);
    let outside = (1.0 - level) / 2.0;
    Ok((quantile(&values, outside), quantile(&values, 1.0 - outside)))
}

/// Between the two nearest of sorted values, as numpy has it by default.
fn quantile(sorted: &[f64], at: f64) -> f64 {
    let position = at * count(sorted.len() - 1);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let below = (position as usize).min(sorted.len() - 1);
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * (position - count(below))
}

fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>> {
    if first.len() != second.len() || first.is_empty() {
        return Err(Error::metric(
            "paired test",
            "the runs do not cover the same items",
        ));
    }
    Ok(first.iter().zip(second).map(|(a, b)| b - a).collect())
}

fn comparison(differences: &[f64], p_value: f64) -> Comparison {
    Comparison {
        difference: mean(differences).unwrap_or_default(),
        stderr: standard_error::of_mean(differences).ok(),
        p_value,
        n: differences.len(),
    }
}

/// The chance that a fair coin falls at least as unevenly.
fn binomial_two_sided(a: usize, b: usize) -> f64 {
    let n = a + b;
    let mut ln_term = -count(n) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for i in 0..=a.min(b) {
        tail += ln_term.exp();
        ln_term += (count(n - i) / count(i + 1)).ln();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_is_a_binomial_test() {
        let first: Vec<bool> = (0..20).map(|i| i < 10).collect();
        let second: Vec<bool> = (0..20).map(|i| i < 17 && i != 0).collect();
        let got = mcnemar(&first, &second).unwrap();
        // 7 gained, 1 lost: 2 * (1 + 8) / 2^8.
        assert!((got.p_value - 18.0 / 256.0).abs() < 1e-12);
        assert!((got.difference - 0.3).abs() < 1e-12);
        assert_eq!(mcnemar(&first, &first).unwrap().p_value, 1.0);
        assert!(mcnemar(&first, &second[..3]).is_err());
    }

    #[test]
    fn few_items_are_permuted_in_every_way() {
        let got = permutation(&[0.0; 4], &[1.0, 2.0, 3.0, 4.0], 10).unwrap();
        assert_eq!(got.p_value, 2.0 / 16.0);
        assert_eq!(permutation(&[1.0; 3], &[1.0; 3], 10).unwrap().p_value, 1.0);
    }

    #[test]
    fn many_items_are_permuted_at_random_and_reproducibly() {
        let first: Vec<f64> = (0..100_u32).map(|i| f64::from(i % 5)).collect();
        let second: Vec<f64> = first.iter().map(|x| x + 1.0).collect();
        let got = permutation(&first, &second, 999).unwrap();
        assert_eq!(got, permutation(&first, &second, 999).unwrap());
        assert_eq!(got.p_value, 1.0 / 1000.0);
        let (low, high) = bootstrap_interval(&first, &second, 200, 0.95).unwrap();
        assert_eq!((low, high), (1.0, 1.0));
        assert!(bootstrap_interval(&first, &second, 200, 1.5).is_err());
    }
}
