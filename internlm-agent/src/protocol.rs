//! How an agent and a model understand each other, as state machines without I/O.
//!
//! A [`Machine`] says what it waits for ([`Step`]): an answer of the model to a request, the results of calls, or
//! nothing any more. Whoever drives it does that and hands the outcome in. So one machine serves a synchronous
//! loop, an async one, a stream and the replay of a recording, and since every machine is plain data with
//! serde, a run can be written down between any two steps and go on elsewhere.
//!
//! By default reading is lenient, and what can't be read is told to the model instead of being run. The
//! compatibility modes do what Lagent does, byte by byte ([`crate::lagent`]).

mod any;
pub(crate) mod arguments;
pub mod code;
pub mod dialect;
pub mod internlm;
pub mod lagent;
pub mod planner;
pub mod react_json;
pub mod react_text;
pub mod rewoo;
pub mod tools;

use internlm_core::chat_model::{Completion, FinishReason};
use internlm_core::{ChatRequest, Message, Role, ToolCall, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::lagent::ActionReturn;
use crate::tool::{ToolError, ToolOutput};

pub use any::{AnyMachine, Protocol, Start};

/// What a machine waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    clippy::large_enum_variant,
    reason = "a step is made once a turn and taken apart at once"
)]
pub enum Step {
    /// The model's answer to this request.
    Ask(ChatRequest),
    /// The results of these calls, which do not depend on each other.
    Call(Vec<Call>),
    /// Nothing: this is the end.
    Done(Outcome),
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A tool.
    Tool,
    /// A program for the code interpreter.
    Code,
}

/// A call that the model makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Ties the result to it; unique in a run.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments: an object, in compatibility modes whatever the model wrote.
    pub arguments: Value,
    /// A tool or code.
    pub channel: Channel,
    /// What the model said before it.
    pub thought: String,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The call's id.
    pub id: String,
    /// What came of it.
    pub observed: Observed,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// It worked.
    Output(ToolOutput),
    /// It did not; the model is told this.
    Fault(String),
    /// What Lagent's executor returned.
    Lagent(Box<ActionReturn>),
}

impl Observed {
    /// What the model is told.
    pub fn text(&self) -> String {
        match self {
            Self::Output(output) => output.to_text(),
            Self::Fault(what) => format!("Error: {what}"),
            Self::Lagent(action_return) => action_return.response().display(),
        }
    }

    /// Whether it worked.
    pub fn is_ok(&self) -> bool {
        match self {
            Self::Output(_) => true,
            Self::Fault(_) => false,
            Self::Lagent(action_return) => action_return.state == crate::lagent::state::SUCCESS,
        }
    }
}

/// An answer of the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// Its calls, where the model's interface has such.
    #[serde(default)]
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
}

impl Reply {
    /// Whether it was cut at the limit of tokens. A call in the middle of which that happened is never run, but for
    /// the compatibility modes, which read text alone as Lagent does.
    pub fn is_cut(&self) -> bool {
        self.finish_reason == Some(FinishReason::Length)
    }

    /// An answer of text only.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

impl From<Completion> for Reply {
    fn from(completion: Completion) -> Self {
        Self {
            text: completion.text,
            tool_calls: completion.tool_calls,
            finish_reason: completion.finish_reason,
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With an answer.
    Answered,
    /// The turns were used up before there was one.
    OutOfTurns,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The answer, or what there is instead when the turns are used up.
    pub answer: String,
    /// How it ended.
    pub end: End,
    /// What the protocol has to say besides: a planner's graph and sources.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

impl Outcome {
    /// An answer.
    pub fn answered(answer: impl Into<String>) -> Self {
        Self {
            answer: answer.into(),
            end: End::Answered,
            details: Value::Null,
        }
    }

    /// The end of the turns.
    pub fn out_of_turns(answer: impl Into<String>) -> Self {
        Self {
            end: End::OutOfTurns,
            ..Self::answered(answer)
        }
    }
}

/// The state of a run, and its rules.
pub trait Machine {
    /// What the machine waits for. Asking twice gives the same.
    ///
    /// # Errors
    /// In compatibility modes where Lagent raises.
    fn step(&self) -> Result<Step>;

    /// Takes the model's answer.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] if none was asked for; in compatibility modes where Lagent raises.
    fn reply(&mut self, reply: Reply) -> Result<()>;

    /// Takes the results of all calls of the step, in any order.
    ///
    /// # Errors
    /// As [`reply`](Machine::reply).
    fn observe(&mut self, observations: Vec<Observation>) -> Result<()>;

    /// Begins the next task of the conversation, after the last one ended.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] if it did not.
    fn say(&mut self, messages: Vec<Message>) -> Result<()>;

    /// The conversation so far, without what the protocol itself puts before it.
    fn messages(&self) -> Vec<Message>;
}

/// Where a machine stands between two inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// It waits for the model.
    Ask,
    /// It waits for these calls.
    Call(Vec<Call>),
    /// It is done.
    Done(Outcome),
}

impl Phase {
    /// What the machine waits for; `ask` makes the request.
    pub(crate) fn step(&self, ask: impl FnOnce() -> Result<ChatRequest>) -> Result<Step> {
        Ok(match self {
            Self::Ask => Step::Ask(ask()?),
            Self::Call(calls) => Step::Call(calls.clone()),
            Self::Done(outcome) => Step::Done(outcome.clone()),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ask => "an answer of the model",
            Self::Call(_) => "results of calls",
            Self::Done(_) => "nothing",
        }
    }

    /// Checks that the machine waits for the model.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`].
    pub(crate) fn expect_ask(&self) -> Result<()> {
        match self {
            Self::Ask => Ok(()),
            _ => Err(self.out_of_turn("an answer of the model")),
        }
    }

    /// The calls that the machine waits for.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] if it waits for something else.
    pub(crate) fn expect_calls(&self) -> Result<Vec<Call>> {
        match self {
            Self::Call(calls) => Ok(calls.clone()),
            _ => Err(self.out_of_turn("results of calls")),
        }
    }

    /// Checks that the machine is done.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`].
    pub(crate) fn expect_done(&self) -> Result<()> {
        match self {
            Self::Done(_) => Ok(()),
            _ => Err(self.out_of_turn("a new task")),
        }
    }

    fn out_of_turn(&self, given: &'static str) -> Error {
        Error::OutOfTurn {
            given,
            waiting: self.name(),
        }
    }
}

/// The observations in the order of the calls; a call without one failed.
pub(crate) fn in_order(calls: &[Call], mut observations: Vec<Observation>) -> Vec<Observed> {
    let results = calls.iter().map(|call| {
        let at = observations.iter().position(|o| o.id == call.id);
        at.map_or_else(
            || Observed::Fault("the call was not run".to_owned()),
            |at| observations.swap_remove(at).observed,
        )
    });
    results.collect()
}

/// The last thing that the model said in words.
pub(crate) fn last_words(messages: &[Message]) -> String {
    let mut said = messages.iter().rev().filter(|m| m.role == Role::Assistant);
    said.next().map(Message::text).unwrap_or_default()
}

/// What a model is told of a call that its limit of tokens cut.
pub(crate) const CUT_CALL: &str = "the call is not whole: it is too long; make a shorter one";

/// What a model is told that calls a tool that is not there.
pub(crate) fn unknown_tool(name: &str, tools: &[ToolSpec]) -> String {
    let names = tools.iter().map(|tool| tool.name.as_str());
    ToolError::unknown(name, names).to_string()
}
