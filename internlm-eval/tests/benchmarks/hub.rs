//! The data at hand in the columns, files and folders that the hub's copies have.

use std::path::Path;

use internlm_eval::task::builtin;
use internlm_eval::task::spec::Rules;
use internlm_eval::{Benchmark, Error, Row, Task, TaskOptions};
use serde_json::{Value, json};

use crate::common::{fixtures, lines};
use crate::lm_eval::CASES;
use crate::made_up::{put, put_lines};

/// Rows of each file.
const ROWS: usize = 25;

/// The rows of a task as it has them once they are prepared; none where there is no file.
fn prepared(name: &str, subset: Option<&str>, shared: &Path) -> Option<Vec<Row>> {
    let rules = if name == "svamp" {
        Rules::Internlm
    } else {
        Rules::LmEval
    };
    let options = TaskOptions {
        limit: Some(ROWS),
        ..TaskOptions::default()
    };
    let task = match Task::new(
        &builtin::spec(rules, name).unwrap(),
        subset,
        shared,
        &options,
    ) {
        Err(Error::NoData { .. }) => return None,
        task => task.unwrap(),
    };
    let items = task.items(None).unwrap();
    Some(items.into_iter().map(|item| item.row).collect())
}

/// Benchmarks of many subjects: the task file, the case that knows its columns, and the folder of a subject.
const FAMILIES: [(&str, &str, &str, &str); 6] = [
    ("mmlu", "mmlu_anatomy", "cais/mmlu/", "id"),
    ("cmmlu", "cmmlu_agronomy", "haonan-li/cmmlu/", "id"),
    ("bbh", "bbh_cot_fewshot_navigate", "lukaemon/bbh/", "id"),
    (
        "minerva_math",
        "minerva_math_algebra",
        "EleutherAI/hendrycks_math/",
        "config",
    ),
    ("agieval", "agieval_aqua_rat", "hails/agieval-", "id"),
    ("agieval_cloze", "agieval_math", "hails/agieval-", "id"),
];

/// Copies under the names that OpenCompass's own loaders ask for.
const COPIES: [(&str, &str); 9] = [
    (
        "allenai/ai2_arc/ARC-Easy/test.jsonl",
        "allenai/ai2_arc/ARC-Easy/validation.jsonl",
    ),
    (
        "ai2_arc/ARC-Challenge/test.jsonl",
        "allenai/ai2_arc/ARC-Challenge/validation.jsonl",
    ),
    (
        "baber/piqa/data/validation.jsonl",
        "ybisk/piqa/validation.jsonl",
    ),
    (
        "lighteval/siqa/validation.jsonl",
        "allenai/social_i_qa/validation.jsonl",
    ),
    (
        "allenai/winogrande/winogrande_xl/validation.jsonl",
        "allenai/winogrande/winogrande_xs/validation.jsonl",
    ),
    (
        "tau/commonsense_qa/validation.jsonl",
        "tau/commonsense_qa/train.jsonl",
    ),
    (
        "EleutherAI/lambada_openai/default/test.jsonl",
        "EleutherAI/lambada_openai/test.jsonl",
    ),
    (
        "openai/openai_humaneval/openai_humaneval/test.jsonl",
        "openai/openai_humaneval/test.jsonl",
    ),
    (
        "winograd_wsc/wsc273/test.jsonl",
        "ErnestSDavis/winograd_wsc/wsc285/test.jsonl",
    ),
];

/// Writes all of them below a folder.
pub(crate) fn write(shared: &Path, made_up: &Path, folder: &Path) {
    for case in CASES {
        if let Some(rows) = builtin::spec(Rules::LmEval, case.task)
            .or_else(|_| builtin::spec(Rules::Internlm, case.task))
            .ok()
            .and_then(|_| prepared(case.task, None, shared))
        {
            put_lines(&folder.join(case.hub), rows.iter().map(case.convert));
        }
    }
    for (file, example, front, key) in FAMILIES {
        let case = CASES.iter().find(|case| case.task == example).unwrap();
        for subset in &builtin::spec(Rules::LmEval, file).unwrap().subsets {
            let text = |key: &str| subset[key].as_str().unwrap();
            if let Some(rows) = prepared(file, Some(text("id")), shared) {
                let path = folder.join(format!("{front}{}/test.jsonl", text(key)));
                put_lines(&path, rows.iter().map(case.convert));
            }
        }
    }
    // llm-foundry's copy has four of the five options.
    let file = folder.join("tau/commonsense_qa/validation.jsonl");
    let questions = lines(&file).into_iter().map(|mut row| {
        let mut texts = row["choices"]["text"].as_array().unwrap().clone();
        texts.push(json!("a fifth"));
        row["choices"] = json!({"text": texts, "label": ["A", "B", "C", "D", "E"]});
        row
    });
    put_lines(&file, questions);
    for (from, to) in COPIES {
        put(
            &folder.join(to),
            &std::fs::read_to_string(folder.join(from)).unwrap(),
        );
    }
    examples(shared, folder);
    chinese(shared, made_up, folder);
    others(shared, made_up, folder);
}

/// The splits that examples are taken from.
fn examples(shared: &Path, folder: &Path) {
    let csv = |file: &Path, head: bool| -> Vec<Vec<String>> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(head)
            .from_path(file)
            .unwrap();
        let records = reader.into_records();
        records
            .map(|record| record.unwrap().iter().map(str::to_owned).collect())
            .collect()
    };
    let subjects = |folder: &str| -> Vec<(String, std::path::PathBuf)> {
        let entries = std::fs::read_dir(shared.join(folder)).unwrap();
        entries
            .map(|entry| {
                let path = entry.unwrap().path();
                let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
                (stem, path)
            })
            .collect()
    };
    for (stem, file) in subjects("mmlu/dev") {
        let rows = csv(&file, false).into_iter().map(|row| {
            json!({"question": row[0], "choices": row[1..5], "answer": "ABCD".find(&row[5]).unwrap()})
        });
        let subject = stem.strip_suffix("_dev").unwrap();
        put_lines(&folder.join(format!("cais/mmlu/{subject}/dev.jsonl")), rows);
    }
    for (subject, file) in subjects("cmmlu/dev") {
        let rows = csv(&file, true).into_iter().map(|row| {
            json!({"Question": row[1], "A": row[2], "B": row[3], "C": row[4], "D": row[5], "Answer": row[6]})
        });
        put_lines(
            &folder.join(format!("haonan-li/cmmlu/{subject}/dev.jsonl")),
            rows,
        );
    }
    let train = lines(&shared.join("gsm8k/train.jsonl"));
    put_lines(
        &folder.join("openai/gsm8k/main/train.jsonl"),
        train.into_iter(),
    );
}

/// C-Eval, CLUE and GAOKAO-Bench.
fn chinese(shared: &Path, made_up: &Path, folder: &Path) {
    for split in ["dev", "val"] {
        let text = std::fs::read_to_string(
            fixtures("ceval")
                .join(split)
                .join(format!("logic_{split}.csv")),
        );
        put(
            &folder.join(format!("ceval/ceval-exam/logic/{split}.csv")),
            &text.unwrap(),
        );
    }
    let pairs = lines(&shared.join("ocnli/dev_first500.jsonl"));
    let labels = ["neutral", "entailment", "contradiction"];
    let pairs = pairs.iter().take(2 * ROWS).enumerate().map(|(idx, row)| {
        let label = labels
            .iter()
            .position(|label| row["label"] == *label)
            .map_or(json!(-1), |at| json!(at));
        json!({"sentence1": row["sentence1"], "sentence2": row["sentence2"], "label": label, "idx": idx})
    });
    put_lines(&folder.join("clue/clue/ocnli/validation.jsonl"), pairs);
    let texts = std::fs::read_to_string(shared.join("c3/c3-d-dev_first300.json")).unwrap();
    let texts: Vec<Value> = serde_json::from_str(&texts).unwrap();
    let questions = texts.iter().flat_map(|text| {
        let questions = text[1].as_array().unwrap().iter();
        questions.map(|q| {
            json!({"id": 0, "context": text[0], "question": q["question"], "choice": q["choice"],
                "answer": q["answer"]})
        })
    });
    put_lines(
        &folder.join("clue/clue/c3/validation.jsonl"),
        questions.take(ROWS),
    );
    for (base, names) in [
        (
            shared.join("gaokao_bench"),
            vec![
                "2010-2022_History_MCQs",
                "2010-2022_Math_I_MCQs",
                "2012-2022_English_Cloze_Test",
            ],
        ),
        (
            made_up.join("GAOKAO-BENCH/data/Multiple-choice_Questions"),
            vec!["2010-2022_Physics_MCQs", "2010-2022_English_Reading_Comp"],
        ),
    ] {
        for name in names {
            let text = std::fs::read_to_string(base.join(format!("{name}.json"))).unwrap();
            let file: Value = serde_json::from_str(&text).unwrap();
            let rows = file["example"].as_array().unwrap().clone();
            let path = folder.join(format!("RUCAIBox/gaokao-bench/test/{name}.jsonl"));
            put_lines(&path, rows.into_iter());
        }
    }
}

/// Sets whose hub copy differs between the two rule sets, or that only one of them has.
fn others(shared: &Path, made_up: &Path, folder: &Path) {
    let math = lines(&shared.join("math/test_every10th.jsonl"));
    put_lines(
        &folder.join("hendrycks/competition_math/test.jsonl"),
        math.into_iter().take(ROWS),
    );
    let flat = |row: &Value| {
        let choices = row["question"]["choices"].as_array().unwrap();
        let of = |key: &str| -> Vec<Value> { choices.iter().map(|c| c[key].clone()).collect() };
        (
            row["question"]["stem"].clone(),
            json!({"text": of("text"), "label": of("label")}),
        )
    };
    let facts = lines(&made_up.join("openbookqa/Additional/test_complete.jsonl"));
    let facts = facts.iter().map(|row| {
        let (question, choices) = flat(row);
        json!({"question_stem": question, "choices": choices, "answerKey": row["answerKey"], "fact1": row["fact1"]})
    });
    put_lines(
        &folder.join("allenai/openbookqa/additional/test.jsonl"),
        facts,
    );
    let questions = lines(&shared.join("truthfulqa/mc_validation.jsonl"));
    let questions = questions.iter().take(ROWS).map(|row| {
        let of = |label: i64| -> Vec<Value> {
            let targets = &row["mc2_targets"];
            let labels = targets["labels"].as_array().unwrap().iter();
            let choices = targets["choices"].as_array().unwrap().iter().zip(labels);
            choices
                .filter(|(_, l)| **l == label)
                .map(|(choice, _)| choice.clone())
                .collect()
        };
        json!({"type": "t", "category": "c", "question": row["question"], "source": "s",
            "best_answer": row["mc1_targets"]["choices"][0], "correct_answers": of(1), "incorrect_answers": of(0)})
    });
    put_lines(
        &folder.join("truthfulqa/truthful_qa/generation/validation.jsonl"),
        questions,
    );
    let sums = lines(&shared.join("svamp/test.jsonl"));
    let sums = sums.iter().take(ROWS).map(|row| {
        let text = row["context"].as_str().unwrap();
        let (body, question) = text.rsplit_once(". ").unwrap_or(("", text));
        let body = if body.is_empty() {
            String::new()
        } else {
            format!("{body}.")
        };
        json!({"ID": "1", "Body": body, "Question": question, "Answer": row["answer"], "Type": "t"})
    });
    put_lines(&folder.join("ChilleD/SVAMP/test.jsonl"), sums);
    let pairs = lines(&shared.join("sft/zh_poem_preference.jsonl"));
    let pairs = pairs.iter().take(ROWS).map(|row| {
        let text = |side: &str| row[side][0]["content"].clone();
        json!({"prompt": text("prompt"), "chosen": text("chosen"), "chosen_model": "m", "rejected": text("rejected"),
            "rejected_model": "m", "subset": "s", "id": 0})
    });
    put_lines(
        &folder.join("allenai/reward-bench/data/filtered.jsonl"),
        pairs,
    );
}
