//! `ReWOO` of Lagent 0.2.

use std::sync::LazyLock;

use internlm_core::{ChatRequest, Message};
use regex::Regex;
use serde::{Deserialize, Serialize};

use super::super::react_text::Language;
use super::super::{Machine, Observation, Outcome, Phase, Reply, Start, Step};
use super::{Dispatch, Record, descriptions, dispatch, from_message, records, system, to_messages};
use crate::error::{Error, Result};
use crate::lagent::{ActionDescription, ChatMessage, PlannedStep, parse_plan, prompts};
use crate::python::PyValue;

/// Configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReWooV024 {
    /// Tools in Lagent's form; those of the agent if empty.
    pub actions: Vec<ActionDescription>,
    /// The language of all prompts.
    pub language: Language,
    /// Most plans that are asked for, if the caller sets no turns.
    pub max_turn: usize,
}

impl Default for ReWooV024 {
    fn default() -> Self {
        Self {
            actions: Vec::new(),
            language: Language::English,
            max_turn: 2,
        }
    }
}

/// A run of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReWooV024Machine {
    config: ReWooV024,
    system: Option<String>,
    history: Vec<ChatMessage>,
    offset: usize,
    question: String,
    reformat: Option<String>,
    steps: Vec<PlannedStep>,
    records: Vec<Record>,
    solver_prompt: Option<String>,
    max_turn: usize,
    turn: usize,
    phase: Phase,
}

static REFERENCE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"#E\d+").expect("the pattern is valid"));

impl ReWooV024Machine {
    /// A run from its beginning.
    pub fn new(mut config: ReWooV024, start: Start) -> Self {
        config.actions = descriptions(&config.actions, &start.tools);
        let history: Vec<ChatMessage> = start.messages.iter().map(from_message).collect();
        Self {
            max_turn: start.max_turns.unwrap_or(config.max_turn).max(1),
            config,
            system: start.system,
            offset: history.len(),
            question: start.messages.last().map(Message::text).unwrap_or_default(),
            history,
            reformat: None,
            steps: Vec::new(),
            records: Vec::new(),
            solver_prompt: None,
            turn: 0,
            phase: Phase::Ask,
        }
    }

    /// The steps of the current task: plans, the log, the answer.
    pub fn inner_steps(&self) -> &[ChatMessage] {
        &self.history[self.offset..]
    }

    /// The calls of the plan so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn prompts(&self) -> [&'static str; 4] {
        match self.config.language {
            Language::English => [
                prompts::PLANNER_EN,
                prompts::WORKER_EN,
                prompts::SOLVER_EN,
                prompts::REFORMAT_EN,
            ],
            Language::Chinese => [
                prompts::PLANNER_CN,
                prompts::WORKER_CN,
                prompts::SOLVER_CN,
                prompts::REFORMAT_CN,
            ],
        }
    }

    fn planner_prompt(&self) -> Vec<ChatMessage> {
        let [planner, _, _, reformat] = self.prompts();
        let tools = ActionDescription::repr(&self.config.actions);
        let mut out = system(self.system.as_deref());
        let text = prompts::fill(planner, &[("tool_description", &tools)]);
        out.push(ChatMessage::new("system", text));
        out.extend(self.history.iter().cloned());
        if let Some(what) = &self.reformat {
            let text = prompts::fill(reformat, &[("err_msg", what)]);
            out.push(ChatMessage::new("system", text));
        }
        out
    }

    fn run_steps(&mut self) -> Result<()> {
        while let Some(step) = self.steps.get(self.records.len()) {
            let input = PyValue::Str(substitute(&step.action_input, &self.records)?);
            let place = (self.records.len(), step.thought.as_str());
            match dispatch(&step.action, input, &self.config.actions, place)? {
                Dispatch::Own(record) => self.records.push(*record),
                Dispatch::Run(call) => {
                    self.phase = Phase::Call(vec![call]);
                    return Ok(());
                }
            }
        }
        self.solve();
        Ok(())
    }

    fn solve(&mut self) {
        let [_, worker, solver, _] = self.prompts();
        let mut log = String::new();
        for (step, record) in self.steps.iter().zip(&self.records) {
            let response = record.action_return.response().display();
            let values = [
                ("thought", step.thought.as_str()),
                ("action_resp", &response),
            ];
            log.push_str(&prompts::fill(worker, &values));
        }
        let values = [("question", self.question.as_str()), ("worker_log", &log)];
        self.solver_prompt = Some(prompts::fill(solver, &values));
        self.history.push(ChatMessage::new("system", log));
        self.phase = Phase::Ask;
    }
}

/// Plain replacement, one reference after the other, in what earlier ones left.
fn substitute(input: &str, records: &[Record]) -> Result<String> {
    let mut out = input.to_owned();
    for found in REFERENCE.find_iter(input) {
        let number: usize = found.as_str()[2..].parse().unwrap_or(usize::MAX);
        // Python counts `#E0` from the end.
        let record = match number {
            0 => records.last(),
            n => records.get(n - 1),
        };
        let record =
            record.ok_or_else(|| Error::upstream("IndexError", "list index out of range"))?;
        out = out.replace(found.as_str(), &record.action_return.format_result());
    }
    Ok(out)
}

impl Machine for ReWooV024Machine {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| match &self.solver_prompt {
            Some(prompt) => Ok(ChatRequest::prompt(prompt)),
            None => Ok(ChatRequest::messages(to_messages(self.planner_prompt())?)),
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.history
            .push(ChatMessage::new("assistant", &reply.text));
        if self.solver_prompt.is_some() {
            self.phase = Phase::Done(Outcome::answered(reply.text));
            return Ok(());
        }
        match parse_plan(&reply.text) {
            Ok(steps) => {
                self.steps = steps;
                self.phase = Phase::Done(Outcome::out_of_turns(""));
                self.run_steps()
            }
            Err(Error::Upstream { what, .. }) => {
                self.turn += 1;
                self.reformat = Some(what);
                if self.turn >= self.max_turn {
                    self.solve();
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        self.records.extend(records(&self.phase, observations)?);
        self.phase = Phase::Done(Outcome::out_of_turns(""));
        self.run_steps()
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        self.phase.expect_done()?;
        self.history.extend(messages.iter().map(from_message));
        self.question = messages.last().map(Message::text).unwrap_or_default();
        self.offset = self.history.len();
        self.reformat = None;
        self.steps.clear();
        self.records.clear();
        self.solver_prompt = None;
        self.turn = 0;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        to_messages(self.history.clone()).unwrap_or_default()
    }
}
