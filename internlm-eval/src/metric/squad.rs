//! Exact match and F1 over words, by the rule of SQuAD's own script.

use std::collections::HashMap;

use crate::metric::count;
use crate::python_text::{split_whitespace, word_runs};

/// Lower case, without ASCII punctuation and without the articles a, an, the; single blanks.
pub fn normalize(answer: &str) -> String {
    let bare: String = answer
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    let spaced = without_articles(&bare);
    split_whitespace(&spaced).collect::<Vec<_>>().join(" ")
}

/// Articles that stand as words of their own become a blank.
fn without_articles(text: &str) -> String {
    let bare = |run| {
        if matches!(run, "a" | "an" | "the") {
            " "
        } else {
            run
        }
    };
    word_runs(text).map(bare).collect()
}

/// 1 if the prediction equals one of the references after [`normalize`], else 0.
pub fn exact_match(prediction: &str, references: &[&str]) -> f64 {
    let prediction = normalize(prediction);
    let hit = references
        .iter()
        .any(|reference| normalize(reference) == prediction);
    f64::from(u8::from(hit))
}

/// The best F1 over the references, of words counted with their multiplicity. Two empty texts score 1 (SQuAD 2).
pub fn f1(prediction: &str, references: &[&str]) -> f64 {
    let prediction = normalize(prediction);
    let scores = references
        .iter()
        .map(|reference| f1_of(&prediction, &normalize(reference)));
    scores.fold(0.0, f64::max)
}

fn f1_of(prediction: &str, reference: &str) -> f64 {
    let predicted: Vec<&str> = split_whitespace(prediction).collect();
    let gold: Vec<&str> = split_whitespace(reference).collect();
    if predicted.is_empty() || gold.is_empty() {
        return f64::from(u8::from(predicted == gold));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    for &word in &gold {
        *left.entry(word).or_default() += 1;
    }
    let mut common = 0;
    for word in &predicted {
        if let Some(n) = left.get_mut(word).filter(|n| **n > 0) {
            *n -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let precision = count(common) / count(predicted.len());
    let recall = count(common) / count(gold.len());
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_are_words_of_their_own() {
        assert_eq!(normalize("The theatre's a_b, an A!"), "theatres ab");
        assert_eq!(normalize("a\u{a0}x"), "x");
        assert_eq!(f1("", &[""]), 1.0);
        assert_eq!(f1("x", &[]), 0.0);
        assert_eq!(exact_match("An apple.", &["pear", "APPLE"]), 1.0);
    }
}
