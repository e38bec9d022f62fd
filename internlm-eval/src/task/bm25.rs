//! Okapi BM25, to find the examples most like a question.
//!
//! The formula is that of the package `rank_bm25` 0.2.2 (`BM25Okapi`), which OpenCompass's `BM25Retriever` uses:
//! k1 = 1.5, b = 0.75, and an inverse document frequency below zero (a word in more than half of the documents) is
//! replaced by a quarter of the mean one. Words are runs of letters and digits in lower case, and each character of
//! Chinese is a word of its own; OpenCompass takes NLTK's tokenizer, so examples can differ from its.

use std::collections::HashMap;

const K1: f64 = 1.5;
const B: f64 = 0.75;
const EPSILON: f64 = 0.25;

/// An index of documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Bm25 {
    documents: Vec<HashMap<String, usize>>,
    lengths: Vec<usize>,
    mean_length: f64,
    weights: HashMap<String, f64>,
}

impl Bm25 {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut index = Bm25::default();
        // The sum over words is in order of their first appearance, as in the package, so that it is always the same.
        let mut words: Vec<String> = Vec::new();
        let mut containing: HashMap<String, usize> = HashMap::new();
        for text in texts {
            let mut counts: HashMap<String, usize> = HashMap::new();
            let split = split(text);
            index.lengths.push(split.len());
            for word in split {
                if !counts.contains_key(&word) {
                    let seen = containing.entry(word.clone()).or_insert(0);
                    if *seen == 0 {
                        words.push(word.clone());
                    }
                    *seen += 1;
                }
                *counts.entry(word).or_insert(0) += 1;
            }
            index.documents.push(counts);
        }
        let total: usize = index.lengths.iter().sum();
        let documents = index.documents.len() as f64;
        index.mean_length = total as f64 / documents.max(1.0);
        let mut sum = 0.0;
        for word in &words {
            let with = containing[word] as f64;
            let weight = (documents - with + 0.5).ln() - (with + 0.5).ln();
            sum += weight;
            index.weights.insert(word.clone(), weight);
        }
        let floor = EPSILON * sum / (words.len().max(1) as f64);
        for weight in index.weights.values_mut() {
            if *weight < 0.0 {
                *weight = floor;
            }
        }
        index
    }

    /// Documents in falling order of likeness; equal ones in their own order.
    pub(super) fn ranked(&self, query: &str) -> Vec<usize> {
        let words = split(query);
        let scores: Vec<f64> = (0..self.documents.len())
            .map(|document| words.iter().map(|word| self.score(word, document)).sum())
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
    }

    fn score(&self, word: &str, document: usize) -> f64 {
        let Some(weight) = self.weights.get(word) else {
            return 0.0;
        };
        let count = self.documents[document].get(word).copied().unwrap_or(0) as f64;
        let length = self.lengths[document] as f64 / self.mean_length;
        weight * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length))
    }
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        let alone = matches!(character, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
        if character.is_alphanumeric() && !alone {
            word.extend(character.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if alone {
            words.push(character.to_string());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores that the arithmetic of `rank_bm25.BM25Okapi` 0.2.2 gives for the same words, computed in Python.
    #[test]
    fn scores_are_those_of_the_package() {
        let index = Bm25::new([
            "hello there good man",
            "it is quite windy in London",
            "how is the weather today",
            "is it good",
        ]);
        let scores: Vec<f64> = (0..4)
            .map(|document| {
                ["windy", "is", "london"]
                    .iter()
                    .map(|word| index.score(word, document))
                    .sum()
            })
            .collect();
        let want = SCORES;
        for (score, want) in scores.iter().zip(want) {
            assert!((score - want).abs() < 1e-12, "{scores:?}");
        }
        assert_eq!(index.ranked("windy is London")[0], 1);
    }

    const SCORES: [f64; 4] = [
        0.0,
        1.605_129_487_068_926_3,
        0.144_098_275_576_055_03,
        0.178_003_752_182_185_64,
    ];

    #[test]
    fn chinese_is_split_by_characters() {
        assert_eq!(split("GPU加速 x1"), ["gpu", "加", "速", "x1"]);
    }
}
