//! A needle in a haystack: rows that are made.
//!
//! A fact is put at a depth of a long text, and the model is asked for it. The grid of lengths and depths gives a heat
//! map. The rule is this crate's own (`internlm`); it resembles OpenCompass's NeedleBench in its single-needle task:
//! the haystack is the texts one after the other, repeated until it is long enough and cut to the length, and the
//! needle goes in at the end of the sentence before the depth.
//!
//! Lengths are tokens of the model that is asked. Without a scorer a token is taken for four characters of English or
//! one and a half of Chinese.

use std::path::Path;

use internlm_core::Scorer;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::load::Split;
use crate::data::{self, ReadOptions, Records};
use crate::error::{Error, Result};
use crate::item::Row;

/// The grid and what is hidden.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedleSpec {
    /// Texts that the haystack is made of, below the data folder.
    pub haystack: Vec<String>,
    /// Lengths of the haystack in tokens.
    pub lengths: Vec<usize>,
    /// Depths in per cent of the length.
    pub depths: Vec<u8>,
    /// What is hidden.
    pub needles: Vec<Needle>,
}

/// A fact, and how it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needle {
    /// The sentence that is put into the text.
    pub fact: String,
    /// The question.
    pub question: String,
    /// What a right answer says; the score is the share of these that it has.
    pub keywords: Vec<String>,
}

/// Column with the text before the needle is in it.
const HAYSTACK: &str = "haystack";

impl NeedleSpec {
    /// A row for each length, depth and needle. The haystack is put in by [`row`](NeedleSpec::row).
    pub(super) fn rows(&self, folder: &Path, task: &str) -> Result<Split> {
        let mut patterns = Vec::new();
        for file in &self.haystack {
            patterns.push(data::find(folder, std::slice::from_ref(file))?);
        }
        if let Some(missing) = patterns.iter().find(|found| found.files.is_empty()) {
            return Err(Error::NoData {
                task: task.to_owned(),
                split: "haystack".to_owned(),
                tried: missing.tried.clone(),
                others: Vec::new(),
            });
        }
        let files: Vec<_> = patterns.into_iter().flat_map(|found| found.files).collect();
        let options = ReadOptions {
            text: Records::Whole,
            ..ReadOptions::default()
        };
        let read = data::read(&files, &options)?;
        let texts: Vec<&str> = read
            .rows
            .iter()
            .filter_map(|row| row.get("text").and_then(Json::as_str))
            .collect();
        let all = texts.join("\n");
        let mut rows = Vec::new();
        for length in &self.lengths {
            // No tokenizer makes more than this of a text on the average.
            let enough = repeated(&all, length.saturating_mul(8));
            for depth in &self.depths {
                for needle in &self.needles {
                    let mut row = Row::new();
                    row.insert("length".to_owned(), Json::from(*length));
                    row.insert("depth".to_owned(), Json::from(*depth));
                    row.insert("fact".to_owned(), Json::from(needle.fact.clone()));
                    row.insert("question".to_owned(), Json::from(needle.question.clone()));
                    row.insert("keywords".to_owned(), Json::from(needle.keywords.clone()));
                    row.insert(HAYSTACK.to_owned(), Json::from(enough.clone()));
                    rows.push((rows.len(), row));
                }
            }
        }
        Ok(Split {
            rows,
            hash: read.hash,
        })
    }

    /// The row with the text that the model reads in the column `context`.
    pub(super) fn row(&self, row: &Row, scorer: Option<&dyn Scorer>) -> Result<Row> {
        let mut row = row.clone();
        let text = |name: &str| row.get(name).and_then(Json::as_str).unwrap_or_default();
        let number = |name: &str| row.get(name).and_then(Json::as_u64).unwrap_or(0) as usize;
        let (fact, length, depth) = (text("fact"), number("length"), number("depth"));
        let taken = tokens(fact, scorer)?;
        let hay = cut(text(HAYSTACK), length.saturating_sub(taken), scorer)?;
        let context = hidden(hay, fact, depth);
        row.remove(HAYSTACK);
        row.insert("context".to_owned(), Json::from(context));
        Ok(row)
    }
}

/// The text once or more, at least so many characters.
fn repeated(text: &str, characters: usize) -> String {
    let count = text.chars().count().max(1);
    let mut all = String::new();
    for _ in 0..characters.div_ceil(count).max(1) {
        all.push_str(text);
        all.push('\n');
    }
    all.chars().take(characters).collect()
}

/// The longest front of a text with at most so many tokens.
fn cut<'a>(text: &'a str, length: usize, scorer: Option<&dyn Scorer>) -> Result<&'a str> {
    let ends: Vec<usize> = text
        .char_indices()
        .map(|(at, character)| at + character.len_utf8())
        .collect();
    let front = |characters: usize| match characters {
        0 => "",
        characters => &text[..ends[characters - 1]],
    };
    // Tokens grow with the text, so the border is found by halving. Each step encodes half as far from the last.
    let (mut fits, mut beyond) = (0, ends.len() + 1);
    let mut tried = length.saturating_mul(3).clamp(1, ends.len().max(1));
    while beyond - fits > 1 {
        if tried <= fits || tried >= beyond {
            tried = fits + (beyond - fits) / 2;
        }
        if tokens(front(tried), scorer)? <= length {
            fits = tried;
            tried = fits.saturating_mul(2).min(fits + (beyond - fits) / 2);
        } else {
            beyond = tried;
            tried = fits + (beyond - fits) / 2;
        }
    }
    Ok(front(fits))
}

fn tokens(text: &str, scorer: Option<&dyn Scorer>) -> Result<usize> {
    Ok(match scorer {
        Some(scorer) => scorer.encode(text, false)?.len(),
        None => {
            // In twelfths of a token: four characters a token, or one and a half.
            let twelfths: usize = text
                .chars()
                .map(|character| if is_wide(character) { 8 } else { 3 })
                .sum();
            twelfths.div_ceil(12)
        }
    })
}

fn is_wide(character: char) -> bool {
    ('\u{2e80}'..='\u{ffef}').contains(&character)
}

/// The fact after the last end of a sentence before the depth.
fn hidden(hay: &str, fact: &str, depth: usize) -> String {
    let count = hay.chars().count();
    let wanted = count * depth.min(100) / 100;
    let at = hay
        .char_indices()
        .nth(wanted)
        .map_or(hay.len(), |(at, _)| at);
    let border = if depth >= 100 {
        hay.len()
    } else {
        hay[..at]
            .char_indices()
            .rev()
            .find(|(_, character)| matches!(character, '.' | '!' | '?' | '。' | '！' | '？' | '\n'))
            .map_or(0, |(at, character)| at + character.len_utf8())
    };
    let (before, after) = hay.split_at(border);
    let space = if before.is_empty() || before.ends_with('\n') {
        ""
    } else {
        " "
    };
    let next = if after.is_empty() || after.starts_with(char::is_whitespace) {
        ""
    } else {
        " "
    };
    format!("{before}{space}{fact}{next}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needle_goes_after_a_sentence() {
        let hay = "One is here. Two is there. Three is gone.";
        assert_eq!(hidden(hay, "X.", 0), format!("X. {hay}"));
        assert_eq!(
            hidden(hay, "X.", 50),
            "One is here. X. Two is there. Three is gone."
        );
        assert_eq!(hidden(hay, "X.", 100), format!("{hay} X."));
    }

    #[test]
    fn a_haystack_has_the_length() {
        let text = repeated("Some words of text. ", 10_000);
        let cut = cut(&text, 100, None).unwrap();
        assert_eq!(tokens(cut, None).unwrap(), 100);
        assert!(tokens(&text[..cut.len() + 1], None).unwrap() > 100);
        assert_eq!(super::cut(&text, 0, None).unwrap(), "");
        assert_eq!(super::cut("short", 100, None).unwrap(), "short");
    }
}
