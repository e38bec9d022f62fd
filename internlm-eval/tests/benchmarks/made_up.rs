//! Rows in the layouts of the authors for the sets that are not at hand: nothing is known of their content but its form.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::lines;

/// Rows of each set.
const ROWS: usize = 20;

/// GAOKAO-Bench's kinds without a file at hand: folder, subject, and the answers of one row.
const GAOKAO: [(&str, &str, &[&str]); 5] = [
    (
        "Multiple-choice_Questions",
        "2010-2022_Physics_MCQs",
        &["AC"],
    ),
    (
        "Multiple-choice_Questions",
        "2010-2022_English_Reading_Comp",
        &["A", "D"],
    ),
    (
        "Fill-in-the-blank_Questions",
        "2010-2022_Math_II_Fill-in-the-Blank",
        &["3"],
    ),
    (
        "Open-ended_Questions",
        "2012-2022_English_Language_Error_Correction",
        &["is"],
    ),
    (
        "Open-ended_Questions",
        "2010-2022_Geography_Open-ended_Questions",
        &["因为"],
    ),
];

/// Writes all of them below a folder; real questions of OpenBookQA and CommonsenseQA with made-up facts and options.
pub(crate) fn write(shared: &Path, folder: &Path) {
    for (kind, subject, answers) in GAOKAO {
        let row = |n: usize| {
            json!({"year": "2020", "category": "（全国卷）", "index": n, "question": format!("{n}．题目"),
                "answer": answers, "analysis": "无", "score": 6})
        };
        let example: Vec<Value> = (0..ROWS).map(row).collect();
        let path = folder
            .join("GAOKAO-BENCH/data")
            .join(kind)
            .join(format!("{subject}.json"));
        put(
            &path,
            &json!({"keywords": subject, "example": example}).to_string(),
        );
    }
    let nested = |question: &Value, choices: Vec<Value>, gold: &Value| {
        let labels = ["A", "B", "C", "D", "E"];
        let choices: Vec<Value> = choices
            .iter()
            .zip(labels)
            .map(|(text, label)| json!({"text": text, "label": label}))
            .collect();
        let key = labels[usize::try_from(gold.as_u64().unwrap()).unwrap()];
        json!({"question": {"stem": question, "choices": choices}, "answerKey": key})
    };
    let facts = lines(&shared.join("openbookqa/test.jsonl"));
    let facts = facts.iter().take(ROWS).map(|row| {
        let mut made = nested(
            &row["query"],
            row["choices"].as_array().unwrap().clone(),
            &row["gold"],
        );
        made["fact1"] = json!("a fact that is made up");
        made
    });
    put_lines(
        &folder.join("openbookqa/Additional/test_complete.jsonl"),
        facts,
    );
    let questions = lines(&shared.join("commonsense_qa/validation.jsonl"));
    let mut questions = questions.iter().map(|row| {
        let mut choices = row["choices"].as_array().unwrap().clone();
        choices.push(json!("a fifth"));
        nested(&row["query"], choices, &row["gold"])
    });
    let dev: Vec<Value> = questions.by_ref().take(ROWS).collect();
    put_lines(
        &folder.join("commonsenseqa/dev_rand_split.jsonl"),
        dev.into_iter(),
    );
    put_lines(
        &folder.join("commonsenseqa/train_rand_split.jsonl"),
        questions.take(ROWS),
    );
    let calls: serde_json::Map<String, Value> = (0..ROWS)
        .map(|n| {
            let asked = format!(
                "Call the function Clock.at with the parameter as follows: 'hour' is '{n}'."
            );
            let call = json!({"origin_prompt": [{"role": "user", "content": asked}],
                "ground_truth": {"action": "Clock.at", "args": {"hour": n.to_string()}},
                "meta_data": {"response_format": "json"}});
            (n.to_string(), call)
        })
        .collect();
    put(
        &folder.join("teval/data/instruct_v2.json"),
        &Value::Object(calls).to_string(),
    );
}

/// Writes a file and the folders above it.
pub(crate) fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Writes JSONL.
pub(crate) fn put_lines(path: &Path, rows: impl Iterator<Item = Value>) {
    let lines: Vec<String> = rows.map(|row| row.to_string()).collect();
    put(path, &lines.join("\n"));
}
