//! How a run is carried out.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A part of a run: every `count`th item, beginning with number `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether the item at this place of its benchmark belongs to the part. `benchmark` shifts the beginning, so
    /// that many small benchmarks do not all give their first item to the same part.
    pub fn has(self, benchmark: usize, position: usize) -> bool {
        (benchmark + position) % self.count.max(1) == self.index
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;

    /// `0/4` to `3/4`, as array jobs number their tasks.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Config {
            field: "shard",
            what: format!("`{text}`: expected I/N with I from 0 to N-1, such as 0/4"),
        };
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let index = index.trim().parse().map_err(|_| wrong())?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        match index < count {
            true => Ok(Self { index, count }),
            false => Err(wrong()),
        }
    }
}

/// Settings of a [`Run`](super::Run).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunConfig {
    /// Where journal, predictions and reports go; without one nothing is written (none).
    pub folder: Option<PathBuf>,
    /// Only this many items of each benchmark, from its front (all).
    pub limit: Option<usize>,
    /// Only a part of the items (all).
    pub shard: Shard,
    /// Continuations that go to [`Scorer::score`](internlm_core::Scorer::score) at a time; those after one context
    /// are never parted (64).
    pub score_batch: usize,
    /// Calls of the scorer at the same time (1: an engine batches by itself).
    pub score_concurrency: usize,
    /// Answers that are generated at the same time (8).
    pub concurrency: usize,
    /// Longest time for one answer, looked at whenever the model says something; what a model does before it says
    /// anything has the model's own limits, such as `RemoteConfig`'s (none).
    pub deadline: Option<Duration>,
    /// How often an answer that broke off is asked for again (2). What failed before an answer began is not: clients
    /// of servers repeat that themselves.
    pub retries: u32,
    /// The wait before the first repetition; doubles, and a random part of up to a half is taken off (500 ms).
    pub backoff: Duration,
    /// Most calls of a model that begin in a second (no limit).
    pub requests_per_second: Option<f64>,
    /// The seed of the first of several answers, where the benchmark has none; the k-th has `seed + k` (1234).
    pub seed: u64,
    /// Whether a resumed run asks again what failed (true).
    pub retry_failed: bool,
    /// Nothing is asked: the report is made of what the folder holds, and items that are not answered there fail
    /// (false). For folders that [`merge`](super::merge) made, and for looking at a run on another machine. Without
    /// a scorer the prompts in the report are those for a base model.
    pub offline: bool,
    /// The time between two calls of the hook for progress, at least (100 ms).
    pub progress_interval: Duration,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            folder: None,
            limit: None,
            shard: Shard::WHOLE,
            score_batch: 64,
            score_concurrency: 1,
            concurrency: 8,
            deadline: None,
            retries: 2,
            backoff: Duration::from_millis(500),
            requests_per_second: None,
            seed: 1234,
            retry_failed: true,
            offline: false,
            progress_interval: Duration::from_millis(100),
        }
    }
}

impl RunConfig {
    /// Sets the folder.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets the most items of each benchmark.
    #[must_use]
    pub fn with_limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets the part.
    #[must_use]
    pub fn with_shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Sets the continuations that are scored at a time.
    #[must_use]
    pub fn with_score_batch(mut self, requests: usize) -> Self {
        self.score_batch = requests;
        self
    }

    /// Sets the calls of the scorer at the same time.
    #[must_use]
    pub fn with_score_concurrency(mut self, calls: usize) -> Self {
        self.score_concurrency = calls;
        self
    }

    /// Sets the answers that are generated at the same time.
    #[must_use]
    pub fn with_concurrency(mut self, answers: usize) -> Self {
        self.concurrency = answers;
        self
    }

    /// Sets the longest time for one answer.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how often an answer that broke off is asked for again.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the wait before the first repetition.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the most calls that begin in a second.
    #[must_use]
    pub fn with_requests_per_second(mut self, rate: f64) -> Self {
        self.requests_per_second = Some(rate);
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets whether a resumed run asks again what failed.
    #[must_use]
    pub fn with_retry_failed(mut self, retry: bool) -> Self {
        self.retry_failed = retry;
        self
    }

    /// Sets whether nothing is asked.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Sets the least time between two calls of the hook for progress.
    #[must_use]
    pub fn with_progress_interval(mut self, interval: Duration) -> Self {
        self.progress_interval = interval;
        self
    }

    /// # Errors
    /// [`Error::Config`] that names the first setting out of its range.
    pub(super) fn validate(&self) -> Result<()> {
        let fail = |field, what: &str| {
            Err(Error::Config {
                field,
                what: what.to_owned(),
            })
        };
        if self.shard.index >= self.shard.count {
            return fail("shard", "expected an index below the count");
        }
        if self.score_batch == 0 || self.score_concurrency == 0 || self.concurrency == 0 {
            return fail("concurrency", "batch and concurrency must be at least 1");
        }
        match self.requests_per_second {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => {
                fail("requests_per_second", "expected a number above 0")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_part_the_items() {
        let shards: Vec<Shard> = ["0/3", "1/3", " 2 / 3"].map(|s| s.parse().unwrap()).into();
        for benchmark in 0..4 {
            for position in 0..20 {
                let owners = shards.iter().filter(|s| s.has(benchmark, position)).count();
                assert_eq!(owners, 1);
            }
        }
        for wrong in ["3/3", "0/0", "1", "", "a/b", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        assert_eq!(shards[1].to_string(), "1/3");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        RunConfig::default().validate().unwrap();
        for config in [
            RunConfig::default().with_score_batch(0),
            RunConfig::default().with_concurrency(0),
            RunConfig::default().with_requests_per_second(0.0),
            RunConfig::default().with_requests_per_second(f64::NAN),
            RunConfig::default().with_shard(Shard { index: 1, count: 1 }),
        ] {
            assert!(matches!(config.validate(), Err(Error::Config { .. })));
        }
    }
}
