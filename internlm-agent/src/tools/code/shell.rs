//! The shell.

use std::sync::Arc;
use std::time::Duration;

use internlm_core::code_executor::{CodeRequest, CodeStatus};
use schemars::JsonSchema;
use serde::Deserialize;

use super::handed::hand_out;
use super::{CodeConfig, limited};
use crate::sandbox::{Fault, Run, Sandbox};
use crate::tool::{ToolContext, ToolError, ToolOutput, TypedTool};

/// Runs a shell script in an empty folder of its own. Gives what it prints and its exit status. Files that it leaves
/// come back, and are not there the next time. There is no network.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct RunShell {
    /// The script.
    pub command: String,
}

/// The tool `shell`. A person is asked before each call.
pub fn shell(sandbox: Arc<Sandbox>, config: CodeConfig) -> TypedTool {
    let tool = TypedTool::with_context(
        "shell",
        move |arguments: RunShell, context: &ToolContext| {
            run(&sandbox, &config, &arguments.command, context)
        },
    );
    tool.with_approval()
}

fn run(
    sandbox: &Sandbox,
    config: &CodeConfig,
    command: &str,
    context: &ToolContext,
) -> Result<ToolOutput, ToolError> {
    context.check()?;
    let timeout = config
        .timeout
        .min(context.remaining().unwrap_or(Duration::MAX));
    let request = |language: &str| {
        CodeRequest::new(language, command)
            .with_timeout(timeout)
            .with_max_output_bytes(config.output_bytes.saturating_add(1))
    };
    let execute = |language| sandbox.execute_cancellable(&request(language), &context.cancel);
    let run = match execute("bash") {
        // Small systems have the other one only.
        Err(Fault::Interpreter { .. }) => execute("sh"),
        run => run,
    };
    let Run { output, folder, .. } = run.map_err(ToolError::failed)?;
    if matches!(output.status, CodeStatus::Killed(_)) {
        context.check()?;
    }
    let mut pieces = Vec::new();
    let printed = limited(&output.stdout, config.output_bytes);
    let errors = limited(&output.stderr, config.output_bytes);
    if !printed.is_empty() {
        pieces.push(printed);
    }
    if !errors.is_empty() {
        pieces.push(format!("[errors]\n{errors}"));
    }
    match output.status {
        CodeStatus::Exited(status) => {
            if status != 0 || pieces.is_empty() {
                pieces.push(format!("[exit status {status}]"));
            }
            let files = folder.list().map_err(ToolError::failed)?;
            hand_out(ToolOutput::text(pieces.join("\n")), &folder, &files, config)
        }
        CodeStatus::TimedOut => {
            pieces.push(format!(
                "the script was ended after {:.1} s",
                timeout.as_secs_f64()
            ));
            Err(ToolError::Limit {
                what: pieces.join("\n"),
            })
        }
        CodeStatus::Killed(why) => {
            pieces.push(format!("the script was ended: {why}"));
            Err(ToolError::Limit {
                what: pieces.join("\n"),
            })
        }
    }
}
