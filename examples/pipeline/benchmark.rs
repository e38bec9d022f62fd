//! Benchmarks of a checkpoint.

use std::path::Path;

use indicatif::ProgressBar;
use internlm_eval::run::{Progress, Weights};
use internlm_eval::task::{TaskOptions, load, load_file};
use internlm_eval::{Benchmark, Run, RunConfig, Task};
use internlm_examples::model::weight_bytes;
use internlm_examples::{Error, Result};
use internlm_model::ModelDir;
use serde_json::json;

use crate::arguments::Arguments;
use crate::fingerprint::fingerprint;
use crate::stage::Stage;

/// A benchmark that needs no data of others.
const CAPITALS: &str = include_str!("capitals.toml");
const CAPITALS_DATA: &str = include_str!("capitals.jsonl");

/// What is asked.
pub(crate) struct Tasks {
    tasks: Vec<Task>,
    /// Their names, sizes, and the files of their data.
    key: String,
}

impl Tasks {
    fn new(tasks: Vec<Task>, data: &Path) -> Result<Self> {
        let key = String::new();
        let mut tasks = Self { tasks, key };
        tasks.key = format!("{}\n{}", tasks.describe(), fingerprint(data)?.join("\n"));
        Ok(tasks)
    }

    /// What an evaluation depends on, besides the model.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Names and numbers of items, in a line.
    pub(crate) fn describe(&self) -> String {
        let tasks = self.tasks.iter();
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
            // Written once, so that it looks the same to the next run.
            if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
                continue;
            }
            std::fs::write(&file, text).map_err(io(&file))?;
        }
        let loaded = load_file(&folder.join("capitals.toml"), &folder, &options)?;
        return Tasks::new(loaded.tasks, &folder);
    };
    let mut tasks = Vec::new();
    for name in &arguments.tasks {
        tasks.extend(load(name, None, data, &options)?.tasks);
    }
    Tasks::new(tasks, data)
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
    let engine = arguments.model_args(dir).engine()?;
    let on_progress = |progress: &Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        std::ops::ControlFlow::Continue(())
    };
    let report = Run::new(RunConfig::default().with_folder(out))
        .with_scorer(&engine)
        .with_chat_model(&engine)
        .with_weights(Weights::at(dir.path())?)
        .with_benchmarks(tasks.tasks.iter().map(|task| task as &dyn Benchmark))
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
