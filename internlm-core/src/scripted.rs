//! A model and a scorer that follow a script, for tests of whatever drives one: they answer from a
//! queue and record what they were asked.
//!
//! ```
//! use internlm_core::scripted::{Reply, ScriptedModel};
//! use internlm_core::{ChatModel, ChatRequest, Message, ToolCall};
//!
//! let model = ScriptedModel::new([
//!     Reply::tool_calls(vec![ToolCall::new("clock", serde_json::json!({}))]),
//!     Reply::text("It is noon."),
//! ]);
//! let mut messages = vec![Message::user("What time is it?")];
//! let call = model.complete(&ChatRequest::messages(messages.clone()))?;
//! assert_eq!(call.tool_calls[0].name, "clock");
//!
//! messages.push(Message::assistant("").with_tool_calls(call.tool_calls));
//! messages.push(Message::environment("12:00").with_name("plugin"));
//! let answer = model.complete(&ChatRequest::messages(messages.clone()))?;
//! assert_eq!(answer.text, "It is noon.");
//! assert_eq!(model.requests()[1], ChatRequest::messages(messages));
//! assert!(model.complete(&ChatRequest::prompt("More?")).is_err()); // the script is over
//! # Ok::<(), internlm_core::Error>(())
//! ```

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chat_model::{
    ChatModel, ChatRequest, Event, Events, FinishReason, Input, ModelIdentity, Usage,
};
use crate::error::{Error, Result};
use crate::message::{Message, Part, join};
use crate::scorer::{ModelFacts, ScoreRequest, Scorer, TokenScore, Tokens};
use crate::tool::{ToolCall, ToolSpec};
use crate::tool_call;

/// The script has no more replies or scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script is over")]
pub struct ScriptOver;

fn over() -> Error {
    Error::backend("following a script", ScriptOver)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One answer of a [`ScriptedModel`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Reply {
    /// What it says.
    pub text: String,
    /// The calls that it makes after the text.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ends; by default for calls if there are some, else of itself.
    pub finish_reason: Option<FinishReason>,
    /// Its token counts; by default those that [`ScriptedModel`] tells.
    pub usage: Option<Usage>,
    /// Fails with this instead of ending, after text and calls.
    pub error: Option<Error>,
    /// Whether the error comes at once, before any event.
    pub refused: bool,
}

impl Reply {
    /// Says something.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }

    /// Calls tools without a word.
    pub fn tool_calls(tool_calls: Vec<ToolCall>) -> Self {
        Self::text("").with_tool_calls(tool_calls)
    }

    /// Refuses the request: [`ChatModel::generate`] fails.
    pub fn error(error: Error) -> Self {
        Self {
            error: Some(error),
            refused: true,
            ..Self::default()
        }
    }

    /// Adds calls.
    #[must_use]
    pub fn with_tool_calls(mut self, tool_calls: Vec<ToolCall>) -> Self {
        self.tool_calls.extend(tool_calls);
        self
    }

    /// Sets the reason of the end.
    #[must_use]
    pub fn with_finish_reason(mut self, reason: FinishReason) -> Self {
        self.finish_reason = Some(reason);
        self
    }

    /// Sets the token counts.
    #[must_use]
    pub fn with_usage(mut self, usage: Usage) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Fails in place of the end: the last event is this error.
    #[must_use]
    pub fn with_failure(mut self, error: Error) -> Self {
        self.error = Some(error);
        self
    }
}

impl<T: Into<String>> From<T> for Reply {
    fn from(text: T) -> Self {
        Self::text(text)
    }
}

/// A [`ChatModel`] that answers from a queue, whatever it is asked.
///
/// It counts as a token each group of characters that it sends in one delta, four unless set
/// otherwise, in prompts as in answers, and numbers the tokens of an answer from 0. Sampling
/// parameters, stop texts among them, change nothing. Where the request keeps special tokens,
/// calls are written into the text, as InternLM2 would.
#[derive(Debug)]
pub struct ScriptedModel {
    replies: Mutex<VecDeque<Reply>>,
    requests: Mutex<Vec<ChatRequest>>,
    delta_chars: usize,
}

impl ScriptedModel {
    /// A model that gives these replies, in order.
    pub fn new<R: Into<Reply>>(replies: impl IntoIterator<Item = R>) -> Self {
        Self {
            replies: Mutex::new(replies.into_iter().map(Into::into).collect()),
            requests: Mutex::default(),
            delta_chars: 4,
        }
    }

    /// Sets the characters of a delta; 0 counts as 1.
    #[must_use]
    pub fn with_delta_chars(mut self, delta_chars: usize) -> Self {
        self.delta_chars = delta_chars.max(1);
        self
    }

    /// Adds a reply to the end of the script.
    pub fn push(&self, reply: impl Into<Reply>) {
        lock(&self.replies).push_back(reply.into());
    }

    /// All requests so far, those that were refused among them.
    pub fn requests(&self) -> Vec<ChatRequest> {
        lock(&self.requests).clone()
    }

    /// Replies that are left.
    pub fn remaining(&self) -> usize {
        lock(&self.replies).len()
    }

    fn prompt_tokens(&self, request: &ChatRequest) -> usize {
        let tokens = |text: String| text.chars().count().div_ceil(self.delta_chars);
        match &request.input {
            Input::Messages(messages) => messages.iter().map(Message::text).map(tokens).sum(),
            Input::Prompt(parts) => tokens(join(parts)),
            Input::Ids(ids) => ids.len(),
        }
    }
}

impl ChatModel for ScriptedModel {
    fn identity(&self) -> ModelIdentity {
        ModelIdentity::new("script", "scripted")
    }

    fn generate(&self, request: &ChatRequest) -> Result<Events<'_>> {
        lock(&self.requests).push(request.clone());
        let mut reply = lock(&self.replies).pop_front().ok_or_else(over)?;
        if let (true, Some(error)) = (reply.refused, &reply.error) {
            return Err(error.clone());
        }
        if request.keep_special_tokens {
            let calls = std::mem::take(&mut reply.tool_calls);
            reply.text.push_str(&join(&tool_call::calls(&calls)));
        }
        let characters: Vec<char> = reply.text.chars().collect();
        let deltas = characters.chunks(self.delta_chars).zip(0..);
        let mut events: Vec<Result<Event>> = deltas
            .map(|(characters, id)| {
                Ok(Event::Delta {
                    text: characters.iter().collect(),
                    ids: vec![id],
                    logprobs: Vec::new(),
                })
            })
            .collect();
        let usage = reply.usage.unwrap_or(Usage {
            prompt_tokens: self.prompt_tokens(request),
            completion_tokens: events.len(),
            ..Usage::default()
        });
        let reason = reply.finish_reason.unwrap_or(match &reply.tool_calls[..] {
            [] => FinishReason::Stop,
            _ => FinishReason::ToolCalls,
        });
        let calls = reply.tool_calls.into_iter();
        events.extend(calls.map(|call| Ok(Event::ToolCall { call })));
        events.push(match reply.error {
            Some(error) => Err(error),
            None => Ok(Event::Finish { reason, usage }),
        });
        Ok(Box::new(events.into_iter()))
    }
}

/// A [`Scorer`] that takes its scores from a queue.
///
/// Its tokens are bytes, with [`BOS`](ScriptedScorer::BOS) before them where one is asked for;
/// its chat template writes `role: text` and a line break per message, and `assistant:` last if a
/// generation prompt is asked for.
#[derive(Debug)]
pub struct ScriptedScorer {
    scores: Mutex<VecDeque<Result<Vec<TokenScore>>>>,
    requests: Mutex<Vec<ScoreRequest>>,
    rolling: Mutex<Vec<Tokens>>,
    facts: ModelFacts,
}

impl ScriptedScorer {
    /// The token before a text.
    pub const BOS: u32 = 256;

    /// A scorer that gives these scores, in order: one entry per continuation or rolling text. An
    /// error fails the call that meets it.
    pub fn new(scores: impl IntoIterator<Item = Result<Vec<TokenScore>>>) -> Self {
        Self {
            scores: Mutex::new(scores.into_iter().collect()),
            requests: Mutex::default(),
            rolling: Mutex::default(),
            facts: ModelFacts {
                name: "scripted".to_owned(),
                architecture: "scripted".to_owned(),
                context_length: 4096,
                vocab_size: 257,
                prefix_token: Some(Self::BOS),
                tokenizer_hash: None,
                model_hash: None,
            },
        }
    }

    /// The same from log-probabilities: tokens are numbered from 0 and every one is the most
    /// likely, or none.
    pub fn from_logprobs<L: AsRef<[f32]>>(
        scores: impl IntoIterator<Item = L>,
        is_argmax: bool,
    ) -> Self {
        Self::new(scores.into_iter().map(|logprobs| {
            let tokens = logprobs.as_ref().iter().zip(0..);
            Ok(tokens
                .map(|(&logprob, id)| TokenScore {
                    id,
                    logprob,
                    is_argmax,
                })
                .collect())
        }))
    }

    /// Sets the facts.
    #[must_use]
    pub fn with_facts(mut self, facts: ModelFacts) -> Self {
        self.facts = facts;
        self
    }

    /// All continuations that were to be scored so far.
    pub fn requests(&self) -> Vec<ScoreRequest> {
        lock(&self.requests).clone()
    }

    /// All texts that were to be scored whole so far.
    pub fn rolling_requests(&self) -> Vec<Tokens> {
        lock(&self.rolling).clone()
    }

    /// Scores that are left.
    pub fn remaining(&self) -> usize {
        lock(&self.scores).len()
    }

    fn next(&self, count: usize) -> Result<Vec<Vec<TokenScore>>> {
        let mut scores = lock(&self.scores);
        (0..count)
            .map(|_| scores.pop_front().ok_or_else(over)?)
            .collect()
    }
}

impl Scorer for ScriptedScorer {
    fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Vec<TokenScore>>> {
        lock(&self.requests).extend_from_slice(requests);
        self.next(requests.len())
    }

    fn score_rolling(&self, texts: &[Tokens]) -> Result<Vec<Vec<TokenScore>>> {
        lock(&self.rolling).extend_from_slice(texts);
        self.next(texts.len())
    }

    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>> {
        let bos = add_bos.then_some(Self::BOS);
        let text = join(parts);
        Ok(bos.into_iter().chain(text.bytes().map(u32::from)).collect())
    }

    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        let mut text = String::new();
        if !tools.is_empty() {
            text.push_str(&format!("tools: {}\n", tool_call::spec_json(tools)));
        }
        for message in messages {
            text.push_str(&format!("{}: {}\n", message.role.as_str(), message.text()));
        }
        if add_generation_prompt {
            text.push_str("assistant:");
        }
        Ok(vec![Part::text(text)])
    }

    fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal() -> Error {
        Error::PromptTooLong {
            prompt_tokens: 9,
            context_length: 8,
        }
    }

    fn events(model: &ScriptedModel, request: &ChatRequest) -> Vec<Event> {
        let events = model.generate(request).unwrap();
        events.collect::<Result<_>>().unwrap()
    }

    fn delta(text: &str, id: u32) -> Event {
        Event::Delta {
            text: text.to_owned(),
            ids: vec![id],
            logprobs: Vec::new(),
        }
    }

    #[test]
    fn text_comes_in_deltas_of_whole_characters() {
        let request = ChatRequest::prompt("12345");
        let finish = |prompt_tokens, completion_tokens| Event::Finish {
            reason: FinishReason::Stop,
            usage: Usage {
                prompt_tokens,
                completion_tokens,
                ..Usage::default()
            },
        };
        let two = ScriptedModel::new(["书é!"]).with_delta_chars(2);
        let want = [delta("书é", 0), delta("!", 1), finish(3, 2)];
        assert_eq!(events(&two, &request), want);
        let four = ScriptedModel::new(["书é!"]);
        assert_eq!(events(&four, &request), [delta("书é!", 0), finish(2, 1)]);
        let none = ScriptedModel::new([""]);
        assert_eq!(events(&none, &request), [finish(2, 0)]);
    }

    #[test]
    fn calls_come_as_events_or_in_the_text() {
        let call = ToolCall::new("f", json!({"a": 1}));
        let reply = || Reply::text("Hm.").with_tool_calls(vec![call.clone()]);
        let model = ScriptedModel::new([reply(), reply()]);
        let request = ChatRequest::messages(vec![Message::user("?")]);
        let completion = model.complete(&request).unwrap();
        assert_eq!(completion.text, "Hm.");
        assert_eq!(completion.tool_calls, std::slice::from_ref(&call));
        assert_eq!(completion.finish_reason, Some(FinishReason::ToolCalls));

        let kept = model
            .complete(&request.with_keep_special_tokens(true))
            .unwrap();
        assert!(kept.tool_calls.is_empty());
        assert_eq!(kept.finish_reason, Some(FinishReason::Stop));
        let parsed = tool_call::parse(&kept.text);
        assert_eq!(parsed.content, "Hm.");
        assert_eq!(parsed.blocks[0].strict_tool_call().unwrap(), call);
    }

    #[test]
    fn failures_come_where_the_script_has_them() {
        let model = ScriptedModel::new([
            Reply::error(refusal()),
            Reply::text("ab").with_failure(refusal()),
        ]);
        let request = ChatRequest::new(Input::Ids(vec![1]));
        let refused = model.generate(&request);
        assert!(matches!(refused.err(), Some(Error::PromptTooLong { .. })));
        let mut events = model.generate(&request).unwrap();
        assert_eq!(events.next().unwrap().unwrap(), delta("ab", 0));
        assert!(matches!(
            events.next(),
            Some(Err(Error::PromptTooLong { .. }))
        ));
        assert!(events.next().is_none());
        drop(events);
        let over = model.generate(&request).err();
        let Some(Error::Backend { source, .. }) = over else {
            panic!("{over:?}");
        };
        assert_eq!(source.downcast_ref(), Some(&ScriptOver));
        assert_eq!(model.requests().len(), 3);
        model.push("more");
        assert_eq!(model.remaining(), 1);
        assert_eq!(model.complete(&request).unwrap().text, "more");
    }

    #[test]
    fn what_is_set_is_told() {
        let usage = Usage {
            prompt_tokens: 7,
            completion_tokens: 5,
            ..Usage::default()
        };
        let reply = Reply::text("a")
            .with_finish_reason(FinishReason::Length)
            .with_usage(usage);
        let model = ScriptedModel::new([reply]);
        let parts = vec![Part::marker("<s>"), Part::text("x")];
        let completion = model
            .complete(&ChatRequest::new(Input::Prompt(parts)))
            .unwrap();
        assert_eq!(completion.finish_reason, Some(FinishReason::Length));
        assert_eq!(completion.usage, usage);
        assert_eq!(usage.total_tokens(), 12);
    }

    #[test]
    fn scores_come_in_order() {
        let scorer = ScriptedScorer::from_logprobs([[-1.0, -2.0], [-3.0, -4.0]], true);
        let request = ScoreRequest {
            context: "a".into(),
            continuation: "b".into(),
        };
        let scores = scorer.score(std::slice::from_ref(&request)).unwrap();
        assert_eq!(scores.len(), 1);
        assert_eq!((scores[0][1].id, scores[0][1].logprob), (1, -2.0));
        assert!(scores[0][1].is_argmax);
        let rolling = scorer.score_rolling(&[vec![1].into()]).unwrap();
        assert_eq!(rolling[0][0].logprob, -3.0);
        assert_eq!(scorer.remaining(), 0);
        assert!(scorer.score(std::slice::from_ref(&request)).is_err());
        assert!(scorer.score(&[]).unwrap().is_empty());
        assert_eq!(scorer.requests(), [request.clone(), request]);
        assert_eq!(scorer.rolling_requests(), [Tokens::Ids(vec![1])]);
        let failing = ScriptedScorer::new([Err(refusal())]);
        assert!(failing.score_rolling(&["x".into()]).is_err());
    }

    #[test]
    fn a_scorer_encodes_and_renders() {
        let scorer = ScriptedScorer::new([]);
        assert_eq!(scorer.encode("aé", true).unwrap(), [256, 97, 195, 169]);
        assert_eq!(scorer.encode("", false).unwrap(), [] as [u32; 0]);
        let messages = [Message::system("s"), Message::user("u")];
        let plain = scorer.render_chat(&messages, &[], false).unwrap();
        assert_eq!(plain, [Part::text("system: s\nuser: u\n")]);
        let tools = [ToolSpec::new("f", "", json!(null))];
        let full = scorer.render_chat(&messages[1..], &tools, true).unwrap();
        let full = join(&full);
        assert!(full.starts_with("tools: [\n") && full.ends_with("user: u\nassistant:"));
        assert_eq!(scorer.facts().prefix_token, Some(ScriptedScorer::BOS));
        let facts = ModelFacts::default();
        assert_eq!(
            ScriptedScorer::new([]).with_facts(facts.clone()).facts(),
            &facts
        );
    }
}
