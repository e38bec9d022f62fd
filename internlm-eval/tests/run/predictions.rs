//! Answers that were made elsewhere.

use std::fs;

use internlm_eval::run::Predictions;
use internlm_eval::{Error, Report, Run, RunConfig};

use crate::toy::{Kind, Made, Toy, as_benchmarks, figures};

fn made() -> Vec<Made> {
    vec![
        Made::new("choice", Kind::Choice, 5),
        Made::new("perplexity", Kind::Perplexity, 4),
        Made::new("text", Kind::Text(1), 4),
        Made::new("texts", Kind::Text(3), 2),
    ]
}

fn judge(predictions: &Predictions) -> Report {
    let made = made();
    let run = Run::new(RunConfig::default())
        .with_name("toy")
        .with_predictions(predictions);
    run.with_benchmarks(as_benchmarks(&made)).execute().unwrap()
}

#[test]
fn our_own_files_in_both_formats_give_the_same_judgements() {
    let folder = tempfile::tempdir().unwrap();
    let made = made();
    let toy = Toy::new();
    let report = Run::new(RunConfig::default().with_folder(folder.path()))
        .with_scorer(&toy)
        .with_chat_model(&toy)
        .with_benchmarks(as_benchmarks(&made))
        .execute()
        .unwrap();
    let correct = |report: &Report| -> Vec<Option<bool>> {
        let records = report.benchmarks.iter().flat_map(|b| &b.records);
        records.map(|record| record.correct).collect()
    };

    let mut opencompass = Predictions::new();
    opencompass
        .add_opencompass_folder(folder.path().join("predictions/toy"))
        .unwrap();
    assert_eq!(opencompass.benchmarks().len(), 4);
    let judged = judge(&opencompass);
    assert_eq!(judged.failed(), 0);
    assert_eq!(correct(&judged), correct(&report));

    let mut lm_eval = Predictions::new();
    for entry in fs::read_dir(folder.path().join("toy")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix("samples_") {
            let (benchmark, _) = rest.split_once('_').unwrap();
            // The harness has no perplexity of a whole prompt.
            if benchmark != "perplexity" {
                lm_eval.add_lm_eval_file(benchmark, entry.path()).unwrap();
            }
        }
    }
    let judged = judge(&lm_eval);
    assert_eq!(judged.failed(), 4);
    for name in ["choice", "text", "texts"] {
        let of = |report: &Report| {
            let benchmark = report.benchmarks.iter().find(|b| b.name == name).unwrap();
            benchmark
                .records
                .iter()
                .map(|r| r.correct)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&judged), of(&report), "{name}");
    }
}

#[test]
fn parts_of_a_data_set_are_joined_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let part = |name: &str, text: &str| {
        let json =
            format!(r#"{{"0": {{"prediction": "{text}0"}}, "1": {{"prediction": "{text}1"}}}}"#);
        fs::write(folder.path().join(name), json).unwrap();
    };
    part("text_1.json", "b");
    part("text_0.json", "a");
    let mut predictions = Predictions::new();
    predictions.add_opencompass_folder(folder.path()).unwrap();
    assert_eq!(predictions.benchmarks(), ["text"]);
    let report = judge(&predictions);
    let records = &report.benchmarks[2].records;
    let texts: Vec<&str> = records.iter().map(|r| r.answers[0].text.as_str()).collect();
    assert_eq!(texts, ["a0", "a1", "b0", "b1"]);
}

#[test]
fn what_is_missing_or_of_another_kind_fails() {
    let mut predictions = Predictions::new();
    predictions.add_texts("text", ["a".to_owned(), "b".to_owned()]);
    predictions.add_texts("choice", ["a".to_owned()]);
    let report = judge(&predictions);
    let failed: Vec<usize> = report.benchmarks.iter().map(|b| b.failed).collect();
    assert_eq!(failed, [5, 4, 2, 2]);
    assert_eq!(figures(&report)["benchmarks"][2]["judged"], 2);
}

#[test]
fn files_of_another_format_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut predictions = Predictions::new();
    let empty = predictions
        .add_opencompass_folder(folder.path())
        .unwrap_err();
    assert!(matches!(empty, Error::Predictions { .. }), "{empty}");
    let file = folder.path().join("x.json");
    for text in [
        "",
        "[]",
        r#"{"a": {}}"#,
        r#"{"0": {}}"#,
        r#"{"0": {"prediction": [1]}}"#,
    ] {
        fs::write(&file, text).unwrap();
        let error = predictions.add_opencompass_file("x", &file).unwrap_err();
        assert!(
            matches!(error, Error::Predictions { .. }),
            "{text}: {error}"
        );
    }
    for text in [
        "x",
        "{}",
        r#"{"doc_id": 1}"#,
        r#"{"doc_id": 1, "resps": [[1, 2]]}"#,
    ] {
        fs::write(&file, text).unwrap();
        let error = predictions.add_lm_eval_file("x", &file).unwrap_err();
        assert!(
            matches!(error, Error::Predictions { .. }),
            "{text}: {error}"
        );
    }
}
