//! Okapi BM25 as the package `rank_bm25` computes it.

use std::collections::HashMap;

const K1: f64 = 1.5;
const B: f64 = 0.75;
const EPSILON: f64 = 0.25;

/// A corpus that can be asked for its nearest documents.
pub(crate) struct Bm25 {
    frequencies: Vec<HashMap<String, f64>>,
    lengths: Vec<f64>,
    mean_length: f64,
    idf: HashMap<String, f64>,
}

impl Bm25 {
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

    /// The `count` documents with the highest scores, best first; of equals the later one first, as a reversed
    /// ascending sort has them.
    pub(crate) fn nearest(&self, query: &[String], count: usize) -> Vec<usize> {
        let scores: Vec<f64> = (0..self.lengths.len())
            .map(|document| self.score(query, document))
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        order.into_iter().rev().take(count).collect()
    }

    fn score(&self, query: &[String], document: usize) -> f64 {
        let length = K1 * (1.0 - B + B * self.lengths[document] / self.mean_length);
        query
            .iter()
            .map(|word| {
                let count = self.frequencies[document].get(word).copied().unwrap_or(0.0);
                let idf = self.idf.get(word).copied().unwrap_or(0.0);
                idf * (count * (K1 + 1.0) / (count + length))
            })
            .sum()
    }
}

/// Words as the Penn Treebank splits them, near to NLTK's `word_tokenize`. NLTK first finds sentences with a trained
/// model, so that it also splits a stop before the next sentence; here a stop is split at the end of the text and
/// where a capital follows.
pub(crate) fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut spaced = String::with_capacity(text.len() * 2);
    for (i, &char) in chars.iter().enumerate() {
        let after = chars.get(i + 1).copied();
        let before = i.checked_sub(1).map(|i| chars[i]);
        match char {
            '"' => spaced.push_str(
                if before.is_none_or(|c| c.is_whitespace() || "([{<".contains(c)) {
                    " `` "
                } else {
                    " '' "
                },
            ),
            ',' | ':' if after.is_some_and(|c| c.is_ascii_digit()) => spaced.push(char),
            ',' | ':' | ';' | '@' | '#' | '$' | '%' | '&' | '?' | '!' | '(' | ')' | '[' | ']'
            | '{' | '}' | '<' | '>' => {
                spaced.push(' ');
                spaced.push(char);
                spaced.push(' ');
            }
            '.' => {
                let earlier = chars[..i].iter().rev().take_while(|c| **c == '.').count();
                let run = earlier + chars[i..].iter().take_while(|c| **c == '.').count();
                match (run, earlier) {
                    (3.., 0) => spaced.push_str(" ... "),
                    (3.., _) => {}
                    _ if ends_sentence(&chars[i + 1..]) => spaced.push_str(" . "),
                    _ => spaced.push('.'),
                }
            }
            '-' if after == Some('-') && before != Some('-') => spaced.push_str(" -"),
            '-' if before == Some('-') && after != Some('-') => spaced.push_str("- "),
            _ => spaced.push(char),
        }
    }
    spaced.split_whitespace().flat_map(contractions).collect()
}

fn ends_sentence(rest: &[char]) -> bool {
    let closing = rest.iter().take_while(|c| "\"')]}>".contains(**c)).count();
    let mut rest = rest[closing..].iter();
    match rest.next() {
        None => true,
        Some(c) if c.is_whitespace() => rest
            .find(|c| !c.is_whitespace())
            .is_none_or(|c| c.is_uppercase()),
        Some(_) => false,
    }
}

/// `don't` is `do`, `n't`; `it's` is `it`, `'s`.
fn contractions(word: &str) -> Vec<String> {
    let lower = word.to_ascii_lowercase();
    for ending in ["n't", "'s", "'m", "'d", "'ll", "'re", "'ve"] {
        if lower.ends_with(ending) && word.len() > ending.len() {
            let at = word.len() - ending.len();
            return vec![word[..at].to_owned(), word[at..].to_owned()];
        }
    }
    if word.len() > 1 && word.ends_with('\'') && !word.ends_with("''") {
        let at = word.len() - 1;
        return vec![word[..at].to_owned(), word[at..].to_owned()];
    }
    vec![word.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the README of `rank_bm25`.
    #[test]
    fn scores_are_those_of_rank_bm25() {
        let split = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let corpus = [
            "Hello there good man!",
            "It is quite windy in London",
            "How is the weather today?",
        ];
        let corpus = Bm25::new(&corpus.map(split));
        let query = split("windy London");
        let scores = [0, 1, 2].map(|document| corpus.score(&query, document));
        assert_eq!((scores[0], scores[2]), (0.0, 0.0));
        assert!((scores[1] - 0.937_294_72).abs() < 1e-8, "{}", scores[1]);
        assert_eq!(corpus.nearest(&query, 1), [1]);
    }

    #[test]
    fn words_are_split_as_in_the_treebank() {
        assert_eq!(
            words("He said: \"I can't do 1,000 things.\" It's fine. Dr. No..."),
            [
                "He", "said", ":", "``", "I", "ca", "n't", "do", "1,000", "things", ".", "''",
                "It", "'s", "fine", ".", "Dr", ".", "No", "..."
            ]
        );
    }
}
