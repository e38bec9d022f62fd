//! A chat's answers piece by piece.

use std::sync::Arc;

use internlm_core::Event;
use internlm_core::chat_model::Usage;
use serde::Serialize;

use super::super::logprobs::ChatLogprobs;
use super::super::state::Server;
use super::super::stream::Chunks;
use super::super::wire::{UsageBody, data};
use super::{Call, PROMPT, Shape};

/// Makes `chat.completion.chunk`s.
pub(super) struct ChatChunks {
    server: Arc<Server>,
    shape: Shape,
    /// Whether the stream ends with a chunk of token counts.
    includes_usage: bool,
    /// Of each answer: how many calls it made, and its token counts.
    answers: Vec<(usize, Usage)>,
}

#[derive(Serialize)]
struct Chunk<'s> {
    id: &'s str,
    object: &'static str,
    created: u64,
    model: &'s str,
    choices: &'s [Choice],
    /// Absent unless token counts were asked for; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
}

#[derive(Default, Serialize)]
struct Choice {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call>,
}

impl ChatChunks {
    pub(super) fn new(server: Arc<Server>, shape: Shape, includes_usage: bool) -> Self {
        let answers = vec![(0, Usage::default()); shape.n];
        Self {
            server,
            shape,
            includes_usage,
            answers,
        }
    }

    fn chunk(&self, choices: &[Choice], usage: Option<UsageBody>) -> String {
        data(&Chunk {
            id: &self.shape.id,
            object: "chat.completion.chunk",
            created: self.shape.created,
            model: &self.shape.model,
            choices,
            usage: self.includes_usage.then_some(usage),
        })
    }
}

impl Chunks for ChatChunks {
    fn begin(&mut self, out: &mut Vec<String>) {
        for index in 0..self.shape.n {
            let delta = Delta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..Delta::default()
            };
            let choice = Choice {
                index,
                delta,
                ..Choice::default()
            };
            out.push(self.chunk(&[choice], None));
        }
    }

    fn push(&mut self, index: usize, event: Event, out: &mut Vec<String>) {
        let Some((calls, usage)) = self.answers.get_mut(index) else {
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
                let told = self.shape.returns_ids && !ids.is_empty();
                if text.is_empty() && !told && (!self.shape.logprobs || logprobs.is_empty()) {
                    return;
                }
                choice.token_ids = self.shape.returns_ids.then_some(ids);
                choice.delta.content = Some(text);
                choice.logprobs = self.shape.logprobs.then(|| {
                    ChatLogprobs::new(&self.server.texts, &logprobs, self.shape.tokens_as_ids)
                });
            }
            Event::ToolCall { call } => {
                if *calls >= self.shape.most_calls {
                    return;
                }
                let call = Call::new(&self.server, call, Some(*calls));
                *calls += 1;
                choice.delta.tool_calls.push(call);
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
        out.push(self.chunk(&[choice], None));
    }

    fn end(&mut self, out: &mut Vec<String>) {
        if self.includes_usage {
            let usages: Vec<_> = self.answers.iter().map(|(_, usage)| *usage).collect();
            let usage = UsageBody::of(&usages, self.shape.n);
            out.push(self.chunk(&[], Some(usage)));
        }
    }

    fn prompt_field(&self) -> &'static str {
        PROMPT
    }
}
