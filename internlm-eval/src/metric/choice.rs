//! Multiple choice by log-likelihood, as lm-evaluation-harness scores it.

use crate::error::{Error, Result};
use crate::metric::count;

/// What is known of one choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice<'a> {
    /// The choice's text, without the delimiter before it.
    pub text: &'a str,
    /// Its log-likelihood after the context, nats.
    pub loglikelihood: f64,
}

/// The choice that each rule picks, by index; the first one of equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picks {
    /// By log-likelihood: `acc`.
    pub plain: usize,
    /// By log-likelihood per character: `acc_norm`.
    pub per_character: usize,
    /// By log-likelihood per byte of UTF-8: `acc_bytes`.
    pub per_byte: usize,
}

/// Picks a choice by each rule.
///
/// # Errors
/// [`Error::Metric`] for no choices. An empty text has length zero: its score per character is minus infinity.
pub fn picks(choices: &[Choice<'_>]) -> Result<Picks> {
    let by = |length: fn(&str) -> usize| {
        let scores = choices
            .iter()
            .map(|choice| choice.loglikelihood / count(length(choice.text)));
        argmax(scores)
    };
    let no_choices = || Error::metric("acc", "there are no choices");
    Ok(Picks {
        plain: argmax(choices.iter().map(|choice| choice.loglikelihood)).ok_or_else(no_choices)?,
        per_character: by(|text| text.chars().count()).ok_or_else(no_choices)?,
        per_byte: by(str::len).ok_or_else(no_choices)?,
    })
}

/// The choice with the largest gain over its log-likelihood without a context (`acc_mutual_info`).
///
/// # Errors
/// [`Error::Metric`] for no choices or lists of different lengths.
pub fn mutual_information(conditional: &[f64], unconditional: &[f64]) -> Result<usize> {
    if conditional.len() != unconditional.len() {
        return Err(Error::metric(
            "acc_mutual_info",
            "there are not as many scores without a context as with one",
        ));
    }
    let gains = conditional
        .iter()
        .zip(unconditional)
        .map(|(with, without)| with - without);
    argmax(gains).ok_or_else(|| Error::metric("acc_mutual_info", "there are no choices"))
}

/// The share of the true choices in the probability of all (TruthfulQA's `mc2`). The log-likelihoods are not normalised
/// by length.
///
/// # Errors
/// [`Error::Metric`] for lists of different lengths or no choices.
pub fn true_share(loglikelihoods: &[f64], is_true: &[bool]) -> Result<f64> {
    if loglikelihoods.len() != is_true.len() || loglikelihoods.is_empty() {
        return Err(Error::metric(
            "mc2",
            "every choice needs a score and a label",
        ));
    }
    let most = loglikelihoods
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let weights = loglikelihoods.iter().map(|ll| (ll - most).exp());
    let (mut all, mut right) = (0.0, 0.0);
    for (weight, &is_true) in weights.zip(is_true) {
        all += weight;
        if is_true {
            right += weight;
        }
    }
    Ok(right / all)
}

/// Probabilities in proportion to `exp` of log-likelihoods.
pub fn softmax(loglikelihoods: &[f64]) -> Vec<f64> {
    let most = loglikelihoods
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = loglikelihoods.iter().map(|ll| (ll - most).exp()).collect();
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / all).collect()
}

/// The Brier score over several classes: the mean over items of the summed squared errors of the probabilities. Each
/// item is the index of the right class and a probability per class.
///
/// # Errors
/// [`Error::Metric`] for no items, a class out of range, or items with different numbers of classes (the reference
/// wants a rectangle).
pub fn brier(items: &[(usize, Vec<f64>)]) -> Result<f64> {
    let Some((_, first)) = items.first() else {
        return Err(Error::metric("brier_score", "there are no items"));
    };
    let mut sum = 0.0;
    for (gold, probabilities) in items {
        if *gold >= probabilities.len() {
            return Err(Error::metric(
                "brier_score",
                "the right class is out of range",
            ));
        }
        if probabilities.len() != first.len() {
            return Err(Error::metric(
                "brier_score",
                "items differ in their number of classes",
            ));
        }
        let errors = probabilities
            .iter()
            .enumerate()
            .map(|(class, probability)| {
                let target = if class == *gold { 1.0 } else { 0.0 };
                (probability - target).powi(2)
            });
        sum += errors.sum::<f64>();
    }
    Ok(sum / count(items.len()))
}

/// The first of the largest; a NaN wins, as with `numpy.argmax`.
pub fn argmax(values: impl IntoIterator<Item = f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.into_iter().enumerate() {
        let better = match best {
            None => true,
            Some((_, most)) => !most.is_nan() && (value > most || value.is_nan()),
        };
        if better {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters_or_bytes() {
        let choice = |text, loglikelihood| Choice {
            text,
            loglikelihood,
        };
        let picked = picks(&[
            choice("ab", -2.1),
            choice("中文字", -3.3),
            choice("a", -1.9),
        ]);
        let want = Picks {
            plain: 2,
            per_character: 0,
            per_byte: 1,
        };
        assert_eq!(picked.unwrap(), want);
        assert!(picks(&[]).is_err());
    }

    #[test]
    fn ties_go_to_the_first() {
        assert_eq!(argmax([1.0, 1.0]), Some(0));
        assert_eq!(argmax([1.0, f64::NAN, 2.0]), Some(1));
        assert_eq!(argmax([f64::NEG_INFINITY]), Some(0));
        assert_eq!(mutual_information(&[-1.0, -2.0], &[-1.0, -4.0]).unwrap(), 1);
    }

    #[test]
    fn probabilities_and_their_errors() {
        assert_eq!(softmax(&[-1000.0, -1000.0]), [0.5, 0.5]);
        let share = true_share(&[-1.0, -1.0, -1.0], &[true, false, true]).unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-12);
        let score = brier(&[(0, vec![0.8, 0.2]), (1, vec![0.5, 0.5])]).unwrap();
        assert!((score - (0.08 + 0.5) / 2.0).abs() < 1e-12);
        assert!(brier(&[(2, vec![0.8, 0.2])]).is_err());
    }
}
