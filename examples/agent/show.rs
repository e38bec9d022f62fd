//! What a person or a program sees of a run.

use indicatif::ProgressBar;
use internlm_agent::agent::{AgentEvent, Ending, Report};
use internlm_agent::protocol::Call;
use internlm_examples::output::Output;
use internlm_examples::{Result, progress};
use serde::Serialize;
use serde_json::Value;

/// The model answered.
#[derive(Serialize)]
struct Turn<'a> {
    turn: usize,
    text: &'a str,
    finish_reason: Option<&'static str>,
    prompt_tokens: usize,
    completion_tokens: usize,
    seconds: f64,
}

/// A call was run.
#[derive(Serialize)]
struct Called<'a> {
    turn: usize,
    tool: &'a str,
    arguments: &'a Value,
    ok: bool,
    result: String,
    seconds: f64,
}

/// The end of a question.
#[derive(Serialize)]
struct Answer<'a> {
    answer: &'a str,
    ending: &'a Ending,
    turns: usize,
    calls: usize,
    prompt_tokens: usize,
    completion_tokens: usize,
    seconds: f64,
}

/// Shows the events of one question.
pub(crate) struct Show<'a> {
    output: &'a mut Output,
    spinner: ProgressBar,
    turn: usize,
    /// Calls that are being run.
    calls: Vec<Call>,
}

impl<'a> Show<'a> {
    pub(crate) fn new(output: &'a mut Output) -> Self {
        Self {
            output,
            spinner: ProgressBar::hidden(),
            turn: 0,
            calls: Vec::new(),
        }
    }

    pub(crate) fn event(&mut self, event: &AgentEvent) -> Result<()> {
        match event {
            AgentEvent::TurnStarted { turn, .. } => {
                self.turn = *turn;
                self.wait("thinking".to_owned());
            }
            AgentEvent::TurnFinished {
                text,
                finish_reason,
                usage,
                elapsed,
                ..
            } => {
                self.spinner.finish_and_clear();
                let turn = Turn {
                    turn: self.turn,
                    text,
                    finish_reason: finish_reason.map(|reason| reason.as_str()),
                    prompt_tokens: usage.prompt_tokens,
                    completion_tokens: usage.completion_tokens,
                    seconds: elapsed.as_secs_f64(),
                };
                if self.output.is_json() {
                    self.output.record(&turn, |_| String::new())?;
                }
            }
            AgentEvent::CallStarted { call } => {
                self.wait(format!("running {}", call.name));
                self.calls.push(call.clone());
            }
            AgentEvent::CallFinished {
                id,
                observed,
                elapsed,
                ..
            } => {
                self.spinner.finish_and_clear();
                let at = self.calls.iter().position(|call| call.id == *id);
                let Some(call) = at.map(|at| self.calls.swap_remove(at)) else {
                    return Ok(());
                };
                let called = Called {
                    turn: self.turn,
                    tool: &call.name,
                    arguments: &call.arguments,
                    ok: observed.is_ok(),
                    result: observed.text(),
                    seconds: elapsed.as_secs_f64(),
                };
                self.output.record(&called, |called| {
                    format!(
                        "> {} {}\n< {}",
                        called.tool, called.arguments, called.result
                    )
                })?;
            }
            AgentEvent::Finished { report } if report.ending != Ending::Paused => {
                self.answer(report)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn wait(&mut self, what: String) {
        self.spinner.finish_and_clear();
        self.spinner = progress::spinner(what);
    }

    fn answer(&mut self, report: &Report) -> Result<()> {
        let answer = Answer {
            answer: &report.answer,
            ending: &report.ending,
            turns: report.turns,
            calls: report.calls.len(),
            prompt_tokens: report.usage.prompt_tokens,
            completion_tokens: report.usage.completion_tokens,
            seconds: report.elapsed.as_secs_f64(),
        };
        self.output.record(&answer, |answer| match answer.ending {
            Ending::Answered => answer.answer.to_owned(),
            Ending::Truncated => {
                format!("{}\n(cut at the limit of its tokens)", answer.answer)
            }
            Ending::Limit(limit) => format!("{}\n(stopped at {limit})", answer.answer),
            _ => format!("{}\n(stopped after {} turns)", answer.answer, answer.turns),
        })
    }
}
