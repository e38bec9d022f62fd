//! `Internlm2Agent` of Lagent 0.2.

use internlm_core::{ChatRequest, Message};
use serde::{Deserialize, Serialize};

use super::super::{Machine, Observation, Outcome, Phase, Reply, Start, Step};
use super::{Dispatch, Record, descriptions, dispatch, from_message, records, system, to_messages};
use crate::error::{Error, Result};
use crate::lagent::{ActionDescription, ChatMessage, parse_v024, prompts};
use crate::python::{self, DumpStyle, PyValue};

/// Configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Internlm2Agent {
    /// Tools in Lagent's form; those of the agent if empty.
    pub plugins: Vec<ActionDescription>,
    /// The interpreter.
    pub interpreter: Option<ActionDescription>,
    /// Conversations to learn from, before the real one.
    pub few_shot: Vec<Vec<ChatMessage>>,
    /// Most turns, if the caller sets none.
    pub max_turn: usize,
}

impl Default for Internlm2Agent {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            interpreter: None,
            few_shot: Vec::new(),
            max_turn: 3,
        }
    }
}

/// A run of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Internlm2Machine {
    config: Internlm2Agent,
    system: Option<String>,
    history: Vec<ChatMessage>,
    /// Where the current task's own steps begin in the history.
    offset: usize,
    records: Vec<Record>,
    /// The reply that the calls are of: channel, words, action.
    last: Option<(String, String, PyValue)>,
    max_turn: usize,
    turn: usize,
    phase: Phase,
}

impl Internlm2Machine {
    /// A run from its beginning.
    pub fn new(mut config: Internlm2Agent, start: Start) -> Self {
        config.plugins = descriptions(&config.plugins, &start.tools);
        let history: Vec<ChatMessage> = start.messages.iter().map(from_message).collect();
        Self {
            max_turn: start.max_turns.unwrap_or(config.max_turn).max(1),
            config,
            system: start.system,
            offset: history.len(),
            history,
            records: Vec::new(),
            last: None,
            turn: 0,
            phase: Phase::Ask,
        }
    }

    /// The steps of the current task: `language`, `tool`, `environment`.
    pub fn inner_steps(&self) -> &[ChatMessage] {
        &self.history[self.offset..]
    }

    /// The calls so far, with what the model said before them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What the model is sent.
    pub fn prompt(&self) -> Vec<ChatMessage> {
        let mut out = system(self.system.as_deref());
        out.push(ChatMessage::new("system", prompts::META_CN));
        let named = |name: &str, text: &str| ChatMessage {
            name: Some(name.to_owned()),
            ..ChatMessage::new("system", text)
        };
        if self.config.interpreter.is_some() {
            out.push(named("interpreter", prompts::INTERPRETER_CN));
        }
        if !self.config.plugins.is_empty() {
            let list = ActionDescription::plugin_prompt_v024(&self.config.plugins);
            out.push(named(
                "plugin",
                &prompts::fill(prompts::PLUGIN_CN, &[("prompt", &list)]),
            ));
        }
        for shot in &self.config.few_shot {
            out.extend(joined(shot));
        }
        out.extend(joined(&self.history));
        out
    }

    fn next_turn(&mut self) {
        self.phase = match self.turn >= self.max_turn {
            true => Phase::Done(Outcome::out_of_turns("")),
            false => Phase::Ask,
        };
    }

    fn call(&mut self, channel: &str, language: String, action: &PyValue) -> Result<()> {
        let actions = match channel {
            "plugin" => self.config.plugins.clone(),
            _ => self.config.interpreter.iter().cloned().collect(),
        };
        let missing = |key: &str| Error::upstream("KeyError", format!("'{key}'"));
        let name = action.get("name").ok_or_else(|| missing("name"))?;
        let parameters = action
            .get("parameters")
            .ok_or_else(|| missing("parameters"))?;
        let name = name
            .as_str()
            .ok_or_else(|| Error::upstream("TypeError", "the name is no text"))?;
        let place = (self.records.len(), language.as_str());
        let dispatched = dispatch(name, parameters.clone(), &actions, place)?;
        self.last = Some((channel.to_owned(), language, action.clone()));
        match dispatched {
            Dispatch::Run(call) => self.phase = Phase::Call(vec![call]),
            Dispatch::Own(record) => self.tell(*record),
        }
        Ok(())
    }

    fn tell(&mut self, mut record: Record) {
        let Some((channel, language, action)) = self.last.take() else {
            return;
        };
        record.action_return.thought = Some(language.clone());
        let response = record.action_return.response().display();
        let finished = record.action_return.kind == "FinishAction";
        self.records.push(record);
        self.history.push(ChatMessage::new("language", &language));
        if finished {
            self.phase = Phase::Done(Outcome::answered(language));
            return;
        }
        let named = |role: &str, content: PyValue| ChatMessage {
            role: role.to_owned(),
            content,
            name: Some(channel.clone()),
        };
        self.history.push(named("tool", action));
        self.history
            .push(named("environment", PyValue::Str(response)));
        self.next_turn();
    }
}

/// Lagent's `format_sub_role`: words and call are one message of the assistant.
fn joined(steps: &[ChatMessage]) -> Vec<ChatMessage> {
    let mut out: Vec<ChatMessage> = Vec::new();
    for step in steps {
        let text = match (step.role.as_str(), step.name.as_deref()) {
            ("language", _) => step.content.display(),
            ("tool", name) => {
                let name = name.unwrap_or_default();
                let content = match (&step.content, name) {
                    (action @ PyValue::Dict(_), "interpreter") => {
                        let command = action.get("parameters").and_then(|p| p.get("command"));
                        command.map(PyValue::display).unwrap_or_default()
                    }
                    (action @ PyValue::Dict(_), _) => action.dumps_with(DumpStyle {
                        ascii: true,
                        indent: None,
                    }),
                    (text, _) => text.display(),
                };
                format!("<|action_start|><|{name}|>\n{content}<|action_end|>\n")
            }
            _ => {
                out.push(step.clone());
                continue;
            }
        };
        match out.last_mut() {
            Some(last) if last.role == "assistant" => {
                last.content = PyValue::Str(last.content.display() + &text);
            }
            _ => out.push(ChatMessage::new("assistant", text)),
        }
    }
    out
}

impl Machine for Internlm2Machine {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| {
            let request = ChatRequest::messages(to_messages(self.prompt())?);
            Ok(request.with_keep_special_tokens(true))
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        // Should anything be raised, the run is over.
        self.phase = Phase::Done(Outcome::out_of_turns(""));
        let parsed = parse_v024(&reply.text)?;
        let action = match (parsed.name.as_deref(), parsed.action) {
            (Some("plugin"), Some(action)) if !self.config.plugins.is_empty() => {
                python::loads(&action).ok()
            }
            (Some("interpreter"), Some(code)) => {
                self.config.interpreter.as_ref().map(|interpreter| {
                    let command = vec![(PyValue::str("command"), PyValue::Str(code))];
                    PyValue::Dict(vec![
                        (PyValue::str("name"), PyValue::str(interpreter.name())),
                        (PyValue::str("parameters"), PyValue::Dict(command)),
                    ])
                })
            }
            (Some(_), _) => None,
            (None, _) => {
                self.history
                    .push(ChatMessage::new("language", &parsed.language));
                self.phase = Phase::Done(Outcome::answered(parsed.language));
                return Ok(());
            }
        };
        match (parsed.name, action) {
            (Some(channel), Some(action)) => self.call(&channel, parsed.language, &action),
            // The turn is spent, and the same is asked again.
            _ => {
                self.next_turn();
                Ok(())
            }
        }
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
        to_messages(joined(&self.history)).unwrap_or_default()
    }
}
