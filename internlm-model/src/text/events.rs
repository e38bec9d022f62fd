//! The events of one answer, made as they are asked for.

use std::collections::VecDeque;

use internlm_core::chat_model::{ChatRequest, Event, FinishReason};

use super::{AnswerText, TextModel, to_core};
use crate::error::Result;
use crate::generate::{Generation, TokenEvent};

/// The events of one answer.
pub(super) struct TextEvents<'m> {
    generation: Generation<'m>,
    text: AnswerText,
    queue: VecDeque<Event>,
    finished: bool,
}

impl<'m> TextEvents<'m> {
    pub(super) fn new(
        model: &'m TextModel,
        generation: Generation<'m>,
        request: &ChatRequest,
    ) -> Result<Self> {
        Ok(Self {
            generation,
            text: AnswerText::new(&model.tokenizer, request)?,
            queue: VecDeque::new(),
            finished: false,
        })
    }

    fn advance(&mut self) -> Result<()> {
        match self.generation.next().transpose()? {
            Some(TokenEvent::Token { id, logprob }) => {
                if self.text.push(id, logprob)? {
                    self.finish(FinishReason::Stop, true);
                }
            }
            Some(TokenEvent::Finish { reason, .. }) => self.finish(reason, false),
            None => self.finished = true,
        }
        self.queue.extend(self.text.events());
        Ok(())
    }

    fn finish(&mut self, reason: FinishReason, stopped: bool) {
        self.text.finish(reason, stopped, self.generation.usage());
        self.finished = true;
    }
}

impl Iterator for TextEvents<'_> {
    type Item = internlm_core::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.queue.is_empty() {
            if self.finished {
                return None;
            }
            if let Err(error) = self.advance() {
                self.finished = true;
                return Some(Err(to_core("generating", error)));
            }
        }
        self.queue.pop_front().map(Ok)
    }
}
