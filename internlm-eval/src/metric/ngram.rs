//! Counts of n-grams.

use std::collections::HashMap;
use std::hash::Hash;

/// How often each n-gram occurs, keyed by the slice itself.
pub(super) fn counts<T: Eq + Hash>(tokens: &[T], n: usize) -> HashMap<&[T], usize> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// How many n-grams two texts share, with their multiplicity.
pub(super) fn overlap<T: Eq + Hash>(a: &HashMap<&[T], usize>, b: &HashMap<&[T], usize>) -> usize {
    a.iter()
        .map(|(ngram, n)| n.min(b.get(ngram).unwrap_or(&0)))
        .sum()
}

/// The length of the longest common subsequence.
pub(super) fn common_subsequence<T: Eq>(a: &[T], b: &[T]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}
