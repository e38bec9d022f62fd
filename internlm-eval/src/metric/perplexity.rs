//! Perplexities from log-likelihoods, weighted over the items: the sum of the log-likelihoods by the sum of the units.

use crate::error::{Error, Result};
use crate::metric::count;
use crate::python_text::is_space;

/// The words of a text as lm-evaluation-harness counts them: the parts between runs of blanks, so that a blank at either
/// end adds an empty word.
pub fn word_count(text: &str) -> usize {
    let mut words = 1;
    let mut in_blanks = false;
    for c in text.chars() {
        let blank = is_space(c);
        if blank && !in_blanks {
            words += 1;
        }
        in_blanks = blank;
    }
    words
}

/// Nats per unit: the mean negative log-likelihood of one word or byte. Each item is a log-likelihood and its units.
///
/// # Errors
/// [`Error::Metric`] if there are no units.
pub fn nats_per_unit(items: &[(f64, usize)]) -> Result<f64> {
    let units: usize = items.iter().map(|&(_, units)| units).sum();
    if units == 0 {
        return Err(Error::metric("perplexity", "there are no units"));
    }
    let loglikelihood: f64 = items.iter().map(|&(loglikelihood, _)| loglikelihood).sum();
    Ok(-loglikelihood / count(units))
}

/// `word_perplexity` or `byte_perplexity`, by what the units are.
///
/// # Errors
/// [`Error::Metric`] if there are no units.
pub fn per_unit(items: &[(f64, usize)]) -> Result<f64> {
    nats_per_unit(items).map(f64::exp)
}

/// `bits_per_byte`; the units are bytes of UTF-8.
///
/// # Errors
/// [`Error::Metric`] if there are no units.
pub fn bits_per_byte(items: &[(f64, usize)]) -> Result<f64> {
    nats_per_unit(items).map(|nats| nats / std::f64::consts::LN_2)
}

/// `perplexity` of LAMBADA: the exponential of the mean negative log-likelihood of an item.
///
/// # Errors
/// [`Error::Metric`] if there are no items.
pub fn per_item(loglikelihoods: &[f64]) -> Result<f64> {
    crate::metric::mean(loglikelihoods).map(|mean| (-mean).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_lies_between_blanks() {
        assert_eq!(word_count(""), 1);
        assert_eq!(word_count("a  b\nc"), 3);
        assert_eq!(word_count(" a "), 3);
    }

    #[test]
    fn long_items_weigh_more() {
        let items = [(-2.0, 1), (-2.0, 3)];
        assert_eq!(nats_per_unit(&items).unwrap(), 1.0);
        assert!((bits_per_byte(&items).unwrap() - 1.0 / std::f64::consts::LN_2).abs() < 1e-12);
        assert_eq!(per_item(&[-1.0, -3.0]).unwrap(), 2_f64.exp());
        assert!(per_unit(&[]).is_err());
    }
}
