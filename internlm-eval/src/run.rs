//! Asking a model all requests of all benchmarks, and keeping what it answers.
//!
//! ```
//! use internlm_eval::{Benchmark, Run, RunConfig};
//! # fn example(engine: &dyn internlm_core::Scorer, benchmark: &dyn Benchmark) -> internlm_eval::Result<()> {
//! let report = Run::new(RunConfig::default().with_folder("runs/x"))
//!     .with_scorer(engine)
//!     .with_benchmark(benchmark)
//!     .execute()?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```
//!
//! All benchmarks are one queue. Continuations after one context are neighbours and go to the scorer in one call, so
//! that an engine computes the context once; longer contexts come first, so that whatever does not fit shows at once.
//! What is asked twice is computed once. Generated answers and calls of a judge follow, several at a time.
//!
//! **Nothing is asked twice.** Each answer goes to the journal of the folder before it counts. A run that was
//! killed goes on where it stood and ends with the same figures.
//!
//! **A failure is one item.** A request that fails, and a rule of judging that fails or panics, fail their item. It
//! is counted in the report, and asked again when the run is repeated. Figures are of the items that did not fail.

mod advance;
mod ask;
mod config;
mod execute;
mod folder;
mod generate;
mod identity;
mod journal;
mod merge;
mod perplexity;
mod plan;
mod predictions;
mod progress;
mod queue;
mod rate;
mod score;
mod track;
mod unit;
mod weights;
mod work;

use std::ops::ControlFlow;

use internlm_core::{ChatModel, CodeExecutor, RewardModel, Scorer};

use crate::benchmark::{Benchmark, Sample};
use crate::error::Result;
use crate::report::Report;

pub(crate) use unit::Planned;

pub use config::{RunConfig, Shard};
pub use identity::ModelIdentity;
pub use merge::merge;
pub use predictions::Predictions;
pub use progress::Progress;
pub use weights::Weights;

/// Called now and then with how far a run is; [`ControlFlow::Break`] stops it.
pub type OnProgress<'a> = dyn Fn(&Progress) -> ControlFlow<()> + Sync + 'a;

/// What became of an item.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Judged(Sample),
    Failed(String),
}

/// Benchmarks and the model that they are put to.
pub struct Run<'a> {
    config: RunConfig,
    name: Option<String>,
    weights: Option<Weights>,
    scorer: Option<&'a dyn Scorer>,
    chat: Option<&'a dyn ChatModel>,
    reward: Option<&'a dyn RewardModel>,
    judge: Option<(String, &'a dyn ChatModel)>,
    code: Option<&'a dyn CodeExecutor>,
    predictions: Option<&'a Predictions>,
    benchmarks: Vec<&'a dyn Benchmark>,
    missing: Vec<String>,
    on_progress: Option<&'a OnProgress<'a>>,
}

impl<'a> Run<'a> {
    /// A run of nothing yet.
    pub fn new(config: RunConfig) -> Self {
        Self {
            config,
            name: None,
            weights: None,
            scorer: None,
            chat: None,
            reward: None,
            judge: None,
            code: None,
            predictions: None,
            benchmarks: Vec::new(),
            missing: Vec::new(),
            on_progress: None,
        }
    }

    /// Sets the model's name in reports, in place of the scorer's own.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says where the model's weights are, for reports and for what a folder is compared with. Without it their hash
    /// is what the scorer says, which may be unknown.
    #[must_use]
    pub fn with_weights(mut self, weights: Weights) -> Self {
        self.weights = Some(weights);
        self
    }

    /// Sets who gives log-likelihoods.
    #[must_use]
    pub fn with_scorer(mut self, scorer: &'a dyn Scorer) -> Self {
        self.scorer = Some(scorer);
        self
    }

    /// Sets who generates answers.
    #[must_use]
    pub fn with_chat_model(mut self, chat: &'a dyn ChatModel) -> Self {
        self.chat = Some(chat);
        self
    }

    /// Sets who gives conversations a score.
    #[must_use]
    pub fn with_reward_model(mut self, reward: &'a dyn RewardModel) -> Self {
        self.reward = Some(reward);
        self
    }

    /// Sets the model that judges answers, for benchmarks that want one.
    #[must_use]
    pub fn with_judge(mut self, name: impl Into<String>, judge: &'a dyn ChatModel) -> Self {
        self.judge = Some((name.into(), judge));
        self
    }

    /// Sets who runs code that the model wrote.
    #[must_use]
    pub fn with_code_executor(mut self, code: &'a dyn CodeExecutor) -> Self {
        self.code = Some(code);
        self
    }

    /// Takes answers that were made elsewhere: the model is not asked, only the answers are judged.
    #[must_use]
    pub fn with_predictions(mut self, predictions: &'a Predictions) -> Self {
        self.predictions = Some(predictions);
        self
    }

    /// Adds a benchmark.
    #[must_use]
    pub fn with_benchmark(mut self, benchmark: &'a dyn Benchmark) -> Self {
        self.benchmarks.push(benchmark);
        self
    }

    /// Adds benchmarks.
    #[must_use]
    pub fn with_benchmarks(
        mut self,
        benchmarks: impl IntoIterator<Item = &'a dyn Benchmark>,
    ) -> Self {
        self.benchmarks.extend(benchmarks);
        self
    }

    /// Names benchmarks that were asked for and cannot be run, such as subjects without data. The report says so: a
    /// mean over the others is not the mean of the whole.
    #[must_use]
    pub fn with_missing(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.missing.extend(names);
        self
    }

    /// Sets who hears how far the run is. It is called by the threads that work, one at a time.
    #[must_use]
    pub fn with_on_progress(mut self, on_progress: &'a OnProgress<'a>) -> Self {
        self.on_progress = Some(on_progress);
        self
    }

    /// Carries the run out, writes its folder if it has one, and reports.
    ///
    /// # Errors
    /// Settings out of range, a benchmark that needs what the run was not given or whose items cannot be made, a
    /// folder that is in use, holds another run or cannot be written, and [`Cancelled`](crate::Error::Cancelled).
    /// Requests that fail are no error but failed items.
    pub fn execute(&self) -> Result<Report> {
        execute::execute(self)
    }
}
