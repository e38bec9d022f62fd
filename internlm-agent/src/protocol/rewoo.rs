//! ReWOO: the model writes a whole plan, its steps are run, and the model answers from what they gave.
//!
//! Differences from Lagent 0.2, whose machine is [`ReWooV024`](super::lagent::ReWooV024): inputs may hold brackets,
//! `#E1` inside of JSON is escaped, `#E10` is not taken for `#E1`, and a plan that names unknown tools or later
//! steps is sent back before anything runs. A reply without a plan is sent back once; Lagent answers from nothing.

use internlm_core::{ChatRequest, Message};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::read_arguments;
use super::dialect::{call_id, one_system};
use super::react_text::Language;
use super::{
    Call, Channel, Machine, Observation, Observed, Outcome, Phase, Reply, Start, Step, in_order,
    unknown_tool,
};
use crate::error::Result;
use crate::lagent::{ActionDescription, PlannedStep, prompts};

/// Configuration of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReWoo {
    /// The language of the instructions.
    pub language: Language,
}

impl ReWoo {
    /// Sets the language.
    #[must_use]
    pub fn with_language(mut self, language: Language) -> Self {
        self.language = language;
        self
    }
}

/// A run of ReWOO.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReWooMachine {
    config: ReWoo,
    start: Start,
    messages: Vec<Message>,
    /// Plans that were asked for.
    turn: usize,
    steps: Vec<PlannedStep>,
    results: Vec<Observed>,
    solving: bool,
    /// Whether a reply without a plan was sent back.
    #[serde(default)]
    unplanned: bool,
    phase: Phase,
}

/// Plans that are asked for at most, if the caller sets no turns.
const MAX_PLANS: usize = 3;

const FORM: &str = "a step is a line `Plan: …` and a line `#E1 = tool[input]`";

impl ReWooMachine {
    /// A run from its beginning.
    pub fn new(config: ReWoo, start: Start) -> Self {
        let messages = start.messages.clone();
        Self {
            config,
            start,
            messages,
            turn: 0,
            steps: Vec::new(),
            results: Vec::new(),
            solving: false,
            unplanned: false,
            phase: Phase::Ask,
        }
    }

    fn question(&self) -> String {
        let mut asked = self.messages.iter().rev();
        let asked =
            asked.find(|m| m.role == internlm_core::Role::User && !m.text().starts_with("Error: "));
        asked.map(Message::text).unwrap_or_default()
    }

    fn planner_request(&self) -> ChatRequest {
        let tools: Vec<_> = self
            .start
            .tools
            .iter()
            .map(ActionDescription::from_spec)
            .collect();
        let template = match self.config.language {
            Language::English => prompts::PLANNER_EN,
            Language::Chinese => prompts::PLANNER_CN,
        };
        let text = prompts::fill(
            template,
            &[("tool_description", &ActionDescription::repr(&tools))],
        );
        let mut messages = one_system(self.start.system.as_deref(), text);
        messages.extend(self.messages.iter().cloned());
        ChatRequest::messages(messages)
    }

    fn solver_request(&self) -> ChatRequest {
        let (worker, solver) = match self.config.language {
            Language::English => (prompts::WORKER_EN, prompts::SOLVER_EN),
            Language::Chinese => (prompts::WORKER_CN, prompts::SOLVER_CN),
        };
        let mut log = String::new();
        for (step, result) in self.steps.iter().zip(&self.results) {
            let values = [
                ("thought", step.thought.as_str()),
                ("action_resp", &result.text()),
            ];
            log.push_str(&prompts::fill(worker, &values));
        }
        let values = [("question", self.question()), ("worker_log", log)];
        let values = values
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let mut messages: Vec<Message> = self.start.system.iter().map(Message::system).collect();
        messages.push(Message::user(prompts::fill(solver, &values)));
        ChatRequest::messages(messages)
    }

    /// The next step that can be run, with what earlier ones gave in its input.
    fn advance(&mut self) {
        while let Some(step) = self.steps.get(self.results.len()) {
            let tool = self
                .start
                .tools
                .iter()
                .find(|tool| tool.name == step.action);
            let input = substitute(&step.action_input, &self.results);
            match read_arguments(&input, tool) {
                Err(what) => self.results.push(Observed::Fault(what)),
                Ok(arguments) => {
                    self.phase = Phase::Call(vec![Call {
                        id: call_id(self.results.len()),
                        name: step.action.clone(),
                        arguments,
                        channel: Channel::Tool,
                        thought: step.thought.clone(),
                    }]);
                    return;
                }
            }
        }
        self.solving = true;
        self.phase = Phase::Ask;
    }

    fn is_last_plan(&self) -> bool {
        self.turn >= self.start.max_turns.unwrap_or(MAX_PLANS)
    }

    /// Keeps a reply that can't be used, and what the model is told of it.
    fn send_back(&mut self, reply: &str, what: &str) {
        self.messages.push(Message::assistant(reply));
        self.messages
            .push(Message::user(format!("Error: {what}. Please reply again.")));
    }

    /// What is wrong with a plan before any of it runs.
    fn fault(&self, steps: &[PlannedStep]) -> Option<String> {
        steps.iter().enumerate().find_map(|(i, step)| {
            if !self.start.tools.iter().any(|tool| tool.name == step.action) {
                return Some(unknown_tool(&step.action, &self.start.tools));
            }
            let references = references(&step.action_input).into_iter();
            let mut references = references.filter(|(_, _, number)| *number == 0 || *number > i);
            let (_, _, number) = references.next()?;
            Some(format!(
                "step {} refers to #E{number}, which is not before it",
                i + 1
            ))
        })
    }
}

impl Machine for ReWooMachine {
    fn step(&self) -> Result<Step> {
        self.phase.step(|| {
            Ok(match self.solving {
                true => self.solver_request(),
                false => self.planner_request(),
            })
        })
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.phase.expect_ask()?;
        if self.solving {
            self.messages.push(Message::assistant(&reply.text));
            self.phase = Phase::Done(Outcome::answered(reply.text));
            return Ok(());
        }
        self.turn += 1;
        if reply.is_cut() && unit_at(&reply.text).is_some() {
            // The steps that are there are not the plan.
            if self.is_last_plan() {
                self.phase = Phase::Done(Outcome::out_of_turns(reply.text.clone()));
            }
            self.send_back(&reply.text, "the plan is not whole: it is too long");
            return Ok(());
        }
        let read = read_plan(&reply.text).and_then(|steps| match self.fault(&steps) {
            Some(what) => Err(what),
            None => Ok(steps),
        });
        match read {
            // No plan twice: the model insists that it needs none.
            Ok(steps) if steps.is_empty() && (self.unplanned || self.is_last_plan()) => {
                self.messages.push(Message::assistant(&reply.text));
                self.phase = Phase::Done(Outcome::answered(reply.text));
            }
            Ok(steps) if steps.is_empty() => {
                self.unplanned = true;
                self.send_back(&reply.text, &format!("there is no plan; {FORM}"));
            }
            Ok(steps) => {
                self.steps = steps;
                self.results.clear();
                self.advance();
            }
            Err(what) => {
                if self.is_last_plan() {
                    self.phase = Phase::Done(Outcome::out_of_turns(reply.text.clone()));
                }
                self.send_back(&reply.text, &what);
            }
        }
        Ok(())
    }

    fn observe(&mut self, observations: Vec<Observation>) -> Result<()> {
        let calls = self.phase.expect_calls()?;
        self.results.extend(in_order(&calls, observations));
        self.advance();
        Ok(())
    }

    fn say(&mut self, messages: Vec<Message>) -> Result<()> {
        self.phase.expect_done()?;
        self.messages.extend(messages);
        self.turn = 0;
        self.solving = false;
        self.unplanned = false;
        self.steps.clear();
        self.results.clear();
        self.phase = Phase::Ask;
        Ok(())
    }

    fn messages(&self) -> Vec<Message> {
        self.messages.clone()
    }
}

/// The steps of a plan. Where the lines that begin with `Plan:` make none, it may stand inside of a line, behind
/// other text, as Lagent reads it.
fn read_plan(text: &str) -> Result<Vec<PlannedStep>, String> {
    let read = read_steps(text, |line| strip_label(unlisted(line), "plan:"));
    if read.as_ref().is_ok_and(|steps| !steps.is_empty()) {
        return read;
    }
    match read_steps(text, plan_inside) {
        Ok(steps) if !steps.is_empty() => Ok(steps),
        _ => read,
    }
}

fn plan_inside(line: &str) -> Option<&str> {
    let (_, plan) = line.split_once("Plan:")?;
    (!plan.trim().is_empty()).then_some(plan)
}

/// A line without the marks of a list before it.
fn unlisted(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_ascii_digit() || " \t-*.)".contains(c))
}

/// The steps under the plans that are found in lines. A step's input ends at the bracket that closes it, on
/// whatever line.
fn read_steps(
    text: &str,
    plan_in: impl Fn(&str) -> Option<&str>,
) -> Result<Vec<PlannedStep>, String> {
    let mut steps = Vec::new();
    let mut thought: Option<String> = None;
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.split('\n').next().unwrap_or(rest);
        let mut used = line.len() + 1;
        if let Some(plan) = plan_in(line) {
            if thought.is_some() {
                return Err("each Plan needs exactly one #E after it".to_owned());
            }
            // The call may be on the plan's own line.
            let call = unit_at(plan);
            thought = Some(plan[..call.unwrap_or(plan.len())].trim().to_owned());
            if let Some(call) = call {
                used = line.len() - plan.len() + call;
            }
        } else if let Some((_, unit)) = unlisted(line)
            .strip_prefix("#E")
            .and_then(|rest| rest.split_once('='))
        {
            let offset = line.len() - unit.len();
            let (action, input, end) = read_call(&rest[offset..])
                .ok_or_else(|| format!("`{}` is not of the form tool[input]", unit.trim()))?;
            used = offset + end;
            let thought = thought
                .take()
                .ok_or("each #E needs exactly one Plan before it")?;
            steps.push(PlannedStep {
                thought,
                action,
                action_input: input,
            });
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    match thought {
        Some(_) => Err("each Plan needs exactly one #E after it".to_owned()),
        // Something was meant to be a step.
        None if steps.is_empty() && unit_at(text).is_some() => Err(FORM.to_owned()),
        None => Ok(steps),
    }
}

/// Where `#E<n> =` stands in a text.
fn unit_at(text: &str) -> Option<usize> {
    let mut places = text.match_indices("#E").map(|(at, _)| at);
    places.find(|at| {
        let after = text[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit());
        after.trim_start_matches(' ').starts_with('=')
    })
}

fn strip_label<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(label.len())?;
    head.eq_ignore_ascii_case(label).then_some(rest)
}

/// `tool[input]` at the beginning of a text, and how long it is.
fn read_call(text: &str) -> Option<(String, String, usize)> {
    let open = text
        .find('[')
        .filter(|open| !text[..*open].contains('\n'))?;
    let input = super::arguments::object_prefix(&text[open..]);
    // A quote that is never closed is no quote, as in `tool[it's]`.
    let end = match input {
        Some(input) => open + input.len(),
        None => open + text[open..].find(']')? + 1,
    };
    let action = text[..open].trim().to_owned();
    Some((action, text[open + 1..end - 1].trim().to_owned(), end))
}

/// Where `#E<n>` stands: start, end, n.
fn references(input: &str) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in input.match_indices("#E") {
        let digits = input[at + 2..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        let end = at + 2 + digits;
        if let Ok(number) = input[at + 2..end].parse() {
            found.push((at, end, number));
        }
    }
    found
}

fn substitute(input: &str, results: &[Observed]) -> String {
    let mut out = String::new();
    let mut last = 0;
    let in_json = input.trim_start().starts_with('{');
    for (start, end, number) in references(input) {
        let text = number
            .checked_sub(1)
            .and_then(|i| results.get(i))
            .map(Observed::text);
        let mut text = text.unwrap_or_default();
        if in_json {
            let quoted = Value::String(text).to_string();
            text = quoted[1..quoted.len() - 1].to_owned();
        }
        out.push_str(&input[last..start]);
        out.push_str(&text);
        last = end;
    }
    out.push_str(&input[last..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<(String, String)> {
        let steps = read_plan(text).unwrap().into_iter();
        steps
            .map(|step| {
                (
                    step.thought,
                    format!("{}[{}]", step.action, step.action_input),
                )
            })
            .collect()
    }

    #[test]
    fn a_plan_may_stand_behind_other_text() {
        let step = |thought: &str, call: &str| (thought.to_owned(), call.to_owned());
        assert_eq!(
            steps("Intro. Plan: a\n#E1 = tool[x]"),
            [step("a", "tool[x]")]
        );
        // What lines that begin with it say goes first.
        let text =
            "Here is my Plan: two steps.\nPlan: a\n#E1 = tool[x]\n2. Plan: b\n#E2 = tool[#E1]";
        assert_eq!(steps(text), [step("a", "tool[x]"), step("b", "tool[#E1]")]);
        assert_eq!(steps("I have no Plan: none."), []);
        assert!(read_plan("Plan: a\nPlan: b\n#E1 = tool[x]").is_err());
    }
}
