//! An agent: a model, tools, a protocol, and what a run may use up.
//!
//! ```
//! use internlm_agent::{Agent, tool};
//! use internlm_core::ToolCall;
//! use internlm_core::scripted::{Reply, ScriptedModel};
//! use schemars::JsonSchema;
//! use serde::Deserialize;
//!
//! /// Current weather in a city.
//! #[derive(Deserialize, JsonSchema)]
//! struct Weather { city: String }
//!
//! # let model = ScriptedModel::new([
//! #     Reply::tool_calls(vec![ToolCall::new("weather", serde_json::json!({"city": "Shanghai"}))]),
//! #     Reply::text("No, it is 21 C."),
//! # ]);
//! let weather = tool("weather", |w: Weather| Ok(format!("21 C in {}", w.city)));
//! let agent = Agent::new(model).with_tool(weather).with_max_turns(6);
//! assert_eq!(agent.run("Do I need a coat in Shanghai?")?.answer, "No, it is 21 C.");
//! # Ok::<(), internlm_agent::Error>(())
//! ```

mod calls;
mod event;
mod hook;
mod limits;
mod memory;
mod report;
mod run;
#[cfg(feature = "async")]
mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use internlm_core::{ChatModel, Message, SamplingParams};

pub use event::AgentEvent;
pub use hook::{Decision, Hook};
pub use limits::{Limits, Retry};
pub use memory::Memory;
pub use report::{CallRecord, Ending, Report, SavedRun};
pub use run::Run;
#[cfg(feature = "async")]
pub use stream::AgentStream;

use crate::error::Result;
use crate::protocol::{Call, Protocol, Start};
use crate::tool::{CancelToken, Tool, ToolContext, ToolSet};

/// Decides on a call before it is run.
type Approver = dyn Fn(&Call) -> Decision + Send + Sync;

/// An agent. Cloning is cheap: model and tools are shared.
#[derive(Clone)]
pub struct Agent {
    model: Arc<dyn ChatModel>,
    name: String,
    protocol: Protocol,
    tools: ToolSet,
    system: Option<String>,
    sampling: Option<SamplingParams>,
    limits: Limits,
    retry: Retry,
    hooks: Vec<Arc<dyn Hook>>,
    approver: Option<Arc<Approver>>,
    trace: Option<PathBuf>,
    cancel: CancelToken,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.name)
            .field("protocol", &self.protocol)
            .field("tools", &self.tools)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent of a model, without tools, in the model's own interface for tools.
    pub fn new(model: impl ChatModel + 'static) -> Self {
        Self::shared(Arc::new(model))
    }

    /// An agent of a model that others use too.
    pub fn shared(model: Arc<dyn ChatModel>) -> Self {
        Self {
            model,
            name: "agent".to_owned(),
            protocol: Protocol::default(),
            tools: ToolSet::new(),
            system: None,
            sampling: None,
            limits: Limits::default(),
            retry: Retry::default(),
            hooks: Vec::new(),
            approver: None,
            trace: None,
            cancel: CancelToken::new(),
        }
    }

    /// Sets the name, for traces and containers.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the protocol.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Adds a tool, or replaces the one of its name.
    #[must_use]
    pub fn with_tool(mut self, tool: impl Tool + 'static) -> Self {
        self.tools.replace(Arc::new(tool));
        self
    }

    /// Adds tools, or replaces those of their names.
    #[must_use]
    pub fn with_tools(mut self, tools: ToolSet) -> Self {
        for tool in tools {
            self.tools.replace(tool);
        }
        self
    }

    /// Sets the application's own instructions.
    #[must_use]
    pub fn with_system(mut self, system: impl Into<String>) -> Self {
        self.system = Some(system.into());
        self
    }

    /// Sets how the model chooses its words. Texts at which a protocol stops are kept.
    #[must_use]
    pub fn with_sampling(mut self, sampling: SamplingParams) -> Self {
        self.sampling = Some(sampling);
        self
    }

    /// Sets the most requests to the model for a task.
    #[must_use]
    pub fn with_max_turns(mut self, max_turns: usize) -> Self {
        self.limits.max_turns = Some(max_turns);
        self
    }

    /// Sets what a run may use up.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets what happens when the model fails.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Adds a hook; hooks run in the order in which they were added.
    #[must_use]
    pub fn with_hook(mut self, hook: impl Hook + 'static) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Asks this before every call, not only those of tools that need approval.
    #[must_use]
    pub fn with_approval(
        mut self,
        decide: impl Fn(&Call) -> Decision + Send + Sync + 'static,
    ) -> Self {
        self.approver = Some(Arc::new(decide));
        self
    }

    /// Writes what happens in runs to the end of a file, a line of JSON per event.
    #[must_use]
    pub fn with_trace(mut self, file: impl Into<PathBuf>) -> Self {
        self.trace = Some(file.into());
        self
    }

    /// Sets what can end its runs from outside.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// The agent with no more time than this, and cancelled with it too.
    pub(crate) fn within(mut self, bounds: &ToolContext) -> Self {
        let left = bounds.remaining();
        self.limits.max_time = self.limits.max_time.into_iter().chain(left).min();
        self.cancel = CancelToken::below([&self.cancel, &bounds.cancel]);
        self
    }

    /// Works on a task to its end.
    ///
    /// # Errors
    /// If the model fails for good, the run is cancelled or a file can't be written. What the model or a tool
    /// does wrong, used up limits and a wait for approval are in the report.
    pub fn run(&self, task: impl Into<String>) -> Result<Report> {
        self.start(task)?.finish()
    }

    /// Works on a task step by step: the run is an iterator of what happens.
    ///
    /// # Errors
    /// If the file of the trace can't be opened.
    pub fn start(&self, task: impl Into<String>) -> Result<Run<'_>> {
        self.start_with(vec![Message::user(task)])
    }

    /// The same after a conversation, whose last message is the task.
    ///
    /// # Errors
    /// As [`start`](Agent::start).
    pub fn start_with(&self, messages: Vec<Message>) -> Result<Run<'_>> {
        let machine = self.protocol.start(Start {
            system: self.system.clone(),
            tools: self.tools.specs(),
            messages,
            max_turns: self.limits.max_turns,
        });
        Run::new(self, SavedRun::new(machine))
    }

    /// Goes on with a run that was written down.
    ///
    /// # Errors
    /// As [`start`](Agent::start), and if the state is of another version.
    pub fn resume(&self, saved: SavedRun) -> Result<Run<'_>> {
        Run::new(self, saved.checked()?)
    }

    /// Works on the next task of a conversation, which the memory keeps. A task that waits for approval is kept as one
    /// whose calls were not run; [`resume_chat`](Agent::resume_chat) goes on with it.
    ///
    /// # Errors
    /// As [`run`](Agent::run), and if a summary can't be made. The task is then forgotten.
    pub fn chat(&self, memory: &mut Memory, task: impl Into<String>) -> Result<Report> {
        memory.push(Message::user(task));
        let run = memory
            .fit(Some(&*self.model))
            .and_then(|()| self.start_with(memory.prompt())?.finish());
        match run {
            Ok(report) => {
                memory.keep(report.messages.clone());
                Ok(report)
            }
            Err(error) => {
                // Two tasks in a row are a conversation that many models refuse.
                memory.messages.pop();
                Err(error)
            }
        }
    }

    /// Goes on with the last task of a conversation, which waited for approval.
    ///
    /// # Errors
    /// As [`resume`](Agent::resume) and [`run`](Agent::run). The memory is then as it was.
    pub fn resume_chat(&self, memory: &mut Memory, saved: SavedRun) -> Result<Report> {
        let report = self.resume(saved)?.finish()?;
        memory.keep(report.messages.clone());
        Ok(report)
    }
}
