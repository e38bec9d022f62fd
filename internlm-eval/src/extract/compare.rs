//! When an extracted answer equals the right one.

use crate::error::{Error, Result};
use crate::math;
use crate::pattern::Pattern;
use crate::python_text::{casefold, float, int};

/// A rule of equality, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same text.
    Exact,
    /// The same text but for capitals, after BBH's clean-up of both (OpenCompass's `BBHEvaluator`).
    BbhFreeform,
    /// The same text, or a number within 1e-6 of an integer (`Gsm8kEvaluator.is_equal`).
    Gsm8k,
    /// `MATHEvaluator(v1).is_equiv`.
    MathV1,
    /// `MATHEvaluator(v2).is_equiv`.
    MathV2,
    /// AGIEval's `is_equiv`: the text rules of `v1` without the normalisation after them.
    Agieval,
    /// lm-evaluation-harness's `minerva_math`: normalised texts, then as expressions.
    Minerva,
    /// As expressions ([`math::verify`]).
    MathVerify,
}

impl Comparison {
    /// Reads a rule's name: `exact`, `bbh`, `gsm8k`, `math_v1`, `math_v2`, `agieval`, `minerva`, `math_verify`, or
    /// upstream's.
    ///
    /// # Errors
    /// [`Error::UnknownName`] for another name.
    pub fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "exact" => Self::Exact,
            "bbh" | "BBHEvaluator" => Self::BbhFreeform,
            "gsm8k" | "Gsm8kEvaluator.is_equal" => Self::Gsm8k,
            "math_v1" | "MATHEvaluator(v1).is_equiv" => Self::MathV1,
            "math_v2" | "MATHEvaluator(v2).is_equiv" => Self::MathV2,
            "agieval" | "agieval.is_equiv" => Self::Agieval,
            "minerva" | "minerva_math" => Self::Minerva,
            "math_verify" => Self::MathVerify,
            _ => {
                return Err(Error::UnknownName {
                    kind: "comparison",
                    name: name.to_owned(),
                });
            }
        })
    }

    /// Whether a prediction equals the right answer. `None` stands for an answer that was not found: it equals only
    /// `None`, and not even that under the rules of lm-evaluation-harness.
    pub fn equal(self, prediction: Option<&str>, gold: Option<&str>) -> bool {
        let (Some(prediction), Some(gold)) = (prediction, gold) else {
            let none = prediction.is_none() && gold.is_none();
            return none && !matches!(self, Self::Minerva | Self::MathVerify);
        };
        match self {
            Self::Exact => prediction == gold,
            Self::BbhFreeform => bbh(prediction) == bbh(gold),
            Self::Gsm8k => gsm8k(prediction, gold),
            Self::MathV1 => math::equivalence::is_equiv_v1(prediction, gold),
            Self::MathV2 => math::equivalence::is_equiv_v2(prediction, gold),
            Self::Agieval => math::equivalence::agieval_is_equiv(prediction, gold),
            Self::Minerva => math::minerva::is_equiv(prediction, gold),
            Self::MathVerify => math::verify(prediction, gold),
        }
    }
}

fn bbh(text: &str) -> String {
    let clean = super::open_compass::bbh_freeform(text);
    casefold(&clean.unwrap_or_else(|_| text.to_owned()))
}

fn gsm8k(prediction: &str, gold: &str) -> bool {
    if prediction == gold {
        return true;
    }
    let numbers = float(prediction).zip(int(gold).and_then(|digits| digits.parse::<f64>().ok()));
    numbers.is_some_and(|(prediction, gold)| (prediction - gold).abs() < 1e-6)
}

/// Exact match of lm-evaluation-harness with its options, applied to both sides in this order.
#[derive(Clone, Debug, Default)]
pub struct ExactMatch {
    /// Patterns whose matches are deleted, one after the other.
    pub regexes_to_ignore: Vec<Pattern>,
    /// Whether capitals are made small.
    pub ignore_case: bool,
    /// Whether ASCII punctuation is deleted.
    pub ignore_punctuation: bool,
    /// Whether ASCII digits are deleted.
    pub ignore_numbers: bool,
}

impl ExactMatch {
    /// The settings of `gsm8k`: no commas, dollar signs, text up to `#### ` or final full stop; capitals don't matter.
    ///
    /// # Errors
    /// None in practice; the patterns are constants.
    pub fn gsm8k() -> Result<Self> {
        let patterns = [",", r"\$", "(?s).*#### ", r"\.$"];
        Ok(Self {
            regexes_to_ignore: patterns
                .iter()
                .map(|pattern| Pattern::new(pattern))
                .collect::<Result<_>>()?,
            ignore_case: true,
            ..Self::default()
        })
    }

    /// A text as it is compared. Trailing NUL characters don't count, as numpy drops them.
    ///
    /// # Errors
    /// [`Error::PatternLimit`] for a pattern that takes too long.
    pub fn normalized(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for pattern in &self.regexes_to_ignore {
            text = pattern.replace_with(&text, "")?;
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        Ok(text.trim_end_matches('\0').to_owned())
    }

    /// Whether both sides are the same after [`normalized`](Self::normalized).
    ///
    /// # Errors
    /// [`Error::PatternLimit`] for a pattern that takes too long.
    pub fn matches(&self, prediction: &str, gold: &str) -> Result<bool> {
        Ok(self.normalized(prediction)? == self.normalized(gold)?)
    }
}

/// OpenCompass's `EMEvaluator`: the cleaned prediction equals a reference, cleaned or as it is.
pub fn open_compass_exact_match(prediction: &str, references: &[&str]) -> bool {
    let prediction = super::open_compass::general(prediction);
    references.iter().any(|reference| {
        prediction == *reference || prediction == super::open_compass::general(reference)
    })
}

/// OpenCompass's `TriviaQAEvaluator`: some reference, cleaned, is contained in the cleaned prediction.
pub fn open_compass_trivia_qa(prediction: &str, references: &[&str]) -> bool {
    let prediction = super::open_compass::trivia_qa(prediction);
    let clean = |reference: &&str| super::open_compass::general(reference).to_lowercase();
    references
        .iter()
        .map(clean)
        .any(|reference| prediction.contains(&reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_near_integers_are_equal() {
        let gsm8k = |a, b| Comparison::Gsm8k.equal(Some(a), Some(b));
        assert!(gsm8k("18.0000001", "18") && gsm8k("1_8", "18") && gsm8k("x", "x"));
        assert!(!gsm8k("18", "18.0") && !gsm8k("nan", "18") && !gsm8k("NULL", "18"));
        assert!(Comparison::Gsm8k.equal(None, None) && !Comparison::Gsm8k.equal(None, Some("1")));
    }

    #[test]
    fn names() {
        assert_eq!(Comparison::parse("math_v2").unwrap(), Comparison::MathV2);
        assert!(matches!(
            Comparison::parse("mathv2"),
            Err(Error::UnknownName { .. })
        ));
        assert!(Comparison::BbhFreeform.equal(Some("the answer is YES."), Some("yes")));
    }

    #[test]
    fn exact_match_with_options() {
        let gsm8k = ExactMatch::gsm8k().unwrap();
        assert!(gsm8k.matches("$1,234.", "She.\n#### 1234").unwrap());
        let loose = ExactMatch {
            ignore_case: true,
            ignore_punctuation: true,
            ignore_numbers: true,
            ..ExactMatch::default()
        };
        assert!(loose.matches("A-b 1", "ab ").unwrap());
        assert!(!ExactMatch::default().matches("A", "a").unwrap());
    }
}
