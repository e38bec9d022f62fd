//! All protocols behind one type each: what is configured, and what runs.

use internlm_core::{Message, ToolSpec};
use serde::{Deserialize, Serialize};

use super::dialect::LoopMachine;
use super::{
    Machine, Observation, Reply, Step, code, internlm, lagent, planner, react_json, react_text,
    rewoo, tools,
};
use crate::error::Result;

/// Which protocol an agent speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Protocol {
    /// The model's own interface for tools, with parallel calls: local engines and OpenAI-compatible servers.
    Tools(tools::Tools),
    /// InternLM2's markers in the text.
    InternLm(internlm::InternLm),
    /// ReAct in text.
    ReActText(react_text::ReActText),
    /// ReAct in JSON.
    ReActJson(react_json::ReActJson),
    /// A plan first, then its steps, then the answer.
    ReWoo(rewoo::ReWoo),
    /// Programs in fences.
    Code(code::CodeAct),
    /// A graph of questions for a searcher.
    Planner(planner::Planner),
    /// `AgentForInternLM` of Lagent 0.5.
    LagentInternLm(lagent::AgentForInternLm),
    /// `Internlm2Agent` of Lagent 0.2.
    LagentInternLm2(lagent::Internlm2Agent),
    /// `ReAct` of Lagent 0.2, in text.
    LagentReActText(lagent::ReActV024),
    /// `ReAct` of Lagent 0.5, in JSON.
    LagentReActJson(lagent::ReActV05),
    /// `ReWOO` of Lagent 0.2.
    LagentReWoo(lagent::ReWooV024),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Tools(tools::Tools::default())
    }
}

/// What a run begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The application's own instructions.
    pub system: Option<String>,
    /// The tools.
    pub tools: Vec<ToolSpec>,
    /// The conversation so far, the task last.
    pub messages: Vec<Message>,
    /// Most requests to the model; the protocol's own number if not set.
    pub max_turns: Option<usize>,
}

/// A machine of any protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnyMachine {
    /// See [`Protocol::Tools`].
    Tools(LoopMachine<tools::Tools>),
    /// See [`Protocol::InternLm`].
    InternLm(LoopMachine<internlm::InternLm>),
    /// See [`Protocol::ReActText`].
    ReActText(LoopMachine<react_text::ReActText>),
    /// See [`Protocol::ReActJson`].
    ReActJson(LoopMachine<react_json::ReActJson>),
    /// See [`Protocol::ReWoo`].
    ReWoo(rewoo::ReWooMachine),
    /// See [`Protocol::Code`].
    Code(LoopMachine<code::CodeAct>),
    /// See [`Protocol::Planner`].
    Planner(planner::PlannerMachine),
    /// See [`Protocol::LagentInternLm`].
    LagentInternLm(lagent::AgentForInternLmMachine),
    /// See [`Protocol::LagentInternLm2`].
    LagentInternLm2(lagent::Internlm2Machine),
    /// See [`Protocol::LagentReActText`].
    LagentReActText(lagent::ReActV024Machine),
    /// See [`Protocol::LagentReActJson`].
    LagentReActJson(lagent::ReActV05Machine),
    /// See [`Protocol::LagentReWoo`].
    LagentReWoo(lagent::ReWooV024Machine),
}

impl Protocol {
    /// Begins a run.
    pub fn start(&self, start: Start) -> AnyMachine {
        match self.clone() {
            Self::Tools(dialect) => AnyMachine::Tools(LoopMachine::new(dialect, start)),
            Self::InternLm(dialect) => AnyMachine::InternLm(LoopMachine::new(dialect, start)),
            Self::ReActText(dialect) => AnyMachine::ReActText(LoopMachine::new(dialect, start)),
            Self::ReActJson(dialect) => AnyMachine::ReActJson(LoopMachine::new(dialect, start)),
            Self::ReWoo(config) => AnyMachine::ReWoo(rewoo::ReWooMachine::new(config, start)),
            Self::Code(dialect) => AnyMachine::Code(LoopMachine::new(dialect, start)),
            Self::Planner(config) => {
                AnyMachine::Planner(planner::PlannerMachine::new(config, start))
            }
            Self::LagentInternLm(config) => {
                AnyMachine::LagentInternLm(lagent::AgentForInternLmMachine::new(config, start))
            }
            Self::LagentInternLm2(config) => {
                AnyMachine::LagentInternLm2(lagent::Internlm2Machine::new(config, start))
            }
            Self::LagentReActText(config) => {
                AnyMachine::LagentReActText(lagent::ReActV024Machine::new(config, start))
            }
            Self::LagentReActJson(config) => {
                AnyMachine::LagentReActJson(lagent::ReActV05Machine::new(config, start))
            }
            Self::LagentReWoo(config) => {
                AnyMachine::LagentReWoo(lagent::ReWooV024Machine::new(config, start))
            }
        }
    }
}

macro_rules! each {
    ($self:expr, $machine:ident => $body:expr) => {
        match $self {
            AnyMachine::Tools($machine) => $body,
            AnyMachine::InternLm($machine) => $body,
            AnyMachine::ReActText($machine) => $body,
            AnyMachine::ReActJson($machine) => $body,
            AnyMachine::ReWoo($machine) => $body,
            AnyMachine::Code($machine) => $body,
            AnyMachine::Planner($machine) => $body,
            AnyMachine::LagentInternLm($machine) => $body,
            AnyMachine::LagentInternLm2($machine) => $body,
            AnyMachine::LagentReActText($machine) => $body,
            AnyMachine::LagentReActJson($machine) => $body,
            AnyMachine::LagentReWoo($machine) => $body,
        }
    };
}

impl Machine for AnyMachine {
    fn step(&self) -> Result<Step> {
        each!(self, machine => machine.step())
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        each!(self, machine => machine.reply(reply))
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        each!(self, machine => machine.observe(observations))
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        each!(self, machine => machine.say(messages))
    }

    fn messages(&self) -> Vec<Message> {
        each!(self, machine => machine.messages())
    }
}
