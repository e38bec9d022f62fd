//! The answer in a text, as math-verify 0.9 finds it (`math_verify/parser.py`, `latex2sympy2_extended`'s
//! `math_normalization.py`).
//!
//! Formulas lie in `$..$`, `$$..$$`, `\(..\)`, `\[..\]`, or ` [..] `, or are fractions of two numbers. Which of them
//! counts is a matter of what stands before it: `final answer is`, a box, `answer:`, `answer`, nothing. Of those with the
//! same rank the last one counts. Up to six that are joined by commas, `and` or `or` are a set.

use std::sync::LazyLock;

use regex::Regex;

use super::boxed::closing_brace;
use super::expression::equal_scalars;
use super::parse::parse;
use crate::pattern::constant;

/// Where an answer is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchors {
    /// A formula that is boxed or follows a phrase: OpenCompass's `MATHVerifyEvaluator`.
    Needed,
    /// Any formula, expression or number: math-verify's defaults, which lm-evaluation-harness uses.
    Optional,
}

/// Bytes of a text that are looked at, from its end.
const MAX_TEXT: usize = 1 << 16;
/// Bytes of a formula between its marks; longer ones are not parsed anyway.
const MAX_FORMULA: usize = 2048;
/// Characters that may stand between `answer` and the formula.
const REACH: usize = 50;
/// Characters that may stand between `final answer` and `is`.
const FINAL_REACH: usize = 100;
/// Formulas that may be joined to the first one.
const MAX_JOINED: usize = 5;

/// An answer in LaTeX; several are in braces, as a set. None where there is none. Of a text of more than 64 KiB the end
/// counts.
pub fn answer(text: &str, anchors: Anchors) -> Option<String> {
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(MAX_TEXT))..];
    match anchors {
        Anchors::Needed => {
            let ranks: [&dyn Fn() -> Vec<Found>; 4] = [
                &|| [boxes(text), hoped(text)].concat(),
                &|| concluded(text),
                &|| answered(text, "answer:"),
                &|| answered(text, "answer"),
            ];
            // Only the first one counts, whether it can be read or not.
            let mut found = ranks.iter().map(|rank| sorted(rank()));
            found
                .find_map(|rank| rank.into_iter().next())
                .map(|first| first.latex)
        }
        Anchors::Optional => {
            let ranks: [&dyn Fn() -> Vec<Found>; 5] = [
                &|| [hoped(text), expressions(text, &HOPED)].concat(),
                &|| [boxes(text), concluded(text), expressions(text, &CONCLUDED)].concat(),
                &|| {
                    [
                        answered(text, "answer:"),
                        no_equations(text, expressions(text, &ANSWERED_COLON)),
                    ]
                    .concat()
                },
                &|| {
                    [
                        answered(text, "answer"),
                        no_equations(text, expressions(text, &ANSWERED)),
                    ]
                    .concat()
                },
                &|| {
                    [
                        formulas(text),
                        expressions(text, &EXPRESSION),
                        expressions(text, &NUMBER),
                    ]
                    .concat()
                },
            ];
            let mut unread = None;
            for rank in ranks {
                for found in sorted(rank()) {
                    if parse(&found.latex).is_some() {
                        return Some(found.latex);
                    }
                    unread.get_or_insert(found.latex);
                }
            }
            unread
        }
    }
}

/// A candidate and where it lies.
#[derive(Clone, Debug)]
struct Found {
    start: usize,
    end: usize,
    latex: String,
}

/// The last one first; of those that end together the longest.
fn sorted(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|found| (std::cmp::Reverse(found.end), found.start));
    found
}

/// Formulas that begin at a place: where they end, and what is in them.
fn group_at(text: &str, at: usize, boxed: bool) -> Option<(usize, String)> {
    let (mut end, first) = formula_at(text, at, boxed)?;
    let mut parts = vec![first];
    let mut joined = 0;
    while joined < MAX_JOINED {
        let next = joint(&text[end..])
            .and_then(|joint| past_blanks(text, end + joint, |at| formula_at(text, at, boxed)));
        let Some((next_end, part)) = next else {
            break;
        };
        end = next_end;
        joined += 1;
        // A set has each element once; a decimal and a fraction are two.
        let same = |other: &String| {
            *other == part
                || other.contains('.') == part.contains('.') && equal_scalars(other, &part)
        };
        if !parts.iter().any(same) {
            parts.push(part);
        }
    }
    let latex = match parts.as_slice() {
        [only] => only.clone(),
        parts => format!("\\{{{}\\}}", parts.join(", ")),
    };
    Some((end, latex))
}

/// The length of the word or comma that joins two formulas, with blanks before it.
fn joint(text: &str) -> Option<usize> {
    let rest = text.trim_start();
    let words = [",and", "and", ",or", "or", ","];
    let word = words.into_iter().find(|word| rest.starts_with(word))?;
    Some(text.len() - rest.len() + word.len())
}

fn formula_at(text: &str, at: usize, boxed: bool) -> Option<(usize, String)> {
    let (end, inside) = environment_at(text, at)?;
    if boxed {
        let (_, after) = inside.split_once("\\boxed{")?;
        after.rfind('}').filter(|&at| at > 0)?;
    }
    let latex = in_boxes(inside, Boxes::All).unwrap_or_else(|| inside.to_owned());
    static PERCENT: LazyLock<Regex> =
        LazyLock::new(|| constant(r"^(?:\\?%|[Pp]ercent(?:age)?|[Pp]ct)"));
    // Blanks behind a formula are a part of it.
    let rest = text[end..].trim_start();
    let end = text.len() - rest.len();
    Some(match PERCENT.find(rest) {
        Some(percent) => (end + percent.end(), format!("{latex}\\%")),
        None => (end, latex),
    })
}

/// What a function finds behind blanks, of which the last one may belong to ` [..] `.
fn past_blanks<T>(text: &str, from: usize, find: impl Fn(usize) -> Option<T>) -> Option<T> {
    let at = text.len() - text[from..].trim_start().len();
    let blank = text[from..at].char_indices().next_back();
    find(at).or_else(|| find(from + blank?.0))
}

/// The formula that begins at a place: where it ends, and what it holds.
fn environment_at(text: &str, at: usize) -> Option<(usize, &str)> {
    let rest = &text[at..];
    let before = text[..at].chars().next_back();
    let free = before != Some('\\');
    let first = rest.chars().next()?;
    let closed = |open: usize, close: &str| -> Option<(usize, &str)> {
        let near = &rest[..rest.floor_char_boundary(MAX_FORMULA)];
        let inside = near.get(open..)?.split(close).next()?;
        let end = open + inside.len() + close.len();
        let fits = end <= near.len() && !inside.is_empty() && !inside.ends_with('\\');
        fits.then_some((at + end, inside))
    };
    match first {
        '$' if free && rest.starts_with("$$") => closed(2, "$$").or_else(|| in_dollars(text, at)),
        '$' if free => in_dollars(text, at),
        '\\' if free && rest.starts_with("\\[") => closed(2, "\\]"),
        '\\' if free && rest.starts_with("\\(") => {
            closed(2, "\\)").filter(|(_, inside)| !inside.contains('\n'))
        }
        '\\' | '-' => {
            static FRACTION: LazyLock<Regex> =
                LazyLock::new(|| constant(r"^-?\\frac\{-?\d+(?:[.,]\d+)?\}\{-?\d+(?:[.,]\d+)?\}"));
            let found = FRACTION.find(rest)?;
            Some((at + found.end(), found.as_str()))
        }
        c if c.is_whitespace() => {
            static BRACKETS: LazyLock<Regex> = LazyLock::new(|| constant(r"^\s\[([^\n\]\[]+)\]\s"));
            let found = BRACKETS.captures(rest)?;
            let inside = found.get(1)?.as_str();
            Some((at + found.get(0)?.end(), inside))
        }
        _ => None,
    }
}

/// A formula between single dollar signs, on one line. An escaped dollar sign is money.
fn in_dollars(text: &str, at: usize) -> Option<(usize, &str)> {
    if text[..at].ends_with(|c: char| c.is_numeric()) {
        return None;
    }
    let rest = text.get(at + 1..)?;
    let mut escaped = false;
    for (i, c) in rest.char_indices() {
        match c {
            '\n' => return None,
            '$' if !escaped => return (i > 0).then(|| (at + i + 2, &rest[..i])),
            _ => escaped = c == '\\',
        }
    }
    None
}

/// Matches of a form that a function finds at places, none within another.
fn all(text: &str, at: impl Fn(usize) -> Option<(usize, String)>) -> Vec<Found> {
    let mut found = Vec::new();
    let mut from = 0;
    for (start, _) in text.char_indices() {
        if start < from {
            continue;
        }
        if let Some((end, latex)) = at(start) {
            found.push(Found { start, end, latex });
            from = end;
        }
    }
    found
}

fn formulas(text: &str) -> Vec<Found> {
    all(text, |at| group_at(text, at, false))
}

/// Formulas with a box in them, and all from the first box to the last brace.
fn boxes(text: &str) -> Vec<Found> {
    let mut found = all(text, |at| group_at(text, at, true));
    let open = "\\boxed{";
    if let Some(start) = text.find(open)
        && let Some(end) = text.rfind('}')
        && end > start + open.len()
    {
        let inside = &text[start..=end];
        let latex = in_boxes(inside, Boxes::Near).unwrap_or_else(|| inside.to_owned());
        found.push(Found {
            start,
            end: end + 1,
            latex,
        });
    }
    found
}

/// Where a phrase stands, in any case.
fn phrase_at(text: &str, at: usize, phrase: &str) -> Option<usize> {
    let end = at + phrase.len();
    let found = text.get(at..end)?.eq_ignore_ascii_case(phrase);
    found.then_some(end)
}

/// Formulas behind `answer` or `answer:`.
fn answered(text: &str, phrase: &str) -> Vec<Found> {
    all(text, |at| {
        let from = phrase_at(text, at, phrase)?;
        let places = text[from..].char_indices().take(REACH + 1);
        places
            .map(|(i, _)| from + i)
            .find_map(|place| group_at(text, place, false))
    })
}

/// Formulas behind `final answer is` and before `I hope`.
fn hoped(text: &str) -> Vec<Found> {
    all(text, |at| {
        let from = phrase_at(text, at, "final answer is")?;
        let (end, latex) = behind(text, from)?;
        let rest = &text[end..];
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        let rest = rest.strip_prefix(char::is_whitespace).unwrap_or(rest);
        let rest = rest.strip_prefix("I hope")?;
        Some((text.len() - rest.len(), latex))
    })
}

/// Formulas behind `final answer … is`.
fn concluded(text: &str) -> Vec<Found> {
    all(text, |at| {
        let from = phrase_at(text, at, "final answer")?;
        let places = text[from..].char_indices().take(FINAL_REACH + 1);
        places.map(|(i, _)| from + i).find_map(|place| {
            let rest = text[place..]
                .strip_prefix(char::is_whitespace)?
                .trim_start();
            let rest = rest.strip_prefix("is")?;
            behind(text, text.len() - rest.len())
        })
    })
}

/// A formula behind a colon and blanks, both of which may be missing.
fn behind(text: &str, from: usize) -> Option<(usize, String)> {
    let rest = &text[from..];
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    past_blanks(text, text.len() - rest.len(), |at| {
        group_at(text, at, false)
    })
}

const NUMBER_FORM: &str = r"(?:(?P<grouped>-?[1-9]\d{0,2}(?:[ ,]\d{3})+)(?P<fraction>\.\d+)?|(?P<whole>-?\d+)(?P<decimals>[.,]\d+)|(?P<only>\.\d+)|(?P<integer>-?\d+))(?P<percent>\s*(?:%|[Pp]ercent|\s*[Pp]ercentage|\s*[Pp]ct))?";
const CURRENCIES: &str = r"[\$€£¥₹₽₪₩₫฿₡₢₣₤₥₦₧₨₭₮₯₰₱₲₳₴₵₶₷₸₺₻₼₾₿]?";

static EXPRESSION: LazyLock<Regex> = LazyLock::new(|| constant(&expression_form()));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| constant(&number_form()));
static HOPED: LazyLock<Regex> = LazyLock::new(|| {
    constant(&format!(
        r"(?i:final answer is):?\s*{}\.?\s?I hope",
        either()
    ))
});
static CONCLUDED: LazyLock<Regex> =
    LazyLock::new(|| constant(&format!(r"(?i:final answer.{{0,100}}?)\s+is:?{}", either())));
static ANSWERED_COLON: LazyLock<Regex> = LazyLock::new(|| constant(&answered_form(":")));
static ANSWERED: LazyLock<Regex> = LazyLock::new(|| constant(&answered_form("")));

/// An expression of numbers with an operator in it, between blanks or signs.
fn expression_form() -> String {
    let operators = r"\+\-*×/^()÷";
    let inside = format!(r"[\d.\s{operators}]");
    format!(
        r"(?:(?:^|\s|=)(?:\*\*)?(?P<expr>-?\(?-?\d{inside}*[{operators}]{inside}+\)?)(?:\*\*)?(?:[.,:\s)\$]|$))"
    )
}

fn number_form() -> String {
    format!(r"(?:(?:^|\s|=)(?:\*\*)?{CURRENCIES}{NUMBER_FORM})")
}

fn either() -> String {
    format!("(?:{}|{})", expression_form(), number_form())
}

fn answered_form(colon: &str) -> String {
    format!(
        r"(?i:answer){colon}(?:.{{0,100}}=\s*|.{{0,50}}?){}",
        either()
    )
}

/// Without left sides of equations.
fn no_equations(text: &str, mut found: Vec<Found>) -> Vec<Found> {
    found.retain(|found| !text[found.end..].trim_start().starts_with('='));
    found
}

/// Expressions and numbers that a pattern finds.
fn expressions(text: &str, pattern: &Regex) -> Vec<Found> {
    let mut found = Vec::new();
    for captures in pattern.captures_iter(text) {
        let Some(whole) = captures.get(0) else {
            continue;
        };
        let part = |name: &str| captures.name(name).map_or("", |part| part.as_str());
        let latex = match part("expr") {
            "" => {
                let integer: String = [part("grouped"), part("whole"), part("integer")].concat();
                let integer: String = integer
                    .chars()
                    .filter(|c| !matches!(c, ',' | ' '))
                    .collect();
                let decimals = [part("fraction"), part("decimals"), part("only")].concat();
                let integer = if integer.is_empty() { "0" } else { &integer };
                let percent = if part("percent").is_empty() {
                    ""
                } else {
                    "\\%"
                };
                format!("{integer}{}{percent}", decimals.replace(',', "."))
            }
            expression => expression.to_owned(),
        };
        found.push(Found {
            start: whole.start(),
            end: whole.end(),
            latex,
        });
    }
    found
}

/// Which boxes of a formula count.
#[derive(Clone, Copy, PartialEq)]
enum Boxes {
    All,
    /// The last one and those near before it.
    Near,
}

/// Characters between two boxes that are near, and that may be with a comma, a semicolon, `and` or `or` between.
const NEAR: usize = 10;
const NEAR_WITH_SEPARATOR: usize = 70;

/// What boxes hold, joined by commas; none without a box.
fn in_boxes(text: &str, which: Boxes) -> Option<String> {
    static SEPARATOR: LazyLock<Regex> = LazyLock::new(|| constant(r"\b(?:and|or)\b|,|;"));
    let mut contents: Vec<&str> = Vec::new();
    let mut limit = text.len();
    loop {
        let before = &text[..limit];
        let command = [("\\boxed", 6), ("\\fbox", 5)];
        let places = command
            .iter()
            .filter_map(|(name, len)| Some((before.rfind(name)?, *len)));
        let Some((start, len)) = places.max() else {
            break;
        };
        let inside = before[start + len..].trim_start();
        if !inside.starts_with('{') {
            if contents.is_empty() {
                contents.push(inside);
            }
            break;
        }
        let Some(length) = closing_brace(inside) else {
            if contents.is_empty() {
                contents.push(inside);
            }
            break;
        };
        let content = inside[1..length].trim();
        if which == Boxes::Near && limit < text.len() {
            let between = &inside[length + 1..];
            let count = between.chars().count();
            let joined = contents.last() != Some(&content)
                && count < NEAR_WITH_SEPARATOR
                && SEPARATOR.is_match(between);
            if count >= NEAR && !joined {
                break;
            }
        }
        if contents.last() != Some(&content) {
            contents.push(content);
        }
        limit = start;
    }
    contents.reverse();
    (!contents.is_empty()).then(|| contents.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::verify_extracted;

    /// Verdicts of math-verify 0.9.0 as OpenCompass and as lm-evaluation-harness call it.
    #[test]
    fn verdicts_are_those_of_math_verify() {
        let cases = [
            ("42", r"\boxed{42}", true, true),
            ("42", "The answer is 42", false, true),
            ("42", "Thus $x=42$.", false, true),
            ("42", r"\[ 42 \]", false, true),
            ("42", "$$42$$", false, true),
            ("42", "The answer is $42$.", true, true),
            ("42", "The total is 42", false, true),
            ("42", "Answer: 42", false, true),
            ("42", "We have $a=7$, so the result is $42$", false, true),
            ("42", r"\boxed{8} no, \boxed{42}", false, false),
            ("42", r"\boxed{41} then \boxed{42}", false, false),
            (
                "42",
                r"\boxed{41}, and after much more thought about it \boxed{42}",
                false,
                false,
            ),
            (
                "42",
                r"\boxed{41}. After much more thought about it: \boxed{42}",
                true,
                true,
            ),
            ("42", "$41$ or $42$", false, false),
            (r"\frac{1}{2}", r"answer: \frac{1}{2}", true, true),
            ("3,4", r"\boxed{3} and \boxed{4}", true, true),
            (
                "42",
                "The final answer is 42. I hope it is correct.",
                false,
                true,
            ),
            (
                "42",
                "The final answer is $42$. I hope it is correct. $7$",
                true,
                true,
            ),
            ("1000", "It is 1,000 dollars", false, true),
            ("-3", "it equals -3", false, true),
            ("1/2", "The probability is 1/2", false, true),
            ("A", "The answer is (A)", false, false),
            ("42", "", false, false),
        ];
        for (gold, said, anchored, free) in cases {
            let opencompass = verify_extracted(said, &format!("${gold}$"), Anchors::Needed);
            assert_eq!(opencompass, anchored, "{said}");
            let harness = verify_extracted(said, &format!("\\boxed{{{gold}}}"), Anchors::Optional);
            assert_eq!(harness, free, "{said}");
        }
    }

    #[test]
    fn the_form_of_what_is_found() {
        let free = |text: &str| answer(text, Anchors::Optional);
        assert_eq!(free("so [3] and $4$ ").as_deref(), Some(r"\{3, 4\}"));
        assert_eq!(free("$5$ %, \\$6").as_deref(), Some("5\\%"));
        assert_eq!(free("007,5 pct").as_deref(), Some("007.5\\%"));
        assert_eq!(
            free(r"$\boxed{中}$ and $\boxed{2}$").as_deref(),
            Some(r"\{中, 2\}")
        );
        assert_eq!(free("answer: 3 = x, 5").as_deref(), Some("5"));
        assert_eq!(free("no number"), None);
        assert_eq!(answer("x = 5", Anchors::Needed), None);
        assert_eq!(
            answer(r"\fbox{5} $\fbox{6}$ \boxed{7", Anchors::Needed),
            None
        );
    }

    #[test]
    fn long_texts_end() {
        for part in [
            "$",
            "\\[",
            "\\boxed{",
            "answer",
            "final answer is ",
            "1+",
            "$1$,",
            "中$",
        ] {
            let text = part.repeat(200_000 / part.len());
            _ = answer(&text, Anchors::Needed);
            _ = answer(&text, Anchors::Optional);
        }
    }
}
