//! InternLM2's protocol of tool calls and code, as pure text.
//!
//! A call is `<|action_start|><|plugin|>`, a line break, the JSON object
//! `{"name": …, "parameters": {…}}` and `<|action_end|>`; code is the same with `<|interpreter|>`
//! and a fenced block of Python. The tools stand in a system message named `plugin`, as a JSON
//! list. (InternLM's `chat/chat_format.md`.)
//!
//! The writer makes [`Part`]s, in which only the protocol's own tokens are markers.
//! [`ToolCallParser`] reads a model's text piece by piece, special tokens spelled out, and finds
//! the calls again; what it does not take for a call stays content, so that no text is lost.
//!
//! ```
//! use internlm_core::{ToolCall, message, tool_call};
//! use serde_json::json;
//!
//! let call = ToolCall::new("weather", json!({"city": "Shanghai"}));
//! let text = format!("I'll look.{}", message::join(&tool_call::calls(&[call.clone()])));
//! assert_eq!(
//!     text,
//!     "I'll look.<|action_start|><|plugin|>\n\
//!      {\"name\": \"weather\", \"parameters\": {\"city\": \"Shanghai\"}}<|action_end|>"
//! );
//! let parsed = tool_call::parse(&text);
//! assert_eq!(parsed.content, "I'll look.");
//! assert_eq!(parsed.blocks[0].tool_call()?, call);
//! # Ok::<(), internlm_core::Error>(())
//! ```

mod block;
mod parser;
mod write;

#[cfg(test)]
mod tests;

pub use block::{ActionBlock, Fault};
pub use parser::{Parsed, ToolCallEvent, ToolCallParser, parse};
pub use write::{calls, in_words, interpreter, plugin, spec_json};

#[cfg(doc)]
use crate::message::Part;

/// Begins a block.
pub const ACTION_START: &str = "<|action_start|>";
/// Ends a block.
pub const ACTION_END: &str = "<|action_end|>";
/// Follows [`ACTION_START`] if the block is a tool call, and names system and environment messages.
pub const PLUGIN: &str = "<|plugin|>";
/// Follows [`ACTION_START`] if the block is code, and names system and environment messages.
pub const INTERPRETER: &str = "<|interpreter|>";

/// The name that code has as a [`ToolCall`](crate::ToolCall): its one argument, `code`, is the
/// program. A tool of that name can't be called with just this argument.
pub const INTERPRETER_TOOL: &str = "interpreter";

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A call of a tool.
    Plugin,
    /// Code for the interpreter.
    Interpreter,
}

impl Action {
    /// The special token.
    pub fn marker(self) -> &'static str {
        match self {
            Action::Plugin => PLUGIN,
            Action::Interpreter => INTERPRETER,
        }
    }

    /// The name of messages that belong to it: `plugin` or `interpreter`.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Plugin => "plugin",
            Action::Interpreter => "interpreter",
        }
    }
}
