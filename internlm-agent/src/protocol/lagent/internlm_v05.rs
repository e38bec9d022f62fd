//! `AgentForInternLM` of Lagent 0.5.

use internlm_core::{ChatRequest, Message, Role};
use serde::{Deserialize, Serialize};

use super::super::{End, Machine, Observation, Phase, Reply, Start, Step};
use super::{
    AGENT, Dispatch, EXECUTOR, Record, descriptions, dispatch, from_message, outcome, records,
    system, to_messages,
};
use crate::error::{Error, Result};
use crate::lagent::{
    ActionDescription, AgentMessage, ChatMessage, ParsedReply, ToolParser, prompts, status,
};
use crate::python::PyValue;

/// Configuration of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentForInternLm {
    /// Tools in Lagent's form; those of the agent if empty.
    pub plugins: Vec<ActionDescription>,
    /// Interpreters, the first of which gets all code.
    pub interpreters: Vec<ActionDescription>,
    /// Conversations to learn from, before the real one. Roles `thought`, `language` and `tool` are joined.
    pub few_shot: Vec<Vec<ChatMessage>>,
    /// Before what the environment says.
    pub environment_begin: String,
    /// After what the environment says.
    pub environment_end: String,
    /// Most turns, if the caller sets none.
    pub max_turn: usize,
}

impl Default for AgentForInternLm {
    fn default() -> Self {
        Self {
            plugins: Vec::new(),
            interpreters: Vec::new(),
            few_shot: Vec::new(),
            environment_begin: String::new(),
            environment_end: String::new(),
            max_turn: 4,
        }
    }
}

/// A run of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentForInternLmMachine {
    config: AgentForInternLm,
    system: Option<String>,
    memory: Vec<AgentMessage>,
    records: Vec<Record>,
    max_turn: usize,
    turn: usize,
    phase: Phase,
}

const PARSER: ToolParser = ToolParser::Mixed;

impl AgentForInternLmMachine {
    /// A run from its beginning.
    pub fn new(mut config: AgentForInternLm, start: Start) -> Self {
        config.plugins = descriptions(&config.plugins, &start.tools);
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

    /// Lagent's `get_steps`: thoughts, calls and what the environment said.
    pub fn steps(&self) -> Vec<ChatMessage> {
        let mut steps = Vec::new();
        let mut tool_type = None;
        for message in &self.memory {
            if message.sender == AGENT {
                let Some(parsed) = parsed(message) else {
                    continue;
                };
                steps.push(ChatMessage::new("thought", parsed.thought));
                if parsed.tool_type.is_some() {
                    tool_type = parsed.tool_type;
                    steps.push(ChatMessage {
                        role: "tool".to_owned(),
                        content: parsed.action,
                        name: tool_type.clone(),
                    });
                }
            } else if message.sender != "user" {
                steps.push(ChatMessage {
                    role: "environment".to_owned(),
                    content: message.content.clone(),
                    name: tool_type.clone(),
                });
            }
        }
        steps
    }

    /// Lagent's `InternLMToolAggregator`.
    ///
    /// # Errors
    /// [`Error::Upstream`] for an unknown role in the few shots.
    pub fn prompt(&self) -> Result<Vec<ChatMessage>> {
        let mut out = system(self.system.as_deref());
        out.push(ChatMessage::new("system", prompts::META_CN));
        let list = ActionDescription::plugin_prompt(&self.config.plugins);
        let plugin = prompts::fill(prompts::PLUGIN_CN, &[("prompt", &list)]);
        for (name, text) in [
            ("plugin", plugin.as_str()),
            ("interpreter", prompts::INTERPRETER_CN),
        ] {
            out.push(ChatMessage {
                name: Some(name.to_owned()),
                ..ChatMessage::new("system", text)
            });
        }
        for shot in &self.config.few_shot {
            self.few_shot(shot, &mut out)?;
        }
        out.extend(self.conversation()?);
        Ok(out)
    }

    /// The part of the prompt after the instructions and the few shots.
    fn conversation(&self) -> Result<Vec<ChatMessage>> {
        let mut out = Vec::new();
        let mut tool_type = None;
        for message in &self.memory {
            match (message.sender.as_str(), parsed(message)) {
                (AGENT, Some(parsed)) => {
                    if parsed.status == status::PARSING_ERROR {
                        continue;
                    }
                    out.push(ChatMessage::new("assistant", PARSER.format(&parsed)?));
                    tool_type = parsed.tool_type;
                }
                (AGENT, None) => out.push(ChatMessage::new("assistant", message.content.display())),
                ("user", _) => out.push(ChatMessage::new("user", message.content.display())),
                _ => out.push(ChatMessage {
                    name: tool_type.clone(),
                    ..ChatMessage::new("environment", self.environment(&message.content.display()))
                }),
            }
        }
        Ok(out)
    }

    fn environment(&self, text: &str) -> String {
        format!(
            "{}{text}{}",
            self.config.environment_begin, self.config.environment_end
        )
    }

    fn few_shot(&self, shot: &[ChatMessage], out: &mut Vec<ChatMessage>) -> Result<()> {
        let mut messages = shot.iter().peekable();
        while let Some(message) = messages.next() {
            match message.role.as_str() {
                "assistant" | "user" | "system" => out.push(message.clone()),
                "environment" => {
                    let mut text = message.content.display();
                    if !text.starts_with(&self.config.environment_begin) {
                        text.insert_str(0, &self.config.environment_begin);
                    }
                    if !text.ends_with(&self.config.environment_end) {
                        text.push_str(&self.config.environment_end);
                    }
                    out.push(ChatMessage {
                        content: PyValue::Str(text),
                        ..message.clone()
                    });
                }
                "thought" | "language" => {
                    let tool = messages.next_if(|next| next.role == "tool");
                    let parsed = ParsedReply {
                        tool_type: tool.and_then(|tool| tool.name.clone()),
                        thought: message.content.display(),
                        action: tool.map_or(PyValue::None, |tool| tool.content.clone()),
                        status: status::NO_TOOL,
                    };
                    out.push(ChatMessage::new("assistant", PARSER.format(&parsed)?));
                }
                other => {
                    return Err(Error::upstream(
                        "KeyError",
                        format!("'Unkown role: {other}'"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The call of a parsed reply, as the executor's hooks make it.
    fn call(&mut self, parsed: &ParsedReply) -> Result<()> {
        let kind = parsed.tool_type.as_deref().unwrap_or_default();
        let actions = match kind {
            "plugin" => &self.config.plugins,
            _ => &self.config.interpreters,
        };
        let Some(first) = actions.first() else {
            let what = format!("No available {kind} executor");
            return Err(Error::upstream("RuntimeError", what));
        };
        let (name, parameters) = match &parsed.action {
            // Code, or a call that can't be read: the first action gets it.
            PyValue::Str(text) => {
                let command = vec![(PyValue::str("command"), PyValue::str(text))];
                (first.name().to_owned(), PyValue::Dict(command))
            }
            action => match (action.get("name"), action.get("parameters")) {
                (Some(PyValue::Str(name)), Some(parameters)) => (name.clone(), parameters.clone()),
                (Some(_), Some(_)) => {
                    return Err(Error::upstream("TypeError", "the name is no text"));
                }
                _ => return Err(Error::upstream("AssertionError", "")),
            },
        };
        let place = (self.records.len(), parsed.thought.as_str());
        match dispatch(&name, parameters, actions, place)? {
            Dispatch::Run(call) => self.phase = Phase::Call(vec![call]),
            Dispatch::Own(record) => self.tell(*record),
        }
        Ok(())
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
    let sender = match message.role {
        Role::Assistant => AGENT,
        Role::Environment => EXECUTOR,
        _ => "user",
    };
    AgentMessage::new(sender, from_message(message).content)
}

fn parsed(message: &AgentMessage) -> Option<ParsedReply> {
    serde_json::from_value(message.formatted.to_json()).ok()
}

impl Machine for AgentForInternLmMachine {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| {
            let request = ChatRequest::messages(to_messages(self.prompt()?)?);
            Ok(request.with_keep_special_tokens(true))
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        self.turn += 1;
        let parsed = PARSER.parse(&reply.text);
        let formatted = serde_json::to_value(&parsed).unwrap_or_default();
        let message = AgentMessage {
            content: PyValue::Str(reply.text),
            sender: AGENT.to_owned(),
            formatted: PyValue::from(formatted),
        };
        self.memory.push(message.clone());
        self.phase = Phase::Done(outcome(&message, End::Answered));
        match parsed.status {
            status::NO_TOOL => Ok(()),
            _ => self.call(&parsed),
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
        self.memory.extend(messages.iter().map(sent));
        self.turn = 0;
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        to_messages(self.conversation().unwrap_or_default()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_shot_of_joined_steps_hides_nothing_of_the_conversation() {
        let tool = ChatMessage {
            name: Some("plugin".to_owned()),
            ..ChatMessage::new("tool", "{}")
        };
        let shot = vec![
            ChatMessage::new("user", "an example"),
            ChatMessage::new("thought", "let me see"),
            tool,
        ];
        let config = AgentForInternLm {
            few_shot: vec![shot],
            ..AgentForInternLm::default()
        };
        let start = Start {
            system: Some("be brief".to_owned()),
            messages: vec![Message::user("the task")],
            ..Start::default()
        };
        let mut machine = AgentForInternLmMachine::new(config, start);
        machine.reply(Reply::text("the answer")).unwrap();
        let texts: Vec<String> = machine.messages().iter().map(Message::text).collect();
        assert_eq!(texts, ["the task", "the answer"]);
        assert_eq!(machine.prompt().unwrap().len(), 1 + 3 + 2 + 2);
    }
}
