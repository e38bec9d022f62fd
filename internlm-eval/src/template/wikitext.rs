//! WikiText as plain text: spaces that its tokenization put in are taken out again.

use super::regex;

/// Replacements of texts before those of pairs of brackets and quotes.
const BEFORE: [(&str, &str); 9] = [
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];

/// Patterns of pairs.
const PAIRS: [(&str, &str); 5] = [
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"\{\s*([^}]*?)\s*\}", r"{\1}"),
    ("\"\\s*([^\"]*?)\\s*\"", "\"\\1\""),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
];

/// Replacements of texts after them.
const AFTER: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

/// The rules of lm-evaluation-harness's `wikitext_detokenizer`, in its order. Its rule about digits after `/'` never
/// matches real text and is kept for that order's sake.
pub(super) fn detokenized(page: &str) -> Result<String, String> {
    let mut text = page.replace("s '", "s'");
    text = regex::replace_all(&text, "/' [0-9]/", "/'[0-9]/")?;
    for (from, to) in BEFORE {
        text = text.replace(from, to);
    }
    for (pattern, replacement) in PAIRS {
        text = regex::replace_all(&text, pattern, replacement)?;
    }
    for (from, to) in AFTER {
        text = text.replace(from, to);
    }
    Ok(text)
}
