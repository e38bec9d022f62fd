//! Who holds which block of the cache, and which blocks hold what for later requests.
//!
//! The system gives a block its memory when it is first written. Blocks that were written are taken again before
//! new ones are, so that a cache takes no more memory than its sequences ever needed at once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// What a full block holds: keys and values of these tokens, after those of `parent`.
///
/// Found by comparing, not by a hash alone: two different prefixes never share a block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Content {
    /// The content before it.
    parent: ContentId,
    /// Bits of the RoPE base that all of its tokens have; under dynamic NTK a long prompt has another one.
    rope_base: u64,
    tokens: Box<[u32]>,
}

/// Stands for all tokens up to the end of a block, and what they were computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContentId(u64);

impl ContentId {
    /// Before the first token, computed with an adapter or without.
    pub(crate) fn root(adapter: Option<usize>) -> Self {
        ContentId(adapter.map_or(0, |index| 1 + index as u64))
    }

    /// The first that is no root.
    const FIRST: u64 = 1 << 32;
}

#[derive(Debug, Default)]
struct Block {
    /// Sequences that hold it.
    holders: u32,
    /// Where it can be found by its tokens.
    content: Option<Arc<Content>>,
    /// Its place among the blocks that nobody holds, if it is one and can be found.
    released: Option<u64>,
}

/// All blocks of a cache.
#[derive(Debug)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// Written once, held by nobody, and nothing of use in them.
    free: Vec<u32>,
    /// Never written.
    fresh: Range<u32>,
    /// How many of those may be taken.
    allowance: usize,
    /// Held by nobody, but their content may be asked for: those released first are given away first.
    idle: BTreeMap<u64, u32>,
    found: HashMap<Arc<Content>, (u32, ContentId)>,
    next_content: u64,
    next_release: u64,
}

impl Blocks {
    pub(crate) fn new(num_blocks: usize) -> Self {
        let mut blocks = Vec::new();
        blocks.resize_with(num_blocks, Block::default);
        Self {
            blocks,
            free: Vec::new(),
            fresh: 0..num_blocks as u32,
            allowance: num_blocks,
            idle: BTreeMap::new(),
            found: HashMap::new(),
            next_content: ContentId::FIRST,
            next_release: 0,
        }
    }

    /// Blocks in all.
    pub(crate) fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that can be taken.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len() + self.fresh.len().min(self.allowance)
    }

    /// Blocks that were never taken: they will need memory.
    pub(crate) fn fresh(&self) -> usize {
        self.fresh.len()
    }

    /// Says how many blocks there is memory for, of those that never were taken.
    pub(crate) fn allow(&mut self, fresh: usize) {
        self.allowance = fresh;
    }

    /// Blocks that sequences hold.
    pub(crate) fn in_use(&self) -> usize {
        self.blocks.len() - self.free.len() - self.idle.len() - self.fresh.len()
    }

    /// Blocks that are kept for their content only.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Takes a block; what it held is forgotten.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let block = match self.free.pop().or_else(|| self.take_fresh()) {
            Some(block) => block,
            None => {
                let (_, block) = self.idle.pop_first()?;
                let entry = &mut self.blocks[block as usize];
                entry.released = None;
                if let Some(content) = entry.content.take() {
                    self.found.remove(&content);
                }
                block
            }
        };
        self.blocks[block as usize].holders = 1;
        Some(block)
    }

    fn take_fresh(&mut self) -> Option<u32> {
        self.allowance = self.allowance.checked_sub(1)?;
        self.fresh.next()
    }

    /// Holds a block once more.
    pub(crate) fn share(&mut self, block: u32) {
        let entry = &mut self.blocks[block as usize];
        entry.holders += 1;
        if let Some(released) = entry.released.take() {
            self.idle.remove(&released);
        }
    }

    /// Whether more than one sequence holds a block: then nobody may write to it.
    pub(crate) fn is_shared(&self, block: u32) -> bool {
        self.blocks[block as usize].holders > 1
    }

    /// Lets go of a sequence's blocks, the last ones first, so that a prefix outlives what follows it.
    pub(crate) fn release(&mut self, blocks: &[u32]) {
        for &block in blocks.iter().rev() {
            let entry = &mut self.blocks[block as usize];
            entry.holders -= 1;
            if entry.holders > 0 {
                continue;
            }
            if entry.content.is_some() {
                entry.released = Some(self.next_release);
                self.idle.insert(self.next_release, block);
                self.next_release += 1;
            } else {
                self.free.push(block);
            }
        }
    }

    /// Lets a block that is full and will not change be found. Where there is such a block already, it stays
    /// the one that is found.
    pub(crate) fn publish(
        &mut self,
        parent: ContentId,
        rope_base: f64,
        tokens: &[u32],
        block: u32,
    ) -> ContentId {
        let content = Arc::new(Content {
            parent,
            rope_base: rope_base.to_bits(),
            tokens: tokens.into(),
        });
        if let Some(&(_, id)) = self.found.get(&content) {
            return id;
        }
        let id = ContentId(self.next_content);
        self.next_content += 1;
        self.blocks[block as usize].content = Some(content.clone());
        self.found.insert(content, (block, id));
        id
    }

    /// The block that holds these tokens after `parent`.
    pub(crate) fn find(
        &self,
        parent: ContentId,
        rope_base: f64,
        tokens: &[u32],
    ) -> Option<(u32, ContentId)> {
        let content = Content {
            parent,
            rope_base: rope_base.to_bits(),
            tokens: tokens.into(),
        };
        self.found.get(&content).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_is_found_until_its_block_is_needed() {
        let mut blocks = Blocks::new(2);
        let root = ContentId::root(None);
        let a = blocks.take().unwrap();
        let id = blocks.publish(root, 1e4, &[1, 2], a);
        let b = blocks.take().unwrap();
        blocks.publish(id, 1e4, &[3, 4], b);
        assert!(blocks.take().is_none());
        assert_eq!(blocks.find(root, 1e4, &[1, 2]), Some((a, id)));
        assert!(blocks.find(root, 2e4, &[1, 2]).is_none());
        assert!(
            blocks
                .find(ContentId::root(Some(0)), 1e4, &[1, 2])
                .is_none()
        );
        assert!(blocks.find(id, 1e4, &[1, 2]).is_none());
        blocks.release(&[a, b]);
        assert_eq!((blocks.available(), blocks.idle()), (2, 2));
        // The last block of the sequence goes first.
        assert_eq!(blocks.take(), Some(b));
        assert!(blocks.find(id, 1e4, &[3, 4]).is_none());
        assert_eq!(blocks.find(root, 1e4, &[1, 2]), Some((a, id)));
        blocks.share(a);
        assert!(!blocks.is_shared(a));
        assert_eq!(blocks.available(), 0);
    }

    #[test]
    fn equal_content_has_one_identity() {
        let mut blocks = Blocks::new(2);
        let root = ContentId::root(None);
        let (a, b) = (blocks.take().unwrap(), blocks.take().unwrap());
        let id = blocks.publish(root, 1.0, &[1], a);
        assert_eq!(blocks.publish(root, 1.0, &[1], b), id);
        blocks.release(&[b]);
        assert_eq!(blocks.idle(), 0, "nobody will look for the second one");
        assert_eq!(blocks.available(), 1);
    }

    #[test]
    fn new_blocks_are_taken_last_and_only_with_leave() {
        let mut blocks = Blocks::new(4);
        let a = blocks.take().unwrap();
        blocks.release(&[a]);
        assert_eq!(blocks.take(), Some(a));
        blocks.allow(1);
        assert_eq!((blocks.available(), blocks.fresh()), (1, 3));
        let b = blocks.take().unwrap();
        assert!(blocks.take().is_none());
        blocks.publish(ContentId::root(None), 1.0, &[1], b);
        blocks.release(&[b]);
        assert_eq!(
            blocks.take(),
            Some(b),
            "what is kept is given up before that"
        );
        blocks.allow(9);
        assert_eq!(blocks.available(), 2);
    }

    proptest! {
        /// Whatever is taken, shared, published and released: no block is lost or held twice.
        #[test]
        fn blocks_never_leak(steps in prop::collection::vec((0u8..4, 0usize..8, 0u32..3), 1..200)) {
            let mut blocks = Blocks::new(6);
            let mut sequences: Vec<Vec<u32>> = vec![Vec::new(); 8];
            for (action, sequence, token) in steps {
                match action {
                    0 => {
                        if let Some(block) = blocks.take() {
                            let held = sequences.iter().flatten().any(|&b| b == block);
                            prop_assert!(!held, "block {} was held", block);
                            sequences[sequence].push(block);
                        }
                    }
                    1 => {
                        if let Some((block, _)) = blocks.find(ContentId::root(None), 1.0, &[token])
                            && !sequences[sequence].contains(&block)
                        {
                            blocks.share(block);
                            sequences[sequence].push(block);
                        }
                    }
                    2 => {
                        if let Some(&block) = sequences[sequence].first()
                            && blocks.blocks[block as usize].content.is_none()
                        {
                            blocks.publish(ContentId::root(None), 1.0, &[token], block);
                        }
                    }
                    _ => {
                        let held = std::mem::take(&mut sequences[sequence]);
                        blocks.release(&held);
                    }
                }
                let held: std::collections::BTreeSet<u32> = sequences.iter().flatten().copied().collect();
                prop_assert_eq!(blocks.available() + held.len(), 6);
            }
            for held in &sequences {
                blocks.release(held);
            }
            prop_assert_eq!(blocks.available(), 6);
        }
    }
}
