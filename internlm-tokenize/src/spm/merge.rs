//! The table of merges and the two ways to apply it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::Path;

use super::symbols::mergeable;
use crate::error::{Error, Result};
use crate::sentencepiece::Piece;

/// Longest run that is merged by scanning for the best pair.
pub(super) const MAX_SHORT: usize = 32;
/// Bits of a symbol in the table.
const SYMBOL_BITS: u32 = 21;
/// Most bytes that may be looked up while the table is made, and most entries of it.
const MAX_WORK: u64 = 1 << 32;
const MAX_MERGES: usize = 1 << 24;
const EMPTY: u64 = u64::MAX;
const NONE: u32 = u32::MAX;

/// Which two symbols join to which piece, and in what order.
#[derive(Debug)]
pub(super) struct Merges {
    /// Open addressing: left, right and result of a merge in one word.
    table: Vec<u64>,
    shift: u32,
    /// Place of each piece in the order of falling scores; equal scores share a place.
    ranks: Vec<u32>,
    inner: Vec<char>,
}

impl Merges {
    pub(super) fn new(pieces: &[Piece], file: &Path) -> Result<Self> {
        let wrong = |id: usize, what: String| Error::Vocabulary {
            file: file.to_path_buf(),
            id: id as u32,
            what,
        };
        let mut symbols: HashMap<&str, u32> = HashMap::with_capacity(pieces.len());
        for (piece, id) in pieces.iter().zip(0..) {
            if mergeable(piece) {
                symbols.insert(&piece.text, id);
            }
        }
        // Single characters are symbols even where they are no pieces.
        let mut inner = Vec::new();
        let mut work = 0;
        for (id, piece) in pieces.iter().enumerate().filter(|(_, p)| mergeable(p)) {
            for (start, c) in piece.text.char_indices() {
                let text = &piece.text[start..start + c.len_utf8()];
                symbols.entry(text).or_insert_with(|| {
                    inner.push(c);
                    (pieces.len() + inner.len() - 1) as u32
                });
            }
            work += (piece.text.len() as u64).pow(2);
            if work > MAX_WORK {
                let what = "the pieces are too many and too long to be split every way".into();
                return Err(wrong(id, what));
            }
        }
        if pieces.len() + inner.len() > 1 << SYMBOL_BITS {
            let what = format!("more than {} pieces and characters", 1 << SYMBOL_BITS);
            return Err(wrong(pieces.len(), what));
        }
        let mut merges = Vec::new();
        for (id, piece) in pieces.iter().enumerate().filter(|(_, p)| mergeable(p)) {
            for (middle, _) in piece.text.char_indices().skip(1) {
                let (left, right) = piece.text.split_at(middle);
                if let (Some(&left), Some(&right)) = (symbols.get(left), symbols.get(right)) {
                    merges.push(key(left, right) << SYMBOL_BITS | id as u64);
                }
            }
            if merges.len() > MAX_MERGES {
                return Err(wrong(id, format!("more than {MAX_MERGES} merges")));
            }
        }
        let bits = (merges.len() * 2).next_power_of_two().max(2).ilog2();
        let mut table = Self {
            table: vec![EMPTY; 1 << bits],
            shift: 64 - bits,
            ranks: ranks(pieces),
            inner,
        };
        for merge in merges {
            let mut slot = table.slot(merge >> SYMBOL_BITS);
            while table.table[slot] != EMPTY {
                slot = (slot + 1) & (table.table.len() - 1);
            }
            table.table[slot] = merge;
        }
        Ok(table)
    }

    /// The characters that occur in pieces and are none, in the order of their symbols, which
    /// follow the pieces.
    pub(super) fn inner_characters(&self) -> Vec<char> {
        self.inner.clone()
    }

    fn slot(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// The piece that two symbols join to.
    #[inline]
    pub(super) fn get(&self, left: u32, right: u32) -> Option<u32> {
        if (left | right) >> SYMBOL_BITS != 0 {
            return None;
        }
        let key = key(left, right);
        let mut slot = self.slot(key);
        loop {
            let merge = self.table[slot];
            if merge >> SYMBOL_BITS == key {
                return Some((merge & ((1 << SYMBOL_BITS) - 1)) as u32);
            }
            if merge == EMPTY {
                return None;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
    }

    /// The piece and its rank; [`NONE`] twice if there is none.
    #[inline]
    fn pair(&self, left: u32, right: u32) -> (u32, u32) {
        match self.get(left, right) {
            Some(id) => (id, self.ranks[id as usize]),
            None => (NONE, NONE),
        }
    }

    /// Merges the first `count` symbols in place and returns how many are left.
    pub(super) fn merge_short(&self, run: &mut [u32; MAX_SHORT], mut count: usize) -> usize {
        let mut ids = [NONE; MAX_SHORT];
        let mut ranks = [NONE; MAX_SHORT];
        for i in 1..count {
            (ids[i - 1], ranks[i - 1]) = self.pair(run[i - 1], run[i]);
        }
        while count > 1 {
            let mut best = 0;
            for i in 1..count - 1 {
                if ranks[i] < ranks[best] {
                    best = i;
                }
            }
            if ranks[best] == NONE {
                break;
            }
            run[best] = ids[best];
            run.copy_within(best + 2..count, best + 1);
            ids.copy_within(best + 1..count - 1, best);
            ranks.copy_within(best + 1..count - 1, best);
            count -= 1;
            if best > 0 {
                (ids[best - 1], ranks[best - 1]) = self.pair(run[best - 1], run[best]);
            }
            if best + 1 < count {
                (ids[best], ranks[best]) = self.pair(run[best], run[best + 1]);
            }
        }
        count
    }

    /// Merges the symbols of a heap. `tried` hears of every pair that joins to a piece when it is
    /// first seen, in SentencePiece's order.
    pub(super) fn merge_heap(&self, heap: &mut Heap, mut tried: impl FnMut(u32, u32, u32)) {
        let count = heap.symbols.len();
        heap.before
            .extend((0..count as u32).map(|i| i.wrapping_sub(1)));
        heap.after.extend(1..=count as u32);
        heap.pairs.resize(count, NONE);
        let mut queue = std::mem::take(&mut heap.queue);
        for i in 1..count {
            let (left, right) = (heap.symbols[i - 1], heap.symbols[i]);
            let (id, rank) = self.pair(left, right);
            if id != NONE {
                heap.pairs[i - 1] = id;
                queue.push(entry(rank, i - 1));
                tried(id, left, right);
            }
        }
        let mut queue = BinaryHeap::from(queue);
        while let Some(Reverse(top)) = queue.pop() {
            let (rank, left) = ((top >> 32) as u32, top as u32 as usize);
            let id = heap.pairs[left];
            // Outdated: the pair has changed since. A pair only grows, so it can't change back.
            if id == NONE || self.ranks[id as usize] != rank {
                continue;
            }
            let right = heap.after[left] as usize;
            heap.symbols[left] = id;
            heap.symbols[right] = NONE;
            heap.pairs[right] = NONE;
            let after = heap.after[right];
            heap.after[left] = after;
            if let Some(before) = heap.before.get_mut(after as usize) {
                *before = left as u32;
            }
            let before = heap.before[left];
            for (a, b) in [(before, left as u32), (left as u32, after)] {
                if a == NONE {
                    continue;
                }
                let a = a as usize;
                heap.pairs[a] = NONE;
                let Some(&right) = heap.symbols.get(b as usize) else {
                    continue;
                };
                let left = heap.symbols[a];
                let (id, rank) = self.pair(left, right);
                if id != NONE {
                    heap.pairs[a] = id;
                    queue.push(entry(rank, a));
                    tried(id, left, right);
                }
            }
        }
        heap.queue = queue.into_vec();
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << SYMBOL_BITS | u64::from(right)
}

fn entry(rank: u32, at: usize) -> Reverse<u64> {
    Reverse(u64::from(rank) << 32 | at as u64)
}

fn ranks(pieces: &[Piece]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|&a, &b| pieces[b].score.total_cmp(&pieces[a].score));
    let mut ranks = vec![0; pieces.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        // Not `total_cmp`: zero and minus zero are equal scores.
        rank += u32::from(pieces[pair[0]].score != pieces[pair[1]].score);
        ranks[pair[1]] = rank;
    }
    ranks
}

/// Symbols of a long run as a linked list, and the queue of their merges: 24 bytes a symbol.
#[derive(Debug, Default)]
pub(super) struct Heap {
    symbols: Vec<u32>,
    before: Vec<u32>,
    after: Vec<u32>,
    /// What each symbol and the one after it join to.
    pairs: Vec<u32>,
    queue: Vec<Reverse<u64>>,
}

impl Heap {
    /// Empties it, for about `count` symbols.
    pub(super) fn clear(&mut self, count: usize) {
        self.symbols.clear();
        self.before.clear();
        self.after.clear();
        self.pairs.clear();
        self.queue.clear();
        self.symbols.reserve(count);
    }

    pub(super) fn push(&mut self, symbol: u32) {
        self.symbols.push(symbol);
    }

    /// What is left after merging, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = u32> {
        self.symbols.iter().copied().filter(|&s| s != NONE)
    }

    /// Gives the memory of a very long run back.
    pub(super) fn shrink(&mut self) {
        if self.symbols.capacity() > 1 << 16 {
            *self = Self::default();
        }
    }
}
