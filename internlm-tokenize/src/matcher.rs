//! Finds tokens that are matched as a whole, before any merging.

use rustc_hash::FxHashMap;

/// A set of tokens, matched longest first.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// `edges[(node, byte)]`; node 0 is the root.
    edges: FxHashMap<(u32, u8), u32>,
    /// The token that ends at a node.
    ends: Vec<Option<u32>>,
    /// First bytes of tokens.
    first: Vec<bool>,
}

impl Matcher {
    /// A matcher of these tokens; empty ones are left out.
    pub(crate) fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut matcher = Self {
            edges: FxHashMap::default(),
            ends: vec![None],
            first: vec![false; 256],
        };
        for (token, id) in tokens {
            let Some(&first) = token.as_bytes().first() else {
                continue;
            };
            matcher.first[usize::from(first)] = true;
            let mut node = 0;
            for &byte in token.as_bytes() {
                let ends = &mut matcher.ends;
                node = *matcher.edges.entry((node, byte)).or_insert_with(|| {
                    ends.push(None);
                    ends.len() as u32 - 1
                });
            }
            matcher.ends[node as usize] = Some(id);
        }
        matcher
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.len() <= 1
    }

    /// The longest token that `bytes` begins with, and its length.
    pub(crate) fn longest(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let mut node = 0;
        let mut found = None;
        for (at, &byte) in bytes.iter().enumerate() {
            let Some(&next) = self.edges.get(&(node, byte)) else {
                break;
            };
            node = next;
            if let Some(id) = self.ends[node as usize] {
                found = Some((id, at + 1));
            }
        }
        found
    }

    /// The first token at or after byte `from`, the longest one there: id, start and end.
    pub(crate) fn find(&self, text: &str, from: usize) -> Option<(u32, usize, usize)> {
        let bytes = text.as_bytes();
        if self.is_empty() {
            return None;
        }
        // A token begins at a border of characters because it is text itself.
        (from..bytes.len())
            .filter(|&at| self.first[usize::from(bytes[at])])
            .find_map(|at| {
                let (id, len) = self.longest(&bytes[at..])?;
                Some((id, at, at + len))
            })
    }
}

/// Whether a token looks like markup and so must never come from what a person typed: it begins
/// with `<` or `[` and ends with `>` or `]`.
pub(crate) fn is_marker(token: &str) -> bool {
    token.len() >= 3 && token.starts_with(['<', '[']) && token.ends_with(['>', ']'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_wins_and_then_the_first() {
        let matcher = Matcher::new([("ab", 1), ("abcd", 2), ("bc", 3), ("", 4)]);
        assert_eq!(matcher.longest(b"abcx"), Some((1, 2)));
        assert_eq!(matcher.longest(b"abcd"), Some((2, 4)));
        assert_eq!(matcher.find("xxabcd", 0), Some((2, 2, 6)));
        assert_eq!(matcher.find("xxabc", 3), Some((3, 3, 5)));
        assert_eq!(matcher.find("xx", 0), None);
    }

    #[test]
    fn markers_are_told_by_their_brackets() {
        for marker in ["<eoa>", "[UNUSED_TOKEN_1]", "<|im_end|>", "[a>"] {
            assert!(is_marker(marker), "{marker}");
        }
        for plain in ["<>", "——", "ａ", "<a", "a>", "(a)"] {
            assert!(!is_marker(plain), "{plain}");
        }
    }
}
