//! OpenCompass's clean-up of mathematical answers (`datasets/math.py`), after appendix D of Lewkowycz et al., "Solving
//! quantitative reasoning problems with language models", 2022.

use std::sync::LazyLock;

use regex::Regex;

use super::lewkowycz::{REMOVED, SUBSTITUTIONS};
use crate::math::boxed;
use crate::pattern::constant;
use crate::python_text::{is_digit_text, strip};

/// Deleted after what [`lewkowycz`](super::lewkowycz) deletes.
const LINE_ENDS: [char; 3] = ['\n', '\r', '\x0c'];

/// Environments whose content stays: text in parentheses, text, bold, an overline, a box.
static UNWRAPPED: LazyLock<[Regex; 5]> = LazyLock::new(|| {
    [
        r"\\text\{\((.*?)\)\}",
        r"\\text\{(.*?)\}",
        r"\\textbf\{(.*?)\}",
        r"\\overline\{(.*?)\}",
        r"\\boxed\{(.*)\}",
    ]
    .map(constant)
});
/// Phrases and marks whose last occurrence holds the answer.
static MARKS: LazyLock<[Regex; 4]> = LazyLock::new(|| {
    [
        r"finalansweris(.*)",
        r"answer?is:?(.*)",
        r"oxed\{(.*?)\}",
        r"\$(.*?)\$",
    ]
    .map(constant)
});
static SHORT_FRACTION: LazyLock<Regex> = LazyLock::new(|| constant(r"frac([^{])(.)"));
static SHORT_ROOT: LazyLock<Regex> = LazyLock::new(|| constant(r"sqrt([^{])"));

/// `normalize_final_answer`: without units, blanks, text commands and phrases, with braces around the arguments of
/// fractions and roots.
pub fn normalize_final_answer(answer: &str) -> String {
    let mut answer = answer.to_owned();
    for (from, to) in SUBSTITUTIONS {
        answer = answer.replace(from, to);
    }
    answer = answer.replace("\\le", "<");
    for removed in REMOVED {
        answer = answer.replace(removed, "");
    }
    answer = answer.replace(LINE_ENDS, "");
    for pattern in UNWRAPPED.iter() {
        answer = pattern.replace_all(&answer, "${1}").into_owned();
    }
    for pattern in MARKS.iter() {
        if let Some(found) = pattern.captures_iter(&answer).last() {
            answer = found[1].to_owned();
        }
    }
    answer = strip(&answer).to_owned();
    if answer.contains("rac") && !answer.contains("\\frac") {
        answer = answer.replace("rac", "\\frac");
    }
    answer = SHORT_FRACTION
        .replace_all(&answer, "frac{${1}}{${2}}")
        .into_owned();
    answer = SHORT_ROOT.replace_all(&answer, "sqrt{${1}}").into_owned();
    answer = answer.replace('$', "");
    let without_commas = answer.replace(',', "");
    if is_digit_text(&without_commas) {
        without_commas
    } else {
        answer
    }
}

/// `math_postprocess`: the first sentence that speaks of a final answer, else the first, normalised. Sentences end at
/// any full stop, also within numbers.
pub fn postprocess(text: &str) -> String {
    first_sentence(text, &["final answer"])
}

/// `math_postprocess_v2`: the boxed answer as it is, else a sentence as in [`postprocess`] that may also say `answer is`.
pub fn postprocess_v2(text: &str) -> String {
    let boxed = boxed::answer(text).map(|answer| without_double_braces(&answer).to_owned());
    boxed
        .filter(|answer| !answer.is_empty())
        .unwrap_or_else(|| first_sentence(text, &["final answer", "answer is"]))
}

fn first_sentence(text: &str, phrases: &[&str]) -> String {
    let says = |sentence: &&str| {
        let lower = sentence.to_lowercase();
        phrases.iter().any(|phrase| lower.contains(phrase))
    };
    let sentence = text
        .split('.')
        .find(says)
        .or_else(|| text.split('.').next());
    normalize_final_answer(sentence.unwrap_or_default())
}

/// What a pair of braces around a whole line encloses.
fn without_double_braces(answer: &str) -> &str {
    let line = answer.strip_suffix('\n').unwrap_or(answer);
    let inside = line
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    inside
        .filter(|inside| !inside.contains('\n'))
        .unwrap_or(answer)
}

/// `math_judement_preprocess`: the rest of the line after the first `ANSWER:` in any case, or the empty text.
pub fn answer_line(text: &str) -> String {
    static ANSWER: LazyLock<Regex> =
        LazyLock::new(|| constant(r"(?i)ANSWER[\s\x1c-\x1f]*:[\s\x1c-\x1f]*([^\n]+)"));
    ANSWER
        .captures(text)
        .map(|found| found[1].to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_normalised() {
        assert_eq!(normalize_final_answer(r"1{,}234,567 \text{ cm}"), "1234567");
        assert_eq!(
            normalize_final_answer(r"\sqrt2+\frac34x"),
            r"\sqrt{2}+\frac{3}{4}x"
        );
        assert_eq!(normalize_final_answer(r"\text{(A)}"), "A");
        assert_eq!(normalize_final_answer("a\\left"), "a<");
    }

    #[test]
    fn answers_are_found() {
        assert_eq!(postprocess_v2(r"\boxed{{5}}"), "5");
        assert_eq!(postprocess_v2("The answer is 7. No"), "7");
        assert_eq!(postprocess("a. The Final Answer: 5"), "TheFinalAnswer:5");
        assert_eq!(answer_line("x\nAnswer : \n 5 \ny"), "5 ");
    }
}
