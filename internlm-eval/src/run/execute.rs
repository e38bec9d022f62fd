//! A run from its items to its report.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::journal::{Entry, Journal};
use super::plan::{JudgeResponses, plan, predict, restore};
use super::unit::Planned;
use super::weights::{Hashing, Weights};
use super::work::{Work, lock};
use super::{Run, folder};
use crate::error::{Error, Result};
use crate::report::Report;

pub(super) fn execute(run: &Run<'_>) -> Result<Report> {
    run.config.validate()?;
    let begin = Instant::now();
    let (items, mut identity) = plan(run)?;
    let mut items = items;
    let mut journal = None;
    let mut judged_before = JudgeResponses::new();
    let mut started = identity.time;
    identity.model.remote = run.weights == Some(Weights::Remote);
    let mut hashing = match &run.weights {
        Some(Weights::Files(files)) if !run.config.offline => {
            Some(Hashing::new(files, run.config.folder.as_deref())?)
        }
        _ => None,
    };
    if let Some(folder) = &run.config.folder {
        let (mut open, entries) = Journal::open(folder)?;
        // What is there must be of these weights before anything is added.
        let recorded = entries
            .iter()
            .any(|entry| matches!(entry, Entry::Session(r) if r.model.model_hash.is_some()));
        if let Some(hashing) = &mut hashing {
            if recorded && hashing.known.is_none() {
                hashing.known = hashing.hash(&AtomicBool::new(false))?;
            }
            identity.model.model_hash = hashing.known.clone().or(identity.model.model_hash);
        }
        for entry in &entries {
            if let Entry::Session(recorded) = entry {
                if run.config.offline {
                    identity.model = recorded.model.clone();
                    identity.seed = recorded.seed;
                    identity.judge = recorded.judge.clone();
                }
                recorded.check(folder, &identity)?;
                started = started.min(recorded.time);
            }
        }
        judged_before = restore(run, folder, &mut items, entries)?;
        open.append(&Entry::Session(identity.clone()))?;
        journal = Some(Mutex::new(open));
    }
    predict(run, &mut items);
    let work = Work::new(run, items, journal, judged_before, begin);
    let (worked, hash) = std::thread::scope(|scope| {
        let hashing = hashing.as_ref().filter(|hashing| hashing.known.is_none());
        let hashing = hashing.map(|hashing| scope.spawn(|| hashing.hash(&work.stopped)));
        let worked = work.work();
        if worked.is_err() {
            work.stopped.store(true, Ordering::SeqCst);
        }
        // A thread that panicked has no hash.
        let hash = hashing.and_then(|hashing| hashing.join().ok());
        (worked, hash.unwrap_or(Ok(None)))
    });
    worked?;
    if let Some(hash) = hash? {
        identity.model.model_hash = Some(hash);
        if let Some(journal) = &work.journal {
            lock(journal).append(&Entry::Session(identity.clone()))?;
        }
    }
    if let Some(journal) = &work.journal {
        lock(journal).sync()?;
    }
    let progress = lock(&work.tracker).progress.clone();
    if work.stopped.load(Ordering::SeqCst) {
        let (done, total) = (progress.done, progress.total);
        return Err(Error::Cancelled { done, total });
    }
    let asked = work.asked.get().copied();
    let items = work.items.into_iter();
    let items: Vec<Planned> = items
        .map(|item| item.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    let mut report = Report::of(&run.benchmarks, &items, identity.model, run.config.shard)?;
    report.missing.clone_from(&run.missing);
    report.judge = identity.judge;
    report.code = run
        .benchmarks
        .iter()
        .any(|b| b.needs_code())
        .then(|| run.code.map(|code| code.confinement().to_owned()))
        .flatten();
    report.started = started;
    report.seconds = begin.elapsed().as_secs_f64();
    report.asked_after = asked.map(|asked| (asked - begin).as_secs_f64());
    report.requests = progress.total;
    report.resumed = progress.resumed;
    if let Some(path) = &run.config.folder {
        folder::write(path, &report, &items)?;
    }
    // The journal is open, and so locked, until the folder is written.
    drop(work.journal);
    Ok(report)
}
