//! `ReAct` of Lagent 0.5, in JSON.

use internlm_core::{ChatRequest, Message, Role};
use serde::{Deserialize, Serialize};

use super::super::react_json::instructions;
use super::super::{End, Machine, Observation, Outcome, Phase, Reply, Start, Step};
use super::{
    AGENT, Dispatch, EXECUTOR, Record, descriptions, dispatch, from_message, outcome, records,
    system, to_messages,
};
use crate::error::{Error, Result};
use crate::lagent::{ActionDescription, AgentMessage, ChatMessage, JsonParser, default_aggregate};
use crate::python::PyValue;

/// Configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReActV05 {
    /// Tools in Lagent's form; those of the agent if empty.
    pub actions: Vec<ActionDescription>,
    /// The shapes of answers.
    pub parser: JsonParser,
    /// Most turns, if the caller sets none.
    pub max_turn: usize,
}

impl Default for ReActV05 {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            parser: JsonParser::react(),
            max_turn: 5,
        }
    }
}

/// A run of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReActV05Machine {
    config: ReActV05,
    system: Option<String>,
    memory: Vec<AgentMessage>,
    records: Vec<Record>,
    max_turn: usize,
    turn: usize,
    phase: Phase,
}

impl ReActV05Machine {
    /// A run from its beginning.
    pub fn new(mut config: ReActV05, start: Start) -> Self {
        config.actions = descriptions(&config.actions, &start.tools);
        Self {
            max_turn: start.max_turns.unwrap_or(config.max_turn).max(1),
            config,
            system: start.system,
            memory: start.messages.iter().map(sent).collect(),
            records: Vec::new(),
            turn: 0,
            phase: Phase::Ask,
        }
    }

    /// What was said so far, in Lagent's form.
    pub fn memory(&self) -> &[AgentMessage] {
        &self.memory
    }

    /// The calls so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn prompt(&self) -> Result<Vec<ChatMessage>> {
        let mut system = system(self.system.as_deref());
        let text = instructions(&self.config.actions, &self.config.parser);
        system.push(ChatMessage::new("system", text));
        default_aggregate(&self.memory, AGENT, &system)
    }

    fn tell(&mut self, record: Record) {
        let message = AgentMessage::new(EXECUTOR, record.action_return.response());
        self.records.push(record);
        if self.turn >= self.max_turn {
            self.phase = Phase::Done(outcome(&message, End::OutOfTurns));
        } else {
            self.memory.push(message);
            self.phase = Phase::Ask;
        }
    }
}

fn sent(message: &Message) -> AgentMessage {
    let sender = if message.role == Role::Assistant {
        AGENT
    } else {
        "user"
    };
    AgentMessage::new(sender, from_message(message).content)
}

impl Machine for ReActV05Machine {
    fn step(&self) -> Result<Step> {
        self.phase
            .step(|| Ok(ChatRequest::messages(to_messages(self.prompt()?)?)))
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        self.phase = Phase::Done(Outcome::out_of_turns(""));
        let formatted = self.config.parser.parse(&reply.text)?;
        let message = AgentMessage {
            content: PyValue::str(&reply.text),
            sender: AGENT.to_owned(),
            formatted: formatted.clone(),
        };
        self.memory.push(message.clone());
        // The word is looked for in the whole text, arguments included.
        if reply.text.contains("conclusion") || formatted.get("conclusion").is_some() {
            self.phase = Phase::Done(outcome(&message, End::Answered));
            return Ok(());
        }
        let action = formatted.get("action").unwrap_or(&PyValue::None);
        let (Some(name), Some(parameters)) = (action.get("name"), action.get("parameters")) else {
            return Err(Error::upstream("AssertionError", ""));
        };
        let place = (self.records.len(), "");
        match dispatch(
            &name.display(),
            parameters.clone(),
            &self.config.actions,
            place,
        )? {
            Dispatch::Run(call) => self.phase = Phase::Call(vec![call]),
            Dispatch::Own(record) => self.tell(*record),
        }
        Ok(())
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        for record in records(&self.phase, observations)? {
            self.tell(record);
        }
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        self.phase.expect_done()?;
        self.memory.extend(messages.iter().map(sent));
        self.turn = 0;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        let prompt = default_aggregate(&self.memory, AGENT, &[]).unwrap_or_default();
        to_messages(prompt).unwrap_or_default()
    }
}
