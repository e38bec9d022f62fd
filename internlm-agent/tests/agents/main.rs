//! Agents over a script: what is sent as well as what comes back.
#![allow(clippy::unwrap_used, reason = "tests")]

mod containers;
mod driver;
mod faults;
mod fixtures;
mod memory;
mod planner;
#[cfg(feature = "async")]
mod streams;
mod traces;

use std::sync::Arc;

use internlm_agent::Agent;
use internlm_agent::tool::{CancelToken, ToolSet, TypedTool, tool};
use internlm_core::chat_model::Input;
use internlm_core::scripted::{Reply, ScriptedModel};
use internlm_core::{ChatRequest, Message};
use schemars::JsonSchema;
use serde::Deserialize;

/// Makes text bold.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Bold {
    /// The text.
    text: String,
}

/// Adds two numbers.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Add {
    a: i64,
    b: i64,
}

/// Runs a program.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Code {
    code: String,
}

pub(crate) fn tools() -> ToolSet {
    ToolSet::new()
        .with(tool("bold", |b: Bold| Ok(format!("**{}**", b.text))))
        .and_then(|set| set.with(tool("Calculator.add", |n: Add| Ok((n.a + n.b).to_string()))))
        .and_then(|set| set.with(tool("python", |c: Code| Ok(format!("ran {}", c.code)))))
        .unwrap()
}

/// An agent and its script, to see what it was asked.
pub(crate) fn scripted<R: Into<Reply>>(
    replies: impl IntoIterator<Item = R>,
) -> (Agent, Arc<ScriptedModel>) {
    let model = Arc::new(ScriptedModel::new(replies));
    (Agent::shared(model.clone()).with_tools(tools()), model)
}

/// A tool `stop` that cancels a run, whatever text it gets.
pub(crate) fn stop(cancel: &CancelToken) -> TypedTool {
    let cancel = cancel.clone();
    tool("stop", move |_: Bold| {
        cancel.cancel();
        Ok("stopped")
    })
}

pub(crate) fn messages(request: &ChatRequest) -> &[Message] {
    match &request.input {
        Input::Messages(messages) => messages,
        other => panic!("{other:?}"),
    }
}
