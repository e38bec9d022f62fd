//! Plans of ReWOO, as 0.2 reads them.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::python;

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What it is for.
    pub thought: String,
    /// The tool.
    pub action: String,
    /// Its input, in which `#E1` stands for the result of the first step.
    pub action_input: String,
}

static PLAN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("Plan: (.+)").expect("the pattern is valid"));
static UNIT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("#E[0-9]* = (.+)").expect("the pattern is valid"));
static CALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(.*?)\[(.*?)\]").expect("the pattern is valid"));

/// The steps of a plan: lines `Plan: …` and `#E1 = tool[input]`. An input ends at the first `]`.
///
/// # Errors
/// [`Error::Upstream`] if there are more of one kind than of the other, or a step is no call.
pub fn parse_plan(reply: &str) -> Result<Vec<PlannedStep>> {
    let groups = |pattern: &Regex| -> Vec<String> {
        let found = pattern.captures_iter(reply);
        found
            .map(|found| python::strip(&found[1]).to_owned())
            .collect()
    };
    let (thoughts, units) = (groups(&PLAN), groups(&UNIT));
    if thoughts.len() != units.len() {
        let what = "Each Plan should only correspond to only ONE action";
        return Err(Error::upstream("AssertionError", what));
    }
    let steps = thoughts.into_iter().zip(units).map(|(thought, unit)| {
        let call = CALL.captures(&unit);
        let call = call.ok_or_else(|| Error::upstream("IndexError", "list index out of range"))?;
        Ok(PlannedStep {
            thought,
            action: python::strip(&call[1]).to_owned(),
            action_input: python::strip(&call[2]).to_owned(),
        })
    });
    steps.collect()
}
