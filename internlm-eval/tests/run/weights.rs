//! Which weights a report names.

use std::fs;
use std::path::Path;

use internlm_eval::run::Weights;
use internlm_eval::{Error, Report, Result, Run, RunConfig};
use serde_json::Value;

use crate::toy::{Kind, Made, Toy, as_benchmarks};

/// The SHA-256 of `abc`.
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn run(weights: Weights, folder: &Path) -> Result<Report> {
    let made = [Made::new("choice", Kind::Choice, 3)];
    let toy = Toy::without_hash();
    Run::new(RunConfig::default().with_folder(folder))
        .with_scorer(&toy)
        .with_weights(weights)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
}

#[test]
fn the_hash_of_the_file_is_in_the_report_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (folder.path().join("m.gguf"), folder.path().join("run"));
    fs::write(&model, "abc").unwrap();
    let weights = || Weights::at(&model).unwrap();
    let report = run(weights(), &out).unwrap();
    assert!(report.to_string().contains(&format!("model sha256: {ABC}")));
    let kept = out.join("configs/weights.json");
    let text = fs::read_to_string(&kept).unwrap();
    // The same file is not read again: what is kept is believed.
    fs::write(&kept, text.replace("ba7816bf", "ba7816be")).unwrap();
    let refused = run(weights(), &out).unwrap_err();
    assert!(matches!(refused, Error::OtherRun { .. }), "{refused}");
    fs::write(&kept, text).unwrap();
    assert_eq!(run(weights(), &out).unwrap().model, report.model);
    // Another file under the same name.
    fs::write(&model, "abcd").unwrap();
    let refused = run(weights(), &out).unwrap_err();
    assert!(refused.to_string().contains("model hash"), "{refused}");
    // Without a model the report still knows.
    let made = [Made::new("choice", Kind::Choice, 3)];
    let offline = Run::new(RunConfig::default().with_folder(&out).with_offline(true))
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    assert_eq!(offline.model.model_hash.as_deref(), Some(ABC));
}

#[test]
fn a_server_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(Weights::Remote, folder.path()).unwrap();
    for text in [report.to_string(), report.markdown()] {
        assert!(text.contains("model sha256: remote: toy"), "{text}");
    }
    assert!(report.html().contains("<dd>remote: toy</dd>"));
    let config = fs::read_to_string(folder.path().join("configs/run.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["model"]["remote"], true);
}

#[test]
fn a_file_that_is_not_there_is_said_before_anything_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Weights::Files(vec![folder.path().join("none")]);
    let error = run(missing, &folder.path().join("run")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
}
