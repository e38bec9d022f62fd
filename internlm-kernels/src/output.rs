//! Disjoint parts of one result, written by many threads.

use std::marker::PhantomData;

/// A mutable slice of which threads take disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for `&mut [T]`, which may be sent where T may; sharing it only allows the unsafe
// methods below, whose contract is that parts are disjoint.
unsafe impl<T: Send> Send for Output<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Output<'_, T> {}

impl<'a, T> Output<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            borrow: PhantomData,
        }
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// No other part that is alive at the same time may overlap them.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's contract")]
    #[inline(always)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(
            start <= self.len && len <= self.len - start,
            "part beyond its slice"
        );
        // SAFETY: the range is inside the borrowed slice (checked above); the caller promises that
        // nothing else refers to it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// The address of an element.
    pub(crate) fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "element beyond its slice");
        // SAFETY: the index is inside the slice (checked above).
        unsafe { self.start.add(index) }
    }
}

/// Adds numbers to the elements that are there.
#[inline(always)]
pub(crate) fn add_to<const W: usize>(out: &mut [f32], numbers: &[f32; W]) {
    match out.as_mut_array::<W>() {
        // Whole, as nearly always. In a copy, which shares no memory with `out`, for vectors.
        Some(out) => {
            let mut sums = *numbers;
            for at in 0..W {
                sums[at] += out[at];
            }
            *out = sums;
        }
        None => out.iter_mut().zip(numbers).for_each(|(out, x)| *out += x),
    }
}
