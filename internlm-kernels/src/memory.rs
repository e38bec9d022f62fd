//! Cache lines and large allocations.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// A cache line: what vectors and tiles are aligned to.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; LINE]);

// SAFETY: an array of bytes of the size of the alignment, so no padding; all bits are allowed.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

impl Line {
    pub(crate) const ZERO: Line = Line([0; LINE]);
}

/// Asks for the cache line at an address, which need not exist, as far as the second-level cache.
#[inline(always)]
pub(crate) fn prefetch(address: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address as *const i8) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

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

/// Asks the system to gather the pages of a filled slice into huge pages, those that it shares with its
/// neighbours in memory too.
///
/// [`huge_pages`] can't help where matrices are smaller than such a page, as in small models; this can,
/// once they are filled, at the price of a copy. Also a hint: contents and addresses stay as they are.
///
/// ```
/// let weights = vec![1.0f32; 1 << 20];
/// internlm_kernels::gather_pages(&weights);
/// assert!(weights.iter().all(|&w| w == 1.0));
/// ```
pub fn gather_pages<T>(slice: &[T]) {
    gather(slice.as_ptr() as usize, size_of_val(slice));
}

/// Bytes of a huge page, on x86-64 and on Arm with pages of 4 KiB.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

#[cfg(target_os = "linux")]
fn advise(start: usize, bytes: usize) {
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

#[cfg(target_os = "linux")]
fn gather(start: usize, bytes: usize) {
    /// Below this, what is gained on a slice isn't worth the page.
    const LEAST: usize = HUGE / 4;
    if bytes < LEAST {
        return;
    }
    let first = start / HUGE * HUGE;
    for page in (first..start + bytes).step_by(HUGE) {
        // SAFETY: the advice (Linux 6.1) changes which pages back the memory, never what it holds or who
        // may touch it, so it doesn't matter whose the memory around the slice is. Where some of it is
        // not mapped, or the kernel is older, the call fails without an effect.
        unsafe { libc::madvise(page as *mut libc::c_void, HUGE, libc::MADV_COLLAPSE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: usize, _bytes: usize) {}

#[cfg(not(target_os = "linux"))]
fn gather(_start: usize, _bytes: usize) {}
