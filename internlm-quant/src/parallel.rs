//! Loops over independent pieces on the kernels' threads. Results don't depend on their number.

use std::sync::{Mutex, MutexGuard, PoisonError};

use internlm_kernels::Compute;

/// `f(0)` to `f(tasks - 1)`, in order.
pub(crate) fn map<R: Send>(
    compute: &Compute,
    tasks: usize,
    f: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let slots: Vec<Mutex<Option<R>>> = (0..tasks).map(|_| Mutex::new(None)).collect();
    compute.run(tasks, |task| *lock(&slots[task]) = Some(f(task)));
    let results = slots
        .into_iter()
        .filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    results.collect()
}

/// Calls `f` with the number of each piece of `size` elements and the piece.
pub(crate) fn over_chunks<T: Send>(
    compute: &Compute,
    data: &mut [T],
    size: usize,
    f: impl Fn(usize, &mut [T]) + Sync,
) {
    let chunks: Vec<Mutex<&mut [T]>> = data.chunks_mut(size.max(1)).map(Mutex::new).collect();
    compute.run(chunks.len(), |task| f(task, &mut lock(&chunks[task])));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
