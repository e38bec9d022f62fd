//! Large allocations.

/// Asks the system to back the capacity of `vec` with huge pages, and hands `vec` back.
///
/// Call it after reserving and before filling: pages are chosen when they are first touched. Fewer
/// address translations let the weights of a model stream from memory a little faster. It is a hint;
/// where the system has no such pages, or on systems other than Linux, nothing happens.
///
/// ```
/// let mut weights = internlm_kernels::huge_pages(Vec::<f32>::with_capacity(1 << 21));
/// weights.resize(1 << 21, 0.0);
/// assert_eq!(weights.len(), 1 << 21);
/// ```
#[must_use]
pub fn huge_pages<T>(vec: Vec<T>) -> Vec<T> {
    advise(
        vec.as_ptr() as usize,
        vec.capacity().saturating_mul(size_of::<T>()),
    );
    vec
}

#[cfg(target_os = "linux")]
fn advise(start: usize, bytes: usize) {
    const HUGE: usize = 2 << 20;
    const PAGE: usize = 4096;
    if bytes < 2 * HUGE {
        return;
    }
    let from = start.next_multiple_of(PAGE);
    let to = (start + bytes) / PAGE * PAGE;
    // SAFETY: [from, to) lies inside one live allocation, and this advice changes neither contents
    // nor protection of pages. A failure (no such pages in this kernel) is of no consequence.
    unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: usize, _bytes: usize) {}
