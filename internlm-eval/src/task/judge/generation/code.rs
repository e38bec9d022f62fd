//! Programs that the model wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use internlm_core::CodeExecutor;
use internlm_core::code_executor::{CodeRequest, CodeStatus};
use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::item::Item;
use crate::metric::pass_at_k::pass_at_k;
use crate::task::Task;
use crate::task::metric::MetricSpec;

/// Longest note on why a program failed, characters.
const NOTE: usize = 200;

/// Runs the program of each answer; of n that were run c passed, and pass@k is the chance that one of k does. Gives why
/// the first one that failed did.
pub(super) fn judge(
    task: &Task,
    item: &Item,
    metric: &MetricSpec,
    answers: &[String],
    executor: Option<&dyn CodeExecutor>,
    metrics: &mut BTreeMap<String, Json>,
) -> Result<Option<String>> {
    let Some(executor) = executor else {
        return Err(Error::NoExecutor {
            task: task.name.clone(),
        });
    };
    let mut passed = 0;
    let mut failure = None;
    for answer in answers {
        let program = task.program(metric.program.as_deref().unwrap_or_default(), item, answer)?;
        let timeout = Duration::from_secs_f64(metric.timeout_seconds.clamp(0.1, 3600.0));
        let output = executor.run(&CodeRequest::new("python", program).with_timeout(timeout))?;
        let why = match output.status {
            CodeStatus::Exited(0) => {
                passed += 1;
                continue;
            }
            CodeStatus::Exited(_) => {
                let said = output.stderr.trim_end();
                said.rsplit('\n').next().unwrap_or_default().to_owned()
            }
            CodeStatus::TimedOut => "the program ran out of time".to_owned(),
            CodeStatus::Killed(by) => format!("the program was killed: {by}"),
        };
        failure.get_or_insert(why);
    }
    for k in &metric.k {
        let chance = pass_at_k(answers.len(), passed, *k)?;
        metrics.insert(format!("pass@{k}"), json!(chance));
    }
    Ok(failure.map(|why| why.chars().take(NOTE).collect()))
}
