//! The filters of lm-evaluation-harness: steps from a model's responses to what the metric sees.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::Result;
use crate::pattern::{self, Pattern};
use crate::python_text::{is_punctuation, strip};

/// What a filter answers where nothing matches.
pub const INVALID: &str = "[invalid]";

/// The settings of the regex filters. The pattern of upstream's default is that of GSM8K.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegexSettings {
    /// The pattern.
    pub regex_pattern: String,
    /// Which match: 0 is the first, -1 the last.
    pub group_select: isize,
    /// What to answer without a match.
    pub fallback: String,
    /// For the choices' own texts: whether capitals count.
    pub ignore_case: bool,
    /// For the choices' own texts: whether punctuation counts.
    pub ignore_punctuation: bool,
    /// For the choices' own texts: patterns whose matches are deleted.
    pub regexes_to_ignore: Vec<String>,
}

impl Default for RegexSettings {
    fn default() -> Self {
        Self {
            regex_pattern: r"#### (\-?[0-9\.\,]+)".to_owned(),
            group_select: 0,
            fallback: INVALID.to_owned(),
            ignore_case: false,
            ignore_punctuation: false,
            regexes_to_ignore: Vec::new(),
        }
    }
}

/// A compiled regex filter.
#[derive(Clone, Debug)]
pub struct RegexFilter {
    pattern: Pattern,
    settings: RegexSettings,
    ignored: Vec<Pattern>,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Filter {
    /// The selected match of a pattern in each response: its first group that took part, or the whole match.
    Regex(RegexFilter),
    /// As [`Regex`](Self::Regex); without a match, a choice named by its text, or by its letter after a colon. Answers
    /// with the letter in parentheses.
    MultiChoiceRegex(RegexFilter),
    /// The first response only.
    TakeFirst,
    /// The first k responses.
    TakeFirstK(usize),
    /// The response that occurs most often, the first of equals.
    MajorityVote,
    /// Small letters.
    Lowercase,
    /// Capitals.
    Uppercase,
    /// No blanks at either end.
    RemoveWhitespace,
    /// Each response by a table; what is not in it becomes the default.
    Map {
        /// From a response to what it becomes.
        table: BTreeMap<String, String>,
        /// What all others become.
        default: String,
    },
}

impl RegexFilter {
    /// Compiles a regex filter.
    ///
    /// # Errors
    /// [`Error::Pattern`](crate::Error::Pattern) for a broken pattern.
    pub fn new(settings: RegexSettings) -> Result<Self> {
        let ignored = settings
            .regexes_to_ignore
            .iter()
            .map(|pattern| Pattern::new(pattern));
        Ok(Self {
            pattern: Pattern::new(&settings.regex_pattern)?,
            ignored: ignored.collect::<Result<_>>()?,
            settings,
        })
    }

    /// The selected match, or none.
    fn select(&self, pattern: &Pattern, text: &str) -> Result<Option<String>> {
        let matches = pattern.find_all(text)?;
        let selected = match usize::try_from(self.settings.group_select) {
            Ok(index) => matches.get(index),
            Err(_) => matches
                .len()
                .checked_sub(self.settings.group_select.unsigned_abs())
                .and_then(|index| matches.get(index)),
        };
        Ok(selected.and_then(|found| {
            // As `re.findall`: the whole match, the only group, or a tuple of groups.
            let groups = found.group_count();
            let group = match groups {
                0 => found.group(text, 0),
                1 => Some(found.group(text, 1).unwrap_or_default()),
                _ => (1..=groups)
                    .filter_map(|group| found.group(text, group))
                    .find(|group| !group.is_empty()),
            };
            group.map(|group| strip(group).to_owned())
        }))
    }

    fn apply(&self, text: &str) -> Result<String> {
        let selected = self.select(&self.pattern, text)?;
        Ok(selected.unwrap_or_else(|| self.settings.fallback.clone()))
    }

    fn apply_to_choice(&self, text: &str, choices: &[String]) -> Result<String> {
        let non_empty = |selected: Option<String>| selected.filter(|selected| !selected.is_empty());
        if let Some(selected) = non_empty(self.select(&self.pattern, text)?) {
            return Ok(selected);
        }
        if !choices.is_empty() {
            if let Some(letter) = self.choice_by_text(text, choices)? {
                return Ok(letter);
            }
            let letters: Vec<String> = (0..choices.len()).map(letter).collect();
            let pattern = Pattern::new(&format!(r":[\s]*({})", letters.join("|")))?;
            if let Some(letter) = non_empty(self.select(&pattern, text)?) {
                return Ok(format!("({letter})"));
            }
        }
        Ok(self.settings.fallback.clone())
    }

    /// A choice whose text is found in the response; longer ones first, so that none hides another.
    fn choice_by_text(&self, text: &str, choices: &[String]) -> Result<Option<String>> {
        let mut letters = BTreeMap::new();
        let mut escaped = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let plain = self.without_ignored(strip(choice))?;
            escaped.push(pattern::escape(&plain));
            letters.insert(plain, format!("({})", letter(index)));
        }
        escaped.sort_by_key(|choice| std::cmp::Reverse(choice.chars().count()));
        let pattern = Pattern::new(&escaped.join("|"))?;
        let found = self.select(&pattern, &self.without_ignored(text)?)?;
        let found = found.filter(|found| !found.is_empty());
        Ok(found.map(|found| letters.get(&found).cloned().unwrap_or(found)))
    }

    fn without_ignored(&self, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for pattern in &self.ignored {
            text = pattern.replace_with(&text, "")?;
        }
        if self.settings.ignore_case {
            text = text.to_lowercase();
        }
        if self.settings.ignore_punctuation {
            text.retain(|c| !is_punctuation(c));
        }
        Ok(text)
    }
}

/// A, B, C, ... as upstream counts on beyond Z.
fn letter(index: usize) -> String {
    let code = u32::try_from(index)
        .ok()
        .and_then(|index| char::from_u32(u32::from('A') + index));
    code.map(String::from).unwrap_or_default()
}

impl Filter {
    /// Applies the step to the responses to one item; `choices` are the item's, for
    /// [`MultiChoiceRegex`](Self::MultiChoiceRegex).
    ///
    /// # Errors
    /// [`Error::PatternLimit`](crate::Error::PatternLimit) for a pattern that takes too long.
    pub fn apply(&self, responses: Vec<String>, choices: &[String]) -> Result<Vec<String>> {
        let each = |function: &dyn Fn(&str) -> String| {
            responses.iter().map(|text| function(text)).collect()
        };
        Ok(match self {
            Self::Regex(regex) => responses
                .iter()
                .map(|text| regex.apply(text))
                .collect::<Result<_>>()?,
            Self::MultiChoiceRegex(regex) => responses
                .iter()
                .map(|text| regex.apply_to_choice(text, choices))
                .collect::<Result<_>>()?,
            Self::TakeFirst => responses.into_iter().take(1).collect(),
            Self::TakeFirstK(k) => responses.into_iter().take(*k).collect(),
            Self::MajorityVote => majority(&responses).into_iter().collect(),
            Self::Lowercase => each(&|text| text.to_lowercase()),
            Self::Uppercase => each(&|text| text.to_uppercase()),
            Self::RemoveWhitespace => each(&|text| strip(text).to_owned()),
            Self::Map { table, default } => {
                each(&|text| table.get(text).unwrap_or(default).clone())
            }
        })
    }

    /// The regex step of `strict-match` of GSM8K.
    ///
    /// # Errors
    /// None in practice; the pattern is a constant.
    pub fn gsm8k_strict() -> Result<Self> {
        RegexFilter::new(RegexSettings::default()).map(Self::Regex)
    }

    /// The regex step of `flexible-extract` of GSM8K.
    ///
    /// # Errors
    /// None in practice; the pattern is a constant.
    pub fn gsm8k_flexible() -> Result<Self> {
        let settings = RegexSettings {
            regex_pattern: "(-?[$0-9.,]{2,})|(-?[0-9]+)".to_owned(),
            group_select: -1,
            ..RegexSettings::default()
        };
        RegexFilter::new(settings).map(Self::Regex)
    }

    /// The regex step of `bbh_cot_fewshot`.
    ///
    /// # Errors
    /// None in practice; the pattern is a constant.
    pub fn bbh() -> Result<Self> {
        let settings = RegexSettings {
            regex_pattern: "(?<=the answer is )(.*)(?=.)".to_owned(),
            ..RegexSettings::default()
        };
        RegexFilter::new(settings).map(Self::Regex)
    }
}

/// Applies several steps in order.
///
/// # Errors
/// As [`Filter::apply`].
pub fn apply_all(
    filters: &[Filter],
    responses: Vec<String>,
    choices: &[String],
) -> Result<Vec<String>> {
    filters.iter().try_fold(responses, |responses, filter| {
        filter.apply(responses, choices)
    })
}

fn majority(responses: &[String]) -> Option<String> {
    let mut best: Option<(&String, usize)> = None;
    for response in responses {
        let n = responses.iter().filter(|other| *other == response).count();
        if best.is_none_or(|(_, most)| n > most) {
            best = Some((response, n));
        }
    }
    best.map(|(response, _)| response.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filter: &Filter, response: &str, want: &str) {
        let choices = ["Guilty".to_owned(), "Guilty of Romance".to_owned()];
        assert_eq!(
            filter.apply(vec![response.to_owned()], &choices).unwrap(),
            [want]
        );
    }

    #[test]
    fn gsm8k() {
        check(
            &Filter::gsm8k_strict().unwrap(),
            "so\n#### 1,234. #### 5",
            "1,234.",
        );
        check(&Filter::gsm8k_strict().unwrap(), "none", INVALID);
        check(
            &Filter::gsm8k_flexible().unwrap(),
            "5 apples cost $10.50",
            "$10.50",
        );
        check(&Filter::gsm8k_flexible().unwrap(), "7", "7");
        check(&Filter::bbh().unwrap(), "So the answer is (B).", "(B)");
        check(&Filter::bbh().unwrap(), "B", INVALID);
    }

    #[test]
    fn choices_are_found_by_text_or_letter() {
        let settings = RegexSettings {
            regex_pattern: r"(\([A-Z]\))".to_owned(),
            ignore_case: true,
            ignore_punctuation: true,
            ..RegexSettings::default()
        };
        let filter = Filter::MultiChoiceRegex(RegexFilter::new(settings).unwrap());
        check(&filter, "(A) or (B)", "(A)");
        check(&filter, "guilty of, romance", "(B)");
        check(&filter, "Answer: B", "(B)");
        check(&filter, "C", INVALID);
    }

    #[test]
    fn steps_follow_each_other() {
        let responses: Vec<String> = ["A ", "b", "a"].map(str::to_owned).into();
        let steps = [
            Filter::Lowercase,
            Filter::RemoveWhitespace,
            Filter::MajorityVote,
        ];
        assert_eq!(apply_all(&steps, responses.clone(), &[]).unwrap(), ["a"]);
        assert_eq!(
            apply_all(&[Filter::TakeFirst], responses, &[]).unwrap(),
            ["A "]
        );
        assert!(
            apply_all(&[Filter::MajorityVote], Vec::new(), &[])
                .unwrap()
                .is_empty()
        );
    }
}
