//! From the texts of an item to its answer: the filters of lm-evaluation-harness and the post-processors of OpenCompass
//! by name, one after the other.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value as Json;

use super::spec::{FilterSpec, FilterStep};
use crate::error::Result;
use crate::extract::Extractor;
use crate::extract::filter::{self, RegexFilter, RegexSettings};

/// A filter, compiled.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: String,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Filter(filter::Filter),
    Extract(Extractor),
}

/// Options of `map`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapOptions {
    /// What each text becomes.
    table: BTreeMap<String, String>,
    /// What any other text becomes.
    #[serde(default)]
    default: String,
}

impl Filter {
    /// Compiles filters; without any there is one that takes the texts as they are. Number and reason of a bad one.
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
                let steps = spec.steps.iter().map(step).collect::<Result<Vec<_>, _>>();
                Ok(Filter {
                    name: spec.name.clone(),
                    steps: steps.map_err(|what| (number, what))?,
                })
            })
            .collect()
    }

    /// The answers that are left. `choices` are the item's.
    pub(super) fn apply(&self, texts: &[String], choices: &[String]) -> Result<Vec<String>> {
        let mut texts = texts.to_vec();
        for step in &self.steps {
            texts = match step {
                Step::Filter(filter) => filter.apply(texts, choices)?,
                Step::Extract(extractor) => texts
                    .iter()
                    .map(|text| extractor.extract_text(text))
                    .collect::<Result<_>>()?,
            };
        }
        Ok(texts)
    }
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
    Ok(Step::Filter(match (name, &options) {
        ("take_first", Json::Null) => filter::Filter::TakeFirst,
        ("take_first_k", Json::Number(k)) => match k.as_u64().map(usize::try_from) {
            Some(Ok(k)) => filter::Filter::TakeFirstK(k),
            _ => return Err("`take_first_k` wants a number".to_owned()),
        },
        ("majority_vote", Json::Null) => filter::Filter::MajorityVote,
        ("remove_whitespace", Json::Null) => filter::Filter::RemoveWhitespace,
        ("lowercase", Json::Null) => filter::Filter::Lowercase,
        ("uppercase", Json::Null) => filter::Filter::Uppercase,
        ("regex", options @ Json::Object(_)) => filter::Filter::Regex(regex(options)?),
        ("multi_choice_regex", options @ Json::Object(_)) => {
            filter::Filter::MultiChoiceRegex(regex(options)?)
        }
        ("map", options @ Json::Object(_)) => {
            let MapOptions { table, default } = parse(options)?;
            filter::Filter::Map { table, default }
        }
        ("extract", Json::String(name)) => {
            return Extractor::parse(name)
                .map(Step::Extract)
                .map_err(|error| error.to_string());
        }
        _ => return Err(format!("no filter is called `{name}` with such options")),
    }))
}

fn regex(options: &Json) -> Result<RegexFilter, String> {
    let settings: RegexSettings = parse(options)?;
    RegexFilter::new(settings).map_err(|error| error.to_string())
}

fn parse<T: for<'de> Deserialize<'de>>(options: &Json) -> Result<T, String> {
    T::deserialize(options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filters(steps: Json) -> Result<Vec<Filter>, (usize, String)> {
        Filter::all(&[FilterSpec {
            name: "f".to_owned(),
            steps: serde_json::from_value(steps).unwrap(),
        }])
    }

    #[track_caller]
    fn check(steps: Json, texts: &[&str], want: &[&str]) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(filters(steps).unwrap()[0].apply(&texts, &[]).unwrap(), want);
    }

    #[test]
    fn steps_by_name() {
        check(
            json!(["remove_whitespace", "take_first"]),
            &["  a ", "b"],
            &["a"],
        );
        check(json!(["majority_vote"]), &["x", "y", "y", "x"], &["x"]);
        check(
            json!([{"take_first_k": 2}, "uppercase"]),
            &["x", "y", "z"],
            &["X", "Y"],
        );
        check(
            json!([{"map": {"table": {"a": "1"}, "default": "0"}}]),
            &["a", "b"],
            &["1", "0"],
        );
        let last = json!([{"regex": {"regex_pattern": "[0-9]+", "group_select": -1}}]);
        check(last, &["1 2 3", "no"], &["3", "[invalid]"]);
        check(
            json!([{"extract": "first-capital"}]),
            &["the answer: B"],
            &["B"],
        );
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for steps in [
            json!(["no_such"]),
            json!([{"regex": {"regex_pattern": "("}}]),
            json!(["regex"]),
            json!([{"regex": {"pattern": "a"}}]),
            json!([{"extract": "no_such"}]),
            json!([{"take_first": 1, "lowercase": 2}]),
        ] {
            assert!(filters(steps.clone()).is_err(), "{steps}");
        }
    }
}
