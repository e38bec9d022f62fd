//! `logits`, `generate` and `bench` on the tiny checkpoints with official outputs. None of them has
//! a tokenizer.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::support::{assert_close, floats, goldens, program, read};

/// f32 logits (`goldens/README.md`, "Measured tolerances").
const TOLERANCE: f32 = 1e-4;

fn model(name: &str) -> Option<(PathBuf, Value)> {
    let dir = goldens(&format!("models/{name}"))?;
    let golden = read(&dir.join("golden.json"));
    Some((dir, golden))
}

#[track_caller]
fn check_logits(name: &str) {
    let Some(((dir, golden), program)) = model(name).zip(program("logits")) else {
        return;
    };
    let full = &golden["full_logits"];
    let got = program
        .model(&dir)
        .objects(&[json!({ "ids": full["input_ids"] })]);
    let got = got[0]["logits"].as_array().expect("rows");
    let want = full["logits"].as_array().expect("rows");
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert_close(&floats(got), &floats(want), TOLERANCE);
    }
}

#[track_caller]
fn check_last(name: &str) {
    let Some(((dir, golden), program)) = model(name).zip(program("logits")) else {
        return;
    };
    let cases = golden["cases"].as_array().expect("cases");
    let lines: Vec<_> = cases
        .iter()
        .map(|case| json!({ "ids": case["input_ids"] }))
        .collect();
    let got = program
        .model(&dir)
        .args(["--last", "--threads", "1"])
        .objects(&lines);
    assert_eq!(got.len(), cases.len());
    for (got, case) in got.iter().zip(cases) {
        assert_eq!(got["logits"].as_array().expect("rows").len(), 1);
        assert_close(
            &floats(&got["logits"][0]),
            &floats(&case["last_logits"]),
            TOLERANCE,
        );
    }
}

#[track_caller]
fn check_greedy(name: &str) {
    let Some(((dir, golden), program)) = model(name).zip(program("generate")) else {
        return;
    };
    let cases = golden["cases"].as_array().expect("cases");
    let line = |case: &Value| json!({ "ids": case["input_ids"], "max_new_tokens": 32 });
    let lines: Vec<_> = cases.iter().map(line).collect();
    let got = program
        .model(&dir)
        .args(["--greedy", "--ignore-eos"])
        .objects(&lines);
    let want: Vec<_> = cases
        .iter()
        .map(|case| json!({ "ids": case["greedy_32"], "text": "", "finish_reason": "length" }))
        .collect();
    assert_eq!(got, want);
}

#[test]
fn logits_of_every_layout_and_family() {
    for name in [
        "internlm1-tiny",
        "internlm2-tiny",
        "internlm2-sharded-tiny",
        "internlm2-bin-tiny",
        "internlm3-tiny",
    ] {
        check_logits(name);
    }
}

#[test]
fn last_logits_under_each_rope_scaling() {
    for name in [
        "internlm1-tiny",
        "internlm2-dynamic-ntk-tiny",
        "internlm2-linear-rope-tiny",
        "internlm3-bias-tiny",
    ] {
        check_last(name);
    }
}

#[test]
fn generate_gives_the_official_tokens() {
    for name in [
        "internlm1-tiny",
        "internlm2-tiny",
        "internlm2-tied-tiny",
        "internlm2-sharded-tiny",
        "internlm3-tiny",
    ] {
        check_greedy(name);
    }
}

#[test]
fn logits_of_a_reward_model_are_its_score() {
    let Some(((dir, golden), program)) = model("internlm2-reward-tiny").zip(program("logits"))
    else {
        return;
    };
    let cases = golden["cases"].as_array().expect("cases");
    let lines: Vec<_> = cases
        .iter()
        .map(|case| json!({ "ids": case["input_ids"] }))
        .collect();
    let got = program.model(&dir).objects(&lines);
    assert_eq!(got.len(), cases.len());
    for (got, case) in got.iter().zip(cases) {
        assert_close(
            &floats(&json!([got["score"]])),
            &floats(&json!([case["score"]])),
            TOLERANCE,
        );
    }
}

#[test]
fn generate_draws_the_same_for_the_same_seed() {
    let Some((dir, _)) = model("internlm2-tiny") else {
        return;
    };
    let draw = |seed: &str| {
        let program = program("generate")?;
        let program = program.model(&dir).args([
            "--temperature",
            "1.5",
            "--max-new-tokens",
            "20",
            "--seed",
            seed,
        ]);
        Some(program.objects(&[json!({ "ids": [3, 4, 5] })]))
    };
    let Some(one) = draw("1") else {
        return;
    };
    assert_eq!(Some(&one), draw("1").as_ref());
    assert_ne!(Some(&one), draw("2").as_ref());
}

#[test]
fn bench_measures() {
    let Some((dir, program)) = goldens("models/internlm2-tiny").zip(program("bench")) else {
        return;
    };
    // With the context, prompts fill the cache's blocks; their answers of one token need another.
    let sizes = [
        "--prompt-tokens",
        "54",
        "--gen-tokens",
        "6",
        "--batch",
        "2",
        "--context",
        "10",
        "--reps",
        "3",
    ];
    let got = program
        .model(&dir)
        .args(sizes)
        .args(["--threads", "2"])
        .objects(&[]);
    let [report] = &got[..] else {
        panic!("one object: {got:?}");
    };
    assert_eq!(report["model"], "internlm2-tiny");
    assert_eq!(report["weights"], "dense");
    assert_eq!(report["threads"], 2);
    for field in ["pp_tokens_per_s", "tg_tokens_per_s", "load_s"] {
        assert!(
            report[field].as_f64().is_some_and(|v| v > 0.0),
            "{field}: {report}"
        );
    }
    assert_eq!(report["pp_reps"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["tg_reps"].as_array().map(Vec::len), Some(3));
    // 512 x 64 embedding and head; wqkv 128 x 64, wo 64 x 64, 3 x 160 x 64 in each of 3 layers; f32.
    let matrices = 2 * 512 * 64 + 3 * (128 * 64 + 64 * 64 + 3 * 160 * 64);
    assert_eq!(report["weight_bytes"], 4 * matrices);
    if cfg!(target_os = "linux") {
        assert!(report["peak_rss_bytes"].as_u64() > report["weight_bytes"].as_u64());
    }
}

#[test]
fn bench_of_packed_weights() {
    let Some(program) = program("bench") else {
        return;
    };
    let out = program
        .args(["--shape", "smollm2-135m", "--weights", "w4"])
        .args([
            "--prompt-tokens",
            "4",
            "--gen-tokens",
            "2",
            "--reps",
            "1",
            "--act",
            "int8",
        ])
        .objects(&[]);
    assert_eq!(
        (&out[0]["weights"], &out[0]["act"]),
        (&"w4".into(), &"int8".into())
    );
    // The embedding is f32; 106 million weights of 30 layers take 4.25 bits, padding aside.
    let packed = out[0]["weight_bytes"].as_u64().unwrap_or(0) - 4 * 49_152 * 576;
    assert!((53 << 20..60 << 20).contains(&packed), "{packed}");
}
