//! Lagent's texts, read and written as Lagent does, mistakes included.
//!
//! Two lines of Lagent exist and disagree: 0.2.4, the last with ReAct in text and ReWOO, and 0.5. Models and
//! prompts were made for both. What is here is exact: prompts byte for byte, parsers case by case, and the
//! odd answers of its executor. The state machines of [`protocol`](crate::protocol) use it in their
//! compatibility modes; by default they read more leniently and tell the model what it did wrong.
//!
//! The prompts' wording is Lagent's (InternLM/lagent, Apache-2.0), because models were tuned on it.

mod action;
mod aggregate;
mod arguments;
mod autogpt;
mod code;
mod description;
mod executor;
mod json_parser;
mod meta_template;
pub mod prompts;
mod react_text;
mod rewoo;
mod tool_parser;

pub use action::{ActionReturn, ResultItem, parse_outputs, state, valid};
pub use aggregate::{AgentMessage, ChatMessage, default_aggregate};
pub use arguments::{ArgumentFault, ArgumentParser};
pub use autogpt::{AutoGptCall, parse_autogpt};
pub(crate) use code::fenced;
pub use code::{PythonProgram, extract_code};
pub use description::ActionDescription;
pub use executor::{Action, ActionOutput, Executor};
pub(crate) use executor::{builtin, split_name};
pub use json_parser::{Field, FieldType, JsonParser, Shape};
pub use meta_template::{TemplateItem, render_internlm2};
pub use react_text::{ReActMarkers, ReActStep};
pub use rewoo::{PlannedStep, parse_plan};
pub use tool_parser::{ParsedReply, ToolParser, V024Reply, parse_v024, status};
