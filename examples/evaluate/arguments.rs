//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use internlm_eval::RunConfig;
use internlm_eval::run::{Predictions, Shard};
use internlm_examples::source::SourceArgs;
use internlm_examples::{Error, Result};

/// Run benchmarks by the rules of lm-evaluation-harness or OpenCompass.
///
/// A run that was stopped or killed goes on when it is started again with the same --out.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArguments,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make one run of all shards of a run
    Merge(MergeArguments),
}

#[derive(Args)]
pub(crate) struct MergeArguments {
    /// The folders of the shards
    #[arg(required = true, value_name = "DIR")]
    pub(crate) folders: Vec<PathBuf>,
    /// Where the whole run goes
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Where the data is now, if it is elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Write one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// The model's name in reports
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Built-in tasks and groups, such as hellaswag,cmmlu
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "A,B",
        required_unless_present = "tasks_file"
    )]
    pub(crate) tasks: Vec<String>,
    /// A task of one's own
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) tasks_file: Vec<PathBuf>,
    /// The folder of the data sets
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) data: Option<PathBuf>,
    /// lm-eval or opencompass; without it the first that has a task of the name
    #[arg(long)]
    pub(crate) rules: Option<String>,
    /// Only the first items of each task
    #[arg(long)]
    pub(crate) limit: Option<usize>,
    /// In-context examples in place of each task's own number
    #[arg(long)]
    pub(crate) shots: Option<usize>,
    /// Ask by the model's chat template
    #[arg(long)]
    pub(crate) chat: bool,
    /// Only a part of the items, 0/N to N-1/N; `evaluate merge` joins the parts
    #[arg(long, value_name = "I/N", default_value = "0/1")]
    pub(crate) shard: Shard,
    /// Journal, predictions, results and reports
    #[arg(long, value_name = "DIR", default_value = "runs/evaluate")]
    pub(crate) out: PathBuf,
    /// Judge answers that were made elsewhere: a folder predictions/MODEL of OpenCompass
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "base_url"])]
    pub(crate) predictions: Option<PathBuf>,
    /// Judge answers that were made elsewhere: samples of lm-evaluation-harness
    #[arg(long, value_name = "TASK=FILE", conflicts_with_all = ["model", "base_url"])]
    pub(crate) samples: Vec<String>,
    /// Compare with an earlier run of the same tasks, item by item
    #[arg(long, value_name = "DIR")]
    pub(crate) compare: Option<PathBuf>,
    /// Run code that the model wrote as a plain child process of this user: it can read what you can read
    #[arg(long)]
    pub(crate) allow_unconfined_code: bool,
    /// Continuations that are scored at a time
    #[arg(long, default_value_t = 64)]
    pub(crate) batch: usize,
    /// Answers, and calls of a server, at the same time
    #[arg(long, default_value_t = 8)]
    pub(crate) concurrency: usize,
    /// Most calls that begin in a second
    #[arg(long, value_name = "RATE")]
    pub(crate) requests_per_second: Option<f64>,
    /// Longest time for one answer, seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) deadline: Option<u64>,
    /// Seed of the first of several sampled answers
    #[arg(long, default_value_t = 1234)]
    pub(crate) seed: u64,
    /// Write one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArguments {
    pub(crate) fn config(&self) -> RunConfig {
        let mut config = RunConfig::default()
            .with_folder(&self.out)
            .with_shard(self.shard)
            .with_score_batch(self.batch)
            .with_concurrency(self.concurrency)
            .with_seed(self.seed);
        if self.source.base_url.is_some() {
            config = config.with_score_concurrency(self.concurrency);
        }
        config.requests_per_second = self.requests_per_second;
        config.deadline = self.deadline.map(Duration::from_secs);
        config
    }

    pub(crate) fn judges_only(&self) -> bool {
        self.predictions.is_some() || !self.samples.is_empty()
    }

    pub(crate) fn predictions(&self) -> Result<Option<Predictions>> {
        if !self.judges_only() {
            return Ok(None);
        }
        let mut predictions = Predictions::new();
        if let Some(folder) = &self.predictions {
            predictions.add_opencompass_folder(folder)?;
        }
        for samples in &self.samples {
            let (task, file) = samples
                .split_once('=')
                .ok_or_else(|| Error::Input(format!("--samples {samples}: expected TASK=FILE")))?;
            predictions.add_lm_eval_file(task, file)?;
        }
        Ok(Some(predictions))
    }
}
