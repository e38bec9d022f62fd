//! Words as NLTK's `word_tokenize` finds them, after the Penn Treebank.

use std::sync::LazyLock;

use super::sentences::sentences;
use crate::pattern::{Flags, Pattern};
use crate::python_text::split_whitespace;

/// The rewriting rules of NLTK's `word_tokenize`, in order, up to the blanks added around the text.
const BEFORE: &[(&str, &str)] = &[
    ("([«“‘„]|[`]+)", " 1 "),
    ("^\"", "``"),
    ("(``)", " 1 "),
    (r#"([ \(\[{<])("|'{2})"#, "1 `` "),
    (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "1 "),
    (r#"([^\.])(\.)([\]\)}>"'»”’ ]*)\s*$"#, "1 2 3 "),
    (r"([:,])([^\d])", " 1 2"),
    (r"([:,])$", " 1 "),
    (r"\.{2,}", " 0 "),
    (r"[;@#$%&]", " 0 "),
    ("[\u{2012}-\u{2015}]", " 0 "),
    (r#"([^\.])(\.)([\]\)}>"']*)\s*$"#, "1 23 "),
    (r"[?!]", " 0 "),
    (r"([^'])' ", "1 ' "),
    (r"[*]", " 0 "),
    (r"[\]\[\(\)\{\}\<\>]", " 0 "),
    (r"--", " -- "),
];

/// Those after it.
const AFTER: &[(&str, &str)] = &[
    ("([»”’])", " 1 "),
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "1 2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "1 2 "),
    (r"(?i)\b(can)(not)\b", " 1 2 "),
    (r"(?i)\b(d)('ye)\b", " 1 2 "),
    (r"(?i)\b(gim)(me)\b", " 1 2 "),
    (r"(?i)\b(gon)(na)\b", " 1 2 "),
    (r"(?i)\b(got)(ta)\b", " 1 2 "),
    (r"(?i)\b(lem)(me)\b", " 1 2 "),
    (r"(?i)\b(more)('n)\b", " 1 2 "),
    (r"(?i)\b(wan)(na)(?=\s)", " 1 2 "),
    (r"(?i) ('t)(is)\b", " 1 2 "),
    (r"(?i) ('t)(was)\b", " 1 2 "),
];

type Rules = Vec<(Pattern, &'static str)>;

fn compiled(rules: &[(&str, &'static str)]) -> Rules {
    let rules = rules.iter();
    rules
        .map(|&(pattern, replacement)| (Pattern::constant(pattern, Flags::NONE), replacement))
        .collect()
}

static RULES: LazyLock<(Rules, Rules)> = LazyLock::new(|| (compiled(BEFORE), compiled(AFTER)));

/// The words and marks of a text as NLTK's `word_tokenize` has them.
pub(super) fn word_tokens(text: &str) -> Vec<String> {
    sentences(text)
        .iter()
        .flat_map(|sentence| words_of(sentence))
        .collect()
}

fn words_of(sentence: &str) -> Vec<String> {
    let (before, after) = &*RULES;
    let padded = format!(" {} ", rewritten(sentence.to_owned(), before));
    split_whitespace(&rewritten(padded, after))
        .map(str::to_owned)
        .collect()
}

/// Applies rules; a digit in a replacement stands for a group. A rule that takes too long is left out.
fn rewritten(text: String, rules: &Rules) -> String {
    rules.iter().fold(text, |text, (pattern, replacement)| {
        let replaced = pattern.replace_all(&text, |found| {
            let mut out = String::new();
            for c in replacement.chars() {
                match c.to_digit(10).and_then(|group| usize::try_from(group).ok()) {
                    Some(group) => out.push_str(found.group(&text, group).unwrap_or_default()),
                    None => out.push(c),
                }
            }
            out
        });
        replaced.unwrap_or(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_nltk_s() {
        let words = word_tokens("I can't pay $3.88, \"OK\"? We're gonna (NOT) go...");
        let want = [
            "I", "ca", "n't", "pay", "$", "3.88", ",", "``", "OK", "''", "?", "We", "'re", "gon",
            "na", "(", "NOT", ")", "go", "...",
        ];
        assert_eq!(words, want);
    }
}
