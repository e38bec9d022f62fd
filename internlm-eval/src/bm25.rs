//! Okapi BM25: which documents are most like a question.
//!
//! The formula is that of the package `rank_bm25` 0.2.2 (`BM25Okapi`), which OpenCompass's `BM25Retriever` uses:
//! k1 = 1.5, b = 0.75, and an inverse document frequency below zero (a word in more than half of the documents) is
//! replaced by a quarter of the mean one. Texts are cut into words by whoever asks.

use std::collections::HashMap;

const K1: f64 = 1.5;
const B: f64 = 0.75;
const EPSILON: f64 = 0.25;

/// An index of documents.
#[derive(Clone, Debug)]
pub(crate) struct Bm25 {
    frequencies: Vec<HashMap<String, f64>>,
    lengths: Vec<f64>,
    mean_length: f64,
    idf: HashMap<String, f64>,
}

impl Bm25 {
    /// Of documents as their words.
    pub(crate) fn new(corpus: &[Vec<String>]) -> Self {
        let mut documents_with: HashMap<&str, f64> = HashMap::new();
        // In the order in which words first occur, because the mean below is a sum of floats.
        let mut order: Vec<&str> = Vec::new();
        let mut frequencies = Vec::with_capacity(corpus.len());
        for document in corpus {
            let mut counts: HashMap<String, f64> = HashMap::new();
            for word in document {
                let count = counts.entry(word.clone()).or_default();
                *count += 1.0;
                if *count == 1.0 {
                    let documents = documents_with.entry(word).or_insert_with(|| {
                        order.push(word);
                        0.0
                    });
                    *documents += 1.0;
                }
            }
            frequencies.push(counts);
        }
        let documents = corpus.len() as f64;
        let lengths: Vec<f64> = corpus.iter().map(|words| words.len() as f64).collect();
        let mut idf = HashMap::new();
        let mut sum = 0.0;
        for word in &order {
            let with = documents_with[word];
            let value = (documents - with + 0.5).ln() - (with + 0.5).ln();
            sum += value;
            idf.insert((*word).to_owned(), value);
        }
        // Words in more than half of the documents count a little instead of against a document.
        let floor = EPSILON * sum / order.len().max(1) as f64;
        for value in idf.values_mut().filter(|value| **value < 0.0) {
            *value = floor;
        }
        Self {
            frequencies,
            mean_length: lengths.iter().sum::<f64>() / documents.max(1.0),
            lengths,
            idf,
        }
    }

    /// The score of each document, in their order; more is more alike.
    pub(crate) fn scores(&self, query: &[String]) -> Vec<f64> {
        (0..self.lengths.len())
            .map(|document| self.score(query, document))
            .collect()
    }

    fn score(&self, query: &[String], document: usize) -> f64 {
        let length = K1 * (1.0 - B + B * self.lengths[document] / self.mean_length);
        let known = query
            .iter()
            .filter_map(|word| Some((word, self.idf.get(word)?)));
        known
            .map(|(word, idf)| {
                let count = self.frequencies[document].get(word).copied().unwrap_or(0.0);
                idf * (count * (K1 + 1.0) / (count + length))
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// The example in the README of `rank_bm25`.
    #[test]
    fn scores_are_those_of_rank_bm25() {
        let corpus = [
            "Hello there good man!",
            "It is quite windy in London",
            "How is the weather today?",
        ];
        let scores = Bm25::new(&corpus.map(words)).scores(&words("windy London"));
        assert_eq!((scores[0], scores[2]), (0.0, 0.0));
        assert!((scores[1] - 0.937_294_72).abs() < 1e-8, "{}", scores[1]);
    }

    /// What the arithmetic of `rank_bm25.BM25Okapi` 0.2.2 gives, computed in Python.
    #[test]
    fn words_of_most_documents_count_a_little() {
        let corpus = [
            "hello there good man",
            "it is quite windy in london",
            "how is the weather today",
            "is it good",
        ];
        let scores = Bm25::new(&corpus.map(words)).scores(&words("windy is london"));
        let want = [
            0.0,
            1.605_129_487_068_926_3,
            0.144_098_275_576_055_03,
            0.178_003_752_182_185_64,
        ];
        for (score, want) in scores.iter().zip(want) {
            assert!((score - want).abs() < 1e-12, "{scores:?}");
        }
    }

    #[test]
    fn documents_without_words_are_like_nothing() {
        let index = Bm25::new(&[Vec::new(), Vec::new()]);
        assert_eq!(index.scores(&words("a")), [0.0, 0.0]);
    }
}
