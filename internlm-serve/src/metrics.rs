//! What an engine counts.

use std::time::Duration;

/// The state of an engine at one moment, and its totals since it started.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// Sequences that are computed.
    pub running: usize,
    /// Sequences that wait for room.
    pub waiting: usize,
    /// Blocks of the cache that sequences hold.
    pub blocks_in_use: usize,
    /// Blocks that hold keys and values for later requests only; they are given away when needed.
    pub blocks_cached: usize,
    /// Blocks in all.
    pub blocks_total: usize,
    /// Requests that were taken in.
    pub requests: u64,
    /// Requests that ended with all of their answers.
    pub finished: u64,
    /// Requests that were dropped by their clients.
    pub cancelled: u64,
    /// Requests that ended with an error.
    pub failed: u64,
    /// Sequences whose blocks were taken away and that were computed again.
    pub preemptions: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found in the cache.
    pub cached_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Passes of the model.
    pub steps: u64,
    /// Time from a request's arrival to its first token.
    pub time_to_first_token: Histogram,
    /// Time between the tokens of an answer.
    pub time_per_token: Histogram,
}

impl Metrics {
    /// Adds the totals of another; what is true at one moment stays.
    pub(crate) fn add(&mut self, other: &Metrics) {
        for (total, more) in [
            (&mut self.requests, other.requests),
            (&mut self.finished, other.finished),
            (&mut self.cancelled, other.cancelled),
            (&mut self.failed, other.failed),
            (&mut self.preemptions, other.preemptions),
            (&mut self.prompt_tokens, other.prompt_tokens),
            (&mut self.cached_tokens, other.cached_tokens),
            (&mut self.completion_tokens, other.completion_tokens),
            (&mut self.steps, other.steps),
        ] {
            *total += more;
        }
        self.time_to_first_token.add(&other.time_to_first_token);
        self.time_per_token.add(&other.time_per_token);
    }
}

/// Durations, counted by size.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Histogram {
    /// How many were at most [`Histogram::BOUNDS`]`[i]` seconds long and longer than the bound before; the
    /// last counts what is longer than all.
    pub counts: [u64; Self::BOUNDS.len() + 1],
    /// Their sum in seconds.
    pub sum: f64,
}

impl Histogram {
    /// Upper bounds in seconds.
    pub const BOUNDS: [f64; 14] = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
    ];

    /// Counts one more.
    pub fn record(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|&bound| seconds <= bound);
        self.counts[bucket.unwrap_or(Self::BOUNDS.len())] += 1;
        self.sum += seconds;
    }

    fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_below_its_bound() {
        let mut histogram = Histogram::default();
        for seconds in [0.001, 0.002, 100.0] {
            histogram.record(Duration::from_secs_f64(seconds));
        }
        assert_eq!((histogram.counts[0], histogram.counts[1]), (1, 1));
        assert_eq!(histogram.counts.last(), Some(&1));
        assert_eq!(histogram.count(), 3);
        assert!((histogram.sum - 100.003).abs() < 1e-9);
    }
}
