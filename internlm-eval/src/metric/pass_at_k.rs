//! Estimates from repeated answers: n answers of which c are right.

use crate::error::{Error, Result};
use crate::metric::count;

/// The unbiased estimate of the chance that one of k answers is right (Chen et al., "Evaluating large language models
/// trained on code", 2021). 1 where fewer than k answers are wrong, so also for k > n.
///
/// # Errors
/// [`Error::Metric`] if more answers are right than there are.
pub fn pass_at_k(n: usize, c: usize, k: usize) -> Result<f64> {
    checked(n, c)?;
    if n - c < k {
        return Ok(1.0);
    }
    let all_wrong: f64 = (n - c + 1..=n).map(|i| 1.0 - count(k) / count(i)).product();
    Ok(1.0 - all_wrong)
}

/// G-Pass@k at the threshold tau: the chance that at least `max(1, ceil(k * tau))` of k answers are right (Liu et al.,
/// "Are your LLMs capable of stable reasoning?", 2024). 0 for k > n.
///
/// # Errors
/// [`Error::Metric`] if more answers are right than there are, or tau is not a number of at least 0.
pub fn g_pass_at_k(n: usize, c: usize, k: usize, tau: f64) -> Result<f64> {
    checked(n, c)?;
    if !(tau >= 0.0 && tau.is_finite()) {
        return Err(Error::metric("g_pass_at_k", "the threshold is negative"));
    }
    let least = ceil(count(k) * tau).max(1);
    Ok(at_least(n, c, k, least))
}

/// mG-Pass@k: twice the area under G-Pass@k over tau from one half to one.
///
/// # Errors
/// [`Error::Metric`] if more answers are right than there are, or k is 0.
pub fn mg_pass_at_k(n: usize, c: usize, k: usize) -> Result<f64> {
    checked(n, c)?;
    if k == 0 {
        return Err(Error::metric("mg_pass_at_k", "k is 0"));
    }
    let sum: f64 = (k.div_ceil(2) + 1..=k)
        .map(|least| at_least(n, c, k, least))
        .sum();
    Ok(2.0 * sum / count(k))
}

fn checked(n: usize, c: usize) -> Result<()> {
    if c > n {
        return Err(Error::metric(
            "pass_at_k",
            "more answers are right than there are",
        ));
    }
    Ok(())
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and any number above k gives 0"
)]
fn ceil(x: f64) -> usize {
    x.ceil() as usize
}

/// The upper tail of the hypergeometric distribution.
fn at_least(n: usize, c: usize, k: usize, least: usize) -> f64 {
    if least > c.min(k) || k > n || n == 0 {
        return 0.0;
    }
    let choices = ln_binomial(n, k);
    let first = least.max((c + k).saturating_sub(n));
    let tail = (first..=c.min(k))
        .map(|right| (ln_binomial(c, right) + ln_binomial(n - c, k - right) - choices).exp());
    tail.sum::<f64>().min(1.0)
}

fn ln_binomial(n: usize, k: usize) -> f64 {
    let k = k.min(n - k);
    (1..=k).map(|i| (count(n - k + i) / count(i)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!(pass_at_k(3, 0, 1).unwrap(), 0.0);
        assert_eq!(pass_at_k(3, 1, 5).unwrap(), 1.0);
        assert_eq!(g_pass_at_k(3, 3, 5, 0.5).unwrap(), 0.0);
        assert!((g_pass_at_k(4, 2, 2, 1.0).unwrap() - 1.0 / 6.0).abs() < 1e-12);
        assert!(pass_at_k(1, 2, 1).is_err());
        assert!(g_pass_at_k(1, 1, 1, f64::NAN).is_err());
        assert!(mg_pass_at_k(1, 1, 0).is_err());
    }

    #[test]
    fn one_right_of_k_is_pass_at_k() {
        for c in 0..=10 {
            for k in 1..=10 {
                let (a, b) = (
                    pass_at_k(10, c, k).unwrap(),
                    g_pass_at_k(10, c, k, 0.0).unwrap(),
                );
                assert!((a - b).abs() < 1e-12, "{c} {k}");
            }
        }
    }
}
