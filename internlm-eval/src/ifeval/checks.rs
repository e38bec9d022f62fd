//! What is counted and looked for in a response.

use std::sync::LazyLock;

use crate::error::Result;
use crate::pattern::{Flags, Pattern};
use crate::python_text::{is_word, split_whitespace, strip};

macro_rules! pattern {
    ($pattern:expr, $flags:expr) => {
        LazyLock::new(|| Pattern::constant($pattern, $flags))
    };
}

pub(super) static PLACEHOLDER: LazyLock<Pattern> = pattern!(r"\[.*?\]", Flags::NONE);
static DIVIDER: LazyLock<Pattern> = pattern!(r"\s?\*\*\*\s?", Flags::NONE);
static STAR_BULLET: LazyLock<Pattern> = pattern!(r"^\s*\*[^\*].*$", Flags::MULTI_LINE);
static DASH_BULLET: LazyLock<Pattern> = pattern!(r"^\s*-.*$", Flags::MULTI_LINE);
static HIGHLIGHT: LazyLock<Pattern> = pattern!(r"\*[^\n\*]*\*", Flags::NONE);
static DOUBLE_HIGHLIGHT: LazyLock<Pattern> = pattern!(r"\*\*[^\n\*]*\*\*", Flags::NONE);
static TITLE: LazyLock<Pattern> = pattern!(r"<<[^\n]+>>", Flags::NONE);

pub(super) fn all_match(patterns: &[Pattern], text: &str) -> Result<bool> {
    for pattern in patterns {
        if !pattern.is_match(text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn none_match(patterns: &[Pattern], text: &str) -> Result<bool> {
    for pattern in patterns {
        if pattern.is_match(text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Parts between lines of asterisks; none if one within is empty. Empty ones at the ends don't count.
pub(super) fn paragraphs(response: &str) -> Result<Option<usize>> {
    let parts = DIVIDER.split(response)?;
    let last = parts.len() - 1;
    let mut n = 0;
    for (index, part) in parts.iter().enumerate() {
        if !strip(part).is_empty() {
            n += 1;
        } else if index != 0 && index != last {
            return Ok(None);
        }
    }
    Ok(Some(n))
}

pub(super) fn words(text: &str) -> usize {
    text.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .count()
}

/// The first word of a paragraph in small letters up to a punctuation mark, if there are as many paragraphs as wanted.
pub(super) fn first_word(response: &str, paragraphs: usize, nth: usize) -> Option<String> {
    let parts: Vec<&str> = response.split("\n\n").collect();
    let filled = parts.iter().filter(|part| !strip(part).is_empty()).count();
    if nth > filled || filled != paragraphs {
        return None;
    }
    let word = split_whitespace(parts.get(nth - 1)?).next()?;
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word
        .find(['.', ',', '?', '!', '\'', '"'])
        .unwrap_or(word.len());
    Some(word[..end].to_lowercase())
}

pub(super) fn bullets(response: &str) -> Result<usize> {
    Ok(STAR_BULLET.find_all(response)?.len() + DASH_BULLET.find_all(response)?.len())
}

pub(super) fn highlights(response: &str) -> Result<usize> {
    let filled = |pattern: &Pattern, marks: usize| -> Result<usize> {
        let matches = pattern.find_all(response)?;
        let inside = matches.iter().filter_map(|found| found.group(response, 0));
        let filled = inside.filter(|text| {
            let inside = if marks == 1 {
                text.trim_matches('*')
            } else {
                &text[2..text.len() - 2]
            };
            !strip(inside).is_empty()
        });
        Ok(filled.count())
    };
    Ok(filled(&HIGHLIGHT, 1)? + filled(&DOUBLE_HIGHLIGHT, 2)?)
}

/// Without a fence of backticks around it.
pub(super) fn unfenced(response: &str) -> &str {
    let mut text = strip(response);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    strip(text.strip_suffix("```").unwrap_or(text))
}

pub(super) fn has_title(response: &str) -> Result<bool> {
    let titles = TITLE.find_all(response)?;
    let mut titles = titles.iter().filter_map(|found| found.group(response, 0));
    Ok(titles.any(|title| !strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty()))
}

pub(super) fn two_responses(response: &str) -> bool {
    let parts: Vec<&str> = response.split("******").map(strip).collect();
    let last = parts.len() - 1;
    let empty_within = parts
        .iter()
        .enumerate()
        .any(|(index, part)| part.is_empty() && index != 0 && index != last);
    let filled: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !empty_within && matches!(filled.as_slice(), [first, second] if first != second)
}
