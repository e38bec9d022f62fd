//! The trait of everything that answers, and what goes in and comes out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::message::{Message, Part};
use crate::sampling::SamplingParams;
use crate::tool::{ToolCall, ToolChoice, ToolSpec};

/// What to answer or to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// A conversation, rendered by the model's chat template with a generation prompt.
    Messages(Vec<Message>),
    /// A raw prompt; a BOS token is put before it if the tokenizer wants one.
    Prompt(Vec<Part>),
    /// Token ids, taken as they are.
    Ids(Vec<u32>),
}

/// The form that the answer must have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Anything.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies this schema.
    JsonSchema(Value),
    /// A text that this regular expression matches as a whole (syntax of Rust's `regex` crate,
    /// without look-around other than `^` and `$` at the ends).
    Regex(String),
    /// A text of this grammar, in the dialect of Lark that `llguidance` reads; its rule `start` is
    /// the answer.
    Lark(String),
}

/// One request to a [`ChatModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChatRequest {
    /// What to answer.
    pub input: Input,
    /// Tools that the model may call.
    #[serde(default)]
    pub tools: Vec<ToolSpec>,
    /// Whether it may, must or must not.
    #[serde(default)]
    pub tool_choice: ToolChoice,
    /// The form of the answer.
    #[serde(default)]
    pub response_format: ResponseFormat,
    /// Sampling and stopping.
    #[serde(default)]
    pub sampling: SamplingParams,
    /// Spell special tokens out in the text instead of dropping them. Tool calls are then not
    /// parsed either: the text holds them.
    #[serde(default)]
    pub keep_special_tokens: bool,
}

impl ChatRequest {
    /// A request for the next message of a conversation.
    pub fn messages(messages: Vec<Message>) -> Self {
        Self::new(Input::Messages(messages))
    }

    /// A request to continue a text; special tokens that it spells stay text.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::new(Input::Prompt(vec![Part::text(text)]))
    }

    /// A request for any input.
    pub fn new(input: Input) -> Self {
        Self {
            input,
            tools: Vec::new(),
            tool_choice: ToolChoice::default(),
            response_format: ResponseFormat::default(),
            sampling: SamplingParams::default(),
            keep_special_tokens: false,
        }
    }

    /// Sets the sampling parameters.
    #[must_use]
    pub fn with_sampling(mut self, sampling: SamplingParams) -> Self {
        self.sampling = sampling;
        self
    }

    /// Sets the tools.
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<ToolSpec>) -> Self {
        self.tools = tools;
        self
    }

    /// Sets whether the model may, must or must not call tools.
    #[must_use]
    pub fn with_tool_choice(mut self, tool_choice: ToolChoice) -> Self {
        self.tool_choice = tool_choice;
        self
    }

    /// Sets the form of the answer.
    #[must_use]
    pub fn with_response_format(mut self, response_format: ResponseFormat) -> Self {
        self.response_format = response_format;
        self
    }

    /// Sets whether special tokens stay in the text.
    #[must_use]
    pub fn with_keep_special_tokens(mut self, keep: bool) -> Self {
        self.keep_special_tokens = keep;
        self
    }
}

/// A token with its log-probability (natural logarithm, before temperature and truncation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// The most likely tokens at this place, in falling order.
    pub top: Vec<(u32, f32)>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end token or a stop text.
    Stop,
    /// The limit of new tokens or the end of the context.
    Length,
    /// The answer ended with calls of tools.
    ToolCalls,
}

impl FinishReason {
    /// OpenAI's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::ToolCalls => "tool_calls",
        }
    }
}

/// Token counts of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, BOS and template included.
    pub prompt_tokens: usize,
    /// Tokens generated, the end token included.
    pub completion_tokens: usize,
    /// Tokens of the prompt that were not computed, because an earlier request had them computed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cached_tokens: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Usage {
    /// Both together.
    pub fn total_tokens(&self) -> usize {
        self.prompt_tokens + self.completion_tokens
    }
}

/// What a model says while it answers.
///
/// The texts of all deltas join to the whole answer; a delta never splits a character.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// More text, with the tokens it took. The text may be empty (a character is not complete, or
    /// a stop text may be beginning) and so may the ids (held back text is let go).
    Delta {
        /// New text.
        text: String,
        /// Tokens since the last delta.
        ids: Vec<u32>,
        /// Their log-probabilities, if asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        logprobs: Vec<TokenLogprob>,
    },
    /// A complete call of a tool.
    ToolCall {
        /// The call.
        call: ToolCall,
    },
    /// The end; nothing follows.
    Finish {
        /// Why.
        reason: FinishReason,
        /// Token counts.
        usage: Usage,
    },
}

/// The events of one answer; dropping it cancels the request.
pub type Events<'a> = Box<dyn Iterator<Item = Result<Event>> + Send + 'a>;

/// Who answers, as traces and reports name it; what is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelIdentity {
    /// The model's name (OpenTelemetry's `gen_ai.request.model`).
    pub model: Option<String>,
    /// Who runs it (`gen_ai.provider.name`): `openai`, `vllm`, or `internlm` for this process.
    pub provider: Option<String>,
}

impl ModelIdentity {
    /// A model and who runs it.
    pub fn new(model: impl Into<String>, provider: impl Into<String>) -> Self {
        Self {
            model: Some(model.into()),
            provider: Some(provider.into()),
        }
    }
}

/// Anything that answers requests: the local engine, a remote endpoint, a script.
pub trait ChatModel: Send + Sync {
    /// Starts to answer. Work happens as the iterator is driven, or ahead of it.
    ///
    /// # Errors
    /// A request that can't be run (empty or over-long prompt, unknown option, a template that
    /// refuses the messages) fails here; failures while generating are items of the iterator.
    fn generate(&self, request: &ChatRequest) -> Result<Events<'_>>;

    /// Who answers; nothing is known unless an implementation says so.
    fn identity(&self) -> ModelIdentity {
        ModelIdentity::default()
    }

    /// Answers and collects.
    ///
    /// # Errors
    /// As [`generate`](ChatModel::generate), and the first failed event.
    fn complete(&self, request: &ChatRequest) -> Result<Completion> {
        let mut completion = Completion::default();
        for event in self.generate(request)? {
            completion.push(event?);
        }
        Ok(completion)
    }
}

/// A collected answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The whole text.
    pub text: String,
    /// All tokens, in order.
    pub ids: Vec<u32>,
    /// Log-probabilities, if asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended; `None` if it did not.
    pub finish_reason: Option<FinishReason>,
    /// Token counts.
    pub usage: Usage,
}

impl Completion {
    /// Adds one event.
    pub fn push(&mut self, event: Event) {
        match event {
            Event::Delta {
                text,
                ids,
                logprobs,
            } => {
                self.text.push_str(&text);
                self.ids.extend(ids);
                self.logprobs.extend(logprobs);
            }
            Event::ToolCall { call } => self.tool_calls.push(call),
            Event::Finish { reason, usage } => {
                self.finish_reason = Some(reason);
                self.usage = usage;
            }
        }
    }

    /// The answer as the next message of the conversation. Its text is plain: what the model spelt
    /// stays text.
    pub fn into_message(self) -> Message {
        Message::assistant(self.text).with_tool_calls(self.tool_calls)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, want: Value) {
        let written = serde_json::to_value(&value).unwrap();
        assert_eq!(written, want);
        assert_eq!(serde_json::from_value::<T>(written).unwrap(), value);
    }

    #[test]
    fn requests() {
        let short: ChatRequest = serde_json::from_value(
            json!({"input": {"messages": [{"role": "user", "content": "Hi"}]}}),
        )
        .unwrap();
        assert_eq!(short, ChatRequest::messages(vec![Message::user("Hi")]));
        let full = ChatRequest::prompt("x")
            .with_sampling(SamplingParams::greedy().with_top_k(2))
            .with_tools(vec![ToolSpec::new("f", "", json!({}))])
            .with_tool_choice(ToolChoice::Required)
            .with_response_format(ResponseFormat::JsonSchema(json!({"type": "object"})))
            .with_keep_special_tokens(true);
        let written = serde_json::to_value(&full).unwrap();
        assert_eq!(
            written["response_format"],
            json!({"json_schema": {"type": "object"}})
        );
        assert_eq!(
            serde_json::from_value::<ChatRequest>(written).unwrap(),
            full
        );
        round(Input::Ids(vec![1, 2]), json!({"ids": [1, 2]}));
        let prompt = Input::Prompt(vec![Part::text("x")]);
        round(prompt, json!({"prompt": [{"type": "text", "text": "x"}]}));
        round(ResponseFormat::JsonObject, json!("json_object"));
        round(ResponseFormat::Regex("a+".into()), json!({"regex": "a+"}));
        let lark = ResponseFormat::Lark("start: \"a\"".into());
        round(lark, json!({"lark": "start: \"a\""}));
    }

    #[test]
    fn events() {
        let delta = Event::Delta {
            text: "a".into(),
            ids: vec![5],
            logprobs: Vec::new(),
        };
        round(delta, json!({"event": "delta", "text": "a", "ids": [5]}));
        let call = ToolCall::new("f", json!({}));
        round(
            Event::ToolCall { call },
            json!({"event": "tool_call", "call": {"name": "f", "arguments": {}}}),
        );
        let usage = Usage {
            prompt_tokens: 1,
            completion_tokens: 2,
            ..Usage::default()
        };
        let reason = FinishReason::ToolCalls;
        round(
            Event::Finish { reason, usage },
            json!({"event": "finish", "reason": "tool_calls",
                "usage": {"prompt_tokens": 1, "completion_tokens": 2}}),
        );
        for reason in [FinishReason::Stop, FinishReason::Length, reason] {
            round(reason, json!(reason.as_str()));
        }
    }

    #[test]
    fn a_completion_collects() {
        let logprob = TokenLogprob {
            id: 1,
            logprob: -0.5,
            top: vec![(1, -0.5), (2, -1.5)],
        };
        let mut completion = Completion::default();
        for (text, id) in [("a", 1), ("", 2), ("b", 3)] {
            completion.push(Event::Delta {
                text: text.into(),
                ids: vec![id],
                logprobs: vec![logprob.clone()],
            });
        }
        let call = ToolCall::new("f", json!({}));
        completion.push(Event::ToolCall { call: call.clone() });
        assert_eq!(completion.finish_reason, None);
        let usage = Usage {
            prompt_tokens: 4,
            completion_tokens: 3,
            ..Usage::default()
        };
        let reason = FinishReason::ToolCalls;
        completion.push(Event::Finish { reason, usage });
        assert_eq!(
            (completion.text.as_str(), &completion.ids[..]),
            ("ab", &[1, 2, 3][..])
        );
        assert_eq!(completion.logprobs.len(), 3);
        assert_eq!(
            (completion.finish_reason, completion.usage),
            (Some(reason), usage)
        );
        let message = completion.into_message();
        assert_eq!(
            message,
            Message::assistant("ab").with_tool_calls(vec![call])
        );
    }
}
