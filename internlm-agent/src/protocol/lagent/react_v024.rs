//! `ReAct` of Lagent 0.2, in text.

use internlm_core::{ChatRequest, Message};
use serde::{Deserialize, Serialize};

use super::super::react_text::{Language, instructions};
use super::super::{Machine, Observation, Outcome, Phase, Reply, Start, Step};
use super::{Dispatch, Record, descriptions, dispatch, from_message, records, system, to_messages};
use crate::error::Result;
use crate::lagent::{ActionDescription, ChatMessage, ReActMarkers, prompts};
use crate::python::PyValue;

/// Configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReActV024 {
    /// Tools in Lagent's form; those of the agent if empty.
    pub actions: Vec<ActionDescription>,
    /// The language of the instructions.
    pub language: Language,
    /// The language of the last turn's instruction: English in Lagent, whatever the other's is.
    pub force_stop: Language,
    /// The words before the parts of a step.
    pub markers: ReActMarkers,
    /// Most turns, if the caller sets none.
    pub max_turn: usize,
}

impl Default for ReActV024 {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            language: Language::English,
            force_stop: Language::English,
            markers: ReActMarkers::default(),
            max_turn: 4,
        }
    }
}

/// A run of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReActV024Machine {
    config: ReActV024,
    system: Option<String>,
    history: Vec<ChatMessage>,
    offset: usize,
    records: Vec<Record>,
    thought: String,
    max_turn: usize,
    turn: usize,
    phase: Phase,
}

impl ReActV024Machine {
    /// A run from its beginning.
    pub fn new(mut config: ReActV024, start: Start) -> Self {
        config.actions = descriptions(&config.actions, &start.tools);
        let history: Vec<ChatMessage> = start.messages.iter().map(from_message).collect();
        Self {
            max_turn: start.max_turns.unwrap_or(config.max_turn).max(1),
            config,
            system: start.system,
            offset: history.len(),
            history,
            records: Vec::new(),
            thought: String::new(),
            turn: 0,
            phase: Phase::Ask,
        }
    }

    /// The steps of the current task.
    pub fn inner_steps(&self) -> &[ChatMessage] {
        &self.history[self.offset..]
    }

    /// The calls so far, Lagent's own actions included, with the thoughts before them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn prompt(&self) -> Vec<ChatMessage> {
        let tools = ActionDescription::repr(&self.config.actions);
        let names = self
            .config
            .actions
            .iter()
            .map(|a| PyValue::str(a.name()))
            .collect();
        let mut out = system(self.system.as_deref());
        let text = instructions(self.config.language, &self.config.markers, &tools, names);
        out.push(ChatMessage::new("system", text));
        out.extend(self.history.iter().cloned());
        if self.turn + 1 == self.max_turn {
            out.push(ChatMessage::new(
                "system",
                match self.config.force_stop {
                    Language::English => prompts::FORCE_STOP_EN,
                    Language::Chinese => prompts::FORCE_STOP_CN,
                },
            ));
        }
        out
    }

    fn tell(&mut self, mut record: Record) {
        record.action_return.thought = Some(std::mem::take(&mut self.thought));
        let action_return = &record.action_return;
        if action_return.kind == "FinishAction" {
            self.phase = Phase::Done(Outcome::answered(action_return.format_result()));
        } else {
            let markers = &self.config.markers;
            let response = action_return.response().display();
            let text = format!("{}{response}{}", markers.response, markers.response_end);
            self.history.push(ChatMessage::new("system", text));
            self.phase = match self.turn >= self.max_turn {
                true => Phase::Done(Outcome::out_of_turns(prompts::SORRY)),
                false => Phase::Ask,
            };
        }
        self.records.push(record);
    }
}

impl Machine for ReActV024Machine {
    fn step(&self) -> Result<Step> {
        self.phase
            .step(|| Ok(ChatRequest::messages(to_messages(self.prompt())?)))
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        self.phase = Phase::Done(Outcome::out_of_turns(""));
        self.history
            .push(ChatMessage::new("assistant", &reply.text));
        let step = self.config.markers.parse(&reply.text);
        let place = (self.records.len(), step.thought.as_str());
        let input = PyValue::Str(step.action_input);
        let dispatched = dispatch(&step.action, input, &self.config.actions, place)?;
        self.thought = step.thought;
        match dispatched {
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
        self.history.extend(messages.iter().map(from_message));
        self.offset = self.history.len();
        self.turn = 0;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        to_messages(self.history.clone()).unwrap_or_default()
    }
}
