//! From tokens to text: detokenizing, stop texts and tool calls.

use internlm_core::chat_model::{ChatRequest, Event, FinishReason, TokenLogprob};
use internlm_core::tool_call::{ToolCallEvent, ToolCallParser};
use internlm_tokenize::{Detokenizer, StopMatcher};

use super::{TextModel, to_core};
use crate::error::Result;
use crate::generate::{Generation, TokenEvent};

/// The events of one answer.
pub(super) struct TextEvents<'m> {
    generation: Generation<'m>,
    detokenizer: Detokenizer,
    stops: StopMatcher,
    /// Where tools are offered: splits calls from text.
    parser: Option<ToolCallParser>,
    /// Special tokens without a text where the parser runs.
    dropped: Vec<u32>,
    /// Tokens and log-probabilities that no delta has reported yet.
    ids: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
    called: bool,
    /// The text of the block that is open.
    block: String,
    queue: std::collections::VecDeque<Event>,
    finished: bool,
}

/// Special tokens that the tool protocol is made of; with tools they stay in the text for the parser.
const PROTOCOL: [&str; 4] = [
    "<|action_start|>",
    "<|action_end|>",
    "<|plugin|>",
    "<|interpreter|>",
];

impl<'m> TextEvents<'m> {
    pub(super) fn new(
        model: &'m TextModel,
        generation: Generation<'m>,
        request: &ChatRequest,
    ) -> Result<Self> {
        let parses = !request.tools.is_empty() && !request.keep_special_tokens;
        let skips = !request.keep_special_tokens && !parses;
        let specials = model.tokenizer.special_tokens();
        let dropped = match parses {
            true => specials
                .filter(|(token, _)| !PROTOCOL.contains(token))
                .map(|(_, id)| id)
                .collect(),
            false => Vec::new(),
        };
        Ok(Self {
            generation,
            detokenizer: model.tokenizer.detokenizer(skips),
            stops: StopMatcher::new(&request.sampling.stop)?,
            parser: parses.then(ToolCallParser::lenient),
            dropped,
            ids: Vec::new(),
            logprobs: Vec::new(),
            called: false,
            block: String::new(),
            queue: Default::default(),
            finished: false,
        })
    }

    /// Queues what new text amounts to.
    fn say(&mut self, text: String) {
        match &mut self.parser {
            None => self.delta(text),
            Some(parser) => {
                let events = parser.push(&text);
                self.said(events, true);
            }
        }
    }

    /// Text outside of calls, and that of blocks which turn out to be none: nothing is lost.
    fn said(&mut self, events: Vec<ToolCallEvent>, report: bool) {
        let mut text = String::new();
        for event in events {
            match event {
                ToolCallEvent::Text(part) => text.push_str(&part),
                ToolCallEvent::Call(call) => {
                    self.called = true;
                    self.block.clear();
                    self.delta(std::mem::take(&mut text));
                    self.queue.push_back(Event::ToolCall { call });
                }
                ToolCallEvent::Fault(_) => text.push_str(&std::mem::take(&mut self.block)),
                ToolCallEvent::LineBreak(_) => {}
                part => self.block.push_str(part.text()),
            }
        }
        if report || !text.is_empty() {
            self.delta(text);
        }
    }

    fn delta(&mut self, text: String) {
        if text.is_empty() && self.ids.is_empty() {
            return;
        }
        self.queue.push_back(Event::Delta {
            text,
            ids: std::mem::take(&mut self.ids),
            logprobs: std::mem::take(&mut self.logprobs),
        });
    }

    /// The text of a token.
    fn text_of(&mut self, id: u32) -> Result<String> {
        if self.dropped.contains(&id) {
            return Ok(String::new());
        }
        Ok(self.detokenizer.push(id)?)
    }

    fn token(&mut self, id: u32, logprob: Option<TokenLogprob>) -> Result<()> {
        self.ids.push(id);
        self.logprobs.extend(logprob);
        let text = self.text_of(id)?;
        let matched = self.stops.push(&text);
        self.say(matched.text);
        if matched.stopped {
            self.finish(FinishReason::Stop, true);
        }
        Ok(())
    }

    /// Lets held-back text go and queues the end.
    fn finish(&mut self, reason: FinishReason, stopped: bool) {
        if !stopped {
            let tail = self.detokenizer.flush();
            let matched = self.stops.push(&tail);
            let mut text = matched.text;
            if !matched.stopped {
                text.push_str(&self.stops.flush());
            }
            self.say(text);
        }
        if let Some(mut parser) = self.parser.take() {
            let events = parser.flush();
            self.said(events, false);
        }
        self.delta(String::new());
        let reason = match reason {
            FinishReason::Stop if self.called => FinishReason::ToolCalls,
            reason => reason,
        };
        self.queue.push_back(Event::Finish {
            reason,
            usage: self.generation.usage(),
        });
        self.finished = true;
    }

    fn advance(&mut self) -> Result<()> {
        match self.generation.next().transpose()? {
            Some(TokenEvent::Token { id, logprob }) => self.token(id, logprob),
            Some(TokenEvent::Finish { reason, .. }) => {
                self.finish(reason, false);
                Ok(())
            }
            None => {
                self.finished = true;
                Ok(())
            }
        }
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
