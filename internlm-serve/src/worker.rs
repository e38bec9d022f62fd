//! The engine's thread: what runs, what waits, and the loop of steps.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use internlm_model::context::Mode;
use internlm_model::{AdapterSet, CausalLm, PagedCache, TextModel};

use crate::blocks::Blocks;
use crate::config::EngineConfig;
use crate::error::Error;
use crate::inbox::{Closing, Inbox, Job, Mail};
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::response::{Answer, Sender};
use crate::sequence::{RequestId, Sequence};
use crate::speculate::Drafter;

/// A request that is not done.
pub(crate) struct Active {
    pub(crate) sender: Sender,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    /// Answers that are not done.
    pub(crate) unfinished: usize,
}

/// Everything that the engine's thread owns.
pub(crate) struct Worker {
    pub(crate) text: Arc<TextModel>,
    pub(crate) config: EngineConfig,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) cache: PagedCache,
    pub(crate) adapters: AdapterSet,
    pub(crate) drafter: Option<Drafter>,
    /// None where the cache is not in the machine's memory.
    pub(crate) budget: Option<Budget>,
    pub(crate) mode: Mode,
    pub(crate) blocks: Blocks,
    pub(crate) requests: HashMap<RequestId, Active>,
    /// By falling priority, then in the order of arrival.
    pub(crate) waiting: VecDeque<Sequence>,
    /// In the same order: the last one is the first to give its blocks away.
    pub(crate) running: Vec<Sequence>,
    pub(crate) counts: Metrics,
}

/// Who goes first.
fn order(sequence: &Sequence) -> (std::cmp::Reverse<i32>, RequestId, usize) {
    let priority = std::cmp::Reverse(sequence.priority);
    (priority, sequence.request, sequence.index)
}

impl Worker {
    pub(crate) fn new(
        text: Arc<TextModel>,
        config: EngineConfig,
        inbox: Arc<Inbox>,
        cache: PagedCache,
        adapters: AdapterSet,
        drafter: Option<Drafter>,
    ) -> Self {
        Self {
            text,
            config,
            inbox,
            blocks: Blocks::new(cache.num_blocks()),
            cache,
            adapters,
            drafter,
            budget: None,
            mode: Mode::Infer,
            requests: HashMap::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            counts: Metrics::default(),
        }
    }

    /// Sets the memory that is looked at, and the operations.
    pub(crate) fn on(mut self, budget: Option<Budget>, mode: Mode) -> Self {
        self.budget = budget;
        self.mode = mode;
        self
    }

    pub(crate) fn model(&self) -> &CausalLm {
        self.text.model()
    }

    /// Runs until the engine is closed.
    pub(crate) fn run(mut self) {
        // However it ends, nobody waits for ever.
        struct End(Arc<Inbox>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.end();
            }
        }
        let _end = End(self.inbox.clone());
        loop {
            let Mail {
                jobs,
                task,
                closing,
            } = self.inbox.take(self.requests.is_empty());
            for job in jobs {
                self.take_in(job);
            }
            if closing == Closing::Now {
                let ids: Vec<RequestId> = self.requests.keys().copied().collect();
                for id in ids {
                    self.fail(id, Error::Closed);
                }
            }
            if closing != Closing::Open && self.requests.is_empty() && task.is_none() {
                self.report();
                return;
            }
            if let Some(task) = task {
                let model = self.model();
                // What a panic leaves behind is the task's own.
                let task = std::panic::AssertUnwindSafe(|| task(model));
                if std::panic::catch_unwind(task).is_err() {
                    tracing::error!("a task of the engine panicked");
                }
            }
            self.drop_the_abandoned();
            self.step();
            self.report();
        }
    }

    fn take_in(&mut self, job: Job) {
        let Job {
            sequence,
            sender,
            arrived,
            deadline,
        } = job;
        let active = Active {
            sender,
            arrived,
            deadline,
            unfinished: 1 + sequence.siblings.len(),
        };
        self.counts.prompt_tokens += sequence.prompt_len as u64;
        self.requests.insert(sequence.request, active);
        self.wait(sequence);
    }

    /// Puts a sequence in its place among those that wait.
    pub(crate) fn wait(&mut self, sequence: Sequence) {
        let at = self
            .waiting
            .partition_point(|s| order(s) < order(&sequence));
        self.waiting.insert(at, sequence);
    }

    /// Puts a sequence in its place among those that run.
    pub(crate) fn start(&mut self, sequence: Sequence) {
        let at = self
            .running
            .partition_point(|s| order(s) < order(&sequence));
        self.running.insert(at, sequence);
    }

    /// Ends requests whose clients are gone or whose time is up.
    fn drop_the_abandoned(&mut self) {
        let now = Instant::now();
        let expired = |active: &Active| active.deadline.is_some_and(|deadline| deadline <= now);
        let ended: Vec<(RequestId, bool)> = self
            .requests
            .iter()
            .filter(|(_, active)| active.sender.is_cancelled() || expired(active))
            .map(|(&id, active)| (id, active.sender.is_cancelled()))
            .collect();
        for (id, cancelled) in ended {
            if cancelled {
                self.counts.cancelled += 1;
                self.forget(id);
            } else {
                self.fail(id, Error::Deadline);
            }
        }
    }

    /// Ends a request with an error.
    pub(crate) fn fail(&mut self, id: RequestId, error: Error) {
        if let Some(active) = self.requests.get(&id) {
            tracing::warn!(request = id, %error, "a request failed");
            active.sender.send(Err(error));
            self.counts.failed += 1;
            self.forget(id);
        }
    }

    /// Frees all that a request holds.
    fn forget(&mut self, id: RequestId) {
        self.requests.remove(&id);
        self.waiting.retain(|sequence| sequence.request != id);
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            let stays = sequence.request != id;
            if !stays {
                sequence.release(blocks);
            }
            stays
        });
    }

    /// Sends what a sequence has to say, and lets it go if it is done. Whoever hears the end finds it in the
    /// metrics.
    pub(crate) fn deliver(&mut self, at: usize, done: bool) {
        let sequence = &mut self.running[at];
        let (id, index) = (sequence.request, sequence.index);
        let events: Vec<_> = sequence.text.events().collect();
        let send = |sender: &Sender| {
            for event in events {
                sender.send(Ok(Answer { index, event }));
            }
        };
        let Some(active) = self.requests.get_mut(&id) else {
            return;
        };
        if !done {
            return send(&active.sender);
        }
        active.unfinished -= 1;
        let is_last = active.unfinished == 0;
        self.running.remove(at).release(&mut self.blocks);
        if is_last && let Some(active) = self.requests.remove(&id) {
            self.counts.finished += 1;
            self.report();
            send(&active.sender);
            active.sender.complete();
        } else if let Some(active) = self.requests.get(&id) {
            send(&active.sender);
        }
    }

    /// Tells the handles how things are.
    pub(crate) fn report(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        let in_use = self.blocks.in_use();
        let (total, idle) = (self.blocks.total(), self.blocks.idle());
        let running = self.running.len();
        self.inbox.report(self.waiting.len(), |metrics| {
            metrics.add(&counts);
            metrics.running = running;
            metrics.blocks_in_use = in_use;
            metrics.blocks_cached = idle;
            metrics.blocks_total = total;
        });
    }
}
