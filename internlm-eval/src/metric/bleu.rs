//! BLEU as sacrebleu computes it.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::metric::count;
use crate::metric::ngram::counts;
use crate::metric::tokenize::Tokenizer;

/// What is done about n-gram orders without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Smoothing {
    /// Nothing: one such order makes the score 0.
    None,
    /// A small count in place of 0 (sacrebleu's default value is 0.1).
    Floor(f64),
    /// A constant added to matches and totals of the orders above one (default 1).
    AddK(f64),
    /// Halved again for each such order, as NIST's script does.
    #[default]
    Exponential,
}

/// The settings of a BLEU score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bleu {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Whether capitals are made small.
    pub lowercase: bool,
    /// The smoothing.
    pub smoothing: Smoothing,
    /// The longest n-gram.
    pub max_order: usize,
    /// Whether orders beyond the longest n-gram of the text are left out of the mean.
    pub effective_order: bool,
}

impl Default for Bleu {
    /// sacrebleu's defaults for a corpus.
    fn default() -> Self {
        Self {
            tokenizer: Tokenizer::V13a,
            lowercase: false,
            smoothing: Smoothing::Exponential,
            max_order: 4,
            effective_order: false,
        }
    }
}

/// A BLEU score with what it is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BleuScore {
    /// The score, from 0 to 100.
    pub score: f64,
    /// Matched n-grams per order, after smoothing by addition.
    pub matches: Vec<f64>,
    /// N-grams of the predictions per order, after smoothing by addition.
    pub totals: Vec<f64>,
    /// Precisions per order in per cent, after smoothing.
    pub precisions: Vec<f64>,
    /// The factor for texts that are too short.
    pub brevity_penalty: f64,
    /// Tokens of the predictions.
    pub prediction_len: usize,
    /// Tokens of the references closest in length.
    pub reference_len: usize,
}

/// Counts of one segment; those of a corpus are their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    prediction_len: usize,
    reference_len: usize,
    matches: Vec<usize>,
    totals: Vec<usize>,
}

impl Bleu {
    /// The settings for a single sentence: the effective order only.
    pub fn sentence() -> Self {
        Self {
            effective_order: true,
            ..Self::default()
        }
    }

    /// The score of a corpus: pairs of a prediction and its references.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no segment or one has no reference.
    pub fn corpus(&self, segments: &[(&str, &[&str])]) -> Result<BleuScore> {
        let statistics: Vec<Statistics> = segments
            .iter()
            .map(|(prediction, references)| self.statistics(prediction, references))
            .collect::<Result<_>>()?;
        self.score(&statistics)
    }

    /// The counts of one segment.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no reference.
    pub fn statistics(&self, prediction: &str, references: &[&str]) -> Result<Statistics> {
        if references.is_empty() {
            return Err(Error::metric("bleu", "a segment has no reference"));
        }
        let predicted = self.tokens(prediction);
        let references: Vec<Vec<String>> =
            references.iter().map(|text| self.tokens(text)).collect();
        let reference_len = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&len| (len.abs_diff(predicted.len()), len))
            .unwrap_or_default();
        let mut statistics = Statistics {
            prediction_len: predicted.len(),
            reference_len,
            ..Statistics::default()
        };
        for n in 1..=self.max_order {
            // The most that any one reference has of each n-gram.
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for reference in &references {
                for (ngram, n) in counts(reference, n) {
                    let entry = most.entry(ngram).or_default();
                    *entry = n.max(*entry);
                }
            }
            let predicted = counts(&predicted, n);
            let matched = predicted
                .iter()
                .map(|(ngram, n)| n.min(most.get(ngram).unwrap_or(&0)));
            statistics.matches.push(matched.sum());
            statistics.totals.push(predicted.values().sum());
        }
        Ok(statistics)
    }

    fn tokens(&self, text: &str) -> Vec<String> {
        if self.lowercase {
            self.tokenizer.tokens(&text.to_lowercase())
        } else {
            self.tokenizer.tokens(text)
        }
    }

    /// The score of summed counts.
    ///
    /// # Errors
    /// [`Error::Metric`] if there are no segments.
    pub fn score<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a Statistics>,
    ) -> Result<BleuScore> {
        let mut sum = Statistics {
            matches: vec![0; self.max_order],
            totals: vec![0; self.max_order],
            ..Statistics::default()
        };
        let mut any = false;
        for segment in segments {
            any = true;
            sum.prediction_len += segment.prediction_len;
            sum.reference_len += segment.reference_len;
            for (sum, n) in sum.matches.iter_mut().zip(&segment.matches) {
                *sum += n;
            }
            for (sum, n) in sum.totals.iter_mut().zip(&segment.totals) {
                *sum += n;
            }
        }
        if any {
            Ok(self.score_of_sum(&sum))
        } else {
            Err(Error::metric("bleu", "there are no segments"))
        }
    }

    fn score_of_sum(&self, sum: &Statistics) -> BleuScore {
        let mut score = BleuScore {
            score: 0.0,
            matches: sum.matches.iter().map(|&n| count(n)).collect(),
            totals: sum.totals.iter().map(|&n| count(n)).collect(),
            precisions: vec![0.0; self.max_order],
            brevity_penalty: brevity_penalty(sum.prediction_len, sum.reference_len),
            prediction_len: sum.prediction_len,
            reference_len: sum.reference_len,
        };
        if sum.matches.iter().all(|&n| n == 0) {
            return score;
        }
        let mut order = self.max_order;
        let mut divisor = 1.0;
        for n in 0..self.max_order {
            if let (Smoothing::AddK(k), 1..) = (self.smoothing, n) {
                score.matches[n] += k;
                score.totals[n] += k;
            }
            if score.totals[n] == 0.0 {
                break;
            }
            if self.effective_order {
                order = n + 1;
            }
            score.precisions[n] = 100.0
                * match (score.matches[n] == 0.0, self.smoothing) {
                    (false, _) => score.matches[n] / score.totals[n],
                    (true, Smoothing::Exponential) => {
                        divisor *= 2.0;
                        1.0 / (divisor * score.totals[n])
                    }
                    (true, Smoothing::Floor(value)) => value / score.totals[n],
                    (true, Smoothing::None | Smoothing::AddK(_)) => 0.0,
                };
        }
        let logs: f64 = score.precisions[..order]
            .iter()
            .map(|precision| precision.ln())
            .sum();
        score.score = score.brevity_penalty * (logs / count(order)).exp();
        score
    }
}

fn brevity_penalty(prediction_len: usize, reference_len: usize) -> f64 {
    match prediction_len {
        0 if reference_len > 0 => 0.0,
        n if n < reference_len => (1.0 - count(reference_len) / count(n)).exp(),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_text_scores_full_marks() {
        let score = Bleu::default()
            .corpus(&[("a b c d e", &["x", "a b c d e"])])
            .unwrap();
        assert!((score.score - 100.0).abs() < 1e-9, "{score:?}");
        assert_eq!(score.reference_len, 5);
    }

    #[test]
    fn nothing_in_common_scores_nothing() {
        let score = Bleu::default().corpus(&[("", &["x"])]).unwrap();
        assert_eq!((score.score, score.brevity_penalty), (0.0, 0.0));
        let none = Bleu {
            smoothing: Smoothing::None,
            ..Bleu::default()
        };
        assert_eq!(none.corpus(&[("a b c", &["a b c"])]).unwrap().score, 0.0);
        assert!(Bleu::default().corpus(&[("a", &[])]).is_err());
        assert!(Bleu::default().corpus(&[]).is_err());
    }
}
