//! The loop that most protocols share: ask, read, call, tell, until there is an answer.

use internlm_core::{ChatRequest, Message, ToolSpec};
use serde::{Deserialize, Serialize};

use super::{
    Call, Machine, Observation, Observed, Outcome, Phase, Reply, Start, Step, in_order, last_words,
    unknown_tool,
};
use crate::error::Result;

/// What a reply means.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// The answer.
    Answer(String),
    /// Calls; those with a fault are not run, and the model is told the fault.
    Calls(Vec<(Call, Option<String>)>),
    /// Neither, and why.
    Fault(String),
}

/// How a protocol of the common loop writes and reads.
pub trait Dialect: Clone {
    /// Most requests, if the caller sets none.
    const MAX_TURNS: usize = 6;

    /// The messages before the conversation.
    fn system(&self, system: Option<&str>, tools: &[ToolSpec]) -> Vec<Message>;

    /// The request for the next turn. In the last one the model should answer.
    fn request(&self, messages: Vec<Message>, tools: &[ToolSpec], last: bool) -> ChatRequest;

    /// What a reply means. `first_id` numbers the first call.
    fn read(&self, reply: &Reply, tools: &[ToolSpec], first_id: usize) -> Turn;

    /// The reply as it is kept in the conversation.
    fn said(&self, reply: &Reply, turn: &Turn) -> Message;

    /// The results as the model is told them.
    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message>;

    /// A fault of a whole reply as the model is told it.
    fn fault(&self, what: &str) -> Message;
}

/// Most calls of one reply that are run; the model is told of the rest.
pub const MAX_CALLS_PER_TURN: usize = 16;

/// A machine of the common loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopMachine<D> {
    dialect: D,
    system: Option<String>,
    tools: Vec<ToolSpec>,
    messages: Vec<Message>,
    max_turns: usize,
    /// Requests of this task so far.
    turn: usize,
    /// Calls of the conversation so far.
    calls: usize,
    /// Calls of the last reply and what is known of them: faults before they run.
    pending: Vec<(Call, Option<String>)>,
    phase: Phase,
}

impl<D: Dialect> LoopMachine<D> {
    /// A run from its beginning.
    pub fn new(dialect: D, start: Start) -> Self {
        Self {
            dialect,
            system: start.system,
            tools: start.tools,
            messages: start.messages,
            max_turns: start.max_turns.unwrap_or(D::MAX_TURNS).max(1),
            turn: 0,
            calls: 0,
            pending: Vec::new(),
            phase: Phase::Ask,
        }
    }

    /// Refuses what can't be run: unknown tools, arguments that are no object, too many calls.
    fn check(&self, calls: &mut [(Call, Option<String>)]) {
        for (i, (call, fault)) in calls.iter_mut().enumerate() {
            if fault.is_some() || call.channel == super::Channel::Code {
                continue;
            }
            if i >= MAX_CALLS_PER_TURN {
                let what = format!("not run: at most {MAX_CALLS_PER_TURN} calls at once");
                *fault = Some(what);
            } else if !self.tools.iter().any(|tool| tool.name == call.name) {
                *fault = Some(unknown_tool(&call.name, &self.tools));
            } else if !call.arguments.is_object() {
                *fault = Some("the arguments are not a JSON object".to_owned());
            }
        }
    }

    /// Tells results and goes on, or ends if that was the last turn.
    fn tell(&mut self, results: &[(Call, Observed)]) {
        let told = self.dialect.told(results);
        self.messages.extend(told);
        self.next_turn();
    }

    fn next_turn(&mut self) {
        self.phase = match self.turn >= self.max_turns {
            false => Phase::Ask,
            true => Phase::Done(Outcome::out_of_turns(last_words(&self.messages))),
        };
    }
}

impl<D: Dialect> Machine for LoopMachine<D> {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| {
            let mut messages = self.dialect.system(self.system.as_deref(), &self.tools);
            messages.extend(self.messages.iter().cloned());
            let last = self.turn + 1 == self.max_turns && self.turn > 0;
            Ok(self.dialect.request(messages, &self.tools, last))
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        let mut turn = self.dialect.read(&reply, &self.tools, self.calls);
        if let Turn::Calls(calls) = &mut turn {
            self.calls += calls.len();
            self.check(calls);
        }
        self.messages.push(self.dialect.said(&reply, &turn));
        match turn {
            Turn::Answer(answer) => self.phase = Phase::Done(Outcome::answered(answer)),
            Turn::Fault(what) => {
                self.messages.push(self.dialect.fault(&what));
                self.next_turn();
            }
            Turn::Calls(calls) => {
                let run = calls.iter().filter(|(_, fault)| fault.is_none());
                let run: Vec<Call> = run.map(|(call, _)| call.clone()).collect();
                self.pending = calls;
                if run.is_empty() {
                    self.phase = Phase::Call(Vec::new());
                    self.observe(Vec::new())?;
                } else {
                    self.phase = Phase::Call(run);
                }
            }
        }
        Ok(())
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        let run = self.phase.expect_calls()?;
        let mut ran = in_order(&run, observations).into_iter();
        let pending = std::mem::take(&mut self.pending).into_iter();
        let results: Vec<(Call, Observed)> = pending
            .map(|(call, fault)| {
                let fault = fault.map(Observed::Fault).or_else(|| ran.next());
                let fault = fault.unwrap_or_else(|| Observed::Fault("not run".to_owned()));
                (call, fault)
            })
            .collect();
        self.tell(&results);
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        self.phase.expect_done()?;
        self.messages.extend(messages);
        self.turn = 0;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.clone()
    }
}

/// The application's instructions and a protocol's, in one system message: many chat templates take one only.
pub(crate) fn one_system(system: Option<&str>, protocol: String) -> Vec<Message> {
    let text = match system {
        Some(system) => format!("{system}\n\n{protocol}"),
        None => protocol,
    };
    vec![Message::system(text)]
}

/// An id for the nth call of a run.
pub(crate) fn call_id(number: usize) -> String {
    format!("call_{number}")
}
