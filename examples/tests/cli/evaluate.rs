//! `evaluate` on a real model, item by item as lm-evaluation-harness scores it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Program, goldens, program, read, smollm2};

/// Items of each task; goldens have every second one.
const ITEMS: u64 = 5;

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let parse = |line| serde_json::from_str(line).expect("a line is JSON");
    text.split_terminator('\n').map(parse).collect()
}

/// The samples that a run wrote of a task.
fn samples(folder: &Path, task: &str) -> Vec<Value> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    };
    let folders = inside(folder).into_iter().filter(|path| path.is_dir());
    let mut files = folders.flat_map(|folder| inside(&folder));
    let is_it = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(&format!("samples_{task}_"))
    };
    lines(&files.find(is_it).expect("samples of the task"))
}

#[track_caller]
fn check(sample: &Value, golden: &Value) {
    let answers = sample["resps"].as_array().expect("a list");
    let choices = golden["choices"].as_array().expect("a list");
    assert_eq!(answers.len(), choices.len());
    for (answer, choice) in answers.iter().zip(choices) {
        let got: f64 = answer[0][0]
            .as_str()
            .expect("a text")
            .parse()
            .expect("a number");
        let want = choice["ll"].as_f64().expect("a number");
        let tokens = choice["continuation_ids"].as_array().expect("a list").len();
        // The order of sums in f32.
        assert!(
            (got - want).abs() <= 2e-3 + 1e-4 * tokens as f64,
            "{got} {want}"
        );
        let is_greedy = choice["is_greedy"].as_bool().expect("a bool");
        assert_eq!(answer[0][1] == "True", is_greedy);
    }
    for metric in ["acc", "acc_norm"] {
        assert_eq!(
            sample[metric].as_f64(),
            golden["metrics"][metric].as_f64(),
            "{metric}"
        );
    }
}

#[test]
fn evaluate_scores_as_lm_evaluation_harness() {
    let (Some(model), Some(goldens)) = (smollm2(), goldens("eval")) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let run = || -> Option<Program> {
        let data = goldens.join("../../datasets");
        let program = program("evaluate")?.model(&model).arg("--data").arg(data);
        let limit = ITEMS.to_string();
        let program = program.args([
            "--dtype",
            "f32",
            "--tasks",
            "hellaswag,arc_easy",
            "--limit",
            &limit,
        ]);
        Some(program.arg("--out").arg(&out))
    };
    let Some(program) = run() else { return };
    let output = program.arg("--json").output(b"");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for (task, golden) in [
        ("hellaswag", "lm_hellaswag.jsonl"),
        ("arc_easy", "lm_arc_easy.jsonl"),
    ] {
        let samples = samples(&out, task);
        assert_eq!(samples.len() as u64, ITEMS);
        let mut checked = 0;
        for golden in lines(&goldens.join(golden)) {
            let item = golden["item"].as_u64().expect("a number");
            if let Some(sample) = samples.iter().find(|sample| sample["doc_id"] == item) {
                check(sample, &golden);
                checked += 1;
            }
        }
        assert_eq!(checked, ITEMS.div_ceil(2));
    }
    // Again: everything is in the journal, and nothing is asked.
    let asked = || {
        let lines = lines(&out.join("journal.jsonl"));
        lines
            .iter()
            .filter(|line| line["entry"]["type"] == "response")
            .count()
    };
    let before = asked();
    assert_eq!(before as u64, 2 * 4 * ITEMS);
    let Some(again) = run() else { return };
    let again = again.arg("--json").output(b"");
    assert_eq!(again.stdout, output.stdout);
    assert_eq!(asked(), before);
}

/// Perplexities of whole prompts, as OpenCompass has them of the same model in f32.
#[test]
fn evaluate_scores_as_open_compass() {
    let (Some(model), Some(goldens)) = (smollm2(), goldens("eval")) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let Some(program) = program("evaluate") else {
        return;
    };
    let limit = ITEMS.to_string();
    let output = program
        .model(&model)
        .arg("--data")
        .arg(goldens.join("../../datasets"))
        .args(["--dtype", "f32", "--rules", "opencompass"])
        .args(["--tasks", "hellaswag_ppl_47bff9,piqa_ppl_1cf9f0"])
        .args(["--limit", &limit, "--json", "--out"])
        .arg(&out)
        .output(b"");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let models = std::fs::read_dir(out.join("predictions")).expect("a folder");
    let model = models.map(|entry| entry.expect("an entry").path()).next();
    let model = model.expect("the model's predictions");
    let mut checked = 0;
    for golden in lines(&goldens.join("oc_ppl.jsonl")) {
        let config = golden["config"].as_str().expect("a text");
        let item = golden["item"].as_u64().expect("a number");
        let is_here = ["hellaswag_ppl_47bff9", "piqa_ppl_1cf9f0"]
            .iter()
            .any(|name| config.ends_with(name));
        if !is_here || item >= ITEMS {
            continue;
        }
        let file = model.join(format!("{}.json", golden["abbr"].as_str().expect("a text")));
        let predictions: Value = read(&file);
        let prediction = &predictions[item.to_string()];
        let perplexities = golden["ppl"].as_array().expect("a list");
        for (label, want) in perplexities.iter().enumerate() {
            let got = prediction[format!("label: {label}")]["PPL"].as_f64();
            let (got, want) = (got.expect("a number"), want.as_f64().expect("a number"));
            let tokens = golden["n_tokens"][label].as_f64().expect("a number");
            // The order of sums in f32, of a mean over the tokens.
            let most = (2e-3 + 1e-4 * tokens) / tokens;
            assert!((got - want).abs() <= most, "{config} {item}: {got} {want}");
        }
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}
