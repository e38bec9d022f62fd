//! Agents together: one after the other, by place, by name, and as tools of each other.

use std::sync::Arc;

use internlm_core::ToolSpec;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::agent::{Agent, Ending, Report};
use crate::error::{Error, Result};
use crate::tool::{Tool, ToolContext, ToolError, ToolOutput, TypedTool};

/// Something that works on a task: an agent, or agents together.
pub trait Worker: Send + Sync {
    /// Works on a task to its end, within the time that is left, until cancelled.
    ///
    /// # Errors
    /// As [`Agent::run`].
    fn work_within(&self, task: &str, bounds: &ToolContext) -> Result<Report>;

    /// Works on a task to its end.
    ///
    /// # Errors
    /// As [`Agent::run`].
    fn work(&self, task: &str) -> Result<Report> {
        self.work_within(task, &ToolContext::default())
    }
}

impl Worker for Agent {
    fn work_within(&self, task: &str, bounds: &ToolContext) -> Result<Report> {
        self.clone().within(bounds).run(task)
    }
}

/// Workers one after the other: each gets the answer of the one before. Where one ends otherwise than with an answer, its
/// report is the last.
#[derive(Clone)]
pub struct Sequential {
    first: Arc<dyn Worker>,
    rest: Vec<Arc<dyn Worker>>,
    exit_at: Option<usize>,
}

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequential")
            .field("len", &(1 + self.rest.len()))
            .field("exit_at", &self.exit_at)
            .finish()
    }
}

impl Sequential {
    /// A sequence that begins with this worker.
    pub fn new(first: impl Worker + 'static) -> Self {
        Self {
            first: Arc::new(first),
            rest: Vec::new(),
            exit_at: None,
        }
    }

    /// Adds a worker to the end.
    #[must_use]
    pub fn then(mut self, worker: impl Worker + 'static) -> Self {
        self.rest.push(Arc::new(worker));
        self
    }

    /// Ends after the worker of this number, from 0. A number past the last goes round again, as in Lagent.
    #[must_use]
    pub fn with_exit_at(mut self, exit_at: usize) -> Self {
        self.exit_at = Some(exit_at);
        self
    }
}

impl Worker for Sequential {
    fn work_within(&self, task: &str, bounds: &ToolContext) -> Result<Report> {
        let again = self.exit_at.unwrap_or(self.rest.len());
        let all = std::iter::once(&self.first).chain(&self.rest);
        let mut report = self.first.work_within(task, bounds)?;
        for worker in all.cycle().skip(1).take(again) {
            if report.ending != Ending::Answered {
                break;
            }
            report = worker.work_within(&report.answer, bounds)?;
        }
        Ok(report)
    }
}

/// Workers by name, in the order in which they were added.
#[derive(Clone, Default)]
pub struct AgentDict {
    workers: Vec<(String, Arc<dyn Worker>)>,
}

impl std::fmt::Debug for AgentDict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.workers.iter().map(|(name, _)| name))
            .finish()
    }
}

impl AgentDict {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a worker.
    ///
    /// # Errors
    /// [`Error::DuplicateName`]; [`Error::Name`] for a name with a dot, which paths to agents are made of.
    pub fn with(mut self, name: impl Into<String>, worker: impl Worker + 'static) -> Result<Self> {
        let name = name.into();
        if name.is_empty() || name.contains('.') {
            let expected = "some characters without a dot";
            return Err(Error::Name { name, expected });
        }
        if self.get(&name).is_ok() {
            return Err(Error::DuplicateName { name });
        }
        self.workers.push((name, Arc::new(worker)));
        Ok(self)
    }

    /// A worker.
    ///
    /// # Errors
    /// [`Error::UnknownAgent`].
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Worker>> {
        let found = self.workers.iter().find(|(other, _)| other == name);
        found
            .map(|(_, worker)| worker)
            .ok_or_else(|| Error::UnknownAgent {
                name: name.to_owned(),
            })
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.workers.iter().map(|(name, _)| name.as_str())
    }
}

/// Workers by place. All work on the same task at once.
#[derive(Clone, Default)]
pub struct AgentList {
    workers: Vec<Arc<dyn Worker>>,
}

impl std::fmt::Debug for AgentList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentList")
            .field("len", &self.workers.len())
            .finish()
    }
}

impl AgentList {
    /// Nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a worker.
    #[must_use]
    pub fn with(mut self, worker: impl Worker + 'static) -> Self {
        self.workers.push(Arc::new(worker));
        self
    }

    /// A worker.
    pub fn get(&self, place: usize) -> Option<&Arc<dyn Worker>> {
        self.workers.get(place)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// What each makes of a task, in order.
    pub fn work_all(&self, task: &str) -> Vec<Result<Report>> {
        std::thread::scope(|scope| {
            let workers = self.workers.iter();
            let threads: Vec<_> = workers
                .map(|worker| scope.spawn(move || worker.work(task)))
                .collect();
            let reports = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(Error::State {
                        what: "a worker panicked".to_owned(),
                    })
                })
            });
            reports.collect()
        })
    }
}

#[derive(Deserialize, JsonSchema)]
struct Task {
    /// What is to be done, with everything that is needed to do it.
    task: String,
}

#[derive(Deserialize, JsonSchema)]
struct Search {
    /// What is to be found out.
    question: String,
    /// What it is for.
    #[serde(default)]
    topic: String,
    /// What was found out before.
    #[serde(default)]
    history: Vec<Earlier>,
}

#[derive(Deserialize, JsonSchema)]
struct Earlier {
    question: String,
    answer: String,
}

/// A worker as a tool of another agent. It is cancelled with that one's run, and has no more time than is left to it.
/// Where it ends otherwise than with an answer, the call fails: its tools that need approval can't be approved from here.
#[derive(Debug)]
pub struct AgentTool(TypedTool);

impl AgentTool {
    /// A tool of this name, whose description says what the worker is good at.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        worker: impl Worker + 'static,
    ) -> Self {
        let work = move |task: Task, bounds: &ToolContext| answer(&worker, &task.task, bounds);
        Self(TypedTool::with_context(name, work).with_description(description))
    }

    /// The searcher of a [`Planner`](crate::protocol::planner::Planner): it is told the question, what the question is for,
    /// and what was found out before.
    pub fn searcher(
        name: impl Into<String>,
        description: impl Into<String>,
        worker: impl Worker + 'static,
    ) -> Self {
        let work = move |search: Search, bounds: &ToolContext| {
            let mut task = String::new();
            if !search.topic.is_empty() {
                task.push_str(&format!("# Topic\n\n{}\n\n", search.topic));
            }
            for Earlier { question, answer } in search.history {
                task.push_str(&format!("# Found out: {question}\n\n{answer}\n\n"));
            }
            task.push_str(&format!("# Question\n\n{}", search.question));
            answer(&worker, &task, bounds)
        };
        Self(TypedTool::with_context(name, work).with_description(description))
    }
}

/// What a worker answers; an error where it gives no answer.
fn answer(worker: &dyn Worker, task: &str, bounds: &ToolContext) -> Result<String, ToolError> {
    let report = match worker.work_within(task, bounds) {
        Ok(report) => report,
        Err(Error::Cancelled) => return Err(ToolError::Cancelled),
        Err(error) => return Err(ToolError::failed(error)),
    };
    let why = match report.ending {
        Ending::Answered => return Ok(report.answer),
        Ending::Truncated => "it was cut at the limit of its tokens".to_owned(),
        Ending::Paused => "it waits for an approval that it can't get here".to_owned(),
        Ending::OutOfTurns => "its turns were used up".to_owned(),
        Ending::Limit(limit) => format!("it passed its limit of {limit}"),
    };
    let last = match report.answer.is_empty() {
        true => String::new(),
        false => format!("; its last words: {}", report.answer),
    };
    Err(ToolError::failed(format!("no answer: {why}{last}")))
}

impl Tool for AgentTool {
    fn spec(&self) -> &ToolSpec {
        self.0.spec()
    }

    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        self.0.call(arguments, context)
    }
}
