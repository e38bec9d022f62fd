//! From an item's last response to its judgement.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Outcome;
use super::journal::Entry;
use super::score::{one_line, panic_text};
use super::unit::{Planned, Stage, Unit};
use super::work::{Work, lock};
use crate::error::Result;
use crate::item::{Request, Response};

impl Work<'_, '_> {
    /// Takes an item whose requests are all answered to the judge or to its end.
    pub(super) fn advance(&self, number: usize) -> Result<()> {
        let mut planned = lock(&self.items[number]);
        let benchmark = self.run.benchmarks[planned.benchmark];
        if planned.outcome.is_none() {
            if planned.stages.len() == 1 {
                let questions = match first_failure(&planned) {
                    Some(_) => Ok(Vec::new()),
                    None => guarded(|| {
                        let responses = planned.stages[0].responses();
                        benchmark.judge_requests(&planned.item, &responses, self.run.code)
                    }),
                };
                match questions {
                    Ok(questions) => {
                        if self.open_judge_stage(number, &mut planned, questions)? {
                            return Ok(());
                        }
                    }
                    Err(error) => planned.outcome = Some(Outcome::Failed(error)),
                }
            }
            let outcome = match (planned.outcome.take(), first_failure(&planned)) {
                (Some(outcome), _) => outcome,
                (None, Some(error)) => Outcome::Failed(error),
                (None, None) => {
                    let responses: Vec<Response> =
                        planned.stages.iter().flat_map(Stage::responses).collect();
                    let judged =
                        guarded(|| benchmark.judge(&planned.item, &responses, self.run.code));
                    match judged {
                        Ok(sample) => Outcome::Judged(sample),
                        Err(error) => Outcome::Failed(error),
                    }
                }
            };
            self.append(&match &outcome {
                Outcome::Judged(sample) => Entry::Sample {
                    benchmark: benchmark.name().to_owned(),
                    sample: sample.clone(),
                },
                Outcome::Failed(error) => Entry::Failed {
                    benchmark: benchmark.name().to_owned(),
                    item: planned.item.index,
                    error: error.clone(),
                },
            })?;
            planned.outcome = Some(outcome);
        }
        let outcome = planned.outcome.as_ref();
        lock(&self.tracker).count(planned.benchmark, benchmark.name(), outcome);
        Ok(())
    }

    /// Notes the questions to the judge; whether any is open.
    fn open_judge_stage(
        &self,
        number: usize,
        planned: &mut Planned,
        questions: Vec<Request>,
    ) -> Result<bool> {
        planned.stages.push(Stage::judge(questions));
        let units = |planned: &Planned| -> Vec<Unit> {
            let pending = planned.stages[1].pending();
            pending
                .map(|(request, answer)| Unit {
                    item: number,
                    stage: 1,
                    request,
                    answer,
                })
                .collect()
        };
        let all = units(planned);
        for &unit in &all {
            let key = planned.key(&self.run.benchmarks, unit);
            if let (Some((hash, response)), Some(folder)) =
                (self.judged_before.get(&key), &self.run.config.folder)
            {
                let offline = self.run.config.offline;
                planned.restore(folder, offline, &key, hash, response)?;
            }
        }
        let open = units(planned);
        let progress = &mut lock(&self.tracker).progress;
        progress.total += all.len();
        progress.done += all.len() - open.len();
        progress.resumed += all.len() - open.len();
        let any = !open.is_empty();
        lock(&self.to_judge).extend(open);
        Ok(any)
    }
}

/// Why the first failed request of an item failed.
fn first_failure(planned: &Planned) -> Option<String> {
    let slots = planned
        .stages
        .iter()
        .flat_map(|s| s.responses.iter().flatten());
    slots.flatten().find_map(|response| match response {
        Response::Failed { error } => Some(error.clone()),
        _ => None,
    })
}

/// Calls a benchmark's own code: its errors and panics are one item's.
fn guarded<T>(call: impl FnOnce() -> Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(one_line(&error)),
        Err(panic) => Err(panic_text(&*panic)),
    }
}
