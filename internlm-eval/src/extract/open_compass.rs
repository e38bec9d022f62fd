//! Post-processors of OpenCompass for choices, numbers and short answers (`text_postprocessors.py`, `gsm8k.py`,
//! `bbh.py`, `strategyqa.py`, `triviaqa.py`).

use std::sync::LazyLock;

use crate::error::{Error, Result};
use crate::pattern::{Flags, Pattern};
use crate::python_text::{
    self, capitalize, digits_at, is_space, is_word, split_whitespace, strip, word_runs,
};

/// `general`: up to the first line feed, full stop or comma, without punctuation and English articles, single blanks.
pub fn general(text: &str) -> String {
    let head = text.split(['\n', '.', ',']).next().unwrap_or_default();
    let bare: String = head
        .chars()
        .filter(|&c| is_word(c) || is_space(c))
        .collect();
    let article = |run: &&str| {
        let mut articles = ["a", "an", "the"].iter();
        articles.any(|article| run.eq_ignore_ascii_case(article))
    };
    let kept: String = word_runs(&bare).filter(|run| !article(run)).collect();
    split_whitespace(&kept).collect::<Vec<_>>().join(" ")
}

/// `general_cn`: the whole text cut into words by jieba. (Upstream cleans the text first and then cuts the original.)
#[cfg(feature = "jieba")]
pub fn chinese_words(text: &str) -> String {
    crate::metric::chinese_rouge::words(text).join(" ")
}

/// The first upper-case character of any script, or the empty text.
pub fn first_capital(text: &str) -> String {
    text.chars()
        .find(|c| c.is_uppercase())
        .map(String::from)
        .unwrap_or_default()
}

/// The last upper-case character of any script, or the empty text.
pub fn last_capital(text: &str) -> String {
    text.chars()
        .rfind(|c| c.is_uppercase())
        .map(String::from)
        .unwrap_or_default()
}

/// The first run of the letters A to D, or the empty text.
pub fn first_capital_run(text: &str) -> String {
    let letters = |c: &char| ('A'..='D').contains(c);
    text.chars()
        .skip_while(|c| !letters(c))
        .take_while(letters)
        .collect()
}

/// The last character that is one of the options (which form a class of a regular expression upstream; here they are
/// plain characters), or the empty text.
pub fn last_option(text: &str, options: &str) -> String {
    text.chars()
        .rfind(|&c| options.contains(c))
        .map(String::from)
        .unwrap_or_default()
}

/// All upper-case characters, sorted, each once.
pub fn multiple_select(text: &str) -> String {
    let capitals: std::collections::BTreeSet<char> =
        text.chars().filter(|c| c.is_uppercase()).collect();
    capitals.into_iter().collect()
}

/// The first number in digits of any script: perhaps a minus sign, digits, perhaps a full stop and digits.
pub fn first_number(text: &str) -> Option<f64> {
    let chars: Vec<char> = text.chars().collect();
    let is = |i: usize, c: char| chars.get(i) == Some(&c);
    let number_at = |start: usize| -> Option<usize> {
        let whole = start + usize::from(is(start, '-'));
        let stop = whole + digits_at(&chars, whole);
        let fraction = if is(stop, '.') {
            digits_at(&chars, stop + 1)
        } else {
            0
        };
        if fraction > 0 {
            Some(stop + 1 + fraction)
        } else {
            (stop > whole).then_some(stop)
        }
    };
    let (start, end) = (0..chars.len()).find_map(|start| Some((start, number_at(start)?)))?;
    python_text::float(&chars[start..end].iter().collect::<String>())
}

/// `gsm8k`: the last number before the next `Question:`, or `NULL`.
pub fn gsm8k(text: &str) -> String {
    let head = text.split("Question:").next().unwrap_or_default();
    last_number(head).unwrap_or_else(|| "NULL".to_owned())
}

/// The last match of `\-?\d+\.\d+|\-?\d+`.
fn last_number(text: &str) -> Option<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut last = None;
    let mut i = 0;
    while i < chars.len() {
        let whole = i + usize::from(chars[i] == '-');
        let mut end = whole + digits_at(&chars, whole);
        if end == whole {
            i += 1;
            continue;
        }
        if chars.get(end) == Some(&'.') && digits_at(&chars, end + 1) > 0 {
            end += 1 + digits_at(&chars, end + 1);
        }
        last = Some(chars[i..end].iter().collect());
        i = end;
    }
    last
}

/// `gsm8k_dataset`: what stands between the first and the second `#### `, without commas.
///
/// # Errors
/// [`Error::Extract`] without a `#### ` (upstream: `IndexError`).
pub fn gsm8k_gold(text: &str) -> Result<String> {
    text.split("#### ")
        .nth(1)
        .map(|answer| answer.replace(',', ""))
        .ok_or(Error::Extract {
            extractor: "gsm8k_dataset_postprocess",
            expected: "`#### `",
        })
}

/// `bbh-mcq`: after the first `answer is `, a capital in parentheses, else the first capital of A to Z, else the text.
pub fn bbh_choice(text: &str) -> String {
    let answer = text.split("answer is ").nth(1).map_or(text, strip);
    let bytes = answer.as_bytes();
    let in_parentheses = bytes
        .windows(2)
        .find(|pair| pair[0] == b'(' && pair[1].is_ascii_uppercase())
        .map(|pair| pair[1]);
    let letter = in_parentheses.or_else(|| bytes.iter().copied().find(u8::is_ascii_uppercase));
    letter.map_or_else(
        || answer.to_owned(),
        |letter| char::from(letter).to_string(),
    )
}

/// `bbh-freeform`: the first line after the last `answer is`, or what is bold in it; yes, no, true and false alone;
/// commas that separate words become blanks.
///
/// # Errors
/// None in practice; the patterns are constants.
pub fn bbh_freeform(text: &str) -> Result<String> {
    static PHRASE: LazyLock<Pattern> =
        LazyLock::new(|| Pattern::constant(r"answer is\s*:?\s*", Flags::IGNORE_CASE));
    static WORD: LazyLock<Pattern> =
        LazyLock::new(|| Pattern::constant("^(yes|no|true|false)", Flags::IGNORE_CASE));
    static DIGITS: LazyLock<Pattern> =
        LazyLock::new(|| Pattern::constant(r"\d\s*,\s*\d", Flags::NONE));
    let parts = PHRASE.split(text)?;
    let answer = match parts.as_slice() {
        [.., last] if parts.len() > 1 => strip(last),
        _ => text,
    };
    let line = strip(answer.split('\n').next().unwrap_or_default());
    let line = line.strip_suffix('.').map_or(line, strip);
    let line = bold(line).map_or(line, strip);
    if let Some(word) = WORD.search(line)?.and_then(|found| found.group(line, 1))
        && !line[word.len()..].starts_with(is_word)
    {
        return Ok(capitalize(word));
    }
    let spaced = if DIGITS.is_match(line)? {
        line.to_owned()
    } else {
        line.replace(',', " ")
    };
    Ok(split_whitespace(&spaced).collect::<Vec<_>>().join(" "))
}

/// What the first pair of `**` on a line encloses.
fn bold(line: &str) -> Option<&str> {
    let (_, after) = line.split_once("**")?;
    after.split_once("**").map(|(inside, _)| inside)
}

/// `strategyqa`: in the first paragraph, after the last `answer is `, the first `yes` or `no`, or the empty text.
pub fn strategy_qa(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let answer = paragraph
        .rsplit("answer is ")
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let word = match (answer.find("yes"), answer.find("no")) {
        (Some(yes), Some(no)) if no < yes => "no",
        (Some(_), _) => "yes",
        (None, Some(_)) => "no",
        (None, None) => "",
    };
    word.to_owned()
}

/// `strategyqa_dataset`: `True` is yes.
pub fn strategy_qa_gold(text: &str) -> String {
    if text == "True" { "yes" } else { "no" }.to_owned()
}

/// What `TriviaQAEvaluator` makes of a prediction: the first line in small letters, after the last `answer is`, `a:`
/// and `answer:`, then [`general`].
pub fn trivia_qa(text: &str) -> String {
    let line = strip(text)
        .split('\n')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let after_last =
        |line: String, mark: &str| line.rsplit(mark).next().unwrap_or_default().to_owned();
    let answer = ["answer is", "a:", "answer:"]
        .iter()
        .fold(line, |line, mark| after_last(line, mark));
    general(strip(&answer))
}

/// `specific-xml-tag`: what the last pair of tags encloses, or `NO ANSWER FOUND`.
pub(super) fn last_tag(pattern: &Pattern, text: &str) -> Result<String> {
    let matches = pattern.find_all(text)?;
    let inside = matches.last().and_then(|found| found.group(text, 1));
    Ok(inside.map_or("NO ANSWER FOUND", strip).to_owned())
}

/// `extract-non-reasoning-content`: without what is between the tokens; with an end alone, what follows the last end.
pub(super) fn non_reasoning(text: &str, start: &str, end: &str, pair: &Pattern) -> Result<String> {
    if !text.contains(start) && text.contains(end) {
        return Ok(strip(text.rsplit(end).next().unwrap_or_default()).to_owned());
    }
    Ok(strip(&pair.replace_with(text, "")?).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_script() {
        assert_eq!(first_number("--３.5x"), Some(-3.5));
        assert_eq!(first_number("a.-b"), None);
        assert_eq!(first_number("1.-2"), Some(1.0));
        assert_eq!(gsm8k("1.2.3-4"), "-4");
        assert_eq!(gsm8k("5-"), "5");
        assert_eq!(gsm8k("Question: 7"), "NULL");
    }

    #[test]
    fn short_answers() {
        assert_eq!(general("A theory: the Café_1!"), "theory Café_1");
        assert_eq!(bbh_freeform("the ANSWER IS:\n **No**, x").unwrap(), "No");
        assert_eq!(bbh_freeform("a , b,c.").unwrap(), "a b c");
        assert_eq!(bbh_freeform("nothing").unwrap(), "nothing");
        assert_eq!(bbh_choice("answer is (b) X"), "X");
        assert_eq!(strategy_qa("answer is I know, yes"), "no");
        assert_eq!(multiple_select("ÉAA"), "AÉ");
        assert_eq!(last_option("abD C", "AD"), "D");
    }
}
