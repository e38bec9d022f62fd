//! The chat formats of the InternLM family, as data.
//!
//! Sources: InternLM/InternEvo `transformers/internlm_model/modeling_internlm.py` and
//! `transformers/internlm2_model/modeling_internlm2.py` (`build_inputs`), InternLM/InternLM
//! `chat/chat_format.md`, InternLM/lagent `lagent/llms/meta_template.py` (names), InternLM/xtuner
//! `xtuner/utils/templates.py` (the variant with `<eoh>`).

use internlm_core::{Message, Part, Role, ToolCall, ToolSpec, tool_call};

use crate::error::{Error, Result};

/// A chat format. A message is `open`, its name, `header_end`, its content, `close`.
#[derive(Debug)]
pub(super) struct Format {
    pub(super) name: &'static str,
    system: Turn,
    user: Turn,
    assistant: Turn,
    environment: Option<Turn>,
    /// Between `open`, or the name, and the content.
    header_end: &'static str,
    protocol: Option<Protocol>,
    /// The special token that ends an answer.
    pub(super) end_of_answer: &'static str,
}

#[derive(Debug)]
struct Turn {
    open: &'static [Piece],
    close: &'static [Piece],
}

/// What formats with names and tools add.
#[derive(Debug)]
struct Protocol {
    /// Written before a name.
    name_prefix: &'static str,
    /// Names that are special tokens.
    channels: &'static [(&'static str, &'static str)],
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Text(&'static str),
    Marker(&'static str),
}

use Piece::{Marker, Text};

/// InternLM 1: plain text with one special token. `end_of_question` closes the user's turn.
const fn internlm1(name: &'static str, end_of_question: &'static [Piece]) -> Format {
    Format {
        name,
        system: Turn {
            open: &[Text("<|System|>")],
            close: &[Text("\n")],
        },
        user: Turn {
            open: &[Text("<|User|>")],
            close: end_of_question,
        },
        assistant: Turn {
            open: &[Text("<|Bot|>")],
            close: &[Marker("<eoa>"), Text("\n")],
        },
        environment: None,
        header_end: ":",
        protocol: None,
        end_of_answer: "<eoa>",
    }
}

/// InternLM2, 2.5 and 3: ChatML with channels.
const fn internlm2(name: &'static str) -> Format {
    const CLOSE: &[Piece] = &[Marker("<|im_end|>"), Text("\n")];
    Format {
        name,
        system: Turn {
            open: &[Marker("<|im_start|>"), Text("system")],
            close: CLOSE,
        },
        user: Turn {
            open: &[Marker("<|im_start|>"), Text("user")],
            close: CLOSE,
        },
        assistant: Turn {
            open: &[Marker("<|im_start|>"), Text("assistant")],
            close: CLOSE,
        },
        environment: Some(Turn {
            open: &[Marker("<|im_start|>"), Text("environment")],
            close: CLOSE,
        }),
        header_end: "\n",
        protocol: Some(Protocol {
            name_prefix: " name=",
            channels: &[("plugin", "<|plugin|>"), ("interpreter", "<|interpreter|>")],
        }),
        end_of_answer: "<|im_end|>",
    }
}

static FORMATS: [Format; 4] = [
    internlm1("internlm-chat", &[Text("\n")]),
    internlm1("internlm-chat-eoh", &[Marker("<eoh>"), Text("\n")]),
    internlm2("internlm2-chat"),
    internlm2("internlm3-instruct"),
];

impl Format {
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }

    pub(super) fn render(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        let mut out = Parts::default();
        // A plugin message in the conversation is the tool list, so `tools` would repeat it.
        let has_specs = messages
            .iter()
            .any(|m| m.role == Role::System && m.name.as_deref() == Some("plugin"));
        let specs_at = messages
            .iter()
            .position(|m| m.role != Role::System)
            .unwrap_or(messages.len());
        if !tools.is_empty() && self.protocol.is_none() {
            return Err(Error::NoToolProtocol {
                template: self.name,
            });
        }
        let specs = (!tools.is_empty() && !has_specs)
            .then(|| Message::system(tool_call::spec_json(tools)).with_name("plugin"));
        for (index, message) in messages.iter().enumerate() {
            if let Some(specs) = specs.as_ref().filter(|_| index == specs_at) {
                self.message(index, specs, &mut out)?;
            }
            self.message(index, message, &mut out)?;
            out.calls.extend(&message.tool_calls);
        }
        if let Some(specs) = specs.as_ref().filter(|_| specs_at == messages.len()) {
            self.message(messages.len(), specs, &mut out)?;
        }
        if add_generation_prompt {
            out.pieces(self.assistant.open);
            out.text(self.header_end);
        }
        Ok(out.parts)
    }

    fn message(&self, index: usize, message: &Message, out: &mut Parts<'_>) -> Result<()> {
        let wrong = |what: String| Error::Message { index, what };
        let name = channel(message, &out.calls);
        if message.role == Role::System && message.content.is_empty() && name.is_none() {
            return Ok(()); // as the official code: no block for an empty system text
        }
        let turn = match message.role {
            Role::System => &self.system,
            Role::User => &self.user,
            Role::Assistant => &self.assistant,
            Role::Environment => self.environment.as_ref().ok_or_else(|| {
                wrong(format!(
                    "the chat format `{}` has no environment messages",
                    self.name
                ))
            })?,
        };
        out.pieces(turn.open);
        if let Some(name) = name {
            let protocol = self.protocol.as_ref().ok_or_else(|| {
                wrong(format!(
                    "has the name {name:?}; the chat format `{}` has no names",
                    self.name
                ))
            })?;
            if name.contains(['\n', '\r']) {
                return Err(wrong(format!("the name {name:?} contains a line break")));
            }
            out.text(protocol.name_prefix);
            match protocol
                .channels
                .iter()
                .find(|(channel, _)| *channel == name)
            {
                Some((_, token)) => out.push(Part::marker(*token)),
                None => out.text(name),
            }
        }
        out.text(self.header_end);
        for part in &message.content {
            match part {
                Part::Text { text } => out.text(text),
                Part::Marker { .. } => out.push(part.clone()),
            }
        }
        if !message.tool_calls.is_empty() {
            if self.protocol.is_none() {
                return Err(wrong(format!(
                    "has tool calls; the chat format `{}` has no tool protocol",
                    self.name
                )));
            }
            for part in tool_call::calls(&message.tool_calls) {
                out.push(part);
            }
        }
        out.pieces(turn.close);
        Ok(())
    }
}

/// The name that is written. A result that answers a call by its id came through OpenAI's protocol,
/// where a name, if any, is the tool's: it goes to the channel of the call.
fn channel<'m>(message: &'m Message, calls: &[&ToolCall]) -> Option<&'m str> {
    let name = message.name.as_deref().filter(|name| !name.is_empty());
    let is_channel = |name| name == Some("plugin") || name == Some("interpreter");
    if message.role != Role::Environment || message.tool_call_id.is_none() || is_channel(name) {
        return name;
    }
    let answered = calls
        .iter()
        .rev()
        .find(|call| call.id == message.tool_call_id);
    Some(match answered {
        Some(call) if call.name == tool_call::INTERPRETER_TOOL => "interpreter",
        _ => "plugin",
    })
}

/// Collects parts; neighbouring texts are joined.
#[derive(Default)]
struct Parts<'m> {
    parts: Vec<Part>,
    /// The calls so far.
    calls: Vec<&'m ToolCall>,
}

impl Parts<'_> {
    fn pieces(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Text(text) => self.text(text),
                Marker(text) => self.push(Part::marker(*text)),
            }
        }
    }

    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text { text: last }) => last.push_str(text),
            _ => self.parts.push(Part::text(text)),
        }
    }

    fn push(&mut self, part: Part) {
        match part {
            Part::Text { text } => self.text(&text),
            marker @ Part::Marker { .. } => self.parts.push(marker),
        }
    }
}
