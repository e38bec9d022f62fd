//! A sequence: the tokens of one answer, what is computed of them, and where.

use std::time::Instant;

use internlm_core::chat_model::{FinishReason, Usage};
use internlm_model::PagedCache;
use internlm_model::sampler::Sampler;
use internlm_model::text::AnswerText;

use crate::blocks::{Blocks, ContentId};
use crate::guide::Guide;
use crate::response::{Answer, Sender};

/// Tokens of a block of the cache.
pub(crate) const BLOCK_SIZE: usize = PagedCache::BLOCK_SIZE;

/// Which request, in the order of arrival.
pub(crate) type RequestId = u64;

/// One answer in the making.
pub(crate) struct Sequence {
    pub(crate) request: RequestId,
    /// Which of the request's answers.
    pub(crate) index: usize,
    /// Requests of a higher one go first.
    pub(crate) priority: i32,
    /// Prompt and answer.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    /// Most tokens of the answer.
    pub(crate) max_new_tokens: usize,
    pub(crate) stop_token_ids: Vec<u32>,
    pub(crate) sampler: Sampler,
    /// What form the answer must have, if any.
    pub(crate) guide: Option<Guide>,
    pub(crate) text: AnswerText,
    /// Which of the engine's adapters it goes through, if any.
    pub(crate) adapter: Option<usize>,
    /// Answers of the same prompt that begin when this one has read it.
    pub(crate) siblings: Vec<Sibling>,
    /// Tokens whose keys and values are in the cache.
    pub(crate) computed: usize,
    /// Tokens whose keys and values the draft model has, where there is one.
    pub(crate) drafted: usize,
    /// Guesses at the tokens after the last one, computed with it.
    pub(crate) draft: Vec<u32>,
    pub(crate) blocks: Vec<u32>,
    /// Full blocks that can be found by their tokens, from the first on.
    pub(crate) published: usize,
    /// The content of the last of them.
    pub(crate) content: ContentId,
    /// Tokens of the prompt that were found in the cache when the sequence first began.
    pub(crate) cached_tokens: Option<usize>,
    pub(crate) last_token_at: Option<Instant>,
}

/// What the `n` answers of a request don't share.
pub(crate) struct Sibling {
    pub(crate) index: usize,
    pub(crate) sampler: Sampler,
    pub(crate) guide: Option<Guide>,
    pub(crate) text: AnswerText,
}

impl Sequence {
    /// Tokens of the answer so far.
    pub(crate) fn generated(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    /// Tokens that are known and not computed yet: one while it decodes, more while it reads.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    pub(crate) fn usage(&self, end_tokens: usize) -> Usage {
        Usage {
            prompt_tokens: self.prompt_len,
            completion_tokens: self.generated() + end_tokens,
            cached_tokens: self.cached_tokens.unwrap_or(0),
        }
    }

    /// Guesses that there is room for: they end with the block that is being filled, and with the answer.
    pub(crate) fn room_for_guesses(&self) -> usize {
        let blocks = self
            .blocks
            .len()
            .max(self.tokens.len().div_ceil(BLOCK_SIZE));
        let left = self.max_new_tokens - self.generated();
        left.saturating_sub(1)
            .min(blocks * BLOCK_SIZE - self.tokens.len())
    }

    /// Blocks that are missing for the first `len` tokens.
    pub(crate) fn missing_blocks(&self, len: usize) -> usize {
        len.div_ceil(BLOCK_SIZE).saturating_sub(self.blocks.len())
    }

    /// What comes before the first token: what is computed with one adapter is nothing for another.
    pub(crate) fn root(&self) -> ContentId {
        ContentId::root(self.adapter)
    }

    /// Gives all blocks back. What was computed is computed again, unless its blocks are found.
    pub(crate) fn release(&mut self, blocks: &mut Blocks) {
        blocks.release(&self.blocks);
        self.blocks.clear();
        self.computed = 0;
        self.drafted = 0;
        self.draft.clear();
        self.published = 0;
        self.content = self.root();
    }

    /// Answers a request for no tokens at all.
    pub(crate) fn finish_unstarted(mut self, sender: Sender) {
        let siblings = std::mem::take(&mut self.siblings);
        self.finish(FinishReason::Length, false, 0);
        let usage = self.usage(0);
        let mut texts = vec![(self.index, self.text)];
        for mut sibling in siblings {
            sibling.text.finish(FinishReason::Length, false, usage);
            texts.push((sibling.index, sibling.text));
        }
        for (index, mut text) in texts {
            for event in text.events() {
                sender.send(Ok(Answer { index, event }));
            }
        }
        sender.complete();
    }

    /// Ends the answer with its last events.
    pub(crate) fn finish(&mut self, reason: FinishReason, stopped: bool, end_tokens: usize) {
        let usage = self.usage(end_tokens);
        self.text.finish(reason, stopped, usage);
    }
}
