//! Every built-in reads its file in the shared data sets, renders at least twenty items and judges them; the same with
//! the columns that the hub has.

use std::path::Path;

use internlm_core::scorer::TokenScore;
use internlm_eval::opencompass::{Inferencer, Spec};
use internlm_eval::task::builtin;
use internlm_eval::task::spec::Rules;
use internlm_eval::{Benchmark, Error, Item, Request, Response, Row, Task, TaskOptions};
use serde_json::{Value, json};

use crate::common::shared;

/// Sets that are not in the shared folder.
const NO_FILE: [&str; 5] = [
    "ceval_gen_5f30c7",
    "ceval_ppl_578f8d",
    "obqa_ppl_c7c154_fact",
    "GaokaoBench_gen_5cfe9e_cloze",
    "commonsenseqa_ppl_c49e77",
];

/// A response of the right kind that says the least.
pub(crate) fn response(request: &Request, number: usize, text: &str) -> Response {
    match request {
        Request::Perplexity { .. } => Response::Perplexity {
            value: 1.0 + number as f64,
            tokens: 3,
        },
        Request::Loglikelihood { .. } | Request::Rolling { .. } => Response::Scores {
            tokens: vec![TokenScore {
                id: 0,
                logprob: -1.0 - number as f32,
                is_argmax: false,
            }],
        },
        Request::Reward { .. } => Response::Reward {
            value: -(number as f64),
        },
        Request::Generate { .. } => Response::Texts {
            answers: vec![vec![text.to_owned()]],
        },
    }
}

fn responses(item: &Item, text: &str) -> Vec<Response> {
    let numbered = item.requests.iter().enumerate();
    numbered
        .map(|(i, request)| response(request, i, text))
        .collect()
}

/// What must hold of all items of a task.
fn check(name: &str, spec: &Spec, task: &Task, least: usize) {
    let items = task
        .items(None)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(items.len() >= least, "{name}: {} items", items.len());
    let mut samples = Vec::new();
    for item in &items {
        assert!(!item.requests.is_empty(), "{name} {}", item.index);
        for request in &item.requests {
            let text = match request {
                Request::Perplexity { text, .. } => text.spelled().into_owned(),
                Request::Loglikelihood {
                    context,
                    continuation,
                } => context.spelled().into_owned() + continuation,
                Request::Generate { input, .. } => serde_json::to_string(input).unwrap(),
                Request::Rolling { text } => text.clone(),
                Request::Reward { .. } => unreachable!("no task of OpenCompass asks for one"),
            };
            for column in &spec.input_columns {
                let field = format!("{{{column}}}");
                // Some questions have it themselves, such as `\\bar{A}`.
                let own = item
                    .row
                    .values()
                    .any(|value| value.to_string().contains(&field));
                assert!(
                    own || !text.contains(&field),
                    "{name} {}: {field} in {text}",
                    item.index
                );
            }
            assert!(!text.contains("{subset."), "{name} {}: {text}", item.index);
        }
        if spec.output_column.is_some() {
            assert!(!item.gold.is_null(), "{name} {}: no gold", item.index);
        }
        if spec.evaluation.evaluator.needs_code() {
            let judged = task.judge(item, &responses(item, "x"), None);
            assert!(
                matches!(judged, Err(Error::NoExecutor { .. })),
                "{name}: {judged:?}"
            );
        } else {
            let judged = task.judge(item, &responses(item, "The answer is (A) 1"), None);
            samples.push(judged.unwrap_or_else(|error| panic!("{name} {}: {error}", item.index)));
        }
    }
    if !samples.is_empty() {
        let scores = task.scores(&samples);
        assert!(!scores.is_empty(), "{name}");
        for score in scores {
            assert!(score.value.is_finite(), "{name}: {score:?}");
        }
    }
    if matches!(
        spec.inferencer,
        Inferencer::Ppl { .. } | Inferencer::Ll { .. }
    ) {
        // The first label has the best score, and some item has it for its answer.
        let right = samples
            .iter()
            .filter(|sample| sample.correct == Some(true))
            .count();
        assert!(right > 0, "{name}: no item has the first label");
        assert!(
            samples.iter().any(|sample| sample.correct == Some(false)),
            "{name}"
        );
    }
}

#[test]
fn built_in_tasks_read_the_shared_files() {
    let Some(folder) = shared("datasets") else {
        return;
    };
    let options = TaskOptions {
        limit: Some(25),
        ..TaskOptions::default()
    };
    let mut checked = 0;
    for (rules, name) in builtin::names() {
        if rules != Rules::Opencompass {
            continue;
        }
        let loaded = builtin::load(name, Some(rules), &folder, &options);
        if NO_FILE.contains(&name) || name.starts_with("GaokaoBench") && loaded.is_err() {
            assert!(
                matches!(loaded, Err(Error::NoData { .. })),
                "{name}: {loaded:?}"
            );
            continue;
        }
        let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        for task in &loaded.tasks {
            let spec = task.spec().opencompass.clone().unwrap();
            check(name, &spec, task, 20);
        }
        checked += 1;
    }
    assert!(checked >= 35, "{checked}");
}

/// Rows in the hub's layout, made of the shared files.
fn hub_rows(folder: &Path, file: &str, make: impl Fn(&Row) -> Value) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let rows = text.split('\n').filter(|line| !line.is_empty()).take(25);
    rows.map(|line| make(&serde_json::from_str(line).unwrap()))
        .collect()
}

#[test]
fn built_in_tasks_read_the_layout_of_the_hub() {
    let Some(folder) = shared("datasets") else {
        return;
    };
    let text = |row: &Row, column: &str| row[column].as_str().unwrap().to_owned();
    let gold = |row: &Row| row["gold"].as_u64().unwrap();
    let copy = |row: &Row| Value::Object(row.clone());
    let sets: Vec<(&str, &str, Vec<Value>)> = vec![
        (
            "hellaswag_ppl_47bff9",
            "hellaswag/validation.jsonl",
            hub_rows(&folder, "hellaswag/validation_first1000.jsonl", |row| {
                let mut row = row.clone();
                row["label"] = row["label"].to_string().into();
                Value::Object(row)
            }),
        ),
        (
            "ARC_c_gen_1e0de5",
            "ai2_arc/ARC-Challenge/validation.jsonl",
            hub_rows(&folder, "arc/ARC-Challenge-Test.jsonl", |row| {
                // The hub has the labels 1 to 4 in some rows.
                let mut row = row.clone();
                let key = "ABCD".find(row["answerKey"].as_str().unwrap()).unwrap();
                row["choices"]["label"] = json!(["1", "2", "3", "4"]);
                row["answerKey"] = (key + 1).to_string().into();
                Value::Object(row)
            }),
        ),
        (
            "piqa_ppl_1cf9f0",
            "piqa/validation.jsonl",
            hub_rows(&folder, "piqa/valid.jsonl", |row| {
                let mut row = row.clone();
                row.insert(
                    "label".into(),
                    (row["goal"].as_str().unwrap().len() % 2).into(),
                );
                Value::Object(row)
            }),
        ),
        (
            "siqa_ppl_ced5f6",
            "social_i_qa/validation.jsonl",
            hub_rows(&folder, "siqa/validation_first500.jsonl", |row| {
                let (query, gold) = (text(row, "query"), gold(row));
                json!({"context": "c", "question": query, "answerA": "a", "answerB": "b", "answerC": "c",
                    "label": (gold + 1).to_string()})
            }),
        ),
        (
            "winogrande_ll_c5cf57",
            "winogrande/winogrande_xs/validation.jsonl",
            hub_rows(&folder, "winogrande/dev.jsonl", copy),
        ),
        (
            "SuperGLUE_BoolQ_ppl_314b96",
            "super_glue/boolq/validation.jsonl",
            hub_rows(
                &folder,
                "boolq/validation_first500.jsonl",
                |row| json!({"question": text(row, "query"), "passage": "p", "idx": 0, "label": gold(row)}),
            ),
        ),
        (
            "SuperGLUE_COPA_ppl_9f3618",
            "super_glue/copa/validation.jsonl",
            hub_rows(&folder, "copa/validation.jsonl", |row| {
                json!({"premise": text(row, "query"), "choice1": row["choices"][0], "choice2": row["choices"][1],
                    "question": "cause", "idx": 0, "label": gold(row)})
            }),
        ),
        (
            "obqa_ppl_c7c154",
            "openbookqa/main/test.jsonl",
            hub_rows(&folder, "openbookqa/test.jsonl", |row| {
                let key = ["A", "B", "C", "D"][usize::try_from(gold(row)).unwrap()];
                json!({"id": "x", "question_stem": text(row, "query"), "answerKey": key,
                    "choices": {"text": row["choices"], "label": ["A", "B", "C", "D"]}})
            }),
        ),
        (
            "commonsenseqa_ppl_0shot",
            "commonsense_qa/validation.jsonl",
            hub_rows(&folder, "commonsense_qa/validation.jsonl", |row| {
                let key = ["A", "B", "C", "D"][usize::try_from(gold(row)).unwrap()];
                json!({"question": text(row, "query"), "answerKey": key,
                    "choices": {"text": ["a", "b", "c", "d", "e"], "label": ["A", "B", "C", "D", "E"]}})
            }),
        ),
        (
            "lambada_gen_217e11",
            "lambada_openai/test.jsonl",
            hub_rows(
                &folder,
                "lambada_openai/test_first1000.jsonl",
                |row| json!({"text": format!("{} {}", text(row, "context"), text(row, "continuation"))}),
            ),
        ),
        (
            "triviaqa_gen_2121ce",
            "trivia_qa/rc.nocontext/validation.jsonl",
            hub_rows(
                &folder,
                "triviaqa/sm_sub_first500.jsonl",
                |row| json!({"question": text(row, "context"), "answer": {"aliases": row["aliases"], "value": row["answer"]}}),
            ),
        ),
        (
            "svamp_gen_fb25e4",
            "SVAMP/test.jsonl",
            hub_rows(
                &folder,
                "svamp/test.jsonl",
                |row| json!({"Body": text(row, "context"), "Question": "How many?", "Answer": format!("{}.0", text(row, "answer"))}),
            ),
        ),
        (
            "gsm8k_gen_1d7fe4",
            "gsm8k/main/test.jsonl",
            hub_rows(&folder, "gsm8k/test.jsonl", copy),
        ),
        (
            "math_gen_a58d9d",
            "competition_math/test.jsonl",
            hub_rows(&folder, "math/test_every10th.jsonl", copy),
        ),
        (
            "humaneval_openai_sample_evals_gen_dcae0e",
            "openai_humaneval/test.jsonl",
            hub_rows(&folder, "humaneval/HumanEval.jsonl", copy),
        ),
        (
            "IFEval_gen_353ae7",
            "IFEval/train.jsonl",
            hub_rows(&folder, "ifeval/input_data.jsonl", copy),
        ),
        (
            "winograd_ppl_b6c7ed",
            "winograd_wsc/wsc285/test.jsonl",
            hub_rows(&folder, "winograd_wsc/wsc273.jsonl", |row| {
                json!({"text": row["context_options"][0], "pronoun": "it", "source": "s", "label": gold(row),
                    "options": ["one", "other"], "quote": "q"})
            }),
        ),
        (
            "truthfulqa_gen_5ddc62",
            "truthful_qa/generation/validation.jsonl",
            hub_rows(&folder, "truthfulqa/mc_validation.jsonl", |row| {
                json!({"type": "t", "category": "c", "question": text(row, "question"), "best_answer": "yes",
                    "correct_answers": ["yes", "it is"], "incorrect_answers": ["no"], "source": "s"})
            }),
        ),
    ];
    for (name, file, rows) in sets {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        let options = TaskOptions::default();
        let loaded = builtin::load(name, Some(Rules::Opencompass), folder.path(), &options);
        let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let task = &loaded.tasks[0];
        check(name, &task.spec().opencompass.clone().unwrap(), task, 20);
    }
}

#[test]
fn names_find_one_configuration() {
    let Some(folder) = shared("datasets") else {
        return;
    };
    let options = TaskOptions {
        limit: Some(2),
        ..TaskOptions::default()
    };
    let load =
        |name: &str| builtin::load(name, Some(Rules::Opencompass), &folder, &options).unwrap();
    for (name, mode, tasks) in [
        ("hellaswag", "ppl", 1),
        ("hellaswag_gen_6faab5", "gen", 1),
        ("cmmlu", "ppl", 10),
        ("cmmlu-agronomy", "ppl", 1),
        ("bbh_gen_ee62e9", "gen", 27),
        ("bbh", "gen", 27),
        ("mmlu_openai_simple_evals_gen_b618ea", "gen", 20),
        ("GaokaoBench_gen_5cfe9e", "gen", 3),
    ] {
        let loaded = load(name);
        assert_eq!(loaded.tasks.len(), tasks, "{name}");
        assert!(
            loaded.tasks.iter().all(|task| task.identity().mode == mode),
            "{name}"
        );
    }
    let loaded = load("hellaswag_ppl_47bff9");
    let hash = &loaded.tasks[0].identity().prompt_hash;
    assert!(hash.starts_with("47bff9"), "{hash}");
}

#[test]
fn ceval_reads_its_layout() {
    let folder = tempfile::tempdir().unwrap();
    for (split, rows, answer) in [("dev", 5, true), ("val", 21, true), ("test", 3, false)] {
        let dir = folder.path().join("ceval").join(split);
        std::fs::create_dir_all(&dir).unwrap();
        let mut text = String::from("id,question,A,B,C,D,");
        text += if answer { "answer,explanation\n" } else { "\n" };
        for row in 0..rows {
            let letter = ["A", "B", "C", "D"][row % 4];
            text += &format!("{row},\"问题{row}，（ ）\",甲,乙,丙,丁,{letter},因为\n");
        }
        std::fs::write(dir.join(format!("law_{split}.csv")), text).unwrap();
    }
    for name in ["ceval_ppl_578f8d", "ceval_gen_5f30c7"] {
        let options = TaskOptions::default();
        let loaded =
            builtin::load(name, Some(Rules::Opencompass), folder.path(), &options).unwrap();
        let [task] = &loaded.tasks[..] else {
            panic!("{:?}", loaded.tasks);
        };
        assert_eq!(task.name(), "ceval-law");
        assert_eq!(task.identity().groups, ["ceval", "ceval-humanities"]);
        assert_eq!(task.identity().shots, 5);
        check(name, &task.spec().opencompass.clone().unwrap(), task, 21);
        let items = task.items(None).unwrap();
        let Some(Request::Perplexity { text, .. }) = items[0].requests.first() else {
            continue;
        };
        assert_eq!(
            text.spelled()
                .matches("以下是中国关于法学考试的单项选择题")
                .count(),
            6,
            "{text:?}"
        );
    }
}
