//! AGIEval's answer parsers, which OpenCompass ships (`agieval/post_process.py`).

use crate::error::{Error, Result};
use crate::math::boxed;
use crate::python_text::{digits_at, is_word, strip};

/// How the question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Without examples.
    ZeroShot,
    /// With examples.
    FewShot,
    /// With examples that reason first; the answer is in the last line.
    FewShotCot,
}

impl Setting {
    /// Reads `zero-shot`, `zero-shot-CoT`, `few-shot` or `few-shot-CoT`.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for another name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "zero-shot" | "zero-shot-CoT" => Self::ZeroShot,
            "few-shot" => Self::FewShot,
            "few-shot-CoT" => Self::FewShotCot,
            _ => {
                return Err(Error::UnknownName {
                    kind: "setting of AGIEval",
                    name: name.to_owned(),
                });
            }
        })
    }

    fn relevant(self, text: &str) -> &str {
        if self == Self::FewShotCot {
            last_line(text)
        } else {
            text
        }
    }
}

/// The language of the examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `answer is`.
    English,
    /// `答案是`.
    Chinese,
}

/// The last line that is not blank, or the text.
fn last_line(text: &str) -> &str {
    text.rsplit('\n')
        .find(|line| !strip(line).is_empty())
        .unwrap_or(text)
}

/// The first of the letters A to F, or the empty text.
pub fn first_capital(text: &str) -> String {
    text.chars()
        .find(|c| ('A'..='F').contains(c))
        .map(String::from)
        .unwrap_or_default()
}

/// What stands between `【` and `】`; the empty text without both.
///
/// # Errors
/// [`Error::Extract`] if one of them is missing (upstream: `ValueError`).
pub fn in_brackets(text: &str) -> Result<String> {
    const OPEN: &str = "【";
    let inside = match (text.find(OPEN), text.find('】')) {
        (None, None) => "",
        (Some(open), Some(close)) => text.get(open + OPEN.len()..close).unwrap_or_default(),
        _ => {
            return Err(Error::Extract {
                extractor: "agieval.extract_answer_in_bracket",
                expected: "pair of brackets",
            });
        }
    };
    Ok(inside.to_owned())
}

/// Every letter A to Z in capitals.
pub fn capitals(text: &str, setting: Setting) -> Vec<String> {
    let text = setting.relevant(text);
    text.chars()
        .filter(char::is_ascii_uppercase)
        .map(String::from)
        .collect()
}

/// A letter A to G on the line of `answer is ` (or `答案是`), else [`first_capital`].
pub fn single_answer(text: &str, setting: Setting, language: Language) -> String {
    let mark = match language {
        Language::English => "answer is ",
        Language::Chinese => "答案是",
    };
    let relevant = setting.relevant(text);
    // The dot of the pattern does not cross lines.
    let letter = relevant.split('\n').find_map(|line| {
        let (_, after) = line.split_once(mark)?;
        after.chars().find(|c| ('A'..='G').contains(c))
    });
    letter.map_or_else(|| first_capital(text), String::from)
}

/// The answer of a cloze: what follows the phrase of the examples, and without examples the [`formula`] in it.
pub fn math_answer(text: &str, setting: Setting) -> Option<String> {
    let stripped = without_phrase(setting.relevant(text));
    if setting != Setting::ZeroShot {
        return Some(stripped.to_owned());
    }
    formula(stripped)
}

/// What is boxed, else what the last pair of dollar signs encloses, else what follows the last equals sign or the last
/// number: lm-evaluation-harness's `parse_math_answer`, which knows no phrase before the answer.
pub fn formula(text: &str) -> Option<String> {
    if text.contains("\\boxed") {
        let answer = boxed::unwrapped(boxed::last_boxed(text)?)?;
        return Some(after_equals(answer).to_owned());
    }
    let in_dollars = between_dollars(text)
        .map(after_equals)
        .filter(|answer| !answer.is_empty());
    in_dollars
        .map(str::to_owned)
        .or_else(|| without_dollars(text))
}

fn without_phrase(text: &str) -> &str {
    ["The answer is therefore", "答案是"]
        .iter()
        .fold(text, |text, phrase| {
            let after = text.strip_prefix(phrase);
            after
                .or_else(|| text.rsplit_once(phrase).map(|(_, after)| after))
                .map_or(text, strip)
        })
}

/// What follows the last equals sign, if there is one.
fn after_equals(answer: &str) -> &str {
    match answer.rsplit_once('=') {
        Some((_, value)) => value.trim_start_matches(' '),
        None => answer,
    }
}

/// From the first to the last dollar sign of the last line that has two.
fn between_dollars(text: &str) -> Option<&str> {
    text.rsplit('\n').find_map(|line| {
        let (_, after) = line.split_once('$')?;
        after.rsplit_once('$').map(|(inside, _)| inside)
    })
}

fn without_dollars(text: &str) -> Option<String> {
    if let Some((_, value)) = text.rsplit_once('=') {
        let value = value.trim_start_matches(' ').trim_end_matches('.');
        // A backslash and an n, as upstream has it.
        return Some(value.split("\\n").next().unwrap_or_default().to_owned());
    }
    last_free_number(text)
}

/// The last match of `\$?\d+(\.\d+)?(?![\w\d])`, in linear time.
fn last_free_number(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let free = |i: usize| chars.get(i).is_none_or(|&c| !is_word(c));
    let mut last = None;
    let mut i = 0;
    while i < chars.len() {
        let whole = i + usize::from(chars[i] == '$');
        let stop = whole + digits_at(&chars, whole);
        if stop == whole {
            i += 1;
            continue;
        }
        let fraction = if chars.get(stop) == Some(&'.') {
            digits_at(&chars, stop + 1)
        } else {
            0
        };
        let long = stop + 1 + fraction;
        let end = if fraction > 0 && free(long) {
            Some(long)
        } else {
            free(stop).then_some(stop)
        };
        if let Some(end) = end {
            last = Some(chars[i..end].iter().collect());
        }
        // From within the digits nothing else can match, as they would all end at the same place.
        i = end.unwrap_or(stop);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets() {
        assert_eq!(in_brackets("答【A】】").unwrap(), "A");
        assert_eq!(in_brackets("】【").unwrap(), "");
        assert!(matches!(in_brackets("【A"), Err(Error::Extract { .. })));
    }

    #[test]
    fn clozes() {
        let zero = |text: &str| math_answer(text, Setting::ZeroShot);
        assert_eq!(zero("\\boxed{x = 3}").as_deref(), Some("3"));
        assert_eq!(zero("$a$ and $b=2$\nend").as_deref(), Some("2"));
        assert_eq!(
            zero("it is 3.5kg or $4.50 or 12x").as_deref(),
            Some("$4.50")
        );
        assert_eq!(zero("3.5kg").as_deref(), Some("3"));
        assert_eq!(zero("$$ 7").as_deref(), Some("7"));
        assert_eq!(zero("x=3，答案是 5").as_deref(), Some("5"));
        assert_eq!(formula("x=3，答案是 5").as_deref(), Some("3，答案是 5"));
        assert_eq!(formula("由$x=2$得 答案是 5").as_deref(), Some("2"));
        let cot = math_answer("why\nThe answer is therefore 7\n \n", Setting::FewShotCot);
        assert_eq!(cot.as_deref(), Some("7"));
    }

    #[test]
    fn letters() {
        let few = |text: &str| single_answer(text, Setting::FewShot, Language::English);
        assert_eq!(few("B, so the answer is (D)"), "D");
        assert_eq!(few("answer is none\nC"), "C");
        assert_eq!(capitals("X\nA b C\n", Setting::FewShotCot), ["A", "C"]);
    }
}
