//! The files of a run.

use std::fs;

use internlm_eval::{Run, RunConfig};
use serde_json::Value;

use crate::toy::{Toy, all, as_benchmarks};

#[test]
fn both_peers_files_are_where_their_users_look() {
    let folder = tempfile::tempdir().unwrap();
    let made = all();
    let toy = Toy::new().named("org/toy");
    let report = Run::new(RunConfig::default().with_folder(folder.path()))
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    let json = |path: &str| -> Value { serde_json::from_str(&read(path)).unwrap() };

    let texts = json("predictions/org_toy/text.json");
    assert!(
        texts["0"]["origin_prompt"]
            .as_str()
            .unwrap()
            .contains("text 0.")
    );
    assert!(texts["6"]["prediction"].is_string());
    let several = json("predictions/org_toy/texts.json");
    assert_eq!(several["0"]["prediction"].as_array().unwrap().len(), 3);
    let labels = json("predictions/org_toy/perplexity.json");
    let prompt = labels["1"]["label: 3"]["prompt"].as_str().unwrap();
    assert!(prompt.ends_with("perplexity 1. 题 answer 3") && prompt.starts_with("The same"));
    assert!(labels["1"]["label: 3"]["PPL"].as_f64().unwrap() > 0.0);
    let turns = json("predictions/org_toy/turns.json");
    assert_eq!(turns["0"]["origin_prompt"][0]["role"], "user");

    let results = json("results/org_toy/choice.json");
    assert_eq!(
        results["acc"].as_f64(),
        Some(report.benchmarks[0].scores[0].value)
    );
    assert_eq!(results["details"].as_object().unwrap().len(), 12);

    let find = |folder: &str, begin: &str, end: &str| {
        find(folder, begin, end).unwrap_or_else(|| panic!("{folder}/{begin}…{end}"))
    };
    let root = folder.path().display().to_string();
    for end in [".txt", ".csv", ".md"] {
        find(&format!("{root}/summary"), "summary_", end);
    }
    let samples = find(&format!("{root}/org_toy"), "samples_choice_", ".jsonl");
    let lines: Vec<Value> = fs::read_to_string(samples)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[2]["doc_id"], 2);
    assert_eq!(lines[2]["arguments"]["gen_args_3"]["arg_1"], " answer 3");
    assert!(
        lines[2]["resps"][3][0][0]
            .as_str()
            .unwrap()
            .parse::<f64>()
            .unwrap()
            < 0.0
    );
    let results = find(&format!("{root}/org_toy"), "results_", ".json");
    let results: Value = serde_json::from_str(&fs::read_to_string(results).unwrap()).unwrap();
    assert!(results["results"]["choice"]["acc,none"].is_number());
    assert_eq!(results["n-samples"]["choice"]["effective"], 12);
    assert!(read("report.html").contains("org/toy"));
    assert_eq!(json("configs/run.json")["model"]["model_hash"], "aa");
    // Nothing is left of what was being written.
    assert!(
        !walk(folder.path())
            .iter()
            .any(|path| path.ends_with(".tmp"))
    );
}

/// A file of a folder by the beginning and the end of its name.
fn find(folder: &str, begin: &str, end: &str) -> Option<std::path::PathBuf> {
    let mut entries = fs::read_dir(folder).ok()?.flatten();
    let found = entries.find(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(begin) && name.ends_with(end)
    });
    found.map(|entry| entry.path())
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => paths.extend(walk(&path)),
            path => paths.push(path.display().to_string()),
        }
    }
    paths
}

#[test]
fn the_table_fits_its_width_and_names_rules_and_hashes() {
    let made = all();
    let toy = Toy::new();
    let report = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    let text = report.to_string();
    assert!(
        text.contains("rule set: lm-eval") && text.contains("model sha256: aa"),
        "{text}"
    );
    assert!(text.contains("012345"));
    assert!(text.contains("(weighted)"));
    let markdown = report.markdown();
    assert!(
        markdown.starts_with("| dataset | version | metric | mode |"),
        "{markdown}"
    );
    assert!(markdown.contains("fedcba9876543210"));
    let csv = report.csv();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(
        csv.lines().all(|line| line.split(',').count() == columns),
        "{csv}"
    );
    let page = report.html();
    assert!(page.contains("class=\"heatmap\"") && page.contains("class=\"interval\""));
}
