//! A run: a machine, and what drives it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use internlm_core::chat_model::{Completion, Event, Events, Input, ResponseFormat};
use internlm_core::tool::ToolChoice;
use internlm_core::{ChatRequest, Message};
use tracing::Span;

use super::Agent;
use super::event::AgentEvent;
use super::limits::{is_bound, is_form_refused, may_pass};
use super::report::{CallRecord, Ending, Report, SavedRun};
use crate::error::{Error, Limit, Result};
use crate::protocol::{Call, End, Machine, Outcome, Reply, Step, last_words};
use crate::tool::ToolContext;
use crate::trace::TraceWriter;

/// A run of an agent: an iterator of what happens. Dropping it ends it.
pub struct Run<'a> {
    agent: &'a Agent,
    state: SavedRun,
    /// When this part of the run began.
    began: Instant,
    asking: Option<Asking<'a>>,
    /// Messages of the last request.
    sent: usize,
    queue: VecDeque<AgentEvent>,
    trace: Option<TraceWriter>,
    span: Span,
    failure: Option<Error>,
    over: bool,
}

/// A request that is being answered.
struct Asking<'a> {
    request: ChatRequest,
    events: Events<'a>,
    completion: Completion,
    attempt: usize,
    began: Instant,
    span: Span,
}

impl std::fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(agent: &'a Agent, state: SavedRun) -> Result<Self> {
        let trace = agent.trace.as_ref().map(TraceWriter::append).transpose()?;
        let identity = agent.model.identity();
        let span = tracing::info_span!(
            "invoke_agent",
            otel.name = %format!("invoke_agent {}", agent.name),
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = %agent.name,
            gen_ai.request.model = identity.model,
            gen_ai.provider.name = identity.provider,
        );
        Ok(Self {
            agent,
            state,
            began: Instant::now(),
            asking: None,
            sent: 0,
            queue: VecDeque::new(),
            trace,
            span,
            failure: None,
            over: false,
        })
    }

    /// Drives the run to its end.
    ///
    /// # Errors
    /// See [`Agent::run`].
    pub fn finish(self) -> Result<Report> {
        for event in self {
            if let AgentEvent::Finished { report } = event? {
                return Ok(*report);
            }
        }
        Err(Error::State {
            what: "the run has ended before".to_owned(),
        })
    }

    /// The run as data, as it was before the request that is being answered.
    pub fn save(&self) -> SavedRun {
        let mut saved = self.state.clone();
        saved.elapsed = self.elapsed();
        saved
    }

    fn elapsed(&self) -> Duration {
        self.state.elapsed + self.began.elapsed()
    }

    /// Does the next thing, until there is an event.
    fn advance(&mut self) -> Result<()> {
        while self.queue.is_empty() && !self.over {
            if self.agent.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            if let Some(asking) = &self.asking {
                match self.passed_time() {
                    None => self.listen()?,
                    // Leaving the answer ends it at the model too.
                    Some(limit) => {
                        let words = match asking.completion.text.as_str() {
                            "" => self.last_words(),
                            so_far => so_far.to_owned(),
                        };
                        self.asking = None;
                        self.end_with(words, Ending::Limit(limit));
                    }
                }
                continue;
            }
            match self.state.machine.step()? {
                Step::Done(outcome) => self.end(outcome),
                step => match self.passed_limit(&step) {
                    Some(limit) => self.end_with(self.last_words(), Ending::Limit(limit)),
                    None => match step {
                        Step::Ask(request) => self.ask(request)?,
                        Step::Call(calls) => self.call(calls)?,
                        Step::Done(_) => {}
                    },
                },
            }
        }
        Ok(())
    }

    fn passed_time(&self) -> Option<Limit> {
        let time = self.agent.limits.max_time;
        time.filter(|time| self.elapsed() >= *time).map(Limit::Time)
    }

    fn passed_limit(&self, step: &Step) -> Option<Limit> {
        let limits = &self.agent.limits;
        if let Some(limit) = self.passed_time() {
            return Some(limit);
        }
        let used = self.state.usage.total_tokens();
        if let Some(tokens) = limits.max_tokens.filter(|tokens| used >= *tokens) {
            return Some(Limit::Tokens(tokens));
        }
        let more = match step {
            Step::Call(calls) => calls.len(),
            _ => 0,
        };
        let calls = self.state.calls.len() + more;
        (calls > limits.max_calls).then_some(Limit::Calls(limits.max_calls))
    }

    fn ask(&mut self, mut request: ChatRequest) -> Result<()> {
        if let Some(sampling) = &self.agent.sampling {
            let mut stop = std::mem::take(&mut request.sampling.stop);
            request.sampling = sampling.clone();
            stop.append(&mut request.sampling.stop);
            request.sampling.stop = stop;
        }
        for hook in &self.agent.hooks {
            hook.before_model(&mut request);
        }
        let messages: &[Message] = match &request.input {
            Input::Messages(messages) => messages,
            _ => &[],
        };
        let new_messages = messages.get(self.sent..).unwrap_or(messages).to_vec();
        self.sent = messages.len();
        self.emit(AgentEvent::TurnStarted {
            turn: self.state.turns + 1,
            new_messages,
        });
        self.generate(request, 1)
    }

    /// Sends a request, once more if it fails and may work later.
    fn generate(&mut self, mut request: ChatRequest, mut attempt: usize) -> Result<()> {
        let identity = self.agent.model.identity();
        let span = self.span.in_scope(|| {
            tracing::info_span!(
                "chat",
                otel.name = identity.model.as_ref().map(|model| format!("chat {model}")),
                gen_ai.operation.name = "chat",
                gen_ai.request.model = identity.model,
                gen_ai.provider.name = identity.provider,
                gen_ai.usage.input_tokens = tracing::field::Empty,
                gen_ai.usage.output_tokens = tracing::field::Empty,
                gen_ai.response.finish_reasons = tracing::field::Empty,
            )
        });
        let agent: &'a Agent = self.agent;
        loop {
            match span.in_scope(|| agent.model.generate(&request)) {
                Ok(events) => {
                    self.asking = Some(Asking {
                        request,
                        events,
                        completion: Completion::default(),
                        attempt,
                        began: Instant::now(),
                        span,
                    });
                    return Ok(());
                }
                Err(error) if is_form_refused(&error) && is_bound(&request) => {
                    tracing::warn!(%error, "the model can't be bound to a form; it is asked without");
                    request.response_format = ResponseFormat::Text;
                    if request.tool_choice != ToolChoice::None {
                        request.tool_choice = ToolChoice::Auto;
                    }
                }
                Err(error) => {
                    self.retry(error, attempt)?;
                    attempt += 1;
                }
            }
        }
    }

    /// # Errors
    /// The error itself, if it is no use to try again.
    fn retry(&mut self, error: internlm_core::Error, attempt: usize) -> Result<()> {
        let retry = self.agent.retry;
        if !may_pass(&error) || attempt > retry.attempts {
            return Err(error.into());
        }
        self.emit(AgentEvent::Retried {
            attempt,
            error: error.to_string(),
        });
        let factor = 1u32 << (attempt - 1).min(10);
        std::thread::sleep(retry.wait * factor);
        Ok(())
    }

    /// Takes the next event of the model.
    fn listen(&mut self) -> Result<()> {
        let Some(asking) = &mut self.asking else {
            return Ok(());
        };
        let (span, events) = (asking.span.clone(), &mut asking.events);
        match span.in_scope(|| events.next()) {
            Some(Ok(event)) => {
                if let Event::Delta { text, .. } = &event
                    && !text.is_empty()
                {
                    self.queue
                        .push_back(AgentEvent::Delta { text: text.clone() });
                }
                asking.completion.push(event);
                Ok(())
            }
            Some(Err(error)) => {
                let Some(asking) = self.asking.take() else {
                    return Err(error.into());
                };
                self.retry(error, asking.attempt)?;
                self.generate(asking.request, asking.attempt + 1)
            }
            None => self.answered(),
        }
    }

    fn answered(&mut self) -> Result<()> {
        let Some(asking) = self.asking.take() else {
            return Ok(());
        };
        let usage = asking.completion.usage;
        asking
            .span
            .record("gen_ai.usage.input_tokens", usage.prompt_tokens);
        asking
            .span
            .record("gen_ai.usage.output_tokens", usage.completion_tokens);
        if let Some(reason) = asking.completion.finish_reason {
            asking
                .span
                .record("gen_ai.response.finish_reasons", reason.as_str());
        }
        let total = &mut self.state.usage;
        total.prompt_tokens += usage.prompt_tokens;
        total.completion_tokens += usage.completion_tokens;
        total.cached_tokens += usage.cached_tokens;
        self.state.turns += 1;
        let mut reply = Reply::from(asking.completion);
        for hook in &self.agent.hooks {
            hook.after_model(&mut reply);
        }
        self.state.truncated = reply.is_cut();
        self.emit(AgentEvent::TurnFinished {
            text: reply.text.clone(),
            tool_calls: reply.tool_calls.clone(),
            finish_reason: reply.finish_reason,
            usage,
            elapsed: asking.began.elapsed(),
        });
        self.state.machine.reply(reply)
    }

    fn call(&mut self, calls: Vec<Call>) -> Result<()> {
        let Some(decisions) = self.agent.decide(&calls, &self.state) else {
            self.emit(AgentEvent::ApprovalNeeded { calls });
            self.end_with(self.last_words(), Ending::Paused);
            return Ok(());
        };
        for call in &calls {
            self.emit(AgentEvent::CallStarted { call: call.clone() });
        }
        let left = self
            .agent
            .limits
            .max_time
            .map(|time| time.saturating_sub(self.elapsed()));
        let context = ToolContext {
            deadline: left.map(|left| Instant::now() + left),
            cancel: self.agent.cancel.clone(),
        };
        let calls = calls.into_iter().zip(decisions).collect();
        let ran = self.span.in_scope(|| self.agent.run_calls(calls, &context));
        let observations = ran.iter().map(super::calls::Ran::observation).collect();
        for ran in ran {
            self.emit(AgentEvent::CallFinished {
                id: ran.call.id.clone(),
                name: ran.call.name.clone(),
                observed: ran.observed.clone(),
                elapsed: ran.elapsed,
            });
            self.state.decisions.remove(&ran.call.id);
            self.state.calls.push(CallRecord {
                call: ran.call,
                observed: ran.observed,
            });
        }
        self.state.machine.observe(observations)
    }

    fn end(&mut self, outcome: Outcome) {
        let ending = match outcome.end {
            End::Answered if self.state.truncated => Ending::Truncated,
            End::Answered => Ending::Answered,
            End::OutOfTurns => Ending::OutOfTurns,
        };
        self.end_with(outcome.answer, ending);
        if let Some(AgentEvent::Finished { report }) = self.queue.back_mut() {
            report.details = outcome.details;
        }
    }

    fn end_with(&mut self, answer: String, ending: Ending) {
        let messages = self.state.closed_messages(&ending);
        let paused = (ending == Ending::Paused).then(|| Box::new(self.save()));
        let report = Box::new(Report {
            answer,
            ending,
            turns: self.state.turns,
            usage: self.state.usage,
            calls: self.state.calls.clone(),
            messages,
            details: serde_json::Value::Null,
            elapsed: self.elapsed(),
            paused,
        });
        self.queue.push_back(AgentEvent::Finished { report });
        self.over = true;
    }

    fn last_words(&self) -> String {
        last_words(&self.state.machine.messages())
    }

    fn emit(&mut self, event: AgentEvent) {
        self.queue.push_back(event);
    }
}

impl Iterator for Run<'_> {
    type Item = Result<AgentEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        // What happened before a failure is told before it.
        if self.queue.is_empty()
            && self.failure.is_none()
            && let Err(error) = self.advance()
        {
            self.over = true;
            self.asking = None;
            self.failure = Some(error);
        }
        let Some(event) = self.queue.pop_front() else {
            return self.failure.take().map(Err);
        };
        if let Some(trace) = &mut self.trace
            && let Err(error) = trace.write(&self.agent.name, &event)
        {
            self.over = true;
            self.queue.clear();
            return Some(Err(error));
        }
        Some(Ok(event))
    }
}
