//! What the tests share.

use internlm_agent::tool::{Tool, ToolContext, ToolError, ToolOutput};
use serde_json::Value;

/// Calls a tool without limits of the run.
pub(crate) fn call(tool: &dyn Tool, arguments: Value) -> Result<ToolOutput, ToolError> {
    tool.call(&arguments, &ToolContext::default())
}

/// What a call that must work tells the model.
#[track_caller]
pub(crate) fn text(tool: &dyn Tool, arguments: Value) -> String {
    call(tool, arguments).unwrap().to_text()
}

/// What the model is told of arguments that do not fit.
#[track_caller]
pub(crate) fn misfit(tool: &dyn Tool, arguments: Value) -> String {
    match call(tool, arguments) {
        Err(ToolError::Arguments { what, .. }) => what,
        other => panic!("{other:?}"),
    }
}

/// What the model is told of a call that fails.
#[track_caller]
pub(crate) fn failure(tool: &dyn Tool, arguments: Value) -> String {
    match call(tool, arguments) {
        Err(ToolError::Failed { what }) => what,
        other => panic!("{other:?}"),
    }
}

/// What the model is told of a limit that is reached.
#[track_caller]
pub(crate) fn limit(tool: &dyn Tool, arguments: Value) -> String {
    match call(tool, arguments) {
        Err(ToolError::Limit { what }) => what,
        other => panic!("{other:?}"),
    }
}
