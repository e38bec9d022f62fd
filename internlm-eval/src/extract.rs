//! What of a model's text is its answer.
//!
//! [`Extractor`] holds OpenCompass's post-processors by name, [`filter`] the filters of lm-evaluation-harness, and
//! [`compare`] the rules by which an extracted answer equals the right one. Each follows its source on odd input too,
//! with two exceptions: nothing is ever evaluated as code (where upstream calls `eval`, a string literal is read and
//! everything else stays as it is), and a pattern that takes too long is an error instead of a hang.
//!
//! ```
//! use internlm_eval::extract::Extractor;
//!
//! let extractor = Extractor::parse("first_option_postprocess:ABCD")?;
//! assert_eq!(extractor.extract("综上，答案选D。")?, "D");
//! # Ok::<(), internlm_eval::Error>(())
//! ```

pub mod agieval;
pub mod code;
pub mod compare;
pub mod filter;
pub mod first_option;
pub mod open_compass;
mod python_literal;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::math;
use crate::pattern::{Flags, Pattern};
use agieval::Setting;
use first_option::FirstOption;

/// A post-processor with its settings.
#[derive(Clone, Debug)]
pub struct Extractor {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A text from a text, without settings.
    Text(fn(&str) -> String),
    /// A text, or none.
    Maybe(fn(&str) -> Option<String>),
    /// A text, or an error where upstream raises.
    Fallible(fn(&str) -> Result<String>),
    FirstNumber,
    FirstOption(FirstOption),
    LastOption(String),
    /// The first group of the first match, or the empty text.
    AnswerPattern(Pattern),
    /// The same, stripped, or the whole text.
    Think(Pattern),
    XmlTag(Pattern),
    NonReasoning {
        start: String,
        end: String,
        pair: Pattern,
    },
    AgievalMath(Setting),
    AgievalMultiple(Setting),
    AgievalSingle(Setting, agieval::Language),
}

/// Post-processors without settings: what OpenCompass calls the function, what it registers it as, and ours.
const PLAIN: &[(&str, &str, Kind)] = &[
    (
        "general_postprocess",
        "general",
        Kind::Text(open_compass::general),
    ),
    (
        "first_capital_postprocess",
        "first-capital",
        Kind::Text(open_compass::first_capital),
    ),
    (
        "last_capital_postprocess",
        "last-capital",
        Kind::Text(open_compass::last_capital),
    ),
    (
        "first_capital_postprocess_multi",
        "first-capital-multi",
        Kind::Text(open_compass::first_capital_run),
    ),
    (
        "first_number_postprocess",
        "first-number",
        Kind::FirstNumber,
    ),
    (
        "multiple_select_postprocess",
        "multiple-select",
        Kind::Text(open_compass::multiple_select),
    ),
    (
        "gsm8k_postprocess",
        "gsm8k",
        Kind::Text(open_compass::gsm8k),
    ),
    (
        "gsm8k_dataset_postprocess",
        "gsm8k_dataset",
        Kind::Fallible(open_compass::gsm8k_gold),
    ),
    (
        "bbh_mcq_postprocess",
        "bbh-mcq",
        Kind::Text(open_compass::bbh_choice),
    ),
    (
        "bbh_freeform_postprocess",
        "bbh-freeform",
        Kind::Fallible(open_compass::bbh_freeform),
    ),
    (
        "strategyqa_pred_postprocess",
        "strategyqa",
        Kind::Text(open_compass::strategy_qa),
    ),
    (
        "strategyqa_dataset_postprocess",
        "strategyqa_dataset",
        Kind::Text(open_compass::strategy_qa_gold),
    ),
    (
        "triviaqa_postprocess",
        "triviaqa",
        Kind::Text(open_compass::trivia_qa),
    ),
    (
        "humaneval_postprocess_v2",
        "humaneval_v2",
        Kind::Text(code::humaneval_first),
    ),
    (
        "humaneval_postprocess_v3",
        "humaneval_v3",
        Kind::Text(code::humaneval_last),
    ),
    (
        "humaneval_internal_v1_postprocess",
        "humaneval_internal_v1",
        Kind::Text(code::humaneval_internal_v1),
    ),
    (
        "humaneval_internal_v2_postprocess",
        "humaneval_internal_v2",
        Kind::Text(code::humaneval_internal_v2),
    ),
    (
        "MBPPEvaluator._process_answer",
        "mbpp",
        Kind::Fallible(code::mbpp),
    ),
    (
        "MBPPEvaluator2._process_answer",
        "mbpp2",
        Kind::Fallible(code::mbpp2),
    ),
    (
        "math_postprocess",
        "math",
        Kind::Text(math::open_compass::postprocess),
    ),
    (
        "math_postprocess_v2",
        "math_v2",
        Kind::Text(math::open_compass::postprocess_v2),
    ),
    (
        "math_judement_preprocess",
        "math_judgement",
        Kind::Text(math::open_compass::answer_line),
    ),
    (
        "extract_boxed_answer",
        "boxed",
        Kind::Maybe(math::boxed::answer),
    ),
    (
        "normalize_final_answer",
        "normalize_final_answer",
        Kind::Text(math::open_compass::normalize_final_answer),
    ),
    (
        "minerva_math",
        "minerva_math",
        Kind::Text(math::minerva::answer),
    ),
    (
        "agieval.find_first_capital_letter",
        "agieval_first_capital",
        Kind::Text(agieval::first_capital),
    ),
    (
        "agieval.extract_answer_in_bracket",
        "agieval_bracket",
        Kind::Fallible(agieval::in_brackets),
    ),
    #[cfg(feature = "jieba")]
    (
        "general_cn_postprocess",
        "general_cn",
        Kind::Text(open_compass::chinese_words),
    ),
];

impl Extractor {
    /// Reads a name, with its setting after a colon where it has one:
    ///
    /// | name | setting |
    /// | --- | --- |
    /// | `first_option_postprocess` | the options, then perhaps `,cushion=False` |
    /// | `last_option_postprocess` | the options |
    /// | `match_answer_pattern`, `think_pred_postprocess` | a pattern with one group |
    /// | `xml_tag_postprocessor` | the opening tag with its brackets |
    /// | `extract_non_reasoning_content` | none, or the opening and the closing token separated by a comma |
    /// | `agieval.parse_math_answer`, `agieval.parse_qa_multiple_answer` | `zero-shot`, `few-shot` or `few-shot-CoT` |
    /// | `agieval.parse_few_shot_qa_single_answer` | the same, then perhaps `,zh` |
    ///
    /// All others have none. The names that OpenCompass registers (`first-capital`, `bbh-mcq`) are known too.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for a name or setting that is not known; [`Error::Pattern`] for a broken pattern.
    pub fn parse(name: &str) -> Result<Self> {
        let kind = Self::kind(name)?;
        Ok(Self {
            name: name.to_owned(),
            kind,
        })
    }

    fn kind(name: &str) -> Result<Kind> {
        let plain = PLAIN
            .iter()
            .find(|(function, registered, _)| *function == name || *registered == name);
        if let Some((_, _, kind)) = plain {
            return Ok(kind.clone());
        }
        let unknown = || Error::UnknownName {
            kind: "post-processor",
            name: name.to_owned(),
        };
        let (function, setting) = match name.split_once(':') {
            Some((function, setting)) => (function, Some(setting)),
            None => (name, None),
        };
        let needed = setting.ok_or_else(unknown);
        Ok(match function {
            "first_option_postprocess" | "first_option" | "first-option" => {
                let setting = needed?;
                let (options, cushion) = match setting.split_once(",cushion=") {
                    None => (setting, true),
                    Some((options, "True" | "true")) => (options, true),
                    Some((options, "False" | "false")) => (options, false),
                    Some(_) => return Err(unknown()),
                };
                Kind::FirstOption(FirstOption::new(options, cushion)?)
            }
            "last_option_postprocess" | "last_option" | "last-option" => {
                Kind::LastOption(needed?.to_owned())
            }
            "match_answer_pattern" => Kind::AnswerPattern(Pattern::new(needed?)?),
            "think_pred_postprocess" | "think_pred" => Kind::Think(Pattern::new(needed?)?),
            "xml_tag_postprocessor" | "specific-xml-tag" => {
                let tag = needed?;
                let mut inner = tag.chars();
                inner.next();
                inner.next_back();
                let pattern = format!("{tag}(.*?)</{}>", inner.as_str());
                Kind::XmlTag(Pattern::with_flags(&pattern, Flags::DOT_ALL)?)
            }
            "extract_non_reasoning_content" | "extract-non-reasoning-content" => {
                let tokens = setting.unwrap_or("<think>,</think>");
                let (start, end) = tokens.split_once(',').ok_or_else(unknown)?;
                Kind::NonReasoning {
                    start: start.to_owned(),
                    end: end.to_owned(),
                    pair: Pattern::with_flags(&format!("{start}(.*?){end}"), Flags::DOT_ALL)?,
                }
            }
            "agieval.parse_math_answer" => Kind::AgievalMath(Setting::parse(needed?)?),
            "agieval.parse_qa_multiple_answer" => Kind::AgievalMultiple(Setting::parse(needed?)?),
            "agieval.parse_few_shot_qa_single_answer" => {
                let setting = needed?;
                let (setting, language) = match setting.strip_suffix(",zh") {
                    Some(setting) => (setting, agieval::Language::Chinese),
                    None => (setting, agieval::Language::English),
                };
                Kind::AgievalSingle(Setting::parse(setting)?, language)
            }
            _ => return Err(unknown()),
        })
    }

    /// The name it was read from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The answer in a text: mostly a string; `Null` where upstream returns `None`, a number from `first_number`, a
    /// list of letters from `parse_qa_multiple_answer`.
    ///
    /// # Errors
    /// [`Error::Extract`] where upstream raises; [`Error::PatternLimit`] for a pattern that takes too long.
    pub fn extract(&self, text: &str) -> Result<Value> {
        Ok(match &self.kind {
            Kind::Text(function) => function(text).into(),
            Kind::Maybe(function) => function(text).into(),
            Kind::Fallible(function) => function(text)?.into(),
            Kind::FirstNumber => open_compass::first_number(text).into(),
            Kind::FirstOption(options) => options.extract(text)?.into(),
            Kind::LastOption(options) => open_compass::last_option(text, options).into(),
            Kind::AnswerPattern(pattern) => first_group(pattern, text)?.unwrap_or_default().into(),
            Kind::Think(pattern) => {
                let group = first_group(pattern, text)?;
                group.map_or(text, crate::python_text::strip).into()
            }
            Kind::XmlTag(pattern) => open_compass::last_tag(pattern, text)?.into(),
            Kind::NonReasoning { start, end, pair } => {
                open_compass::non_reasoning(text, start, end, pair)?.into()
            }
            Kind::AgievalMath(setting) => agieval::math_answer(text, *setting).into(),
            Kind::AgievalMultiple(setting) => agieval::capitals(text, *setting).into(),
            Kind::AgievalSingle(setting, language) => {
                agieval::single_answer(text, *setting, *language).into()
            }
        })
    }

    /// The answer as a text: `None` becomes the empty text, a number is written out, a list is joined.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub fn extract_text(&self, text: &str) -> Result<String> {
        Ok(match self.extract(text)? {
            Value::String(answer) => answer,
            Value::Null => String::new(),
            Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect(),
            other => other.to_string(),
        })
    }
}

fn first_group<'t>(pattern: &Pattern, text: &'t str) -> Result<Option<&'t str>> {
    let found = pattern.search(text)?;
    Ok(found.map(|found| found.group(text, 1).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        for name in [
            "first_option:AB,cushion=False",
            "first-capital",
            "extract-non-reasoning-content",
            "extract_non_reasoning_content:<r>,</r>",
            "match_answer_pattern:a,b:(c)",
            "agieval.parse_few_shot_qa_single_answer:few-shot,zh",
        ] {
            assert_eq!(Extractor::parse(name).unwrap().name(), name);
        }
        for name in [
            "first_option",
            "nothing",
            "first_option:AB,cushion=maybe",
            "agieval.parse_math_answer:one-shot",
        ] {
            let error = Extractor::parse(name).unwrap_err();
            assert!(
                matches!(error, Error::UnknownName { .. }),
                "{name}: {error}"
            );
        }
        let broken = Extractor::parse("match_answer_pattern:(");
        assert!(matches!(broken, Err(Error::Pattern { .. })));
    }

    #[test]
    fn answers_as_text() {
        let text =
            |name: &str, input: &str| Extractor::parse(name).unwrap().extract_text(input).unwrap();
        assert_eq!(text("first-number", "no"), "");
        assert_eq!(text("first-number", "3 apples"), "3.0");
        assert_eq!(
            text("agieval.parse_qa_multiple_answer:zero-shot", "(A)(C)"),
            "AC"
        );
        assert_eq!(text("think_pred:</think>(.*)", "x</think> y "), "y");
        assert_eq!(text("think_pred:</think>(.*)", " x"), " x");
        assert_eq!(
            text("extract_non_reasoning_content:<r>,</r>", "<r>a</r> b"),
            "b"
        );
    }
}
