//! Benchmarks of a checkpoint.

use std::path::Path;

use indicatif::ProgressBar;
use internlm_eval::run::{Progress, Weights};
use internlm_eval::task::{TaskOptions, load, load_file};
use internlm_eval::{Benchmark, Run, RunConfig, Task};
use internlm_examples::model::{ModelArgs, weight_bytes};
use internlm_examples::{Error, Result};
use internlm_model::ModelDir;
use serde_json::json;

use crate::arguments::Arguments;
use crate::stage::Stage;

/// A benchmark that needs no data of others.
const CAPITALS: &str = include_str!("capitals.toml");
const CAPITALS_DATA: &str = include_str!("capitals.jsonl");

/// What is asked.
pub(crate) struct Tasks(Vec<Task>);

impl Tasks {
    /// Names and numbers of items, in a line.
    pub(crate) fn describe(&self) -> String {
        let tasks = self.0.iter();
        let lines = tasks.map(|task| format!("{} items of {}", task.len(), task.name()));
        lines.collect::<Vec<_>>().join(", ")
    }
}

/// The tasks that were asked for, or the capitals.
///
/// # Errors
/// A name that is not known, or data that is not there.
pub(crate) fn tasks(arguments: &Arguments) -> Result<Tasks> {
    let options = TaskOptions {
        limit: Some(arguments.limit),
        ..TaskOptions::default()
    };
    let Some(data) = arguments
        .data
        .as_deref()
        .filter(|_| !arguments.tasks.is_empty())
    else {
        let folder = arguments.out.join("capitals");
        let io = |path: &Path| Error::io(path.display().to_string());
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        for (name, text) in [
            ("capitals.toml", CAPITALS),
            ("capitals.jsonl", CAPITALS_DATA),
        ] {
            let file = folder.join(name);
            std::fs::write(&file, text).map_err(io(&file))?;
        }
        let loaded = load_file(&folder.join("capitals.toml"), &folder, &options)?;
        return Ok(Tasks(loaded.tasks));
    };
    let mut tasks = Vec::new();
    for name in &arguments.tasks {
        tasks.extend(load(name, None, data, &options)?.tasks);
    }
    Ok(Tasks(tasks))
}

/// Runs the tasks with an engine over the checkpoint.
///
/// # Errors
/// The checkpoint can't be loaded, or the run's folder can't be written.
pub(crate) fn evaluate(
    arguments: &Arguments,
    dir: &ModelDir,
    tasks: &Tasks,
    out: &Path,
    bar: &ProgressBar,
) -> Result<Stage> {
    if out.exists() {
        // Of another model or other options: stages that are done don't come here.
        std::fs::remove_dir_all(out).map_err(Error::io(out.display().to_string()))?;
    }
    let model = dir.path().to_owned();
    let runtime = arguments.runtime.clone();
    let engine = ModelArgs { model, runtime }.engine()?;
    let on_progress = |progress: &Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        std::ops::ControlFlow::Continue(())
    };
    let report = Run::new(RunConfig::default().with_folder(out))
        .with_scorer(&engine)
        .with_chat_model(&engine)
        .with_weights(Weights::at(dir.path())?)
        .with_benchmarks(tasks.0.iter().map(|task| task as &dyn Benchmark))
        .with_on_progress(&on_progress)
        .execute()?;
    let scores = report.benchmarks.iter().filter_map(|benchmark| {
        let score = benchmark.headline()?;
        Some((benchmark, score))
    });
    let quality = scores.clone().map(|(benchmark, score)| {
        let error = score.stderr.map(|e| format!(" ± {e:.3}"));
        let error = error.unwrap_or_default();
        format!(
            "{} {} {:.3}{error}",
            benchmark.name, score.metric, score.value
        )
    });
    let details = scores.map(|(benchmark, score)| {
        json!({"task": benchmark.name, "metric": score.metric, "value": score.value,
            "stderr": score.stderr, "n": score.n, "failed": benchmark.failed})
    });
    Ok(Stage {
        what: tasks.describe(),
        bytes: Some(weight_bytes(dir.path())?),
        quality: Some(quality.collect::<Vec<_>>().join(", ")),
        details: details.collect(),
        ..Stage::default()
    })
}
