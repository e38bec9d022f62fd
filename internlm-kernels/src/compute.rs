//! An instruction set and a pool of threads: what every kernel runs on.

use std::fmt;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};
use crate::isa::{self, Isa};
use crate::memory::{LINE, Line};
use crate::pool::Pool;

/// The instruction set, chosen once, and the worker threads.
///
/// Make one per process or per model and share it by reference or `Arc`. Several threads may call
/// kernels on one `Compute`; they take turns. Dropping it joins the workers.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let compute = internlm_kernels::Compute::new(Some(2))?;
/// let sum = AtomicUsize::new(0);
/// compute.run(10, |task| {
///     sum.fetch_add(task, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 45);
/// # Ok::<(), internlm_kernels::Error>(())
/// ```
pub struct Compute {
    isa: Isa,
    /// Whether bf16 products of bf16 activations use `vdpbf16ps`.
    quick_bf16_dot: bool,
    /// Whether products of bytes use `vpdpbusd`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "of x86 only"))]
    vnni: bool,
    pool: Pool,
    /// Memory for packed activations, kept between products.
    scratch: Mutex<Vec<Line>>,
}

impl Compute {
    /// With the instruction set of [`Isa::from_env`] and `threads` threads, the caller included; by
    /// default as many as the process may use.
    ///
    /// # Errors
    /// [`Error::UnknownIsa`] and [`Error::IsaUnavailable`] for what `INTERNLM_KERNELS` says,
    /// [`Error::NoThreads`] for zero threads, [`Error::Spawn`] where the system has none to give.
    pub fn new(threads: Option<usize>) -> Result<Compute> {
        Compute::with_isa(Isa::from_env()?, threads)
    }

    /// With this instruction set.
    ///
    /// # Errors
    /// [`Error::IsaUnavailable`] where the processor lacks it; else as [`Compute::new`].
    pub fn with_isa(isa: Isa, threads: Option<usize>) -> Result<Compute> {
        let isa = isa.check()?;
        let threads = match threads {
            Some(0) => return Err(Error::NoThreads),
            Some(threads) => threads,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let quick_bf16_dot = matches!(isa, Isa::Avx512) && isa::has_quick_bf16_dot();
        let pool = Pool::new(threads)?;
        Ok(Compute {
            isa,
            quick_bf16_dot,
            vnni: isa::has_vnni(),
            pool,
            scratch: Mutex::default(),
        })
    }

    /// Number of threads that work on a region, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set that kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Whether `vdpbf16ps` is there and outruns f32.
    pub(crate) fn has_quick_bf16_dot(&self) -> bool {
        self.quick_bf16_dot
    }

    /// Whether `vpmaddwd` outruns multiply-adds in f32, and nothing that multiplies bf16 is there.
    pub(crate) fn has_quick_int16_dot(&self) -> bool {
        self.isa == Isa::Avx2
    }

    /// Whether AVX-512 has `vpdpbusd`.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_vnni(&self) -> bool {
        self.vnni
    }

    /// Itself as on a processor without `vpdpbusd` and a quick `vdpbf16ps`.
    #[cfg(test)]
    pub(crate) fn without_dots(mut self) -> Compute {
        (self.quick_bf16_dot, self.vnni) = (false, false);
        self
    }

    /// Calls `f` with `len` elements of memory that is kept for the next call, aligned to a cache line;
    /// contents are arbitrary.
    pub(crate) fn with_scratch(&self, len: usize, f: impl FnOnce(&mut [f32])) {
        let kept = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken out, so that a product on another thread finds an empty one and makes its own.
        let mut scratch = mem::take(&mut *kept());
        let lines = (len * size_of::<f32>()).div_ceil(LINE);
        if scratch.len() < lines {
            scratch = vec![Line::ZERO; lines];
        }
        f(&mut bytemuck::cast_slice_mut(&mut scratch)[..len]);
        *kept() = scratch;
    }

    /// Says that the next product reads these weights, before the smaller steps that come first: threads
    /// that wait meanwhile bring the begin of their shares into their caches.
    ///
    /// A hint: it changes no result, and the memory may be gone when the product comes.
    pub fn announce<T>(&self, weights: &[T]) {
        let address = weights.as_ptr() as usize;
        self.pool.announce(address, size_of_val(weights));
    }

    /// Runs `task(0)` to `task(tasks - 1)`, each once, on all threads, and returns when all are done.
    ///
    /// Each thread begins with a share of its own, in order, and then helps the others. While another
    /// thread's region runs, this one waits; called from inside a task, all tasks run on the calling
    /// thread.
    ///
    /// # Panics
    /// Where a task panics: with its payload, after all threads have left the region.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        self.pool.run(tasks, &task);
    }
}

impl fmt::Debug for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compute")
            .field("isa", &self.isa)
            .field("threads", &self.threads())
            .finish()
    }
}
