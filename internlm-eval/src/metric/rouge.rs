//! ROUGE as the package rouge-score computes it.

use std::collections::{BTreeSet, HashMap};

use crate::error::{Error, Result};
use crate::metric::count;
use crate::metric::ngram::{common_subsequence, counts, overlap};
use crate::metric::porter;

/// Which ROUGE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shared n-grams, such as `rouge1` and `rouge2`. 0 counts nothing.
    N(usize),
    /// The longest common subsequence of the whole texts.
    L,
    /// The union of the longest common subsequences, line by line.
    LSum,
}

impl Kind {
    /// Reads `rouge1` to `rouge9`, `rougeL` or `rougeLsum`.
    ///
    /// # Errors
    /// [`Error::Metric`] for another name.
    pub fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("rouge") {
            Some("L") => Ok(Self::L),
            Some("Lsum") => Ok(Self::LSum),
            Some(n) => match n.as_bytes() {
                [digit @ b'1'..=b'9'] => Ok(Self::N(usize::from(digit - b'0'))),
                _ => Err(Error::metric("rouge", "the kind is not known")),
            },
            None => Err(Error::metric("rouge", "the kind is not known")),
        }
    }
}

/// Precision, recall and their harmonic mean, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The share of the prediction that the reference has.
    pub precision: f64,
    /// The share of the reference that the prediction has.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

impl Score {
    fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        let f1 = if sum > 0.0 {
            2.0 * precision * recall / sum
        } else {
            0.0
        };
        Self {
            precision,
            recall,
            f1,
        }
    }

    fn of_counts(hits: usize, predicted: usize, reference: usize) -> Self {
        Self::new(
            count(hits) / count(predicted.max(1)),
            count(hits) / count(reference.max(1)),
        )
    }
}

/// Words of lower-case ASCII letters and digits; everything else separates. With `stem`, words of more than three
/// characters are reduced by Porter's algorithm in NLTK's variant.
pub fn tokenize(text: &str, stem: bool) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(|word| {
            if stem && word.len() > 3 {
                porter::stem(word)
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// ROUGE of a prediction against one reference.
pub fn score(kind: Kind, prediction: &str, reference: &str, stem: bool) -> Score {
    match kind {
        Kind::N(0) => Score::default(),
        Kind::N(n) => {
            let (predicted, gold) = (tokenize(prediction, stem), tokenize(reference, stem));
            let (predicted, gold) = (counts(&predicted, n), counts(&gold, n));
            let hits = overlap(&predicted, &gold);
            Score::of_counts(hits, predicted.values().sum(), gold.values().sum())
        }
        Kind::L => {
            let (predicted, gold) = (tokenize(prediction, stem), tokenize(reference, stem));
            let hits = common_subsequence(&gold, &predicted);
            Score::of_counts(hits, predicted.len(), gold.len())
        }
        Kind::LSum => line_sum(prediction, reference, stem),
    }
}

/// The best score by F1 over several references, the first of equals.
pub fn best(kind: Kind, prediction: &str, references: &[&str], stem: bool) -> Score {
    let scores = references
        .iter()
        .map(|reference| score(kind, prediction, reference, stem));
    scores
        .reduce(|best, score| if score.f1 > best.f1 { score } else { best })
        .unwrap_or_default()
}

fn line_sum(prediction: &str, reference: &str, stem: bool) -> Score {
    let mut ids = HashMap::new();
    let mut lines = |text: &str| -> Vec<Vec<usize>> {
        let mut id = |word: String| {
            let next = ids.len();
            *ids.entry(word).or_insert(next)
        };
        let lines = text.split('\n').filter(|line| !line.is_empty());
        lines
            .map(|line| tokenize(line, stem).into_iter().map(&mut id).collect())
            .collect()
    };
    let (predicted, gold) = (lines(prediction), lines(reference));
    let mut left_predicted = multiplicity(&predicted, ids.len());
    let mut left_gold = multiplicity(&gold, ids.len());
    let mut hits = 0;
    for line in &gold {
        // Words of this line that take part in its longest common subsequence with some predicted line.
        let union: BTreeSet<usize> = predicted
            .iter()
            .flat_map(|other| alignment(line, other))
            .collect();
        for word in union.into_iter().map(|index| line[index]) {
            // A word counts no more often than it occurs.
            if left_predicted[word] > 0 && left_gold[word] > 0 {
                left_predicted[word] -= 1;
                left_gold[word] -= 1;
                hits += 1;
            }
        }
    }
    let length = |lines: &[Vec<usize>]| lines.iter().map(Vec::len).sum();
    Score::of_counts(hits, length(&predicted), length(&gold))
}

fn multiplicity(lines: &[Vec<usize>], words: usize) -> Vec<usize> {
    let mut counts = vec![0; words];
    for &word in lines.iter().flatten() {
        counts[word] += 1;
    }
    counts
}

/// Indices into `gold` of one longest common subsequence; of several, the one the package finds.
fn alignment(gold: &[usize], other: &[usize]) -> Vec<usize> {
    let width = other.len() + 1;
    let mut table = vec![0_u32; (gold.len() + 1) * width];
    for (i, x) in gold.iter().enumerate() {
        for (j, y) in other.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if x == y {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let (mut i, mut j) = (gold.len(), other.len());
    let mut indices = Vec::new();
    while i > 0 && j > 0 {
        if gold[i - 1] == other[j - 1] {
            indices.push(i - 1);
            i -= 1;
            j -= 1;
        } else if table[i * width + j - 1] > table[(i - 1) * width + j] {
            j -= 1;
        } else {
            i -= 1;
        }
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds() {
        assert_eq!(Kind::parse("rouge2").unwrap(), Kind::N(2));
        assert_eq!(Kind::parse("rougeLsum").unwrap(), Kind::LSum);
        assert!(Kind::parse("rouge10").is_err());
        assert!(Kind::parse("bleu").is_err());
    }

    #[test]
    fn the_best_reference_counts() {
        let best = best(Kind::N(1), "a b", &["c", "a b", "a"], false);
        assert_eq!(best.f1, 1.0);
        assert_eq!(super::best(Kind::L, "a", &[], false), Score::default());
    }
}
