//! Prompts of the same rows, string by string.

use std::collections::BTreeMap;
use std::path::Path;

use internlm_core::chat_model::Input;
use internlm_core::message::join;
use internlm_eval::opencompass::{Dialect, InferOptions, MetaTemplate, Prompter, Spec};
use internlm_eval::{Request, Row};
use serde::Deserialize;

use crate::common::shared;
use crate::task_files::task_files;

#[derive(Deserialize)]
struct Goldens {
    meta_template: MetaTemplate,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    abbr: String,
    config: String,
    mode: String,
    item: usize,
    row: Row,
    prompts: Prompts,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompts {
    Open(Pair),
    Labels(BTreeMap<String, Pair>),
}

#[derive(Deserialize)]
struct Pair {
    base: String,
    chat_meta: String,
}

/// The rows that a case's examples come from.
fn index(datasets: &Path, abbr: &str) -> Vec<Row> {
    let (file, columns) = if let Some(subject) = abbr.strip_prefix("cmmlu-") {
        let columns: &[&str] = &["", "question", "A", "B", "C", "D", "answer"];
        (format!("cmmlu/dev/{subject}.csv"), columns)
    } else if let Some(subject) = abbr.strip_prefix("lukaemon_mmlu_") {
        let columns: &[&str] = &["input", "A", "B", "C", "D", "target"];
        (format!("mmlu/dev/{subject}_dev.csv"), columns)
    } else {
        return Vec::new();
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(columns[0].is_empty())
        .from_path(datasets.join(file))
        .unwrap();
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let fields = columns.iter().zip(&record);
        fields
            .map(|(column, value)| ((*column).to_owned(), value.into()))
            .collect()
    });
    rows.collect()
}

fn texts(spec: &Spec, dialect: &Dialect, index: &[Row], case: &Case) -> Vec<String> {
    let options = InferOptions {
        dialect: dialect.clone(),
        ..InferOptions::default()
    };
    let prompter = Prompter::new(spec, &options, index, None);
    let items = prompter.items(&[(case.item, case.row.clone())]).unwrap();
    let requests = items[0].requests.iter();
    requests
        .map(|request| match request {
            Request::Perplexity { text, .. } => text.spelled().into_owned(),
            Request::Generate {
                input: Input::Prompt(parts),
                ..
            } => join(parts),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn prompts_are_upstreams() {
    let (Some(goldens), Some(datasets)) = (shared("goldens/eval/prompts.json"), shared("datasets"))
    else {
        return;
    };
    let goldens: Goldens =
        serde_json::from_str(&std::fs::read_to_string(goldens).unwrap()).unwrap();
    let files = task_files();
    for case in &goldens.cases {
        let config = case.config.rsplit('/').next().unwrap();
        let spec = files
            .iter()
            .filter(|(name, _)| name.starts_with(config))
            .flat_map(|(_, file)| {
                file.specs()
                    .into_iter()
                    .map(|(id, spec)| (file.name.replace("{{ subset.id }}", &id), spec))
            })
            .find(|(name, _)| *name == case.abbr)
            .unwrap_or_else(|| panic!("no task {} of {config}", case.abbr))
            .1;
        assert_eq!(spec.inferencer.mode(), case.mode);
        let index = index(&datasets, &case.abbr);
        let base = texts(&spec, &Dialect::Plain, &index, case);
        let meta = Dialect::Meta(goldens.meta_template.clone());
        let meta = texts(&spec, &meta, &index, case);
        let wanted: Vec<&Pair> = match &case.prompts {
            Prompts::Open(pair) => vec![pair],
            Prompts::Labels(pairs) => pairs.values().collect(),
        };
        assert_eq!(base.len(), wanted.len(), "{config}");
        for (wanted, (base, meta)) in wanted.iter().zip(base.iter().zip(&meta)) {
            assert_eq!(*base, wanted.base, "{config} {}", case.item);
            assert_eq!(*meta, wanted.chat_meta, "{config} {}", case.item);
        }
    }
    assert!(goldens.cases.len() >= 30);
}
