//! Examples most like a question, by Okapi BM25.
//!
//! Words are runs of letters and digits in lower case, and each character of Chinese is a word of its own; OpenCompass
//! takes NLTK's tokenizer, so examples can differ from its.

use crate::bm25::Bm25;

/// An index of texts.
#[derive(Clone, Debug)]
pub(super) struct Likeness(Bm25);

impl Likeness {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Bm25::new(&texts.into_iter().map(split).collect::<Vec<_>>()))
    }

    /// Texts in falling order of likeness; equal ones in their own order.
    pub(super) fn ranked(&self, query: &str) -> Vec<usize> {
        let scores = self.0.scores(&split(query));
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order
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

    #[test]
    fn the_most_alike_comes_first() {
        let index = Likeness::new([
            "hello there good man",
            "it is quite windy in London",
            "how is the weather today",
            "is it good",
        ]);
        assert_eq!(index.ranked("windy is London"), [1, 3, 2, 0]);
        assert_eq!(index.ranked("nothing"), [0, 1, 2, 3]);
    }

    #[test]
    fn chinese_is_split_by_characters() {
        assert_eq!(split("GPU加速 x1"), ["gpu", "加", "速", "x1"]);
    }
}
