//! Which tokens the next step computes, and in which blocks.

use crate::blocks::ContentId;
use crate::error::Error;
use crate::sequence::{BLOCK_SIZE, Sequence};
use crate::worker::Worker;

/// The part of one running sequence in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place among those that run.
    pub(crate) at: usize,
    /// How many of its tokens are computed.
    pub(crate) len: usize,
}

impl Worker {
    /// Chooses what to compute: a token of each sequence that decodes, then prompts in chunks, first of those
    /// that run already, then of those that wait. All blocks that it needs are there.
    pub(crate) fn schedule(&mut self) -> Vec<Part> {
        self.look_at_memory();
        self.make_room();
        let decodes = |s: &Sequence| s.pending() == 1;
        let mut budget = match self.running.iter().any(decodes) {
            true => self.config.prefill_chunk_beside_decode,
            false => self.config.prefill_chunk,
        };
        let reading: usize = self
            .running
            .iter()
            .filter(|s| !decodes(s))
            .map(Sequence::pending)
            .sum();
        let mut left = budget.saturating_sub(reading);
        while left > 0
            && let Some(pending) = self.admit()
        {
            left = left.saturating_sub(pending);
        }
        let mut parts = Vec::with_capacity(self.running.len());
        for (at, sequence) in self.running.iter().enumerate() {
            let pending = sequence.pending();
            let len = if pending == 1 { 1 } else { pending.min(budget) };
            if pending > 1 {
                budget -= len;
            }
            if len > 0 {
                parts.push(Part { at, len });
            }
        }
        parts
    }

    /// Allows as many new blocks as there is memory for by now: others may have taken some since the engine began.
    fn look_at_memory(&mut self) {
        let needs = |s: &Sequence| s.missing_blocks(s.tokens.len()) > 0;
        let needed = !self.waiting.is_empty() || self.running.iter().any(needs);
        if let Some(budget) = self.budget.filter(|_| needed && self.blocks.fresh() > 0) {
            self.blocks.allow(budget.blocks());
        }
    }

    /// Gives every running sequence the block that its next token goes to. Where there are none left, the last
    /// ones in order lose theirs and wait.
    fn make_room(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let sequence = &self.running[at];
            let mut missing = sequence.missing_blocks(sequence.tokens.len());
            let written = sequence.blocks.get(sequence.computed / BLOCK_SIZE);
            let shared = written.is_some_and(|&block| self.blocks.is_shared(block));
            missing += usize::from(shared);
            while missing > self.blocks.available() && self.running.len() > at {
                self.preempt();
            }
            if at >= self.running.len() {
                return;
            }
            self.guess(at);
            self.grow(at);
            at += 1;
        }
    }

    /// Guesses what a sequence that decodes will say next, where guesses are asked for and there is room.
    fn guess(&mut self, at: usize) {
        let sequence = &mut self.running[at];
        sequence.draft.clear();
        let Some(lookup) = self.config.prompt_lookup else {
            return;
        };
        let limit = sequence.room_for_guesses();
        if sequence.pending() == 1 {
            let draft = lookup.draft(&sequence.tokens, limit).to_vec();
            sequence.draft = draft;
        }
    }

    /// Sends the last of those that run back to wait.
    fn preempt(&mut self) {
        let Some(mut sequence) = self.running.pop() else {
            return;
        };
        tracing::debug!(request = sequence.request, "preempted");
        self.counts.preemptions += 1;
        sequence.release(&mut self.blocks);
        self.wait(sequence);
    }

    /// Takes the blocks that a sequence lacks for the tokens that it has, and a copy of the one that it would
    /// write to if others hold that too.
    fn grow(&mut self, at: usize) {
        let sequence = &mut self.running[at];
        let written = sequence.computed / BLOCK_SIZE;
        if let Some(&block) = sequence.blocks.get(written)
            && self.blocks.is_shared(block)
            && let Some(own) = self.blocks.take()
        {
            let drafts = self.drafter.as_mut().map(|drafter| &mut drafter.cache);
            for cache in std::iter::once(&mut self.cache).chain(drafts) {
                if let Err(error) = cache.copy_block(block, own) {
                    // Both are blocks of the cache.
                    tracing::error!(%error, "a block was not copied");
                }
            }
            self.blocks.release(&[block]);
            sequence.blocks[written] = own;
        }
        for _ in 0..sequence.missing_blocks(sequence.tokens.len()) {
            sequence.blocks.extend(self.blocks.take());
        }
    }

    /// Lets the first of those that wait begin, if there is room for it. The number of its tokens that are to
    /// be computed.
    fn admit(&mut self) -> Option<usize> {
        let sequence = self.waiting.front()?;
        let answers = |s: &Sequence| 1 + s.siblings.len();
        let running: usize = self.running.iter().map(answers).sum();
        if running + answers(sequence) > self.config.max_batch {
            return None;
        }
        let found = match self.config.prefix_caching {
            true => self.find_prefix(sequence),
            false => Vec::new(),
        };
        // A block for the next tokens of each that runs, so that nobody is let in only to be sent back.
        let spare = self.running.len();
        for &(block, _) in &found {
            self.blocks.share(block);
        }
        let missing = sequence.tokens.len().div_ceil(BLOCK_SIZE) - found.len();
        if missing + spare > self.blocks.available() {
            let found: Vec<u32> = found.iter().map(|&(block, _)| block).collect();
            self.blocks.release(&found);
            if self.running.is_empty() {
                // Nobody will give blocks back, so there will not be more of them.
                let id = sequence.request;
                let error = match self.budget {
                    Some(budget) => budget.exceeded(missing),
                    None => Error::PromptTooLong {
                        prompt_tokens: sequence.tokens.len(),
                        context_length: self.blocks.total() * BLOCK_SIZE,
                    },
                };
                self.fail(id, error);
            }
            return None;
        }
        let mut sequence = self.waiting.pop_front()?;
        let cached = found.len() * BLOCK_SIZE;
        sequence.computed = cached;
        sequence.drafted = cached;
        sequence.published = found.len();
        if let Some(&(_, content)) = found.last() {
            sequence.content = content;
        }
        sequence.blocks = found.into_iter().map(|(block, _)| block).collect();
        if sequence.cached_tokens.is_none() {
            sequence.cached_tokens = Some(cached);
            self.counts.cached_tokens += cached as u64;
        }
        for _ in 0..missing {
            sequence.blocks.extend(self.blocks.take());
        }
        let pending = sequence.pending();
        self.start(sequence);
        Some(pending)
    }

    /// Blocks that hold the beginning of a sequence, but for its last token.
    fn find_prefix(&self, sequence: &Sequence) -> Vec<(u32, ContentId)> {
        let mut found: Vec<(u32, ContentId)> = Vec::new();
        let known = sequence.tokens.len() - 1;
        for (index, tokens) in sequence.tokens[..known]
            .chunks_exact(BLOCK_SIZE)
            .enumerate()
        {
            let parent = found
                .last()
                .map_or(sequence.content, |&(_, content)| content);
            let base = self.rope_base(sequence, index);
            match base.and_then(|base| self.blocks.find(parent, base, tokens)) {
                Some(next) => found.push(next),
                None => break,
            }
        }
        found
    }

    /// Lets others find the blocks of a sequence that are full by now.
    pub(crate) fn publish(&mut self, at: usize) {
        if !self.config.prefix_caching {
            return;
        }
        let sequence = &self.running[at];
        let filled = match self.drafter {
            Some(_) => sequence.computed.min(sequence.drafted),
            None => sequence.computed,
        };
        let full = filled / BLOCK_SIZE;
        for index in self.running[at].published..full {
            let Some(base) = self.rope_base(&self.running[at], index) else {
                return;
            };
            let sequence = &mut self.running[at];
            let tokens = &sequence.tokens[index * BLOCK_SIZE..(index + 1) * BLOCK_SIZE];
            let block = sequence.blocks[index];
            sequence.content = self.blocks.publish(sequence.content, base, tokens, block);
            sequence.published += 1;
        }
    }

    /// The RoPE base of all tokens of a block, if they have one. Under dynamic NTK what lies past the model's
    /// own length has another for each length.
    fn rope_base(&self, sequence: &Sequence, index: usize) -> Option<f64> {
        let base = |position: usize| {
            self.model()
                .rope_base(sequence.prompt_len.max(position + 1))
        };
        let first = base(index * BLOCK_SIZE);
        // Bases grow with positions.
        (first == base((index + 1) * BLOCK_SIZE - 1)).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::config::EngineConfig;
    use crate::engine::Machine;
    use crate::step::common::{alone, blocks, ids, model, request, said, sampled, settle};
    use crate::{Engine, Error};

    static AVAILABLE: AtomicUsize = AtomicUsize::new(usize::MAX);

    fn available() -> usize {
        AVAILABLE.load(Ordering::Relaxed)
    }

    /// 21 of the checklist of bad input: others take the machine's memory while an engine runs.
    #[test]
    fn memory_that_is_gone_ends_requests_that_need_it_alone() {
        let reference = model("internlm2", 7);
        let config = EngineConfig::default()
            .with_cache(blocks(8))
            .with_max_batch(4)
            .with_prefix_caching(false);
        let model = model("internlm2", 7);
        let (step, block) = {
            let config = model.model().config();
            let block = internlm_model::PagedCache::bytes_per_block(
                config,
                model.model().kv_dtype().unwrap(),
            );
            (crate::memory::of_pass(config, 256, 4), block)
        };
        let machine = Machine {
            available,
            ..Machine::default()
        };
        let engine = Engine::on(machine, model.into(), config).unwrap();
        let small = request(&ids(20, 1), sampled(1, 30));
        let large = request(&ids(200, 2), sampled(2, 30));
        let growing = request(&ids(60, 3), sampled(3, 200).with_ignore_eos(true));
        let answered = |request| match engine.submit(request).unwrap().complete() {
            Ok(answer) => Some(said(answer)),
            Err(Error::OutOfMemory { needed, available }) => {
                assert!(needed > available, "{needed} of {available}");
                None
            }
            Err(error) => panic!("{error}"),
        };
        let want = |request| Some(alone(&reference, request));
        assert_eq!(answered(small.clone()), want(&small));

        // One block was written, and there is memory for one more.
        AVAILABLE.store(step + block, Ordering::Relaxed);
        assert_eq!(answered(large.clone()), None);
        assert_eq!(answered(small.clone()), want(&small));
        assert_eq!(settle(&engine).blocks_in_use, 0);
        // It begins, and ends where another block would be needed.
        AVAILABLE.store(0, Ordering::Relaxed);
        let mut response = engine.submit(growing.clone()).unwrap();
        let events: Vec<_> = response.by_ref().collect();
        assert!(events.len() > 3, "{} events", events.len());
        assert!(matches!(
            events.last(),
            Some(Err(Error::OutOfMemory { .. }))
        ));
        // They take turns with the one block.
        let running: Vec<_> = (0..4)
            .map(|_| engine.submit(small.clone()).unwrap())
            .collect();
        for response in running {
            assert_eq!(Some(said(response.complete().unwrap())), want(&small));
        }

        AVAILABLE.store(usize::MAX, Ordering::Relaxed);
        assert_eq!(answered(large.clone()), want(&large));
        assert_eq!(answered(growing.clone()), want(&growing));
        assert_eq!(settle(&engine).failed, 2);
    }
}
