//! Ranking by a reward model.

use internlm_eval::run::Predictions;
use internlm_eval::{Report, Run, RunConfig, Task, TaskOptions, TaskSpec};

use crate::toy::{Toy, figures};

const ROWS: &str = r#"{"q": "one", "good": "long", "bad": "no"}
{"q": "two", "good": "a", "bad": "longer"}
{"q": "three", "good": "poison", "bad": "x"}
{"q": "four", "good": "longest", "bad": "longer"}
"#;

fn task() -> Task {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.jsonl"), ROWS).unwrap();
    let toml = "name = 't'\ndata.file = 't.jsonl'\nmode = 'reward'\nprompt = '{{ q }}?'\nchoices = '[good, bad]'";
    let spec = TaskSpec::from_toml(toml, "t.toml".as_ref()).unwrap();
    Task::new(&spec, None, folder.path(), &TaskOptions::default()).unwrap()
}

fn run(task: &Task, toy: &Toy, config: RunConfig) -> Report {
    Run::new(config)
        .with_reward_model(toy)
        .with_name("toy")
        .with_benchmark(task)
        .execute()
        .unwrap()
}

#[test]
fn candidates_are_ranked_and_what_fails_fails_alone() {
    let task = task();
    let mut toy = Toy::new();
    toy.poison = Some("poison");
    let report = run(&task, &toy, RunConfig::default());
    let benchmark = &report.benchmarks[0];
    assert_eq!((benchmark.judged, benchmark.failed), (3, 1));
    let score = &benchmark.scores[0];
    assert_eq!((score.metric.as_str(), score.n), ("acc", 3));
    assert!((score.value - 2.0 / 3.0).abs() < 1e-12);
    let record = &benchmark.records[1];
    assert_eq!(record.prompt, "user: two?");
    let answers: Vec<_> = record
        .answers
        .iter()
        .map(|answer| (answer.text.as_str(), answer.score))
        .collect();
    assert_eq!(answers, [("a", Some(1.0)), ("longer", Some(6.0))]);
    assert_eq!(record.correct, Some(false));
}

#[test]
fn predictions_of_a_folder_give_the_same_figures() {
    let task = task();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let config = RunConfig::default().with_folder(&out);
    let report = run(&task, &Toy::new(), config);
    assert_eq!(report.benchmarks[0].judged, 4);
    let mut predictions = Predictions::new();
    predictions
        .add_opencompass_file("t", out.join("predictions/toy/t.json"))
        .unwrap();
    let again = Run::new(RunConfig::default())
        .with_predictions(&predictions)
        .with_name("toy")
        .with_benchmark(&task)
        .execute()
        .unwrap();
    assert_eq!(
        figures(&again)["benchmarks"][0]["scores"],
        figures(&report)["benchmarks"][0]["scores"]
    );
}

#[test]
fn without_a_reward_model_nothing_is_asked() {
    let task = task();
    let toy = Toy::new();
    let error = Run::new(RunConfig::default())
        .with_scorer(&toy)
        .with_benchmark(&task)
        .execute()
        .unwrap_err();
    assert!(error.to_string().contains("a reward model"), "{error}");
}
