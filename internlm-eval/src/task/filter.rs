//! Filters: from the texts of an item to its answer, by the rules of lm-evaluation-harness's `filters`.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

use super::spec::{FilterSpec, FilterStep};
use crate::template::regex;

/// A filter, compiled.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: String,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    TakeFirst,
    TakeFirstK(usize),
    MajorityVote,
    RemoveWhitespace,
    Strip,
    Lowercase,
    Uppercase,
    Regex(Find),
    Map {
        values: BTreeMap<String, String>,
        otherwise: Option<String>,
    },
}

/// `re.findall` and one of its matches.
#[derive(Debug)]
struct Find {
    regex: Regex,
    group: i64,
    fallback: String,
}

/// Options of `regex`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FindOptions {
    /// The pattern.
    pattern: String,
    /// Which match: from 0, or from -1 backwards.
    #[serde(default)]
    group: i64,
    /// What stands for no match.
    #[serde(default = "invalid")]
    fallback: String,
}

/// Options of `map`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapOptions {
    /// What each text becomes.
    values: BTreeMap<String, String>,
    /// What any other text becomes; it stays as it is if None.
    #[serde(default)]
    otherwise: Option<String>,
}

fn invalid() -> String {
    "[invalid]".to_owned()
}

impl Filter {
    /// Compiles filters. Without any there is one that takes the first text as it is.
    pub(super) fn all(specs: &[FilterSpec]) -> Result<Vec<Self>, (usize, String)> {
        if specs.is_empty() {
            return Ok(vec![Filter {
                name: "none".to_owned(),
                steps: Vec::new(),
            }]);
        }
        specs
            .iter()
            .enumerate()
            .map(|(number, spec)| {
                let steps = spec
                    .steps
                    .iter()
                    .map(step)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|what| (number, what))?;
                Ok(Filter {
                    name: spec.name.clone(),
                    steps,
                })
            })
            .collect()
    }

    /// The answers that are left.
    pub(super) fn apply(&self, texts: &[String]) -> Vec<String> {
        let mut texts = texts.to_vec();
        for step in &self.steps {
            texts = step.apply(texts);
        }
        texts
    }
}

impl Step {
    fn apply(&self, mut texts: Vec<String>) -> Vec<String> {
        let each = |change: &dyn Fn(&str) -> String| texts.iter().map(|text| change(text)).collect();
        match self {
            Step::TakeFirst => {
                texts.truncate(1);
                texts
            }
            Step::TakeFirstK(k) => {
                texts.truncate(*k);
                texts
            }
            Step::MajorityVote => majority(&texts).into_iter().collect(),
            Step::RemoveWhitespace => each(&|text| text.trim_start().to_owned()),
            Step::Strip => each(&|text| text.trim().to_owned()),
            Step::Lowercase => each(&|text| text.to_lowercase()),
            Step::Uppercase => each(&|text| text.to_uppercase()),
            Step::Regex(find) => each(&|text| find.apply(text)),
            Step::Map { values, otherwise } => each(&|text| match (values.get(text), otherwise) {
                (Some(value), _) => value.clone(),
                (None, Some(value)) => value.clone(),
                (None, None) => text.to_owned(),
            }),
        }
    }
}

impl Find {
    /// One of the matches; of a pattern with groups the first group that is not empty.
    fn apply(&self, text: &str) -> String {
        let found: Vec<_> = self.regex.captures_iter(text).map_while(Result::ok).collect();
        let at = if self.group < 0 {
            usize::try_from(found.len() as i64 + self.group).ok()
        } else {
            usize::try_from(self.group).ok()
        };
        let Some(found) = at.and_then(|at| found.get(at)) else {
            return self.fallback.clone();
        };
        let group = |number: usize| found.get(number).map_or("", |group| group.as_str());
        let taken = match found.len() {
            // No group is the whole match, one group is it even if it is empty.
            1 => Some(group(0)),
            2 => Some(group(1)),
            groups => (1..groups).map(group).find(|group| !group.is_empty()),
        };
        taken.map_or_else(|| self.fallback.clone(), |text| text.trim().to_owned())
    }
}

/// The most frequent text; of equals the one that came first.
fn majority(texts: &[String]) -> Option<String> {
    let mut best: Option<(&String, usize)> = None;
    for text in texts {
        let count = texts.iter().filter(|other| *other == text).count();
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((text, count));
        }
    }
    best.map(|(text, _)| text.clone())
}

fn step(spec: &FilterStep) -> Result<Step, String> {
    let (name, options) = match spec {
        FilterStep::Name(name) => (name.as_str(), Json::Null),
        FilterStep::Options(table) => {
            let mut members = table.iter();
            match (members.next(), members.next()) {
                (Some((name, options)), None) => (name.as_str(), options.clone()),
                _ => return Err("a step is one name with its options".to_owned()),
            }
        }
    };
    match (name, &options) {
        ("take_first", Json::Null) => Ok(Step::TakeFirst),
        ("take_first_k", Json::Number(k)) => k
            .as_u64()
            .map(|k| Step::TakeFirstK(k as usize))
            .ok_or_else(|| "`take_first_k` wants a number".to_owned()),
        ("majority_vote", Json::Null) => Ok(Step::MajorityVote),
        ("remove_whitespace", Json::Null) => Ok(Step::RemoveWhitespace),
        ("strip", Json::Null) => Ok(Step::Strip),
        ("lowercase", Json::Null) => Ok(Step::Lowercase),
        ("uppercase", Json::Null) => Ok(Step::Uppercase),
        ("regex", options @ Json::Object(_)) => {
            let options: FindOptions = parse(options)?;
            Ok(Step::Regex(Find {
                regex: regex::compile(&options.pattern)?,
                group: options.group,
                fallback: options.fallback,
            }))
        }
        ("map", options @ Json::Object(_)) => {
            let MapOptions { values, otherwise } = parse(options)?;
            Ok(Step::Map { values, otherwise })
        }
        _ => Err(format!("no filter is called `{name}` with such options")),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(options: &Json) -> Result<T, String> {
    T::deserialize(options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(steps: Json, texts: &[&str], want: &[&str]) {
        let spec = FilterSpec {
            name: "f".to_owned(),
            steps: serde_json::from_value(steps).unwrap(),
        };
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(Filter::all(&[spec]).unwrap()[0].apply(&texts), want);
    }

    #[test]
    fn patterns_take_what_the_peer_takes() {
        let strict = json!([{"regex": {"pattern": "#### (\\-?[0-9\\.\\,]+)"}}, "take_first"]);
        check(strict.clone(), &["a #### 1,234. #### 5"], &["1,234."]);
        check(strict, &["none"], &["[invalid]"]);
        let last = json!([{"regex": {"pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)", "group": -1}}]);
        check(last.clone(), &["it is $18.00, or 7"], &["7"]);
        check(last.clone(), &["it is $18.00,"], &["$18.00,"]);
        check(last, &["no"], &["[invalid]"]);
        let bbh = json!([{"regex": {"pattern": "(?<=the answer is )(.*)(?=.)"}}]);
        check(bbh, &["So the answer is (B).\nQ"], &["(B)"]);
    }

    #[test]
    fn texts_are_changed_and_counted() {
        check(json!(["remove_whitespace", "take_first"]), &["  a ", "b"], &["a "]);
        check(json!(["majority_vote"]), &["x", "y", "y", "x"], &["x"]);
        check(json!([{"take_first_k": 2}, "uppercase"]), &["x", "y", "z"], &["X", "Y"]);
        check(json!([{"map": {"values": {"a": "1"}, "otherwise": "0"}}]), &["a", "b"], &["1", "0"]);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for steps in [json!(["no_such"]), json!([{"regex": {"pattern": "("}}]), json!(["regex"]),
            json!([{"regex": {"pattern": "a", "more": 1}}])]
        {
            let spec = FilterSpec {
                name: "f".to_owned(),
                steps: serde_json::from_value(steps).unwrap(),
            };
            assert!(Filter::all(&[spec]).is_err());
        }
    }
}
