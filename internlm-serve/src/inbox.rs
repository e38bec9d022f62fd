//! What the handles of an engine and its thread share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use internlm_model::CausalLm;

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::response::Sender;
use crate::sequence::{RequestId, Sequence};

/// Work on the model other than answers, done between two steps.
pub(crate) type Task = Box<dyn FnOnce(&CausalLm) + Send>;

/// A request as the engine's thread gets it.
pub(crate) struct Job {
    pub(crate) sequence: Sequence,
    pub(crate) sender: Sender,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
}

/// The letter box of an engine's thread, and what the thread tells of itself.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: Vec<Job>,
    tasks: VecDeque<Task>,
    next_request: RequestId,
    /// Requests that were taken in and do not run yet, those among `jobs` included.
    waiting: usize,
    closing: Closing,
    /// The thread is gone.
    ended: bool,
    metrics: Metrics,
}

/// How far an engine is from its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub(crate) enum Closing {
    /// It takes requests.
    #[default]
    Open,
    /// It ends when its requests are done.
    Draining,
    /// It ends now.
    Now,
}

/// What there is to do.
pub(crate) struct Mail {
    pub(crate) jobs: Vec<Job>,
    pub(crate) task: Option<Task>,
    pub(crate) closing: Closing,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // No panic can happen between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in; `job` is told its number.
    pub(crate) fn submit(&self, limit: usize, job: impl FnOnce(RequestId) -> Job) -> Result<()> {
        let mut state = self.state();
        if state.closing != Closing::Open || state.ended {
            return Err(Error::Closed);
        }
        if state.waiting >= limit {
            let waiting = state.waiting;
            return Err(Error::QueueFull { waiting, limit });
        }
        let job = job(state.next_request);
        state.next_request += 1;
        state.waiting += 1;
        state.metrics.requests += 1;
        state.metrics.waiting += 1;
        state.jobs.push(job);
        self.changed.notify_all();
        Ok(())
    }

    /// Has something done on the engine's thread, and waits for it.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&CausalLm) -> R + Send + 'static,
    ) -> Result<R> {
        let (sender, receiver) = std::sync::mpsc::channel();
        {
            let mut state = self.state();
            if state.closing != Closing::Open || state.ended {
                return Err(Error::Closed);
            }
            state.tasks.push_back(Box::new(move |model| {
                // Nobody may be waiting any more.
                let _ = sender.send(work(model));
            }));
            self.changed.notify_all();
        }
        // A task that panics, or is not run because the engine ends, drops its sender.
        receiver.recv().map_err(|_| match self.state().ended {
            true => Error::Closed,
            false => Error::Panicked {
                what: "a task of the engine".to_owned(),
            },
        })
    }

    /// Asks the thread to end.
    pub(crate) fn close(&self, closing: Closing) {
        let mut state = self.state();
        if closing > state.closing {
            state.closing = closing;
        }
        self.changed.notify_all();
    }

    /// Waits for the thread's end, at most for `grace`. Whether it came.
    pub(crate) fn wait_for_end(&self, grace: Duration) -> bool {
        let begin = Instant::now();
        let mut state = self.state();
        while !state.ended {
            let Some(left) = grace.checked_sub(begin.elapsed()) else {
                return false;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.state().metrics.clone()
    }

    /// For the thread: new work. Waits for some if it is `idle`.
    pub(crate) fn take(&self, idle: bool) -> Mail {
        let mut state = self.state();
        while idle
            && state.jobs.is_empty()
            && state.tasks.is_empty()
            && state.closing == Closing::Open
        {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Mail {
            jobs: std::mem::take(&mut state.jobs),
            task: state.tasks.pop_front(),
            closing: state.closing,
        }
    }

    /// For the thread: how things are.
    pub(crate) fn report(&self, waiting: usize, change: impl FnOnce(&mut Metrics)) {
        let mut state = self.state();
        state.waiting = waiting + state.jobs.len();
        state.metrics.waiting = state.waiting;
        change(&mut state.metrics);
    }

    /// For the thread: it is gone, and so are all who wait.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        for job in state.jobs.drain(..) {
            job.sender.send(Err(Error::Closed));
        }
        state.tasks.clear();
        state.metrics.running = 0;
        state.metrics.waiting = 0;
        self.changed.notify_all();
    }
}
