//! The tokenizers of sacrebleu.

use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};
use crate::pattern::constant;
use crate::python_text::{rstrip, split_whitespace, strip};

/// How BLEU cuts text into tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// As `mteval-v13a.pl`: punctuation of Western languages, but not within numbers.
    #[default]
    V13a,
    /// As `mteval-v14.pl --international`: every punctuation and symbol of Unicode.
    International,
    /// Each Chinese character alone, the rest as 13a.
    Chinese,
    /// Each character alone.
    Character,
    /// At blanks only.
    None,
}

impl Tokenizer {
    /// Reads sacrebleu's name: `13a`, `intl`, `zh`, `char` or `none`.
    ///
    /// # Errors
    /// [`Error::Metric`] for another name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "13a" => Self::V13a,
            "intl" => Self::International,
            "zh" => Self::Chinese,
            "char" => Self::Character,
            "none" => Self::None,
            _ => return Err(Error::metric("bleu", "the tokenizer is not known")),
        })
    }

    /// The tokens of a segment.
    pub fn tokens(self, text: &str) -> Vec<String> {
        let text = rstrip(text);
        let spaced = match self {
            Self::V13a => v13a(text),
            Self::International => international(text),
            Self::Chinese => western(&spaced_around(strip(text), is_chinese)),
            Self::Character => spaced_around(text, |_| true),
            Self::None => text.to_owned(),
        };
        split_whitespace(&spaced).map(str::to_owned).collect()
    }
}

fn v13a(text: &str) -> String {
    let mut line = text
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    if line.contains('&') {
        line = entities(&line);
    }
    western(&format!(" {line} "))
}

fn entities(text: &str) -> String {
    text.replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
}

/// ASCII symbols, but for the apostrophe, comma, full stop and hyphen.
static SYMBOL: LazyLock<Regex> = LazyLock::new(|| constant(r"([\{-\~\[-\` -\&\(-\+\:-\@/])"));
static STOP_AFTER_NON_DIGIT: LazyLock<Regex> = LazyLock::new(|| constant(r"([^0-9])([.,])"));
static STOP_BEFORE_NON_DIGIT: LazyLock<Regex> = LazyLock::new(|| constant(r"([.,])([^0-9])"));
static DASH_AFTER_DIGIT: LazyLock<Regex> = LazyLock::new(|| constant(r"([0-9])(-)"));
static PUNCTUATION_AFTER_NON_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| constant(r"(\P{N})(\p{P})"));
static PUNCTUATION_BEFORE_NON_NUMBER: LazyLock<Regex> =
    LazyLock::new(|| constant(r"(\p{P})(\P{N})"));
static ANY_SYMBOL: LazyLock<Regex> = LazyLock::new(|| constant(r"(\p{S})"));

/// Chains the replacements; a match consumes its neighbour, which is why these are not conditions on neighbours.
fn replaced(text: &str, rules: &[(&Regex, &str)]) -> String {
    rules
        .iter()
        .fold(text.to_owned(), |text, (pattern, replacement)| {
            pattern.replace_all(&text, *replacement).into_owned()
        })
}

/// What 13a and zh have in common.
fn western(text: &str) -> String {
    replaced(
        text,
        &[
            (&SYMBOL, " ${1} "),
            (&STOP_AFTER_NON_DIGIT, "${1} ${2} "),
            (&STOP_BEFORE_NON_DIGIT, " ${1} ${2}"),
            (&DASH_AFTER_DIGIT, "${1} ${2} "),
        ],
    )
}

fn international(text: &str) -> String {
    replaced(
        text,
        &[
            (&PUNCTUATION_AFTER_NON_NUMBER, "${1} ${2} "),
            (&PUNCTUATION_BEFORE_NON_NUMBER, " ${1} ${2}"),
            (&ANY_SYMBOL, " ${1} "),
        ],
    )
}

fn spaced_around(text: &str, alone: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if alone(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// sacrebleu's table. Two of its ranges are written `'\u20000'` and `'\u2f800'`, which Python reads as four digits and
/// a `0`; so most general punctuation and symbols count as Chinese, and extension B does not.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4db5}'
        | '\u{4e00}'..='\u{9fbb}'
        | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{2001}'..='\u{2a6d}'
        | '\u{2f81}'..='\u{2fa1}'
        | '\u{ff00}'..='\u{ffef}'
        | '\u{2e80}'..='\u{2eff}'
        | '\u{3000}'..='\u{303f}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{2f00}'..='\u{2fdf}'
        | '\u{2ff0}'..='\u{2fff}'
        | '\u{3100}'..='\u{312f}'
        | '\u{31a0}'..='\u{31bf}'
        | '\u{fe10}'..='\u{fe1f}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{33ff}')
}

static POSSESSIVE: LazyLock<Regex> = LazyLock::new(|| constant(r"'s( |\z)"));

/// How TER cuts text into tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tercom {
    /// Joins lines, resolves XML entities and separates punctuation.
    pub normalized: bool,
    /// Drops `. , ? : ; ! " ( )`.
    pub no_punctuation: bool,
    /// With `normalized`, each Chinese character alone; with `no_punctuation`, drops its punctuation too.
    pub asian_support: bool,
    /// Keeps capitals.
    pub case_sensitive: bool,
}

impl Tercom {
    /// The tokens of a segment.
    pub fn tokens(self, text: &str) -> Vec<String> {
        let text = rstrip(text);
        let mut text = if self.case_sensitive {
            text.to_owned()
        } else {
            text.to_lowercase()
        };
        if self.normalized {
            text = normalized(&text);
            if self.asian_support {
                text = spaced_around(&text, |c| is_ideograph(c) || is_asian_punctuation(c));
            }
        }
        if self.no_punctuation {
            text.retain(|c| !".,?:;!\"()".contains(c));
            if self.asian_support {
                text.retain(|c| !is_asian_punctuation(c));
            }
        }
        split_whitespace(&text).map(str::to_owned).collect()
    }
}

fn normalized(text: &str) -> String {
    let line = entities(&text.replace("\n-", "").replace('\n', " "));
    replaced(
        &format!(" {line} "),
        &[
            (&SYMBOL, " ${1} "),
            (&POSSESSIVE, " 's${1}"),
            (&STOP_AFTER_NON_DIGIT, "${1} ${2} "),
            (&STOP_BEFORE_NON_DIGIT, " ${1} ${2}"),
            (&DASH_AFTER_DIGIT, "${1} ${2} "),
        ],
    )
}

/// The last range is upstream's (`3f22` for `32ff`).
fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{31c0}'..='\u{31ef}'
        | '\u{2e80}'..='\u{2eff}'
        | '\u{3300}'..='\u{33ff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{3200}'..='\u{3f22}')
}

fn is_asian_punctuation(c: char) -> bool {
    matches!(c,
        '\u{3001}' | '\u{3002}'
        | '\u{3008}'..='\u{3011}'
        | '\u{3014}'..='\u{301f}'
        | '\u{ff61}'..='\u{ff65}'
        | '\u{30fb}'
        | '\u{ff0e}' | '\u{ff0c}' | '\u{ff1f}' | '\u{ff1a}' | '\u{ff1b}'
        | '\u{ff01}' | '\u{ff02}' | '\u{ff08}' | '\u{ff09}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tokenizer: Tokenizer, text: &str, want: &str) {
        assert_eq!(tokenizer.tokens(text).join(" "), want);
    }

    #[test]
    fn tokens_are_sacrebleu_s() {
        check(
            Tokenizer::V13a,
            "It's $5.00 (50% off), eh?\n",
            "It's $ 5.00 ( 50 % off ) , eh ?",
        );
        check(
            Tokenizer::V13a,
            "a&amp;b &lt;skipped&gt; 1-2 x-\ny",
            "a & b < skipped > 1 - 2 xy",
        );
        check(Tokenizer::International, "«Hé», 3,5€.", "« Hé » , 3,5 € .");
        check(
            Tokenizer::Chinese,
            "他说：“GPT-4很好”。",
            "他 说 ： “ GPT-4 很 好 ” 。",
        );
        check(Tokenizer::Character, "a b", "a b");
        check(Tokenizer::None, " a,b  c ", "a,b c");
        assert!(Tokenizer::parse("ja-mecab").is_err());
    }

    #[test]
    fn tercom_tokens_are_sacrebleu_s() {
        let all = Tercom {
            normalized: true,
            no_punctuation: true,
            asian_support: true,
            case_sensitive: false,
        };
        assert_eq!(
            all.tokens("Bob's 中文，好. (x)"),
            ["bob", "'s", "中", "文", "好", "x"]
        );
        assert_eq!(Tercom::default().tokens("A. b"), ["a.", "b"]);
    }
}
