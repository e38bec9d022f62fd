//! Parked workers that help one caller at a time.
//!
//! A region publishes a job, opens a gate, works along, closes the gate and waits for those inside.
//! A worker that wakes up late finds the gate closed and goes back, so nobody waits for it. Workers
//! spin for a moment after a region, as the next one of a forward pass follows within microseconds,
//! and then sleep: a machine shared with other programs isn't slowed by waiting threads.
//!
//! Each thread has a share of a region's tasks, neighbours one after the other, so that it reads memory
//! in one run. Who is done takes tasks from the end of the others' shares.

use std::any::Any;
use std::cell::Cell;
use std::hint::spin_loop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::memory::{LINE, prefetch};

/// How long a thread spins before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// Bytes of announced memory that a waiting worker asks for at most: what its cache has room for.
const AHEAD: usize = 256 << 10;

/// The bit of the gate that lets workers in; the bits below count those inside.
const OPEN: usize = 1 << (usize::BITS - 1);

thread_local! {
    /// Whether this thread is working on a region, of this pool or another.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Worker threads, and the lock that admits one region at a time.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    region: Mutex<()>,
}

/// What the workers see.
struct Shared {
    /// [`OPEN`] while a job takes helpers, plus the number of workers inside.
    gate: AtomicUsize,
    /// Memory that a coming region reads: its address and bytes.
    announced: (AtomicUsize, AtomicUsize),
    /// Counts regions; a change wakes spinning workers.
    epoch: AtomicUsize,
    /// The published job; valid for whoever is inside the gate.
    job: AtomicPtr<Job<'static>>,
    /// The tasks of the job, by thread; the caller's first.
    shares: Box<[Share]>,
    stop: AtomicBool,
    /// Workers that sleep, or are about to.
    sleepers: AtomicUsize,
    asleep: Mutex<()>,
    wake: Condvar,
    /// Whether the caller sleeps until the gate is empty.
    caller_sleeps: AtomicBool,
    caller: Mutex<()>,
    empty: Condvar,
}

/// The tasks that are left of a thread's share: the next one in the lower half, the end in the upper.
/// On a cache line of its own, as its thread writes it all the time.
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    fn set(&self, next: u32, end: u32) {
        self.0
            .store(u64::from(end) << 32 | u64::from(next), Relaxed);
    }

    /// Takes a task: the first one for the share's own thread, the last one for another.
    fn take(&self, own: bool) -> Option<usize> {
        let step = |share: u64| {
            let (next, end) = (share as u32, share >> 32);
            let taken = || if own { share + 1 } else { share - (1 << 32) };
            (u64::from(next) < end).then(taken)
        };
        let share = self.0.fetch_update(Relaxed, Relaxed, step).ok()?;
        Some(if own {
            share as u32 as usize
        } else {
            (share >> 32) as usize - 1
        })
    }
}

/// One region: its tasks lie in the shares.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    /// The first task's number.
    start: usize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Works until no task is left. A panic is kept for the caller and ends the handing out.
    fn work(&self, thread: usize, shares: &[Share]) {
        let (before, rest) = shares.split_at(thread);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for share in rest.iter().chain(before) {
                let own = ptr::eq(share, &shares[thread]);
                while let Some(task) = share.take(own) {
                    (self.task)(self.start + task);
                }
            }
        }));
        if let Err(payload) = result {
            shares.iter().for_each(|share| share.set(0, 0));
            lock(&self.panic).get_or_insert(payload);
        }
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller of [`Pool::run`] being one of them.
    pub(crate) fn new(threads: usize) -> Result<Pool> {
        let shared = Arc::new(Shared {
            gate: AtomicUsize::new(0),
            announced: (AtomicUsize::new(0), AtomicUsize::new(0)),
            epoch: AtomicUsize::new(0),
            job: AtomicPtr::new(ptr::null_mut()),
            shares: (0..threads).map(|_| Share(AtomicU64::new(0))).collect(),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            asleep: Mutex::new(()),
            wake: Condvar::new(),
            caller_sleeps: AtomicBool::new(false),
            caller: Mutex::new(()),
            empty: Condvar::new(),
        });
        // Built first, so that a failure below joins the workers already started.
        let mut pool = Pool {
            shared,
            workers: Vec::new(),
            region: Mutex::new(()),
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = thread::Builder::new()
                .name(format!("internlm-kernels-{index}"))
                .spawn(move || shared.worker(index))
                .map_err(|source| Error::Spawn { source })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Says which memory a coming region reads, each thread a share of its own; none after `0` bytes.
    ///
    /// Workers that wait for the region bring the begin of their shares into their caches.
    pub(crate) fn announce(&self, address: usize, bytes: usize) {
        let (to_address, to_bytes) = &self.shared.announced;
        to_address.store(address, Relaxed);
        to_bytes.store(bytes, Relaxed);
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, and returns when all are done.
    ///
    /// A second caller waits for the first. From inside a task it runs on the spot.
    ///
    /// # Panics
    /// With the payload of a task that panicked, after all threads have left.
    pub(crate) fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() {
            return (0..tasks).for_each(task);
        }
        for start in (0..tasks).step_by(u32::MAX as usize) {
            self.region(start, (tasks - start).min(u32::MAX as usize) as u32, task);
        }
    }

    /// Runs `count` tasks from `start` on.
    fn region(&self, start: usize, count: u32, task: &(dyn Fn(usize) + Sync)) {
        let job = Job {
            task,
            start,
            panic: Mutex::new(None),
        };
        {
            let _one_at_a_time = lock(&self.region);
            self.shared.open(&job, count);
            INSIDE.set(true);
            job.work(0, &self.shared.shares);
            INSIDE.set(false);
            self.shared.close();
        }
        let panic = lock(&job.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.announce();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Publishes a job of `count` tasks and lets workers in. The gate is closed and empty before.
    fn open(&self, job: &Job<'_>, count: u32) {
        let threads = self.shares.len() as u64;
        let bound = |thread: usize| (thread as u64 * u64::from(count) / threads) as u32;
        for (thread, share) in self.shares.iter().enumerate() {
            share.set(bound(thread), bound(thread + 1));
        }
        self.job
            .store(ptr::from_ref(job).cast_mut().cast(), Relaxed);
        self.gate.store(OPEN, SeqCst); // publishes the job to whoever enters
        self.announce();
    }

    /// Wakes the workers.
    fn announce(&self) {
        self.epoch.fetch_add(1, SeqCst);
        // A worker counts itself as a sleeper before it looks at the epoch for the last time, so
        // either it sees the new epoch or it is seen here.
        if self.sleepers.load(SeqCst) > 0 {
            drop(lock(&self.asleep));
            self.wake.notify_all();
        }
    }

    /// Lets no more workers in and waits until all have left.
    fn close(&self) {
        self.gate.fetch_and(!OPEN, SeqCst);
        let is_empty = || self.gate.load(SeqCst) == 0;
        if !spin_until(is_empty, spin_loop) {
            let mut guard = lock(&self.caller);
            self.caller_sleeps.store(true, SeqCst);
            while !is_empty() {
                guard = self
                    .empty
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, SeqCst);
        }
    }

    /// Whether the gate was open; the worker is then counted.
    fn enter(&self) -> bool {
        let step = |gate: usize| (gate & OPEN != 0).then_some(gate + 1);
        self.gate.fetch_update(SeqCst, SeqCst, step).is_ok()
    }

    fn leave(&self) {
        let last_of_a_closed_gate = self.gate.fetch_sub(1, SeqCst) == 1;
        if last_of_a_closed_gate && self.caller_sleeps.load(SeqCst) {
            drop(lock(&self.caller));
            self.empty.notify_all();
        }
    }

    fn worker(&self, thread: usize) {
        INSIDE.set(true);
        let mut seen = 0;
        loop {
            self.wait_beyond(thread, seen);
            seen = self.epoch.load(SeqCst);
            if self.stop.load(SeqCst) {
                return;
            }
            if self.enter() {
                let job = self.job.load(Acquire);
                // SAFETY: `open` stored this pointer before it opened the gate, and `enter` saw the
                // gate open. The job lives on the stack of `run`, whose `close` returns only after
                // `leave` has counted this worker out, and nothing unwinds past it: `work` catches
                // panics. All fields of a job may be shared between threads.
                unsafe { (*job).work(thread, &self.shares) };
                self.leave();
            }
        }
    }

    /// Returns when the epoch is another than `seen`.
    fn wait_beyond(&self, thread: usize, seen: usize) {
        let is_new = || self.epoch.load(SeqCst) != seen;
        let mut ahead = LookAhead::default();
        if spin_until(is_new, || ahead.go_on(self, thread)) {
            return;
        }
        self.sleepers.fetch_add(1, SeqCst);
        let mut guard = lock(&self.asleep);
        while !is_new() {
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.sleepers.fetch_sub(1, SeqCst);
    }
}

/// How far a waiting worker has come in its share of announced memory.
#[derive(Default)]
struct LookAhead {
    announced: (usize, usize),
    lines: Range<usize>,
}

impl LookAhead {
    /// Asks for some cache lines more.
    fn go_on(&mut self, shared: &Shared, thread: usize) {
        const LINES: usize = 4;
        let (address, bytes) = &shared.announced;
        let announced = (address.load(Relaxed), bytes.load(Relaxed));
        if announced != self.announced {
            let share = announced.1 / shared.shares.len();
            let start = announced.0.wrapping_add(thread * share);
            self.announced = announced;
            self.lines = start / LINE..start.saturating_add(share.min(AHEAD)) / LINE;
        }
        if self.lines.is_empty() {
            return spin_loop();
        }
        for line in self.lines.by_ref().take(LINES) {
            prefetch(line * LINE);
        }
    }
}

/// Spins until `is_done`, for [`SPIN`] at most, and calls `meanwhile` between; says whether it is.
fn spin_until(is_done: impl Fn() -> bool, mut meanwhile: impl FnMut()) -> bool {
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if is_done() {
                return true;
            }
            meanwhile();
        }
        if start.elapsed() >= SPIN {
            return is_done();
        }
    }
}

/// The locks here guard no data that a panic could leave half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
