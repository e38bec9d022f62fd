//! The instructions and their checkers (`tasks/ifeval/instructions.py` of lm-evaluation-harness).

use serde_json::{Map, Value};

use super::arguments::{Arguments, Bound};
use super::checks::{
    PLACEHOLDER, all_match, bullets, first_word, has_title, highlights, none_match, paragraphs,
    two_responses, unfenced, words,
};
use super::{json, language, sentences, word_tokens};
use crate::error::{Error, Result};
use crate::pattern::{Flags, Pattern};
use crate::python_text::{is_lower_text, is_upper_text, strip};

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
                let words = word_tokens::word_tokens(response);
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
