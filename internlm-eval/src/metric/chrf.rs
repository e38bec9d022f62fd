//! chrF and chrF++ as sacrebleu computes them.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{Error, Result};
use crate::metric::count;
use crate::metric::ngram::{counts, overlap};
use crate::python_text::{is_space, split_whitespace};

/// The settings of a chrF score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chrf {
    /// The longest n-gram of characters.
    pub char_order: usize,
    /// The longest n-gram of words: 0 is chrF, 2 is chrF++.
    pub word_order: usize,
    /// How much recall outweighs precision.
    pub beta: f64,
    /// Whether capitals are made small.
    pub lowercase: bool,
    /// Whether blanks are characters.
    pub whitespace: bool,
    /// Averages F over all orders, with a tiny value where one is empty, as chrF++.py, NLTK and Moses do.
    pub eps_smoothing: bool,
}

impl Default for Chrf {
    /// sacrebleu's defaults: chrF2.
    fn default() -> Self {
        Self {
            char_order: 6,
            word_order: 0,
            beta: 2.0,
            lowercase: false,
            whitespace: false,
            eps_smoothing: false,
        }
    }
}

/// Counts of one segment: of each order the n-grams predicted, of the reference, and shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics(Vec<[usize; 3]>);

impl Chrf {
    /// chrF++: also words and pairs of words.
    pub fn plus_plus() -> Self {
        Self {
            word_order: 2,
            ..Self::default()
        }
    }

    /// The score of a corpus from 0 to 100: pairs of a prediction and its references.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no segment or one has no reference.
    pub fn corpus(&self, segments: &[(&str, &[&str])]) -> Result<f64> {
        let statistics: Vec<Statistics> = segments
            .iter()
            .map(|(prediction, references)| self.statistics(prediction, references))
            .collect::<Result<_>>()?;
        self.score(&statistics)
    }

    /// The counts against the reference that scores best.
    ///
    /// # Errors
    /// [`Error::Metric`] if there is no reference.
    pub fn statistics(&self, prediction: &str, references: &[&str]) -> Result<Statistics> {
        let predicted = Segment::new(self, prediction);
        let mut best: Option<(f64, Statistics)> = None;
        for reference in references {
            let statistics = self.against(&predicted, &Segment::new(self, reference));
            let score = self.f_score(&statistics.0);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, statistics));
            }
        }
        best.map(|(_, statistics)| statistics)
            .ok_or_else(|| Error::metric("chrf", "a segment has no reference"))
    }

    fn against(&self, predicted: &Segment, reference: &Segment) -> Statistics {
        let characters = (1..=self.char_order).map(|n| {
            compared(
                &counts(&predicted.characters, n),
                &counts(&reference.characters, n),
            )
        });
        let words = (1..=self.word_order)
            .map(|n| compared(&counts(&predicted.words, n), &counts(&reference.words, n)));
        Statistics(characters.chain(words).collect())
    }

    /// The score of summed counts, from 0 to 100.
    ///
    /// # Errors
    /// [`Error::Metric`] if there are no segments.
    pub fn score<'a>(&self, segments: impl IntoIterator<Item = &'a Statistics>) -> Result<f64> {
        let mut sum = vec![[0; 3]; self.char_order + self.word_order];
        let mut any = false;
        for segment in segments {
            any = true;
            for (sum, counts) in sum.iter_mut().zip(&segment.0) {
                for (sum, n) in sum.iter_mut().zip(counts) {
                    *sum += n;
                }
            }
        }
        if any {
            Ok(self.f_score(&sum))
        } else {
            Err(Error::metric("chrf", "there are no segments"))
        }
    }

    fn f_score(&self, orders: &[[usize; 3]]) -> f64 {
        const EPS: f64 = 1e-16;
        let factor = self.beta * self.beta;
        let share = |matched, of| {
            if of > 0 {
                count(matched) / count(of)
            } else {
                EPS
            }
        };
        let (mut smoothed, mut precisions, mut recalls, mut effective) = (0.0, 0.0, 0.0, 0);
        for &[predicted, reference, matched] in orders {
            let (precision, recall) = (share(matched, predicted), share(matched, reference));
            let denominator = factor * precision + recall;
            smoothed += if denominator > 0.0 {
                (1.0 + factor) * precision * recall / denominator
            } else {
                EPS
            };
            if predicted > 0 && reference > 0 {
                precisions += precision;
                recalls += recall;
                effective += 1;
            }
        }
        if self.eps_smoothing {
            return 100.0 * smoothed / count(orders.len());
        }
        if effective == 0 || precisions + recalls == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precisions / count(effective), recalls / count(effective));
        100.0 * (1.0 + factor) * precision * recall / (factor * precision + recall)
    }
}

/// N-grams predicted (none where the reference is too short), of the reference, and shared.
fn compared<T: Eq + Hash>(
    predicted: &HashMap<&[T], usize>,
    reference: &HashMap<&[T], usize>,
) -> [usize; 3] {
    let total = if reference.is_empty() {
        0
    } else {
        predicted.values().sum()
    };
    [
        total,
        reference.values().sum(),
        overlap(predicted, reference),
    ]
}

struct Segment {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Segment {
    fn new(settings: &Chrf, text: &str) -> Self {
        let lower = if settings.lowercase {
            text.to_lowercase()
        } else {
            text.to_owned()
        };
        let kept = |c: &char| settings.whitespace || !is_space(*c);
        let words = if settings.word_order > 0 {
            words(&lower)
        } else {
            Vec::new()
        };
        Self {
            characters: lower.chars().filter(kept).collect(),
            words,
        }
    }
}

/// Words with one ASCII punctuation mark cut off, at the end or else at the start.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in split_whitespace(text) {
        let single = word.chars().nth(1).is_none();
        let (first, last) = (word.as_bytes()[0], word.as_bytes()[word.len() - 1]);
        let parts = if single {
            [word, ""]
        } else if last.is_ascii_punctuation() {
            let (head, mark) = word.split_at(word.len() - 1);
            [head, mark]
        } else if first.is_ascii_punctuation() {
            let (mark, tail) = word.split_at(1);
            [mark, tail]
        } else {
            [word, ""]
        };
        words.extend(
            parts
                .iter()
                .filter(|part| !part.is_empty())
                .map(|&part| part.to_owned()),
        );
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_is_cut_off_once() {
        assert_eq!(
            words("(hi) «é» a ! \"q"),
            ["(hi", ")", "«é»", "a", "!", "\"", "q"]
        );
    }

    #[test]
    fn bounds() {
        let plain = Chrf::default();
        assert!((plain.corpus(&[("abc", &["x", "abc"])]).unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(plain.corpus(&[("", &["abc"])]).unwrap(), 0.0);
        assert!(plain.corpus(&[("a", &[])]).is_err());
        let smoothed = Chrf {
            eps_smoothing: true,
            ..plain
        };
        assert!(smoothed.corpus(&[("ab", &["ab"])]).unwrap() < 100.0);
    }
}
