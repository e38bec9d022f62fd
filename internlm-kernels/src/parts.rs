//! Parts of a region that reads memory once: large at first, small at the end.

use std::ops::Range;

/// Cuts `0..units` into as many parts for each of `threads` threads, thread after thread: neighbours
/// that shrink towards the end of a thread's share, so that all threads end together and few parts are
/// handed out. A part is a quarter of what is left of its share, at least one unit and at most `most`.
/// Some of the last share may be empty.
pub(crate) fn shrinking(units: usize, most: usize, threads: usize) -> Vec<Range<usize>> {
    let threads = threads.max(1);
    let share = units.div_ceil(threads);
    let mut parts = Vec::with_capacity(64);
    for thread in 0..threads {
        let mut start = 0;
        while start < share {
            let part = ((share - start) / 4).clamp(1, most.max(1));
            let at = |unit: usize| units.min(thread * share + unit);
            parts.push(at(start)..at(start + part));
            start += part;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_in_one_part_and_every_thread_has_as_many_parts() {
        for units in [0, 1, 2, 7, 24, 128, 4099] {
            for threads in [1, 2, 3, 16] {
                for most in [1, 5, usize::MAX] {
                    let parts = shrinking(units, most, threads);
                    let covered: Vec<_> = parts.iter().cloned().flatten().collect();
                    assert_eq!(covered, Vec::from_iter(0..units));
                    assert!(parts.len().is_multiple_of(threads));
                    assert!(parts.iter().all(|part| part.len() <= most));
                }
            }
        }
    }

    #[test]
    fn a_share_ends_with_single_units() {
        let lengths: Vec<_> = shrinking(64, 8, 2).into_iter().map(|p| p.len()).collect();
        assert_eq!(
            lengths[..lengths.len() / 2],
            [8, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
        );
    }
}
