//! lm-evaluation-harness's `minerva_math`: the answer in a solution, its clean-up, and the comparison.

use std::sync::LazyLock;

use regex::Regex;

use super::lewkowycz::{REMOVED, SUBSTITUTIONS, is_unit};
use crate::math::expression;
use crate::pattern::constant;
use crate::python_text::{strip, word_runs};

/// What an answer that was not found becomes.
pub const INVALID: &str = "[invalidanswer]";

static FINAL: LazyLock<Regex> =
    LazyLock::new(|| constant(r"Final Answer: The final answer is(.*?). I hope it is correct."));
static REWRITES: LazyLock<[(Regex, &str); 8]> = LazyLock::new(|| {
    [
        (r"(.*?)(\$)(.*?)(\$)(.*)", "$$${3}$$"),
        (r"\\text\{(.*?)\}", "${1}"),
        (r"\\textbf\{(.*?)\}", "${1}"),
        (r"\\overline\{(.*?)\}", "${1}"),
        (r"\\boxed\{(.*)\}", "${1}"),
        (r"frac([^{])(.)", "frac{${1}}{${2}}"),
        (r"(sqrt)(\[[^\]]*\])([\p{L}\p{N}_])", "${1}${2}{${3}}"),
        (r"sqrt([^{\[])", "sqrt{${1}}"),
    ]
    .map(|(pattern, replacement)| (constant(pattern), replacement))
});
static THOUSANDS: LazyLock<Regex> = LazyLock::new(|| constant(r"\A-?\d{1,3}(,\d{3})+\z"));

/// `get_unnormalized_answer`: what stands between the phrases of the examples, or [`INVALID`].
pub fn unnormalized_answer(text: &str) -> String {
    let text = format!("{text}I hope it is correct.");
    let found = FINAL.captures(&text);
    found.map_or(INVALID.to_owned(), |found| strip(&found[1]).to_owned())
}

/// The answer of a solution, normalised.
pub fn answer(text: &str) -> String {
    normalize_final_answer(&unnormalized_answer(text))
}

/// The right answer of a problem: what its solution boxes, normalised. `None` without a box.
pub fn gold(solution: &str) -> Option<String> {
    let boxed = match solution.rsplit_once("\\boxed ") {
        // `\boxed 5$` boxes what is left of the formula.
        Some((_, after)) => after.split('$').next().unwrap_or_default(),
        None => {
            let boxed = super::boxed::last_boxed(solution)?;
            super::boxed::unwrapped(boxed)?
        }
    };
    Some(normalize_final_answer(boxed))
}

/// `normalize_final_answer`: without units, blanks and text commands, with braces around the arguments of fractions and
/// roots.
pub fn normalize_final_answer(answer: &str) -> String {
    let mut answer = without_unit_words(answer.rsplit('=').next().unwrap_or_default());
    for (from, to) in SUBSTITUTIONS {
        answer = answer.replace(from, to);
    }
    for removed in REMOVED {
        answer = match is_unit(removed) {
            true => outside_commands(&answer, removed),
            false => answer.replace(removed, ""),
        };
    }
    for (pattern, replacement) in REWRITES.iter() {
        answer = pattern.replace_all(&answer, *replacement).into_owned();
    }
    answer = answer.replace('$', "");
    if THOUSANDS.is_match(&answer) {
        answer.replace(',', "")
    } else {
        answer
    }
}

/// Units that stand as words of their own, unless a backslash makes them commands.
fn without_unit_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for run in word_runs(text) {
        let unit = is_unit(run) && REMOVED.contains(&run);
        if !unit || out.ends_with('\\') {
            out.push_str(run);
        }
    }
    out
}

/// Deletes a unit everywhere but in the names of commands, so that `ft` leaves `\left` alone.
fn outside_commands(text: &str, unit: &str) -> String {
    if !text.contains(unit) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        // A backslash without a letter after it is no command.
        let command = rest.match_indices('\\').map(|(at, _)| at).find(|at| {
            rest.as_bytes()
                .get(at + 1)
                .is_some_and(u8::is_ascii_alphabetic)
        });
        let Some(at) = command else {
            out.push_str(&rest.replace(unit, ""));
            return out;
        };
        let name = &rest[at + 1..];
        let end = name
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(name.len());
        out.push_str(&rest[..at].replace(unit, ""));
        out.push_str(&rest[at..=at + end]);
        rest = &name[end..];
    }
}

/// `is_equiv`: the same text, or expressions of the same value. Where upstream asks sympy whether a difference
/// simplifies to 0, [`expression`] compares; like upstream it takes no tuples, intervals or sets for equal unless they
/// are the same text.
pub fn is_equiv(a: &str, b: &str) -> bool {
    !a.is_empty() && a == b || expression::equal_scalars(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_and_normalised() {
        let text = "Final Answer: The final answer is $x=2\\pi \\text{cm}$. I hope it is correct.";
        assert_eq!(answer(text), "2\\pi");
        assert_eq!(answer("5"), INVALID);
        assert_eq!(answer("Final Answer: The final answer is $7$. "), "7");
        assert_eq!(
            normalize_final_answer("\\left(1\\right) ft"),
            "\\left(1\\right)"
        );
        assert_eq!(
            normalize_final_answer("\\sqrt[3]8+\\frac12"),
            "\\sqrt[3]{8}+\\frac{1}{2}"
        );
        // What the function of the harness gives: `\ldots` goes before `feet` and after `units`.
        assert_eq!(normalize_final_answer("1,\\ldotsfeet"), "1,");
        assert_eq!(normalize_final_answer("1,2,\\ldotsunits"), "1,2,units");
        assert_eq!(normalize_final_answer("1,000"), "1000");
        assert_eq!(normalize_final_answer("0,1"), "0,1");
        assert_eq!(gold("so $\\boxed 5$").as_deref(), Some("5"));
        assert_eq!(
            gold("so $\\boxed{\\frac12}$").as_deref(),
            Some("\\frac{1}{2}")
        );
        assert_eq!(gold("none"), None);
    }
}
