//! Whether two answers are the same text after a clean-up: Hendrycks' rules for MATH (`v1`), OpenCompass's stronger ones
//! (`v2`), and AGIEval's copy of the first.
//!
//! Where the reference raises an exception in the clean-up, the comparison falls back to a simpler one; so the steps
//! here return `None` exactly where upstream raises.

use std::sync::LazyLock;

use regex::Regex;

use crate::math::open_compass::normalize_final_answer;
use crate::pattern::constant;
use crate::python_text::{int, is_word, strip};

/// `MATHEvaluator(version='v1').is_equiv`.
pub fn is_equiv_v1(a: &str, b: &str) -> bool {
    is_equiv(a, b, |text| strip_v1(text, Upstream::OpenCompass))
}

/// `MATHEvaluator(version='v2').is_equiv`.
pub fn is_equiv_v2(a: &str, b: &str) -> bool {
    is_equiv(a, b, strip_v2)
}

fn is_equiv(a: &str, b: &str, strip: impl Fn(&str) -> Option<String>) -> bool {
    if let Some((a, b)) = strip(a).zip(strip(b))
        && (a == b || normalize_final_answer(&a) == normalize_final_answer(&b))
    {
        return true;
    }
    normalize_final_answer(a) == normalize_final_answer(b) || a == b
}

/// AGIEval's `is_equiv`.
pub fn agieval_is_equiv(a: &str, b: &str) -> bool {
    match strip_v1(a, Upstream::Agieval).zip(strip_v1(b, Upstream::Agieval)) {
        Some((a, b)) => a == b,
        None => a == b,
    }
}

/// Whose copy of the rules: they differ in what raises.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upstream {
    OpenCompass,
    Agieval,
}

fn strip_v1(text: &str, upstream: Upstream) -> Option<String> {
    let mut text = text
        .replace('\n', "")
        .replace("\\!", "")
        .replace("\\\\", "\\");
    for (from, to) in [
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
    ] {
        text = text.replace(from, to);
    }
    // Units on the right.
    if let Some((value, unit)) = text.split_once("\\text{ ") {
        if unit.contains("\\text{ ") {
            return None;
        }
        text = value.to_owned();
    }
    text = text.replace("\\%", "");
    text = text.replace(" .", " 0.").replace("{.", "{0.");
    if text.is_empty() {
        return Some(text);
    }
    text = without_short_left_side(with_leading_zero(text));
    text = braced_roots(&text)?.replace(' ', "");
    text = braced_fractions(&text, upstream)?;
    if text == "0.5" {
        text = "\\frac{1}{2}".to_owned();
    }
    slash_as_fraction(text, upstream)
}

fn strip_v2(text: &str) -> Option<String> {
    static UNIT: LazyLock<Regex> = LazyLock::new(|| constant(r"\\text\{.*?\}\z"));
    static MBOX: LazyLock<Regex> = LazyLock::new(|| constant(r"\\mbox\{.*?\}"));
    static ZEROS_WITHIN: LazyLock<Regex> = LazyLock::new(|| constant(r"(\d+)\.0+([^\d])"));
    static ZEROS_AT_END: LazyLock<Regex> = LazyLock::new(|| constant(r"(\d+)\.0+\z"));
    let mut text = strip(text)
        .replace('\n', "")
        .trim_end_matches('.')
        .to_owned();
    for (from, to) in [
        ("\\!", ""),
        ("\\ ", ""),
        ("\\\\", "\\"),
        ("\\\\", "\\"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\left", ""),
        ("\\right", ""),
    ] {
        text = text.replace(from, to);
    }
    let without_unit = UNIT.replace_all(&text, "").into_owned();
    let without_unit = strip(&without_unit);
    if !without_unit.is_empty() && without_unit != text {
        text = without_unit.to_owned();
    }
    for (from, to) in [
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("\\$", ""),
        ("$", ""),
        ("\\text", ""),
        ("x\\in", ""),
        ("\\%", ""),
        ("%", ""),
        (" .", " 0."),
        ("{.", "{0."),
        ("\\cdot", ""),
        ("infinity", "\\infty"),
    ] {
        text = text.replace(from, to);
    }
    if !text.contains("\\infty") {
        text = text.replace("inf", "\\infty");
    }
    text = text
        .replace("+\\inity", "\\infty")
        .replace("and", "")
        .replace("\\mathbf", "");
    text = MBOX.replace_all(&text, "").into_owned();
    if text.contains('j') && !text.contains('i') {
        text = text.replace('j', "i");
    }
    text = ZEROS_WITHIN.replace_all(&text, "${1}${2}").into_owned();
    text = ZEROS_AT_END.replace_all(&text, "${1}").into_owned();
    if text.is_empty() {
        return Some(text);
    }
    text = without_short_left_side(with_leading_zero(text));
    text = braced_root_words(&text).replace(' ', "");
    text = braced_fractions(&text, Upstream::OpenCompass)?;
    slash_as_fraction(text, Upstream::OpenCompass)
}

fn with_leading_zero(text: String) -> String {
    if text.starts_with('.') {
        format!("0{text}")
    } else {
        text
    }
}

/// Drops `k =`: one equals sign after at most two characters.
fn without_short_left_side(text: String) -> String {
    match text.split_once('=') {
        Some((left, right)) if !right.contains('=') && left.chars().count() <= 2 => {
            right.to_owned()
        }
        _ => text,
    }
}

/// `\sqrt3` is `\sqrt{3}`; a root of nothing raises upstream.
fn braced_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let first = part.chars().next()?;
        out.push_str("\\sqrt");
        if first == '{' {
            out.push_str(part);
        } else {
            out.extend(['{', first, '}']);
            out.push_str(&part[first.len_utf8()..]);
        }
    }
    Some(out)
}

/// `\sqrtab` is `\sqrt{ab}`: all word characters are taken.
fn braced_root_words(text: &str) -> String {
    let mut parts = text.split("\\sqrt");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c| !is_word(c)).unwrap_or(part.len());
        let (word, rest) = part.split_at(end);
        out.push_str("\\sqrt");
        if word.is_empty() {
            out.push_str(rest);
        } else {
            out.push_str(&format!("{{{word}}}{rest}"));
        }
    }
    out
}

/// `\frac12` is `\frac{1}{2}`; a text with too short a fraction stays as it is.
fn braced_fractions(text: &str, upstream: Upstream) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("\\frac");
        if part.starts_with('{') {
            out.push_str(part);
            continue;
        }
        let mut chars = part.chars();
        let Some(numerator) = chars.next() else {
            // AGIEval's copy looks at the first character before it checks the length.
            return (upstream == Upstream::OpenCompass).then(|| text.to_owned());
        };
        let Some(denominator) = chars.next() else {
            return Some(text.to_owned());
        };
        out.extend(['{', numerator, '}']);
        if denominator == '{' {
            out.push('{');
        } else {
            out.extend(['{', denominator, '}']);
        }
        out.push_str(chars.as_str());
    }
    Some(out)
}

/// `a/b` of two integers is `\frac{a}{b}`. In OpenCompass's copy, one slash with anything else raises.
fn slash_as_fraction(text: String, upstream: Upstream) -> Option<String> {
    let Some((a, b)) = text.split_once('/') else {
        return Some(text);
    };
    if b.contains('/') {
        return Some(text);
    }
    match int(a).zip(int(b)) {
        Some((numerator, denominator)) if numerator == a && denominator == b => {
            Some(format!("\\frac{{{a}}}{{{b}}}"))
        }
        Some(_) => Some(text),
        None => (upstream == Upstream::Agieval).then_some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_upstream_raises_the_texts_are_compared_otherwise() {
        assert_eq!(strip_v1("x/y", Upstream::OpenCompass), None);
        assert_eq!(strip_v1("x/y", Upstream::Agieval).as_deref(), Some("x/y"));
        assert_eq!(strip_v1("\\sqrt", Upstream::Agieval), None);
        assert!(is_equiv_v1("x/y", "x/y cm") && is_equiv_v1("\\sqrt", "\\sqrt"));
        assert!(agieval_is_equiv("k=\\frac12", "1/2") && !agieval_is_equiv("x/y", "x/ yz"));
    }

    #[test]
    fn the_second_version_is_stronger() {
        assert!(is_equiv_v2("2.00\\text{ cm}", "2"));
        assert!(is_equiv_v2("x\\in[1,inf)", "[1,\\infty)"));
        assert!(is_equiv_v2("3+4j", "3+4i"));
        assert!(!is_equiv_v1("2.00", "2"));
        assert_eq!(strip_v2("\\sqrt12").as_deref(), Some("\\sqrt{12}"));
    }
}
