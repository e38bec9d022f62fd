//! An agent whose every action is a program: the model writes Python in a fence, and is told what it printed.

use internlm_core::{ChatRequest, Message, ToolSpec};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dialect::{Dialect, Turn, call_id, one_system};
use super::{Call, Channel, Observed, Reply};

/// Configuration of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CodeAct {
    /// The tool that runs programs; it gets one argument, `code`.
    pub interpreter: String,
    /// The instructions.
    pub instructions: String,
}

impl Default for CodeAct {
    fn default() -> Self {
        Self {
            interpreter: "python".to_owned(),
            instructions: "Solve the task step by step. When something is to be computed or looked at, write one \
                Python program in a fence that begins with ```python, print what you need to know, and stop; you \
                are then told its output. Variables stay from one program to the next. When you know the answer, \
                write it in words, without any fence."
                .to_owned(),
        }
    }
}

impl CodeAct {
    /// Sets the tool that runs programs.
    #[must_use]
    pub fn with_interpreter(mut self, tool: impl Into<String>) -> Self {
        self.interpreter = tool.into();
        self
    }

    /// Sets the instructions.
    #[must_use]
    pub fn with_instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = instructions.into();
        self
    }
}

impl Dialect for CodeAct {
    const MAX_TURNS: usize = 8;

    fn system(&self, system: Option<&str>, _: &[ToolSpec]) -> Vec<Message> {
        one_system(system, self.instructions.clone())
    }

    fn request(&self, mut messages: Vec<Message>, _: &[ToolSpec], last: bool) -> ChatRequest {
        if last {
            messages.push(Message::user(
                "Now write the answer in words, without any program.",
            ));
        }
        ChatRequest::messages(messages)
    }

    fn read(&self, reply: &Reply, _: &[ToolSpec], first_id: usize) -> Turn {
        let text = &reply.text;
        let Some((thought, rest)) = text.split_once("```") else {
            return Turn::Answer(text.trim().to_owned());
        };
        let (language, body) = rest.split_once('\n').unwrap_or((rest, ""));
        let language = language.trim().to_ascii_lowercase();
        if !matches!(language.as_str(), "" | "python" | "py" | "python3") {
            return Turn::Answer(text.trim().to_owned());
        }
        // A reply that was cut has no closing fence; half a program is not run.
        let Some((code, _)) = body.split_once("```") else {
            return Turn::Fault("the program's fence is not closed".to_owned());
        };
        let call = Call {
            id: call_id(first_id),
            name: self.interpreter.clone(),
            arguments: json!({"code": code.trim_end()}),
            channel: Channel::Code,
            thought: thought.trim().to_owned(),
        };
        Turn::Calls(vec![(call, None)])
    }

    fn said(&self, reply: &Reply, turn: &Turn) -> Message {
        // What follows the program was written without its output.
        let text = match turn {
            Turn::Calls(_) => {
                reply
                    .text
                    .splitn(3, "```")
                    .take(2)
                    .collect::<Vec<_>>()
                    .join("```")
                    + "```"
            }
            _ => reply.text.clone(),
        };
        Message::assistant(text)
    }

    fn told(&self, results: &[(Call, Observed)]) -> Vec<Message> {
        let told = results
            .iter()
            .map(|(_, observed)| Message::user(format!("Output:\n{}", observed.text())));
        told.collect()
    }

    fn fault(&self, what: &str) -> Message {
        Message::user(format!("Error: {what}."))
    }
}
