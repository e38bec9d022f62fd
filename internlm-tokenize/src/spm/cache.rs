//! A cache from the bytes of a run to its ids: direct-mapped, one megabyte, never larger.

/// Longest run that is cached.
pub(super) const MAX_KEY_BYTES: usize = 24;
const MAX_IDS: usize = 8;
const ENTRIES_LOG2: u32 = 14;

/// The bytes of a run, padded with zeros, and their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Key {
    words: [u64; 3],
    len: u8,
}

/// One cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Entry {
    key: Key,
    count: u8,
    ids: [u32; MAX_IDS],
}

/// The cache. Empty until the first entry is put.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Vec<Entry>,
}

/// Reads the key of `text[start..end]`, of at most [`MAX_KEY_BYTES`] bytes.
#[inline(always)]
pub(super) fn key(text: &[u8], start: usize, end: usize) -> Key {
    let len = end - start;
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word.copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let words = if let Some(bytes) = text.get(start..start + MAX_KEY_BYTES) {
        let mask = |word: usize| match len.saturating_sub(8 * word) {
            0 => 0,
            bytes @ 1..8 => (1 << (8 * bytes)) - 1,
            _ => u64::MAX,
        };
        [
            word(&bytes[..8]) & mask(0),
            word(&bytes[8..16]) & mask(1),
            word(&bytes[16..]) & mask(2),
        ]
    } else {
        let mut padded = [0; MAX_KEY_BYTES];
        padded[..len].copy_from_slice(&text[start..end]);
        [
            word(&padded[..8]),
            word(&padded[8..16]),
            word(&padded[16..]),
        ]
    };
    Key {
        words,
        len: len as u8,
    }
}

impl Key {
    #[inline(always)]
    fn slot(&self) -> usize {
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c] = self.words;
        let mixed = (a.wrapping_mul(K) ^ b).wrapping_mul(K) ^ c;
        ((mixed ^ mixed >> 32).wrapping_mul(K) >> (64 - ENTRIES_LOG2)) as usize
    }
}

impl Cache {
    #[inline(always)]
    pub(super) fn get(&self, key: &Key) -> Option<&[u32]> {
        let entry = self.entries.get(key.slot())?;
        if entry.key == *key {
            entry.ids.get(..usize::from(entry.count))
        } else {
            None
        }
    }

    /// Stores the ids of a run, if they are few enough, in place of another run's.
    pub(super) fn put(&mut self, key: Key, ids: &[u32]) {
        if ids.len() > MAX_IDS {
            return;
        }
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); 1 << ENTRIES_LOG2];
        }
        let entry = &mut self.entries[key.slot()];
        entry.key = key;
        entry.count = ids.len() as u8;
        entry.ids[..ids.len()].copy_from_slice(ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_runs_apart_wherever_they_stand() {
        let text = b"abcdefghijklmnopqrstuvwxyz\0\0abc";
        for len in 1..=MAX_KEY_BYTES {
            let padded = key(text, 0, len);
            let end = key(&text[..len], 0, len);
            assert_eq!(padded, end, "{len}");
        }
        assert_eq!(key(text, 0, 3), key(text, 28, 31));
        assert_ne!(key(b"ab\0", 0, 2), key(b"ab\0", 0, 3));
    }

    #[test]
    fn what_was_put_comes_back_until_it_is_replaced() {
        let mut cache = Cache::default();
        let (a, b) = (key(b"the", 0, 3), key(b"cat", 0, 3));
        assert_eq!(cache.get(&a), None);
        cache.put(a, &[7, 8]);
        cache.put(b, &[1; 9]);
        assert_eq!(cache.get(&a), Some(&[7, 8][..]));
        assert_eq!(cache.get(&b), None);
    }
}
