//! Keeping count, and telling the caller.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Outcome;
use super::progress::Progress;
use super::work::{Work, lock};

pub(super) struct Tracker {
    pub(super) progress: Progress,
    pub(super) begin: Instant,
    pub(super) told: Option<Instant>,
    /// Right ones and all, by benchmark.
    pub(super) running: HashMap<usize, (f64, usize)>,
}

impl Work<'_, '_> {
    /// Calls the hook if it is time.
    pub(super) fn tell(&self, last: bool) {
        let Some(on_progress) = self.run.on_progress else {
            return;
        };
        let mut tracker = lock(&self.tracker);
        let now = Instant::now();
        let interval = self.run.config.progress_interval;
        let due = tracker.told.is_none_or(|told| now - told >= interval);
        if !(due || last) {
            return;
        }
        tracker.told = Some(now);
        tracker.progress.elapsed = now - tracker.begin;
        if on_progress(&tracker.progress) == ControlFlow::Break(()) && !last {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }
}

impl Tracker {
    pub(super) fn count(&mut self, benchmark: usize, name: &str, outcome: Option<&Outcome>) {
        let progress = &mut self.progress;
        match outcome {
            Some(Outcome::Judged(sample)) => {
                progress.judged += 1;
                let (right, all) = self.running.entry(benchmark).or_default();
                if let Some(correct) = sample.correct {
                    *right += f64::from(u8::from(correct));
                    *all += 1;
                }
                name.clone_into(&mut progress.benchmark);
                progress.running = (*all > 0).then(|| *right / *all as f64);
            }
            Some(Outcome::Failed(_)) => progress.failed += 1,
            None => {}
        }
    }
}
