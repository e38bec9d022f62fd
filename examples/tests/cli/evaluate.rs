//! `evaluate` on a real model, item by item as lm-evaluation-harness scores it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::quantize::internlm2_of;
use super::serve::{signal, start_with};
use super::support::{Program, floats, goldens, program, read, smollm2};

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

/// Pairs ranked by a reward model: each answer has the score that `logits` gives to the conversation and the token
/// of rewards, and a server of the model says the same.
#[test]
fn a_reward_model_ranks_preferences() {
    let scratch = tempfile::tempdir().expect("a folder");
    let model = internlm2_of("InternLM2ForRewardModel", scratch.path());
    let (Some(model), Some(goldens)) = (model, goldens("eval")) else {
        return;
    };
    let data = goldens.join("../../datasets");
    let run = |name: &str, from: &dyn Fn(Program) -> Program| -> Option<Vec<Value>> {
        let out = scratch.path().join(name);
        let program = from(program("evaluate")?).arg("--data").arg(&data);
        let program = program.args(["--tasks", "preference_reward", "--limit", "4"]);
        let output = program.arg("--out").arg(&out).output(b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Some(samples(&out, "preference_reward"))
    };
    let Some(samples) = run("local", &|program| program.model(&model)) else {
        return;
    };
    assert_eq!(samples.len(), 4);
    for sample in &samples {
        let scores = ["good", "bad"].map(|answer| {
            let mut messages = sample["doc"]["turns"].clone();
            let answer = json!({"role": "assistant", "content": sample["doc"][answer]});
            messages.as_array_mut().expect("a list").push(answer);
            let rendered = program("template").expect("is built").model(&model);
            let asked = json!({"messages": messages, "add_generation_prompt": false});
            let mut ids = rendered.objects([&asked])[0]["ids"].clone();
            let ids_with_reward = ids.as_array_mut().expect("a list");
            // `[UNUSED_TOKEN_130]`, as in the released reward models.
            ids_with_reward.push(json!(92527));
            let logits = program("logits").expect("is built").model(&model);
            let score = logits.objects([&json!({"ids": ids_with_reward})]);
            score[0]["score"].as_f64().expect("a number") as f32
        });
        let got: Vec<f32> = sample["resps"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|r| floats(r)[0])
            .collect();
        assert!(
            (got[0] - scores[0]).abs() < 1e-5 && (got[1] - scores[1]).abs() < 1e-5,
            "{got:?} {scores:?}"
        );
        let right = f64::from(u8::from(scores[0] > scores[1]));
        assert_eq!(sample["acc"].as_f64(), Some(right));
    }
    let Some((mut child, _stdout, address)) = start_with(&model) else {
        return;
    };
    let url = format!("http://{address}/v1");
    let served = run("served", &|program| program.args(["--base-url", &url]));
    signal(&child, "-TERM");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let resps = |samples: &[Value]| {
        samples
            .iter()
            .map(|s| s["resps"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(resps(&served.expect("is built")), resps(&samples));
}
