//! Answers that were made elsewhere, to be judged here.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use internlm_core::scorer::TokenScore;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::item::{Item, Request, Response};

/// One answer of a file, before it is known what was asked.
#[derive(Clone, Debug, PartialEq)]
enum Made {
    Texts(Vec<String>),
    Perplexity(f64),
    Loglikelihood(f64, bool),
    Reward(f64),
    /// An item that failed where the predictions were made, and why.
    Failed(String),
}

/// Answers by benchmark and number of the item. An item without answers fails, and so does one whose file has
/// another number or kind of answers than the benchmark asks for.
///
/// OpenCompass's `predictions/{model}/{dataset}.json` and lm-evaluation-harness's `samples_{task}_{time}.jsonl` are
/// read; the folder that a run writes holds both. A sum of log-probabilities stands in for its tokens, as one token.
#[derive(Clone, Debug, Default)]
pub struct Predictions {
    answers: HashMap<String, HashMap<usize, Vec<Made>>>,
}

impl Predictions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names of the benchmarks that have answers.
    pub fn benchmarks(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.answers.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Takes the texts of a benchmark's items, in the order of its data.
    pub fn add_texts(
        &mut self,
        benchmark: impl Into<String>,
        texts: impl IntoIterator<Item = String>,
    ) {
        let made = self.answers.entry(benchmark.into()).or_default();
        for (index, text) in texts.into_iter().enumerate() {
            made.insert(index, vec![Made::Texts(vec![text])]);
        }
    }

    /// Reads `predictions/{model}/` of OpenCompass; the files' names are the benchmarks'. Parts of one data set
    /// (`name_0.json`, `name_1.json`, …) are joined in their order.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no predictions, and as
    /// [`add_opencompass_file`](Self::add_opencompass_file).
    pub fn add_opencompass_folder(&mut self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
            let path = entry.map_err(Error::io(folder))?.path();
            let json = path.extension().is_some_and(|e| e == "json");
            if let (true, Some(stem)) = (json, path.file_stem().and_then(|s| s.to_str())) {
                files.insert(stem.to_owned(), path);
            }
        }
        if files.is_empty() {
            return Err(Error::Predictions {
                file: folder.to_owned(),
                what: "expected files of predictions (*.json), found none".to_owned(),
            });
        }
        for (stem, path) in &files {
            match part(stem).filter(|(name, _)| files.contains_key(&format!("{name}_0"))) {
                Some((_, 1..)) => {}
                Some((name, _)) => {
                    let parts = (0..).map(|n| files.get(&format!("{name}_{n}")));
                    for path in parts.map_while(|path| path) {
                        self.add_opencompass_file(name, path)?;
                    }
                }
                None => self.add_opencompass_file(stem, path)?,
            }
        }
        Ok(())
    }

    /// Reads a file of OpenCompass's predictions, after those that the benchmark has.
    ///
    /// # Errors
    /// A file that cannot be read or is of another format.
    pub fn add_opencompass_file(&mut self, benchmark: &str, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        let wrong = |what: String| Error::Predictions {
            file: file.to_owned(),
            what,
        };
        let bytes = std::fs::read(file).map_err(Error::io(file))?;
        let items: Map<String, Value> = serde_json::from_slice(&bytes)
            .map_err(|e| wrong(format!("expected an object of predictions: {e}")))?;
        let known = self.answers.entry(benchmark.to_owned()).or_default();
        let first = known.keys().max().map_or(0, |last| last + 1);
        for (key, value) in &items {
            let number: usize = key
                .parse()
                .map_err(|_| wrong(format!("expected numbers of items as keys, found `{key}`")))?;
            let made = opencompass(value).map_err(|what| wrong(format!("item {key}: {what}")))?;
            known.insert(first + number, made);
        }
        Ok(())
    }

    /// Reads a file of lm-evaluation-harness's samples. Lines of several filters are of the same answers.
    ///
    /// # Errors
    /// A file that cannot be read or is of another format.
    pub fn add_lm_eval_file(&mut self, benchmark: &str, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        let known = self.answers.entry(benchmark.to_owned()).or_default();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim().is_empty())
        {
            let wrong = |what: String| Error::Predictions {
                file: file.to_owned(),
                what: format!("line {}: {what}", number + 1),
            };
            let line: Value =
                serde_json::from_str(line).map_err(|e| wrong(format!("not JSON: {e}")))?;
            let index = line["doc_id"].as_u64();
            let index = index.ok_or_else(|| wrong("expected a number as `doc_id`".to_owned()))?;
            let resps = line["resps"].as_array();
            let resps = resps.ok_or_else(|| wrong("expected a list as `resps`".to_owned()))?;
            let made: Option<Vec<Made>> = resps.iter().map(lm_eval).collect();
            let made = made
                .ok_or_else(|| wrong("expected texts or log-likelihoods in `resps`".to_owned()))?;
            known.insert(index as usize, made);
        }
        Ok(())
    }

    /// The responses to an item's requests.
    pub(super) fn responses(&self, benchmark: &str, item: &Item) -> Vec<Response> {
        let made = self.answers.get(benchmark).and_then(|b| b.get(&item.index));
        let fail = |error: &str| Response::Failed {
            error: error.to_owned(),
        };
        let Some(made) = made else {
            return vec![fail("has no prediction"); item.requests.len()];
        };
        if let [Made::Failed(error)] = &made[..] {
            return vec![fail(error); item.requests.len()];
        }
        if made.len() != item.requests.len() {
            let (got, want) = (made.len(), item.requests.len());
            let error = format!("has {got} predictions, expected {want}");
            return vec![fail(&error); want];
        }
        let response = |(request, made): (&Request, &Made)| match (request, made) {
            (Request::Generate { .. }, Made::Texts(texts)) => Response::Texts {
                answers: texts.iter().map(|text| vec![text.clone()]).collect(),
            },
            (Request::Reward { .. }, &Made::Reward(value)) => Response::Reward { value },
            (Request::Perplexity { .. }, &Made::Perplexity(value)) => {
                Response::Perplexity { value, tokens: 0 }
            }
            (
                Request::Loglikelihood { .. } | Request::Rolling { .. },
                &Made::Loglikelihood(sum, is_argmax),
            ) => Response::Scores {
                tokens: vec![TokenScore {
                    id: 0,
                    logprob: sum as f32,
                    is_argmax,
                }],
            },
            _ => fail("has a prediction of another kind than the benchmark asks for"),
        };
        item.requests.iter().zip(made).map(response).collect()
    }
}

/// `name_3` as name and number.
fn part(stem: &str) -> Option<(&str, usize)> {
    let (name, number) = stem.rsplit_once('_')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Some((name, number.parse().ok()?)))?
}

fn opencompass(item: &Value) -> Result<Vec<Made>, String> {
    let labels: Vec<&Value> = item
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with("label: "))
        .map(|(_, value)| value)
        .collect();
    if labels.is_empty() {
        let texts = match &item["prediction"] {
            Value::String(text) => vec![text.clone()],
            Value::Array(texts) => texts
                .iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or("expected texts as `prediction`")?,
            Value::Null if item.get("prediction").is_some() => {
                let error = item["error"].as_str().unwrap_or("has no prediction");
                return Ok(vec![Made::Failed(error.to_owned())]);
            }
            _ => return Err("expected a text or a list of texts as `prediction`".to_owned()),
        };
        return Ok(vec![Made::Texts(texts)]);
    }
    let of_label = |label: &Value| {
        let fields = label.as_object().into_iter().flatten();
        let field = |name: &str| {
            let mut fields = fields.clone();
            let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.and_then(|(_, value)| value.as_f64())
        };
        let sum = field("loglikelihood").map(|sum| Made::Loglikelihood(sum, false));
        let reward = field("reward").map(Made::Reward);
        let made = field("ppl").map(Made::Perplexity).or(sum).or(reward);
        made.ok_or_else(|| "expected `PPL`, `Loglikelihood` or `Reward` of each label".to_owned())
    };
    labels.into_iter().map(of_label).collect()
}

/// The answers to one request: `[[ll, is_greedy]]`, `[ll]` of a rolling one, or `[text, …]`. The harness writes
/// numbers as texts.
fn lm_eval(resps: &Value) -> Option<Made> {
    let list = resps.as_array()?;
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok());
    match &list[..] {
        [Value::Array(pair)] => match &pair[..] {
            [sum, greedy] => {
                let is_greedy = greedy.as_bool().or_else(|| match greedy.as_str()? {
                    "True" | "true" => Some(true),
                    "False" | "false" => Some(false),
                    _ => None,
                })?;
                Some(Made::Loglikelihood(number(sum)?, is_greedy))
            }
            _ => None,
        },
        [Value::Number(sum)] => Some(Made::Loglikelihood(sum.as_f64()?, false)),
        texts => {
            let texts: Option<Vec<String>> = texts
                .iter()
                .map(|t| t.as_str().map(str::to_owned))
                .collect();
            texts.filter(|texts| !texts.is_empty()).map(Made::Texts)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_have_numbers() {
        assert_eq!(part("mmlu_12"), Some(("mmlu", 12)));
        assert_eq!(part("winogrande_ll"), None);
        assert_eq!(part("x_"), None);
    }

    #[test]
    fn answers_of_both_formats() {
        let greedy = lm_eval(&json!([["-1.5", "True"]]));
        assert_eq!(greedy, Some(Made::Loglikelihood(-1.5, true)));
        assert_eq!(
            lm_eval(&json!(["a", "b"])),
            Some(Made::Texts(vec!["a".into(), "b".into()]))
        );
        assert_eq!(lm_eval(&json!([])), None);
        assert_eq!(lm_eval(&json!([["x", "True"]])), None);
        let labels = json!({"label: 0": {"PPL": 2.5}, "label: 1": {"PPL": 2.25}, "prediction": 1});
        let want = [Made::Perplexity(2.5), Made::Perplexity(2.25)];
        assert_eq!(opencompass(&labels).unwrap(), want);
        assert!(opencompass(&json!({"label: 0": {}})).is_err());
        assert!(opencompass(&json!({"prediction": 3})).is_err());
        assert!(opencompass(&json!({"gold": "x"})).is_err());
        let failed = opencompass(&json!({"prediction": null, "error": "timed out"}));
        assert_eq!(failed.unwrap(), [Made::Failed("timed out".into())]);
    }
}
