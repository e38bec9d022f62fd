//! What the threads of a run share, and how the work is dealt out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::Run;
use super::journal::Journal;
use super::plan::JudgeResponses;
use super::progress::Progress;
use super::queue::{jobs, length};
use super::rate::RateLimit;
use super::track::Tracker;
use super::unit::{Planned, Unit};
use crate::error::Result;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the threads of a run share.
pub(super) struct Work<'r, 'a> {
    pub(super) run: &'r Run<'a>,
    pub(super) items: Vec<Mutex<Planned>>,
    pub(super) journal: Option<Mutex<Journal>>,
    pub(super) judged_before: JudgeResponses,
    /// Questions to the judge that are open.
    pub(super) to_judge: Mutex<Vec<Unit>>,
    pub(super) tracker: Mutex<Tracker>,
    pub(super) stopped: AtomicBool,
    /// When a model was asked first.
    pub(super) asked: OnceLock<Instant>,
    pub(super) rate: RateLimit,
}

impl<'r, 'a> Work<'r, 'a> {
    pub(super) fn new(
        run: &'r Run<'a>,
        items: Vec<Planned>,
        journal: Option<Mutex<Journal>>,
        judged_before: JudgeResponses,
        begin: Instant,
    ) -> Self {
        let all = |item: &Planned| item.stages[0].responses.iter().map(Vec::len).sum::<usize>();
        let open = |item: &Planned| item.stages[0].pending().count();
        let total: usize = items.iter().map(all).sum();
        let done = total - items.iter().map(open).sum::<usize>();
        let progress = Progress {
            done,
            total,
            resumed: done,
            failed: 0,
            judged: 0,
            benchmark: String::new(),
            running: None,
            elapsed: begin.elapsed(),
        };
        Self {
            run,
            items: items.into_iter().map(Mutex::new).collect(),
            journal,
            judged_before,
            to_judge: Mutex::default(),
            tracker: Mutex::new(Tracker {
                progress,
                begin: Instant::now(),
                told: None,
                running: HashMap::new(),
            }),
            stopped: AtomicBool::new(false),
            asked: OnceLock::new(),
            rate: RateLimit::new(run.config.requests_per_second),
        }
    }

    pub(super) fn work(&self) -> Result<()> {
        let config = &self.run.config;
        let complete = |&number: &usize| {
            lock(&self.items[number]).stages[0]
                .pending()
                .next()
                .is_none()
        };
        let restored: Vec<usize> = (0..self.items.len()).filter(complete).collect();
        self.drain(&restored, config.concurrency, |&number| {
            self.advance(number)
        })?;
        let (score, generate) = {
            let guards: Vec<_> = self.items.iter().map(lock).collect();
            jobs(
                guards.iter().map(|guard| &**guard).enumerate(),
                config.score_batch,
            )
        };
        self.drain(&score, config.score_concurrency, |job| self.carry_out(job))?;
        self.drain(&generate, config.concurrency, |job| self.carry_out(job))?;
        loop {
            let mut units = std::mem::take(&mut *lock(&self.to_judge));
            if units.is_empty() || self.stopped.load(Ordering::SeqCst) {
                break;
            }
            units.sort_by_key(|&unit| {
                let planned = lock(&self.items[unit.item]);
                (std::cmp::Reverse(length(planned.request(unit))), unit.item)
            });
            self.drain(&units, config.concurrency, |&unit| self.ask_judge(unit))?;
        }
        self.tell(true);
        Ok(())
    }

    /// Does all jobs with some threads, until one fails for good or the caller stops the run.
    pub(super) fn drain<J: Sync>(
        &self,
        jobs: &[J],
        workers: usize,
        job: impl Fn(&J) -> Result<()> + Sync,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let work = || {
            while !self.stopped.load(Ordering::SeqCst) {
                let Some(one) = jobs.get(next.fetch_add(1, Ordering::SeqCst)) else {
                    return;
                };
                if let Err(error) = job(one) {
                    lock(&failed).get_or_insert(error);
                    self.stopped.store(true, Ordering::SeqCst);
                }
            }
        };
        match workers.min(jobs.len()) {
            0 => {}
            1 => work(),
            workers => std::thread::scope(|scope| {
                for _ in 0..workers {
                    scope.spawn(work);
                }
            }),
        }
        let failed = lock(&failed).take();
        failed.map_or(Ok(()), Err)
    }
}
