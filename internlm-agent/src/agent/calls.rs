//! Running calls: hooks, decisions, tools.

use std::time::{Duration, Instant};

use super::hook::Decision;
use super::{Agent, SavedRun};
use crate::protocol::{Call, Observation, Observed};
use crate::tool::{ToolContext, ToolError, limited_text};

/// A call that was run.
pub(super) struct Ran {
    pub(super) call: Call,
    pub(super) observed: Observed,
    pub(super) elapsed: Duration,
}

impl Ran {
    pub(super) fn observation(&self) -> Observation {
        Observation {
            id: self.call.id.clone(),
            observed: self.observed.clone(),
        }
    }
}

impl Agent {
    /// What is to be done with each call, or nothing if the run must pause first.
    pub(super) fn decide(&self, calls: &[Call], saved: &SavedRun) -> Option<Vec<Decision>> {
        let decisions = calls.iter().map(|call| {
            if let Some(decision) = saved.decisions.get(&call.id) {
                return decision.clone();
            }
            let needed = self
                .tools
                .get(&call.name)
                .is_some_and(|tool| tool.needs_approval());
            match (&self.approver, needed) {
                (Some(approver), _) => approver(call),
                (None, true) => Decision::Pause,
                (None, false) => Decision::Allow,
            }
        });
        let decisions: Vec<Decision> = decisions.collect();
        (!decisions.contains(&Decision::Pause)).then_some(decisions)
    }

    /// Runs calls, several at once, and returns them in order.
    pub(super) fn run_calls(
        &self,
        calls: Vec<(Call, Decision)>,
        context: &ToolContext,
    ) -> Vec<Ran> {
        let calls = match <[_; 1]>::try_from(calls) {
            Ok([(call, decision)]) => return vec![self.run_call(call, decision, context)],
            Err(calls) => calls,
        };
        let span = tracing::Span::current();
        std::thread::scope(|scope| {
            let threads: Vec<_> = calls
                .into_iter()
                .map(|(call, decision)| {
                    let span = span.clone();
                    let kept = call.clone();
                    let run = move || span.in_scope(|| self.run_call(call, decision, context));
                    (kept, std::thread::Builder::new().spawn_scoped(scope, run))
                })
                .collect();
            let ran = threads.into_iter().map(|(call, thread)| {
                let ran = thread.ok().and_then(|thread| thread.join().ok());
                ran.unwrap_or_else(|| Ran {
                    observed: Observed::Fault("the call could not be run".to_owned()),
                    elapsed: Duration::ZERO,
                    call,
                })
            });
            ran.collect()
        })
    }

    fn run_call(&self, mut call: Call, decision: Decision, context: &ToolContext) -> Ran {
        let span = tracing::info_span!(
            "execute_tool",
            otel.name = %format!("execute_tool {}", call.name),
            gen_ai.operation.name = "execute_tool",
            gen_ai.tool.name = %call.name,
            gen_ai.tool.call.id = %call.id,
            error.type = tracing::field::Empty,
        );
        let _entered = span.enter();
        let began = Instant::now();
        let mut observed = match decision {
            Decision::Deny(why) => Observed::Fault(ToolError::Denied { why }.to_string()),
            _ => self.observe(&mut call, context),
        };
        for hook in &self.hooks {
            hook.after_tool(&call, &mut observed);
        }
        let most = self.limits.max_tool_output;
        observed = match observed {
            Observed::Output(output) => Observed::Output(output.limited(most)),
            Observed::Fault(what) => Observed::Fault(limited_text(what, most)),
            other => other,
        };
        if !observed.is_ok() {
            span.record("error.type", "tool_error");
        }
        Ran {
            call,
            observed,
            elapsed: began.elapsed(),
        }
    }

    fn observe(&self, call: &mut Call, context: &ToolContext) -> Observed {
        for hook in &self.hooks {
            if let Some(observed) = hook.before_tool(call) {
                return observed;
            }
        }
        match self.tools.call(&call.name, &call.arguments, context) {
            Ok(output) => Observed::Output(output),
            Err(error) => Observed::Fault(error.to_string()),
        }
    }
}
