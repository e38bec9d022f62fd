//! The agents of Lagent, step by step as they are, mistakes included.
//!
//! They are for reproducing results and for models that were tuned in these loops. Where Lagent raises an
//! exception, a machine gives [`Error::Upstream`] and is done; where it runs the wrong tool on purpose (the
//! first plugin, for a call that can't be read), the machine asks for that call.

mod internlm_v024;
mod internlm_v05;
mod react_v024;
mod react_v05;
mod rewoo_v024;

pub use internlm_v05::{AgentForInternLm, AgentForInternLmMachine};
pub use internlm_v024::{Internlm2Agent, Internlm2Machine};
pub use react_v05::{ReActV05, ReActV05Machine};
pub use react_v024::{ReActV024, ReActV024Machine};
pub use rewoo_v024::{ReWooV024, ReWooV024Machine};

use internlm_core::tool_call::{ACTION_END, ACTION_START, INTERPRETER, PLUGIN};
use internlm_core::{Message, Part, Role, ToolSpec};
use serde::{Deserialize, Serialize};

use super::{Call, Channel, End, Observation, Observed, Outcome, Phase, in_order};
use crate::error::{Error, Result};
use crate::lagent::{
    ActionDescription, ActionReturn, AgentMessage, ChatMessage, ResultItem, builtin, split_name,
    state,
};
use crate::python::PyValue;

/// A call that Lagent's executor was given, and what it returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The name in the call.
    pub name: String,
    /// Its arguments.
    pub parameters: PyValue,
    /// What came back.
    pub action_return: ActionReturn,
}

/// The agent's name as a sender in 0.5.
const AGENT: &str = "Agent";
/// The executor's.
const EXECUTOR: &str = "ActionExecutor";

/// The end of a run of 0.5: its last message, which is also the details.
fn outcome(message: &AgentMessage, end: End) -> Outcome {
    Outcome {
        answer: message.content.display(),
        end,
        details: serde_json::to_value(message).unwrap_or_default(),
    }
}

/// Descriptions that were given, or those of the tools.
fn descriptions(given: &[ActionDescription], tools: &[ToolSpec]) -> Vec<ActionDescription> {
    match given {
        [] => tools.iter().map(ActionDescription::from_spec).collect(),
        given => given.to_vec(),
    }
}

/// What happens with a call: the machine answers it itself where Lagent's own actions would.
enum Dispatch {
    Run(Call),
    Own(Box<Record>),
}

fn dispatch(
    name: &str,
    parameters: PyValue,
    actions: &[ActionDescription],
    (number, thought): (usize, &str),
) -> Result<Dispatch> {
    let (action, _) = split_name(name)?;
    if actions.iter().any(|a| a.name() == action) {
        return Ok(Dispatch::Run(Call {
            id: super::dialect::call_id(number),
            name: name.to_owned(),
            arguments: parameters.to_json(),
            channel: Channel::Tool,
            thought: thought.to_owned(),
        }));
    }
    Ok(Dispatch::Own(Box::new(Record {
        name: name.to_owned(),
        action_return: builtin(name, &parameters),
        parameters,
    })))
}

/// The records of the calls that a machine waits for, in order.
///
/// # Errors
/// If it does not wait for any.
fn records(phase: &Phase, observations: Vec<Observation>) -> Result<Vec<Record>> {
    let calls = phase.expect_calls()?;
    let observed = in_order(&calls, observations);
    Ok(calls
        .iter()
        .zip(observed)
        .map(|(call, observed)| record(call, observed))
        .collect())
}

/// The record of a call that was run, whoever ran it.
fn record(call: &Call, observed: Observed) -> Record {
    let kind = call.name.split('.').next().unwrap_or(&call.name);
    let args = PyValue::from(&call.arguments);
    let action_return = match observed {
        Observed::Lagent(action_return) => *action_return,
        Observed::Output(output) => {
            let item = ResultItem {
                kind: "text".to_owned(),
                content: output.to_text(),
            };
            ActionReturn::success(kind, args.clone(), vec![item])
        }
        Observed::Fault(what) => {
            ActionReturn::failure(kind, args.clone(), state::API_ERROR, PyValue::Str(what))
        }
    };
    Record {
        name: call.name.clone(),
        parameters: args,
        action_return,
    }
}

/// The application's own instructions, if there are any, as the first of the messages before a conversation.
fn system(text: Option<&str>) -> Vec<ChatMessage> {
    text.map(|text| ChatMessage::new("system", text))
        .into_iter()
        .collect()
}

/// Messages as the model gets them. The markers of an assistant's calls become special tokens again, as they
/// do where Lagent's texts are tokenized.
fn to_messages(messages: Vec<ChatMessage>) -> Result<Vec<Message>> {
    messages.into_iter().map(to_message).collect()
}

fn to_message(message: ChatMessage) -> Result<Message> {
    let role = match message.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "environment" => Role::Environment,
        other => return Err(Error::upstream("KeyError", format!("'{other}'"))),
    };
    let text = match message.content {
        PyValue::Str(text) => text,
        other => other.dumps(),
    };
    let mut out = match role {
        Role::Assistant => Message::assistant("").with_content(marked(&text)),
        role => Message::new(role, text),
    };
    out.name = message.name;
    Ok(out)
}

fn marked(text: &str) -> Vec<Part> {
    const MARKERS: [&str; 4] = [ACTION_START, ACTION_END, PLUGIN, INTERPRETER];
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let next = MARKERS
            .iter()
            .filter_map(|m| Some((rest.find(m)?, *m)))
            .min();
        let Some((at, marker)) = next else {
            break;
        };
        if at > 0 {
            parts.push(Part::text(&rest[..at]));
        }
        parts.push(Part::marker(marker));
        rest = &rest[at + marker.len()..];
    }
    if !rest.is_empty() {
        parts.push(Part::text(rest));
    }
    parts
}

/// A message of a conversation that was before the run.
fn from_message(message: &Message) -> ChatMessage {
    ChatMessage {
        role: message.role.as_str().to_owned(),
        content: PyValue::Str(message.text()),
        name: message.name.clone(),
    }
}
