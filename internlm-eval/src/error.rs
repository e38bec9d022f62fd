//! Everything that can go wrong in an evaluation.

use std::path::PathBuf;
use std::sync::Arc;

/// An error of this crate.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A metric was asked for what it is not defined for.
    #[error("metric `{metric}`: {reason}")]
    Metric {
        /// The metric.
        metric: &'static str,
        /// Why it has no value.
        reason: &'static str,
    },
    /// A regular expression that Python's `re` would refuse too, or a program too large.
    #[error("pattern `{pattern}`: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern with look-around or a back reference took too many steps on a text.
    #[error("pattern `{pattern}` takes too many steps on this text")]
    PatternLimit {
        /// The pattern.
        pattern: String,
    },
    /// No post-processor, filter or comparison has this name.
    #[error("there is no {kind} `{name}`")]
    UnknownName {
        /// What was looked for.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A post-processor cannot answer for a text; upstream raises an exception there.
    #[error("`{extractor}` finds no {expected} in the text")]
    Extract {
        /// The post-processor.
        extractor: &'static str,
        /// What it looks for.
        expected: &'static str,
    },
    /// An instruction of IFEval is not known or lacks an argument.
    #[error("instruction `{id}`: {reason}")]
    Instruction {
        /// The instruction's id, such as `keywords:existence`.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// A feature of this crate is off that is needed here.
    #[error("{what} needs the feature `{feature}` of internlm-eval")]
    Feature {
        /// What was asked for.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
    /// A prompt cannot be made by the rules of OpenCompass.
    #[error("{0}")]
    Prompt(String),
    /// The model or the server behind it failed.
    #[error(transparent)]
    Model(#[from] internlm_core::Error),
    /// A setting of a run is impossible.
    #[error("`{field}`: {what}")]
    Config {
        /// The setting.
        field: &'static str,
        /// What is wrong with it and what was expected.
        what: String,
    },
    /// A benchmark needs something that the run was not given.
    #[error("{benchmark}: needs {needs}")]
    Needs {
        /// The benchmark.
        benchmark: String,
        /// What it needs, and how to give it.
        needs: &'static str,
    },
    /// A benchmark cannot be part of the run.
    #[error("{benchmark}: {what}")]
    Benchmark {
        /// The benchmark.
        benchmark: String,
        /// Why.
        what: String,
    },
    /// A line of a journal is damaged, and not the last one.
    #[error("{}: line {line}: {what}", file.display())]
    Journal {
        /// The journal.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// Another run is at work in the folder.
    #[error("{}: another run is at work in this folder; wait for it or choose another", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder holds another run's answers.
    #[error(
        "{}: the folder holds a run with another {what}: {recorded} there, {now} now; choose another folder",
        folder.display()
    )]
    OtherRun {
        /// The folder.
        folder: PathBuf,
        /// What differs.
        what: String,
        /// Its value in the folder.
        recorded: String,
        /// Its value now.
        now: String,
    },
    /// Shards do not make up a whole run.
    #[error(
        "{missing} items are in none of the folders, the first is {first}; run the shards that are missing"
    )]
    Incomplete {
        /// Items that are missing.
        missing: usize,
        /// The first of them.
        first: String,
    },
    /// A file of predictions is not what its format promises.
    #[error("{}: {what}", file.display())]
    Predictions {
        /// The file or folder.
        file: PathBuf,
        /// What was expected and what was found.
        what: String,
    },
    /// The caller stopped the run; what is done is in the journal.
    #[error("stopped after {done} of {total} requests; run again to go on")]
    Cancelled {
        /// Requests that are answered.
        done: usize,
        /// All requests.
        total: usize,
    },
    /// This system cannot do it.
    #[error("{what} is not possible on this system: {why}")]
    Unsupported {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A data file is not UTF-8.
    #[error("{}:{line}: not UTF-8: {what}; convert the file to UTF-8 first", file.display())]
    Encoding {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found.
        what: String,
    },
    /// A line of a data file is not what its format wants.
    #[error("{}:{line}: {what}", file.display())]
    BrokenLine {
        /// The file.
        file: PathBuf,
        /// The line, from 1; for Parquet the row.
        line: usize,
        /// What was expected and what was found.
        what: String,
    },
    /// A data file without a row.
    #[error("{}: the file has no rows", file.display())]
    EmptySplit {
        /// The file.
        file: PathBuf,
    },
    /// A data file whose name says no known format.
    #[error(
        "{}: the format is not known by the name; .json, .jsonl, .csv, .tsv, .txt and .parquet are, or set `format`",
        file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
    },
    /// A data file that a feature of this crate reads, which is not compiled in.
    #[error("{}: reading it needs the feature `{feature}` of internlm-eval", file.display())]
    DataFeature {
        /// The file.
        file: PathBuf,
        /// The feature.
        feature: &'static str,
    },
    /// A task's data file is not below the data folder.
    #[error(
        "task `{task}`: no file for the split `{split}`; looked for {}{}",
        list(tried),
        if others.is_empty() { String::new() } else { format!("; there are files for {}", others.join(", ")) }
    )]
    NoData {
        /// The task.
        task: String,
        /// The split that was wanted.
        split: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
        /// Other splits of the task that have files.
        others: Vec<String>,
    },
    /// A data file has other columns than a task knows.
    #[error("{}: task `{task}` knows none of these columns: {}; {}", file.display(), found.join(", "), wanted.join("; "))]
    Columns {
        /// The file.
        file: PathBuf,
        /// The task.
        task: String,
        /// The file's columns.
        found: Vec<String>,
        /// For each layout that the task knows, its name and which columns are missing.
        wanted: Vec<String>,
    },
    /// A task file is wrong.
    #[error("{}: `{key}`: {what}", file.display())]
    TaskFile {
        /// The file, or the built-in task's name.
        file: PathBuf,
        /// The key, such as `metric[0].name`.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is no built-in task of this name.
    #[error("no built-in task or group is called `{name}`{}", if near.is_empty() { String::new() } else { format!("; near it: {}", near.join(", ")) })]
    UnknownTask {
        /// The name.
        name: String,
        /// Names that are like it.
        near: Vec<String>,
    },
    /// A template of a task cannot be rendered with a row.
    #[error("task `{task}`, `{key}`, row {row}: {what}")]
    Template {
        /// The task.
        task: String,
        /// The key of the task file.
        key: String,
        /// The row, from 0.
        row: usize,
        /// What the template engine said.
        what: String,
    },
    /// A row has something that a task cannot use, such as an empty choice.
    #[error("task `{task}`, row {row}: {what}")]
    Row {
        /// The task.
        task: String,
        /// The row, from 0.
        row: usize,
        /// What is wrong.
        what: String,
    },
    /// There are fewer examples than asked for.
    #[error("task `{task}`: {wanted} examples are wanted, there are {pool}")]
    Shots {
        /// The task.
        task: String,
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        pool: usize,
    },
    /// Responses do not fit an item's requests.
    #[error("task `{task}`, item {index}: {what}")]
    Responses {
        /// The task.
        task: String,
        /// The item's number.
        index: usize,
        /// What was expected and what came.
        what: String,
    },
    /// A task that runs code of the model has nothing to run it with.
    #[error(
        "task `{task}` runs code that the model wrote; give the run a sandbox, or allow a plain child process explicitly"
    )]
    NoExecutor {
        /// The task.
        task: String,
    },
}

impl Error {
    /// A failure to read or write `file`.
    pub(crate) fn io(file: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.into();
        move |source| Error::Io {
            file,
            source: Arc::new(source),
        }
    }

    pub(crate) fn metric(metric: &'static str, reason: &'static str) -> Self {
        Self::Metric { metric, reason }
    }
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn list(paths: &[PathBuf]) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<_> = paths
        .iter()
        .take(SHOWN)
        .map(|path| path.display().to_string())
        .collect();
    if paths.len() > SHOWN {
        shown.push(format!("{} more", paths.len() - SHOWN));
    }
    shown.join(", ")
}
