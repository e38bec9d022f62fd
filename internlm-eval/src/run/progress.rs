//! How far a run is.

use std::time::Duration;

/// How far a run is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that are answered or failed, those of earlier runs in the folder among them.
    pub done: usize,
    /// All requests known so far; those to a judge become known one by one.
    pub total: usize,
    /// Of `done`: how many an earlier run answered.
    pub resumed: usize,
    /// Items that failed.
    pub failed: usize,
    /// Items that are judged.
    pub judged: usize,
    /// The benchmark of the item that was judged last.
    pub benchmark: String,
    /// The share of right ones among its items that are judged, where right and wrong is what it asks.
    pub running: Option<f64>,
    /// Time since the first request.
    pub elapsed: Duration,
}

impl Progress {
    /// Requests answered by this run in a second.
    pub fn rate(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        let own = self.done.saturating_sub(self.resumed) as f64;
        if seconds > 0.0 { own / seconds } else { 0.0 }
    }

    /// The time that the rest takes at this rate.
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.total.saturating_sub(self.done) as f64;
        let rate = self.rate();
        (rate > 0.0).then(|| Duration::from_secs_f64((left / rate).min(1e9)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_rest_do_not_count_what_was_there() {
        let progress = Progress {
            done: 30,
            total: 50,
            resumed: 10,
            failed: 0,
            judged: 0,
            benchmark: String::new(),
            running: None,
            elapsed: Duration::from_secs(4),
        };
        assert_eq!(progress.rate(), 5.0);
        assert_eq!(progress.remaining(), Some(Duration::from_secs(4)));
        let begin = Progress {
            elapsed: Duration::ZERO,
            ..progress
        };
        assert_eq!(begin.remaining(), None);
    }
}
