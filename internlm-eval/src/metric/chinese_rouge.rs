//! ROUGE for Chinese as OpenCompass's `JiebaRougeEvaluator` computes it: both texts are cleaned, cut into words by
//! jieba and compared by the package rouge-chinese.

use std::collections::HashSet;
use std::sync::LazyLock;

use jieba_rs::Jieba;
use regex::Regex;

use crate::error::{Error, Result};
use crate::extract::open_compass::general;
use crate::metric::count;
use crate::metric::ngram::common_subsequence;
use crate::pattern::constant;
use crate::python_text::split_whitespace;

/// Precision, recall and F1 from 0 to 1. F1 is that of rouge-chinese, whose denominator is larger by 1e-8.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// The share of the prediction that the reference has.
    pub precision: f64,
    /// The share of the reference that the prediction has.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

impl Score {
    fn new(hits: usize, predicted: usize, reference: usize) -> Self {
        let share = |of| {
            if of == 0 {
                0.0
            } else {
                count(hits) / count(of)
            }
        };
        let (precision, recall) = (share(predicted), share(reference));
        Self {
            precision,
            recall,
            f1: 2.0 * (precision * recall / (precision + recall + 1e-8)),
        }
    }
}

/// The three scores of a pair of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChineseRouge {
    /// Distinct words.
    pub rouge1: Score,
    /// Distinct pairs of words.
    pub rouge2: Score,
    /// The longest common subsequence of words.
    pub rouge_l: Score,
}

/// The dictionary takes a quarter of a second and some 30 MB, so it is loaded once.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// Letters and digits as Python's jieba takes them for one word.
static ALPHANUMERIC: LazyLock<Regex> = LazyLock::new(|| constant(r"[a-zA-Z0-9]+(?:\.\d+)?%?"));

/// The words of a text, as Python's `jieba.cut` finds them; blanks are words too.
pub fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    // Python's class of characters that make words ends at U+9FD5; all others, if no blanks, are words of their own.
    let alone = |c: char| !c.is_ascii() && !('\u{4e00}'..='\u{9fd5}').contains(&c);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let end = if alone(c) {
            c.len_utf8()
        } else {
            rest.find(alone).unwrap_or(rest.len())
        };
        let (run, after) = rest.split_at(end);
        cut(run, &mut words);
        rest = after;
    }
    words
}

/// The words of a text without characters that are words of their own.
fn cut<'t>(text: &'t str, words: &mut Vec<&'t str>) {
    for token in JIEBA.cut(text, true) {
        // The crate keeps compounds like `GPT-4` whole, Python cuts those that the dictionary lacks.
        if token.word.is_ascii() && token.word.len() > 1 && !JIEBA.has_word(token.word) {
            parts(token.word, words);
        } else {
            words.push(token.word);
        }
    }
}

/// Words of letters and digits and what stands between them.
fn parts<'t>(word: &'t str, parts: &mut Vec<&'t str>) {
    let mut end = 0;
    for found in ALPHANUMERIC.find_iter(word) {
        parts.extend([&word[end..found.start()], found.as_str()]);
        end = found.end();
    }
    parts.push(&word[end..]);
    parts.retain(|part| !part.is_empty());
}

/// The scores of one prediction.
pub fn score(prediction: &str, reference: &str) -> ChineseRouge {
    let (prediction, reference) = (general(prediction), general(reference));
    let words_or = |text: &str, placeholder: &str| -> Vec<String> {
        let words = words(text).into_iter().flat_map(split_whitespace);
        let words: Vec<String> = words.map(str::to_owned).collect();
        if words.is_empty() {
            vec![placeholder.to_owned()]
        } else {
            words
        }
    };
    // Placeholders that differ, so that two empty texts have nothing in common.
    let predicted = words_or(&prediction, "__PREDPLACEHOLDER__");
    let reference = words_or(&reference, "__REFRPLACEHOLDER__");
    let of_ngrams = |n: usize| {
        let distinct = |words: &'_ [String]| {
            words
                .windows(n)
                .map(<[String]>::to_vec)
                .collect::<HashSet<_>>()
        };
        let (a, b) = (distinct(&predicted), distinct(&reference));
        Score::new(a.intersection(&b).count(), a.len(), b.len())
    };
    ChineseRouge {
        rouge1: of_ngrams(1),
        rouge2: of_ngrams(2),
        rouge_l: Score::new(
            common_subsequence(&reference, &predicted),
            predicted.len(),
            reference.len(),
        ),
    }
}

/// Mean F1 of `rouge1`, `rouge2` and `rougeL` over pairs of a prediction and a reference, in per cent.
///
/// # Errors
/// [`Error::Metric`] for no pairs.
pub fn evaluate(pairs: &[(&str, &str)]) -> Result<[f64; 3]> {
    if pairs.is_empty() {
        return Err(Error::metric("rouge", "there are no items"));
    }
    let mut sums = [0.0; 3];
    for (prediction, reference) in pairs {
        let score = score(prediction, reference);
        for (sum, part) in sums
            .iter_mut()
            .zip([score.rouge1, score.rouge2, score.rouge_l])
        {
            *sum += part.f1;
        }
    }
    Ok(sums.map(|sum| 100.0 * sum / count(pairs.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by jieba 0.42.1.
    #[test]
    fn rare_ideographs_are_words_of_their_own() {
        assert_eq!(words("𠮷_"), ["𠮷", "_"]);
        assert_eq!(words("aA.𠮷"), ["aA", ".", "𠮷"]);
        assert_eq!(words("#_㐀Ａ"), ["#_", "㐀", "Ａ"]);
    }

    #[test]
    fn empty_texts_have_nothing_in_common() {
        assert_eq!(score("", "").rouge1.f1, 0.0);
        assert!((score("上海", "上海").rouge_l.f1 - 0.999_999_995).abs() < 1e-12);
        assert!(evaluate(&[]).is_err());
    }
}
