//! Completions piece by piece.

use std::sync::Arc;

use internlm_core::Event;
use internlm_core::chat_model::Usage;

use super::super::logprobs::TextLogprobs;
use super::super::state::Server;
use super::super::stream::Chunks;
use super::super::wire::{UsageBody, data};
use super::{Choice, PROMPT, Shape, TextCompletion};

/// Makes `text_completion`s of pieces of text.
pub(super) struct TextChunks {
    server: Arc<Server>,
    shape: Shape,
    /// Whether the stream ends with a chunk of token counts.
    includes_usage: bool,
    /// Of each answer: characters so far, and its token counts.
    answers: Vec<(usize, Usage)>,
    /// Whether no token is asked for: then no event comes.
    silent: bool,
}

impl TextChunks {
    pub(super) fn new(server: Arc<Server>, shape: Shape, includes_usage: bool) -> Self {
        let answers = shape.unstarted().map(|c| (0, c.usage)).collect();
        Self {
            server,
            shape,
            includes_usage,
            answers,
            silent: true,
        }
    }

    fn chunk(&self, choices: Vec<Choice>, usage: Option<UsageBody>) -> String {
        data(&TextCompletion {
            id: &self.shape.id,
            object: "text_completion",
            created: self.shape.created,
            model: &self.shape.model,
            choices,
            usage: self.includes_usage.then_some(usage),
        })
    }
}

impl Chunks for TextChunks {
    fn begin(&mut self, out: &mut Vec<String>) {
        if !self.shape.echo {
            return;
        }
        for index in 0..self.answers.len() {
            let Some(prompt) = self.shape.prompts.get(index / self.shape.best_of) else {
                continue;
            };
            let (logprobs, characters) = self.shape.echoed(&self.server, prompt);
            let choice = Choice {
                index,
                text: prompt.text.clone(),
                logprobs: self.shape.logprobs.map(|_| logprobs),
                ..Choice::default()
            };
            self.answers[index].0 = characters;
            out.push(self.chunk(vec![choice], None));
        }
    }

    fn push(&mut self, index: usize, event: Event, out: &mut Vec<String>) {
        self.silent = false;
        let Some((offset, usage)) = self.answers.get_mut(index) else {
            return;
        };
        let mut choice = Choice {
            index,
            ..Choice::default()
        };
        match event {
            Event::Delta {
                text,
                ids,
                logprobs,
            } => {
                let asked = self.shape.logprobs.is_some();
                let told = self.shape.returns_ids && !ids.is_empty();
                if text.is_empty() && !told && (!asked || logprobs.is_empty()) {
                    return;
                }
                choice.token_ids = self.shape.returns_ids.then_some(ids);
                choice.text = text;
                if asked {
                    let mut body = TextLogprobs::default();
                    self.shape
                        .answered(&self.server, &logprobs, &mut body, offset);
                    choice.logprobs = Some(body);
                }
            }
            Event::Finish {
                reason,
                usage: counted,
            } => {
                *usage = counted;
                choice.finish_reason = Some(reason.as_str());
            }
            _ => return,
        }
        out.push(self.chunk(vec![choice], None));
    }

    fn end(&mut self, out: &mut Vec<String>) {
        if self.silent {
            for index in 0..self.answers.len() {
                let choice = Choice {
                    index,
                    finish_reason: Some("length"),
                    ..Choice::default()
                };
                out.push(self.chunk(vec![choice], None));
            }
        }
        if self.includes_usage {
            let usages: Vec<_> = self.answers.iter().map(|(_, usage)| *usage).collect();
            let usage = UsageBody::of(&usages, self.shape.best_of);
            out.push(self.chunk(Vec::new(), Some(usage)));
        }
    }

    fn prompt_field(&self) -> &'static str {
        PROMPT
    }
}
