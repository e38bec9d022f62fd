//! `pipeline`: what a second run skips, and what makes it do a stage again.

use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::quantize::internlm2;
use super::support::{Program, program};

const STAGES: [&str; 6] = [
    "load",
    "quantize",
    "evaluate before",
    "evaluate after",
    "serve",
    "agent",
];

fn pipeline(model: &Path, out: &Path) -> Program {
    let program = program("pipeline").expect("it was there").model(model);
    program.arg("--out").arg(out).args(["--limit", "2"])
}

/// Runs to the end; the stages that were skipped.
#[track_caller]
fn skipped(program: Program) -> Vec<String> {
    let objects = program.objects([]);
    let names: Vec<&str> = objects.iter().filter_map(|o| o["stage"].as_str()).collect();
    assert_eq!(names, STAGES);
    let skipped = objects.iter().filter(|object| object["skipped"] == true);
    let name = |object: &Value| object["stage"].as_str().unwrap_or_default().to_owned();
    skipped.map(name).collect()
}

/// Runs until a stage is done, and is killed then; whether that stage was skipped.
#[track_caller]
fn killed_after(stage: &str, program: Program) -> bool {
    let mut child = program.arg("--json").spawn();
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let objects = lines.map(|line| {
        let line = line.expect("text");
        serde_json::from_str::<Value>(&line).expect("an object")
    });
    let mut of_stage = objects.filter(|object| object["stage"] == stage);
    let object = of_stage.next();
    child.kill().expect("can be killed");
    child.wait().expect("can be waited for");
    object.expect("the stage is done")["skipped"] == true
}

fn rewrite(file: &Path) {
    let bytes = std::fs::read(file).expect("a file");
    std::fs::write(file, bytes).expect("can be written");
}

#[test]
fn a_folder_of_others_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (Some(_), Some(model)) = (program("pipeline"), internlm2(folder.path())) else {
        return;
    };
    let out = folder.path().join("out");
    std::fs::create_dir_all(out.join("model-w4a16")).expect("a folder");
    std::fs::write(out.join("model-w4a16/mine"), "kept").expect("a file");
    let error = pipeline(&model, &out).error(b"");
    assert!(error.contains("holds files of others"), "{error}");
    let mine = std::fs::read_to_string(out.join("model-w4a16/mine"));
    assert_eq!(mine.expect("is there"), "kept");
}

#[test]
fn stages_are_skipped_while_nothing_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (Some(_), Some(model)) = (program("pipeline"), internlm2(folder.path())) else {
        return;
    };
    let out = folder.path().join("out");
    let run = || pipeline(&model, &out);
    assert_eq!(skipped(run()).len(), 0);
    let page = std::fs::read_to_string(out.join("pipeline.html")).expect("a page");
    for fact in ["model", "machine", "processor features", "date"] {
        let fact = format!("<dt>{fact}<dd>");
        assert!(page.contains(&fact), "{fact}: {page}");
    }
    std::fs::write(out.join("stages/mine.txt"), "kept").expect("a file");
    assert_eq!(skipped(run()), STAGES);

    // What a stage made is gone: it is done again, and all after it.
    std::fs::remove_dir_all(out.join("eval-after")).expect("a folder");
    assert_eq!(skipped(run()), STAGES[..3]);
    std::fs::remove_file(out.join("agent.html")).expect("a file");
    assert_eq!(skipped(run()), STAGES[..5]);
    assert!(out.join("stages/mine.txt").exists());

    // Or it is not what was made. A run that is killed then leaves nothing that looks finished but what is.
    rewrite(&out.join("model-w4a16/config.json"));
    assert!(!killed_after("quantize", run()));
    let done = skipped(run());
    assert_eq!(done[..2], STAGES[..2]);
    assert!(done.len() < STAGES.len(), "{done:?}");

    // Other precision, and back.
    assert!(killed_after("load", run()));
    let other = || run().args(["--act", "f32"]);
    assert!(!killed_after("load", other()));
    assert!(killed_after("load", other()));
    assert!(!killed_after("load", run()));

    // A file of the model that was written anew.
    assert!(killed_after("load", run()));
    rewrite(&model.join("config.json"));
    assert!(!killed_after("load", run()));
}
