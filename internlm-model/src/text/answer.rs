//! From tokens to events: detokenizing, stop texts and tool calls of one answer.

use internlm_core::ChatRequest;
use internlm_core::chat_model::{Event, FinishReason, TokenLogprob, Usage};
use internlm_core::tool_call::{
    ACTION_END, ACTION_START, INTERPRETER, PLUGIN, ToolCallEvent, ToolCallParser,
};
use internlm_tokenize::{Detokenizer, StopMatcher, Tokenizer};

use crate::error::Result;

/// The text of one answer as it grows. Tokens go in, events come out.
///
/// ```no_run
/// # fn run(text: &internlm_model::TextModel, request: &internlm_core::ChatRequest) -> internlm_model::Result<()> {
/// use internlm_core::chat_model::{FinishReason, Usage};
/// use internlm_model::text::AnswerText;
///
/// let mut answer = AnswerText::new(text.tokenizer(), request)?;
/// let stopped = answer.push(42, None)?;
/// answer.finish(FinishReason::Length, stopped, Usage::default());
/// for event in answer.events() {
///     println!("{event:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AnswerText {
    detokenizer: Detokenizer,
    stops: StopMatcher,
    /// Where tools are offered: splits calls from text.
    parser: Option<ToolCallParser>,
    /// Special tokens without a text where the parser runs.
    dropped: Vec<u32>,
    /// Tokens that the tokenizer has.
    vocab_size: usize,
    /// Tokens and log-probabilities that no delta has reported yet.
    ids: Vec<u32>,
    logprobs: Vec<TokenLogprob>,
    called: bool,
    /// The text of the block that is open.
    block: String,
    events: Vec<Event>,
}

/// Special tokens that the tool protocol is made of; with tools they stay in the text for the parser.
const PROTOCOL: [&str; 4] = [ACTION_START, ACTION_END, PLUGIN, INTERPRETER];

impl AnswerText {
    /// An answer to a request that has no tokens yet.
    ///
    /// # Errors
    /// An empty stop text.
    pub fn new(tokenizer: &Tokenizer, request: &ChatRequest) -> Result<Self> {
        let parses = !request.tools.is_empty() && !request.keep_special_tokens;
        let skips = !request.keep_special_tokens && !parses;
        let dropped = match parses {
            true => tokenizer
                .special_tokens()
                .filter(|(token, _)| !PROTOCOL.contains(token))
                .map(|(_, id)| id)
                .collect(),
            false => Vec::new(),
        };
        Ok(Self {
            detokenizer: tokenizer.detokenizer(skips),
            stops: StopMatcher::new(&request.sampling.stop)?,
            parser: parses.then(ToolCallParser::lenient),
            dropped,
            vocab_size: tokenizer.vocab_size(),
            ids: Vec::new(),
            logprobs: Vec::new(),
            called: false,
            block: String::new(),
            events: Vec::new(),
        })
    }

    /// Takes the next token. `true` where its text completes a stop text, which ends the answer.
    ///
    /// # Errors
    /// Whatever the tokenizer refuses.
    pub fn push(&mut self, id: u32, logprob: Option<TokenLogprob>) -> Result<bool> {
        self.ids.push(id);
        self.logprobs.extend(logprob);
        // Logits may have more columns than there are tokens; what is drawn there has no text.
        let silent = id as usize >= self.vocab_size || self.dropped.contains(&id);
        let text = match silent {
            true => String::new(),
            false => self.detokenizer.push(id)?,
        };
        let matched = self.stops.push(&text);
        self.say(matched.text);
        Ok(matched.stopped)
    }

    /// Ends the answer: lets go of text that was held back, unless a stop text ended it.
    pub fn finish(&mut self, reason: FinishReason, stopped: bool, usage: Usage) {
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
        self.events.push(Event::Finish { reason, usage });
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> std::vec::Drain<'_, Event> {
        self.events.drain(..)
    }

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
                    self.events.push(Event::ToolCall { call });
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
        self.events.push(Event::Delta {
            text,
            ids: std::mem::take(&mut self.ids),
            logprobs: std::mem::take(&mut self.logprobs),
        });
    }
}
