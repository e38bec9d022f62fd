//! `quantize`: the folder it writes, the objects it prints, and its errors.

use std::path::Path;

use super::support::{Program, goldens, program};

fn quantize(model: &Path, out: &Path) -> Option<Program> {
    Some(program("quantize")?.model(model).arg("--out").arg(out))
}

#[test]
fn a_dense_folder_becomes_an_awq_folder() {
    let Some(folder) = goldens("awq/tiny-llama-gqa-autoawq-g64/source") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("out");
    let Some(run) = quantize(&folder, &out) else {
        return;
    };
    let objects = run
        .args(["--method", "rtn", "--group-size", "64"])
        .objects([]);
    assert_eq!(objects.len(), 2 * 7 + 1);
    assert_eq!(objects[0]["layer"], "model.layers.0.self_attn.q_proj");
    let last = objects.last().expect("there are some");
    assert!(last["bytes_after"].as_u64() < last["bytes_before"].as_u64());
    let config = std::fs::read(out.join("config.json")).expect("is there");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("is JSON");
    assert_eq!(config["quantization_config"]["group_size"], 64);
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        1
    );

    let again = quantize(&folder, &out).expect("it was there");
    let error = again
        .args(["--method", "rtn", "--group-size", "64"])
        .error(b"");
    assert!(error.contains("is there already"), "{error}");
}

#[test]
fn errors_say_what_would_do_and_leave_nothing_behind() {
    let Some(folder) = goldens("awq/tiny-llama-gqa-autoawq-g64/source") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("out");
    let Some(run) = quantize(&folder, &out) else {
        return;
    };
    let error = run
        .args(["--method", "rtn", "--group-size", "96"])
        .error(b"");
    assert!(error.contains("128 and 64 and 32 do"), "{error}");
    // There is no tokenizer to read a text with.
    let run = quantize(&folder, &out).expect("it was there");
    let error = run.args(["--group-size", "64"]).error(b"");
    assert!(error.contains("no tokenizer"), "{error}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        0
    );
}

#[test]
fn an_empty_text_is_no_calibration() {
    let Some(model) = super::support::smollm2() else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let text = scratch.path().join("empty.txt");
    std::fs::write(&text, b"").expect("can be written");
    let Some(run) = quantize(&model, &scratch.path().join("out")) else {
        return;
    };
    let run = run.args(["--group-size", "64", "--calib"]).arg(&text);
    let error = run.error(b"");
    assert!(error.contains("calibration data of 0 tokens"), "{error}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        1
    );
}
