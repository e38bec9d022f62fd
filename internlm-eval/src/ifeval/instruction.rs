//! The instructions and their checkers (`tasks/ifeval/instructions.py` of lm-evaluation-harness).

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::{json, language, sentences};
use crate::error::{Error, Result};
use crate::pattern::{Flags, Pattern};
use crate::python_text::{is_lower_text, is_upper_text, is_word, split_whitespace, strip};

/// An instruction with its arguments.
#[derive(Clone, Debug)]
pub struct Instruction {
    id: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    Keywords(Vec<Pattern>),
    KeywordFrequency(Pattern, Bound),
    ForbiddenWords(Vec<Pattern>),
    LetterFrequency(char, Bound),
    Language(String),
    Sentences(Bound),
    Paragraphs(usize),
    Words(Bound),
    FirstWord {
        paragraphs: usize,
        nth: usize,
        word: String,
    },
    Placeholders(usize),
    Postscript(Pattern),
    Bullets(usize),
    ConstrainedResponse,
    Highlights(usize),
    Sections(Pattern, usize),
    Json,
    Title,
    TwoResponses,
    RepeatPrompt(String),
    End(String),
    CapitalWords(Bound),
    EnglishCapital,
    EnglishLowercase,
    NoComma,
    Quotation,
}

/// A number and whether it is a lower bound or, exclusive, an upper one.
#[derive(Clone, Copy, Debug)]
struct Bound {
    number: usize,
    at_least: bool,
}

impl Bound {
    fn holds(self, n: usize) -> bool {
        if self.at_least {
            n >= self.number
        } else {
            n < self.number
        }
    }
}

/// Reads arguments; what is null, zero or empty counts as missing, as in the reference.
struct Arguments<'a> {
    id: &'a str,
    values: &'a Map<String, Value>,
}

impl Arguments<'_> {
    fn error(&self, name: &str, reason: &str) -> Error {
        Error::Instruction {
            id: self.id.to_owned(),
            reason: format!("`{name}` {reason}"),
        }
    }

    fn text(&self, name: &str) -> Result<&str> {
        let text = self.values.get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| self.error(name, "is not a text"))
    }

    fn number(&self, name: &str) -> Result<usize> {
        let value = self.values.get(name);
        let number = value.and_then(|value| {
            // Tables without missing values hold integers as floats.
            let float = value
                .as_f64()
                .filter(|float| float.fract() == 0.0 && *float <= 1e9)?;
            #[allow(clippy::cast_possible_truncation, reason = "an integer below 1e9")]
            usize::try_from(float as i64).ok()
        });
        number
            .filter(|&number| number > 0)
            .ok_or_else(|| self.error(name, "is not a positive number"))
    }

    fn texts(&self, name: &str) -> Result<Vec<&str>> {
        let list = self.values.get(name).and_then(Value::as_array);
        let texts: Option<Vec<&str>> =
            list.and_then(|list| list.iter().map(Value::as_str).collect());
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| self.error(name, "is not a list of texts"))
    }

    fn bound(&self, number: &str, relation: &str) -> Result<Bound> {
        Ok(Bound {
            number: self.number(number)?,
            at_least: match self.text(relation)? {
                "at least" => true,
                "less than" => false,
                _ => return Err(self.error(relation, "is neither `at least` nor `less than`")),
            },
        })
    }
}

impl Instruction {
    /// Reads an instruction by its id, such as `keywords:existence`, with its arguments.
    ///
    /// # Errors
    /// [`Error::Instruction`] for an unknown id or a missing or unfit argument; [`Error::Pattern`] for a keyword that is
    /// a broken pattern.
    pub fn parse(id: &str, arguments: &Map<String, Value>) -> Result<Self> {
        let rule = Rule::parse(&Arguments {
            id,
            values: arguments,
        })?;
        Ok(Self {
            id: id.to_owned(),
            rule,
        })
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether a response follows the instruction.
    ///
    /// # Errors
    /// As [`check`](super::check).
    pub fn follows(&self, response: &str) -> Result<bool> {
        self.rule.follows(response)
    }
}

impl Rule {
    fn parse(arguments: &Arguments<'_>) -> Result<Self> {
        let ignore_case = |pattern: &str| Pattern::with_flags(pattern, Flags::IGNORE_CASE);
        Ok(match arguments.id {
            "keywords:existence" => {
                let keywords = arguments.texts("keywords")?.into_iter().map(ignore_case);
                Self::Keywords(keywords.collect::<Result<_>>()?)
            }
            "keywords:frequency" => Self::KeywordFrequency(
                ignore_case(strip(arguments.text("keyword")?))?,
                arguments.bound("frequency", "relation")?,
            ),
            "keywords:forbidden_words" => {
                let words = arguments.texts("forbidden_words")?.into_iter();
                let words = words.map(|word| ignore_case(&format!(r"\b{word}\b")));
                Self::ForbiddenWords(words.collect::<Result<_>>()?)
            }
            "keywords:letter_frequency" => {
                // The reference draws a random letter for what is none; here it is counted as it is.
                let letter = strip(arguments.text("letter")?).to_lowercase();
                let mut letters = letter.chars();
                let (Some(letter), None) = (letters.next(), letters.next()) else {
                    return Err(arguments.error("letter", "is not one letter"));
                };
                Self::LetterFrequency(letter, arguments.bound("let_frequency", "let_relation")?)
            }
            "language:response_language" => Self::Language(arguments.text("language")?.to_owned()),
            "length_constraints:number_sentences" => {
                Self::Sentences(arguments.bound("num_sentences", "relation")?)
            }
            "length_constraints:number_paragraphs" => {
                Self::Paragraphs(arguments.number("num_paragraphs")?)
            }
            "length_constraints:number_words" => {
                Self::Words(arguments.bound("num_words", "relation")?)
            }
            "length_constraints:nth_paragraph_first_word" => {
                let (paragraphs, nth) = (
                    arguments.number("num_paragraphs")?,
                    arguments.number("nth_paragraph")?,
                );
                if nth > paragraphs {
                    return Err(arguments.error("nth_paragraph", "is more than there should be"));
                }
                let word = arguments.text("first_word")?.to_lowercase();
                Self::FirstWord {
                    paragraphs,
                    nth,
                    word,
                }
            }
            "detectable_content:number_placeholders" => {
                Self::Placeholders(arguments.number("num_placeholders")?)
            }
            "detectable_content:postscript" => {
                let pattern = match strip(arguments.text("postscript_marker")?) {
                    "P.P.S" => r"\s*p\.\s?p\.\s?s.*$".to_owned(),
                    "P.S." => r"\s*p\.\s?s\..*$".to_owned(),
                    marker => format!(r"\s*{}.*$", marker.to_lowercase()),
                };
                Self::Postscript(Pattern::with_flags(&pattern, Flags::MULTI_LINE)?)
            }
            "detectable_format:number_bullet_lists" => {
                Self::Bullets(arguments.number("num_bullets")?)
            }
            "detectable_format:constrained_response" => Self::ConstrainedResponse,
            "detectable_format:number_highlighted_sections" => {
                Self::Highlights(arguments.number("num_highlights")?)
            }
            "detectable_format:multiple_sections" => {
                let splitter = strip(arguments.text("section_spliter")?);
                let pattern = Pattern::new(&format!(r"\s?{splitter}\s?\d+\s?"))?;
                Self::Sections(pattern, arguments.number("num_sections")?)
            }
            "detectable_format:json_format" => Self::Json,
            "detectable_format:title" => Self::Title,
            "combination:two_responses" => Self::TwoResponses,
            "combination:repeat_prompt" => {
                let prompt = strip(arguments.text("prompt_to_repeat")?).to_lowercase();
                Self::RepeatPrompt(prompt)
            }
            "startend:end_checker" => {
                Self::End(strip(arguments.text("end_phrase")?).to_lowercase())
            }
            "change_case:capital_word_frequency" => {
                Self::CapitalWords(arguments.bound("capital_frequency", "capital_relation")?)
            }
            "change_case:english_capital" => Self::EnglishCapital,
            "change_case:english_lowercase" => Self::EnglishLowercase,
            "punctuation:no_comma" => Self::NoComma,
            "startend:quotation" => Self::Quotation,
            id => {
                return Err(Error::Instruction {
                    id: id.to_owned(),
                    reason: "is not known".to_owned(),
                });
            }
        })
    }

    fn follows(&self, response: &str) -> Result<bool> {
        Ok(match self {
            Self::Keywords(patterns) => all_match(patterns, response)?,
            Self::KeywordFrequency(pattern, bound) => {
                bound.holds(pattern.find_all(response)?.len())
            }
            Self::ForbiddenWords(patterns) => none_match(patterns, response)?,
            Self::LetterFrequency(letter, bound) => {
                let lower = response.to_lowercase();
                bound.holds(lower.chars().filter(|c| c == letter).count())
            }
            Self::Language(wanted) => language::is(response, wanted)?,
            Self::Sentences(bound) => bound.holds(sentences::count(response)),
            Self::Paragraphs(n) => paragraphs(response)? == Some(*n),
            Self::Words(bound) => bound.holds(words(response)),
            Self::FirstWord {
                paragraphs,
                nth,
                word,
            } => first_word(response, *paragraphs, *nth).as_deref() == Some(word),
            Self::Placeholders(n) => PLACEHOLDER.find_all(response)?.len() >= *n,
            Self::Postscript(pattern) => pattern.is_match(&response.to_lowercase())?,
            Self::Bullets(n) => bullets(response)? == *n,
            Self::ConstrainedResponse => {
                let options = [
                    "My answer is yes.",
                    "My answer is no.",
                    "My answer is maybe.",
                ];
                options.iter().any(|option| response.contains(option))
            }
            Self::Highlights(n) => highlights(response)? >= *n,
            Self::Sections(pattern, n) => pattern.find_all(response)?.len() >= *n,
            Self::Json => json::is_valid(unfenced(response)),
            Self::Title => has_title(response)?,
            Self::TwoResponses => two_responses(response),
            Self::RepeatPrompt(prompt) => strip(response).to_lowercase().starts_with(prompt),
            Self::End(phrase) => strip(response)
                .trim_matches('"')
                .to_lowercase()
                .ends_with(phrase),
            Self::CapitalWords(bound) => {
                let words = sentences::word_tokens(response);
                bound.holds(words.iter().filter(|word| is_upper_text(word)).count())
            }
            Self::EnglishCapital => is_upper_text(response) && language::is(response, "en")?,
            Self::EnglishLowercase => is_lower_text(response) && language::is(response, "en")?,
            Self::NoComma => !response.contains(','),
            Self::Quotation => {
                let response = strip(response);
                response.len() > 1 && response.starts_with('"') && response.ends_with('"')
            }
        })
    }
}

macro_rules! pattern {
    ($pattern:expr, $flags:expr) => {
        LazyLock::new(|| Pattern::constant($pattern, $flags))
    };
}

static PLACEHOLDER: LazyLock<Pattern> = pattern!(r"\[.*?\]", Flags::NONE);
static DIVIDER: LazyLock<Pattern> = pattern!(r"\s?\*\*\*\s?", Flags::NONE);
static STAR_BULLET: LazyLock<Pattern> = pattern!(r"^\s*\*[^\*].*$", Flags::MULTI_LINE);
static DASH_BULLET: LazyLock<Pattern> = pattern!(r"^\s*-.*$", Flags::MULTI_LINE);
static HIGHLIGHT: LazyLock<Pattern> = pattern!(r"\*[^\n\*]*\*", Flags::NONE);
static DOUBLE_HIGHLIGHT: LazyLock<Pattern> = pattern!(r"\*\*[^\n\*]*\*\*", Flags::NONE);
static TITLE: LazyLock<Pattern> = pattern!(r"<<[^\n]+>>", Flags::NONE);

fn all_match(patterns: &[Pattern], text: &str) -> Result<bool> {
    for pattern in patterns {
        if !pattern.is_match(text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn none_match(patterns: &[Pattern], text: &str) -> Result<bool> {
    for pattern in patterns {
        if pattern.is_match(text)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Parts between lines of asterisks; none if one within is empty. Empty ones at the ends don't count.
fn paragraphs(response: &str) -> Result<Option<usize>> {
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

fn words(text: &str) -> usize {
    text.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .count()
}

/// The first word of a paragraph in small letters up to a punctuation mark, if there are as many paragraphs as wanted.
fn first_word(response: &str, paragraphs: usize, nth: usize) -> Option<String> {
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

fn bullets(response: &str) -> Result<usize> {
    Ok(STAR_BULLET.find_all(response)?.len() + DASH_BULLET.find_all(response)?.len())
}

fn highlights(response: &str) -> Result<usize> {
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
fn unfenced(response: &str) -> &str {
    let mut text = strip(response);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    strip(text.strip_suffix("```").unwrap_or(text))
}

fn has_title(response: &str) -> Result<bool> {
    let titles = TITLE.find_all(response)?;
    let mut titles = titles.iter().filter_map(|found| found.group(response, 0));
    Ok(titles.any(|title| !strip(title.trim_start_matches('<').trim_end_matches('>')).is_empty()))
}

fn two_responses(response: &str) -> bool {
    let parts: Vec<&str> = response.split("******").map(strip).collect();
    let last = parts.len() - 1;
    let empty_within = parts
        .iter()
        .enumerate()
        .any(|(index, part)| part.is_empty() && index != 0 && index != last);
    let filled: Vec<&&str> = parts.iter().filter(|part| !part.is_empty()).collect();
    !empty_within && matches!(filled.as_slice(), [first, second] if first != second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn instruction(id: &str, arguments: &Value) -> Result<Instruction> {
        Instruction::parse(id, arguments.as_object().unwrap())
    }

    #[track_caller]
    fn check(id: &str, arguments: &Value, response: &str, want: bool) {
        let follows = instruction(id, arguments)
            .unwrap()
            .follows(response)
            .unwrap();
        assert_eq!(follows, want);
    }

    #[test]
    fn counts() {
        let words = json!({"num_words": 3.0, "relation": "at least"});
        check("length_constraints:number_words", &words, "don't go", true);
        check("length_constraints:number_words", &words, "one-two", false);
        let bullets = json!({"num_bullets": 2});
        check(
            "detectable_format:number_bullet_lists",
            &bullets,
            "* a\n\n - b\n** c",
            true,
        );
        let highlights = json!({"num_highlights": 2});
        check(
            "detectable_format:number_highlighted_sections",
            &highlights,
            "*a* **b**",
            true,
        );
        check(
            "detectable_format:number_highlighted_sections",
            &highlights,
            "*a* * *",
            false,
        );
        let placeholders = json!({"num_placeholders": 1});
        check(
            "detectable_content:number_placeholders",
            &placeholders,
            "[a\n]",
            false,
        );
        let letters = json!({"letter": "E", "let_frequency": 2, "let_relation": "less than"});
        check("keywords:letter_frequency", &letters, "eE", false);
        check(
            "length_constraints:number_paragraphs",
            &json!({"num_paragraphs": 2}),
            "***a *** b",
            true,
        );
        check(
            "length_constraints:number_paragraphs",
            &json!({"num_paragraphs": 2}),
            "a******b",
            false,
        );
    }

    #[test]
    fn forms() {
        let none = json!({});
        check("combination:two_responses", &none, "a ****** b", true);
        check("combination:two_responses", &none, "a ****** a", false);
        check(
            "combination:two_responses",
            &none,
            "a ****** ****** b",
            false,
        );
        check("detectable_format:title", &none, "<<>>> <<a>>", true);
        check("detectable_format:title", &none, "<< >>", false);
        check(
            "detectable_format:json_format",
            &none,
            "```json\n{\"a\": NaN}\n```",
            true,
        );
        check(
            "startend:end_checker",
            &json!({"end_phrase": "Bye."}),
            "x BYE.\"",
            true,
        );
        let first = json!({"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "The"});
        check(
            "length_constraints:nth_paragraph_first_word",
            &first,
            "a\n\n'\"the, x",
            true,
        );
        check(
            "length_constraints:nth_paragraph_first_word",
            &first,
            "a\n\n\n\nthe",
            false,
        );
        check(
            "detectable_content:postscript",
            &json!({"postscript_marker": "P.P.S"}),
            "x\nP. P.S hi",
            true,
        );
        let sections = json!({"section_spliter": "Section", "num_sections": 2});
        check(
            "detectable_format:multiple_sections",
            &sections,
            "Section 1 a\nSection2",
            true,
        );
    }

    #[test]
    fn unfit_arguments_are_errors() {
        for (id, arguments) in [
            ("keywords:unknown", json!({})),
            ("keywords:existence", json!({"keywords": []})),
            (
                "length_constraints:number_words",
                json!({"num_words": 0, "relation": "at least"}),
            ),
            (
                "length_constraints:number_words",
                json!({"num_words": 5, "relation": "about"}),
            ),
            (
                "keywords:letter_frequency",
                json!({"letter": "ab", "let_frequency": 1, "let_relation": "at least"}),
            ),
        ] {
            assert!(
                matches!(instruction(id, &arguments), Err(Error::Instruction { .. })),
                "{id}"
            );
        }
        let broken = instruction("keywords:existence", &json!({"keywords": ["("]}));
        assert!(matches!(broken, Err(Error::Pattern { .. })));
    }
}
