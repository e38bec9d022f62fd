//! What a run leaves, and a run that is written down.

use std::collections::BTreeMap;
use std::time::Duration;

use internlm_core::Message;
use internlm_core::chat_model::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hook::Decision;
use crate::error::{Error, Limit, Result};
use crate::protocol::{AnyMachine, Call, Machine, Observation, Observed, Step};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// With an answer.
    Answered,
    /// With an answer that the model's limit of tokens cut: only its beginning is there.
    Truncated,
    /// The turns were used up; the answer is the model's last word.
    OutOfTurns,
    /// Another limit was passed; the answer is the model's last word.
    Limit(Limit),
    /// It waits for approval: see [`Report::paused`].
    Paused,
}

/// A call of a run, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    /// The call.
    pub call: Call,
    /// What came of it.
    pub observed: Observed,
}

/// What a run left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The answer.
    pub answer: String,
    /// How it ended.
    pub ending: Ending,
    /// Requests to the model.
    pub turns: usize,
    /// Token counts of all requests.
    pub usage: Usage,
    /// The calls that were run, in order.
    pub calls: Vec<CallRecord>,
    /// The conversation, the task and the answer included. Calls that were not run, because the run waits for approval
    /// or passed a limit, have a result that says so; [`paused`](Report::paused) is as if they had none.
    pub messages: Vec<Message>,
    /// What the protocol has to say besides.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
    /// Wall-clock time, pauses not included.
    pub elapsed: Duration,
    /// The run itself, if it waits for approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Box<SavedRun>>,
}

/// A run between two steps, as plain data. With [`Agent::resume`](super::Agent::resume) an agent of the same tools
/// goes on with it, today or another day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedRun {
    version: u32,
    pub(super) machine: AnyMachine,
    pub(super) turns: usize,
    pub(super) usage: Usage,
    pub(super) calls: Vec<CallRecord>,
    pub(super) elapsed: Duration,
    pub(super) decisions: BTreeMap<String, Decision>,
    /// Whether the last reply was cut at the limit of its tokens.
    #[serde(default)]
    pub(super) truncated: bool,
}

const VERSION: u32 = 1;

impl SavedRun {
    pub(super) fn new(machine: AnyMachine) -> Self {
        Self {
            version: VERSION,
            machine,
            turns: 0,
            usage: Usage::default(),
            calls: Vec::new(),
            elapsed: Duration::ZERO,
            decisions: BTreeMap::new(),
            truncated: false,
        }
    }

    pub(super) fn checked(self) -> Result<Self> {
        match self.version {
            VERSION => Ok(self),
            other => Err(Error::State {
                what: format!("it is of version {other}, this is version {VERSION}"),
            }),
        }
    }

    /// The calls that it waits for.
    pub fn waiting(&self) -> Vec<Call> {
        match self.machine.step() {
            Ok(Step::Call(calls)) => calls,
            _ => Vec::new(),
        }
    }

    /// The conversation, in which every call has a result: those that were not run say so. A model that is asked to go
    /// on with it would refuse calls without results.
    pub(super) fn closed_messages(&self, ending: &Ending) -> Vec<Message> {
        let why = match ending {
            Ending::Limit(limit) => format!("it was not run: the limit of {limit} was passed"),
            _ => "it was not run: nobody has allowed it yet".to_owned(),
        };
        let waiting = self.waiting().into_iter();
        let faults: Vec<Observation> = waiting
            .map(|call| Observation {
                id: call.id,
                observed: Observed::Fault(why.clone()),
            })
            .collect();
        let mut machine = self.machine.clone();
        // A machine that waits for nothing, or refuses this, has no open calls to close.
        match faults.is_empty() || machine.observe(faults).is_err() {
            true => self.machine.messages(),
            false => machine.messages(),
        }
    }

    /// Allows all calls that it waits for.
    #[must_use]
    pub fn allow_all(mut self) -> Self {
        for call in self.waiting() {
            self.decisions.insert(call.id, Decision::Allow);
        }
        self
    }

    /// Decides on a call by its id.
    #[must_use]
    pub fn decide(mut self, id: impl Into<String>, decision: Decision) -> Self {
        self.decisions.insert(id.into(), decision);
        self
    }
}
