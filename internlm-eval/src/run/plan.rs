//! What there is to do, and what of it is done.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::config::RunConfig;
use super::identity::{BenchmarkIdentity, ModelIdentity, RunIdentity, VERSION, ranges, unix_time};
use super::journal::Entry;
use super::unit::{Planned, Stage, UnitKey};
use super::{Outcome, Run};
use crate::benchmark::Sample;
use crate::error::{Error, Result};
use crate::item::{Request, Response};

/// Responses to a judge's questions that a journal holds; the questions are not known before the item is answered.
pub(super) type JudgeResponses = HashMap<UnitKey, (String, Response)>;

/// The items of this part of the run, and what identifies it.
pub(super) fn plan(run: &Run<'_>) -> Result<(Vec<Planned>, RunIdentity)> {
    let config = &run.config;
    let mut names = HashSet::new();
    let mut planned = Vec::new();
    let mut identities = Vec::new();
    let asks = !config.offline && run.predictions.is_none();
    for (number, benchmark) in run.benchmarks.iter().enumerate() {
        let name = benchmark.name();
        let needs = |needs| Error::Needs {
            benchmark: name.to_owned(),
            needs,
        };
        if !names.insert(name) {
            return Err(Error::Benchmark {
                benchmark: name.to_owned(),
                what: "is in the run twice".to_owned(),
            });
        }
        if benchmark.needs_code() && run.code.is_none() {
            return Err(needs(
                "something that runs the model's code: give the run a code executor, such as the sandbox of \
                 internlm-agent, or allow a plain child process explicitly",
            ));
        }
        let mut items = benchmark.items(run.scorer)?;
        items.truncate(config.limit.unwrap_or(usize::MAX));
        let mut indices = HashSet::new();
        if let Some(twice) = items.iter().find(|item| !indices.insert(item.index)) {
            return Err(Error::Benchmark {
                benchmark: name.to_owned(),
                what: format!("two items have the number {}", twice.index),
            });
        }
        identities.push(BenchmarkIdentity {
            name: name.to_owned(),
            identity: benchmark.identity().clone(),
            items: ranges(items.iter().map(|item| item.index).collect()),
        });
        for (position, item) in items.into_iter().enumerate() {
            if !config.shard.has(number, position) {
                continue;
            }
            for request in &item.requests {
                let (missing, what) = match request {
                    Request::Generate { .. } => {
                        (run.chat.is_none(), "a model that generates answers")
                    }
                    Request::Reward { .. } => (run.reward.is_none(), "a reward model"),
                    Request::Loglikelihood { .. }
                    | Request::Rolling { .. }
                    | Request::Perplexity { .. } => {
                        (run.scorer.is_none(), "a model that gives log-likelihoods")
                    }
                };
                if asks && missing {
                    return Err(needs(what));
                }
            }
            let stages = vec![Stage::own(&item.requests)];
            planned.push(Planned {
                benchmark: number,
                item,
                stages,
                outcome: None,
            });
        }
    }
    let mut model = run.scorer.map_or_else(ModelIdentity::default, |scorer| {
        ModelIdentity::of(scorer.facts())
    });
    if let Some(name) = &run.name {
        model.name.clone_from(name);
    }
    if model.name.is_empty() {
        "model".clone_into(&mut model.name);
    }
    let identity = RunIdentity {
        version: VERSION,
        model,
        judge: run.judge.as_ref().map(|(name, _)| name.clone()),
        seed: config.seed,
        shard: config.shard,
        benchmarks: identities,
        time: unix_time(),
    };
    Ok((planned, identity))
}

/// Gives the items what a journal holds; later entries stand for earlier ones.
pub(super) fn restore(
    run: &Run<'_>,
    folder: &Path,
    items: &mut [Planned],
    entries: Vec<Entry>,
) -> Result<JudgeResponses> {
    let mut places = HashMap::new();
    for (place, planned) in items.iter().enumerate() {
        let name = run.benchmarks[planned.benchmark].name();
        places.insert((name, planned.item.index), place);
    }
    let mut of_judge = JudgeResponses::new();
    let mut samples: Vec<(usize, Sample)> = Vec::new();
    let config: &RunConfig = &run.config;
    for entry in entries {
        match entry {
            Entry::Response {
                key,
                asked,
                response,
            } => {
                let failed = matches!(response, Response::Failed { .. });
                if failed && config.retry_failed && !config.offline {
                    continue;
                }
                if key.stage > 0 {
                    of_judge.insert(key, (asked, response));
                } else if let Some(&place) = places.get(&(key.benchmark.as_str(), key.item)) {
                    items[place].restore(folder, config.offline, &key, &asked, &response)?;
                }
            }
            Entry::Sample { benchmark, sample } => {
                if let Some(&place) = places.get(&(benchmark.as_str(), sample.index)) {
                    samples.push((place, sample));
                }
            }
            Entry::Session(_) | Entry::Failed { .. } => {}
        }
    }
    for (place, sample) in samples {
        let planned = &mut items[place];
        // To judge again is cheap and follows the rules as they are now, but running code is neither.
        let again = !run.benchmarks[planned.benchmark].needs_code();
        if !again && planned.stages[0].pending().next().is_none() {
            planned.outcome = Some(Outcome::Judged(sample));
        }
    }
    Ok(of_judge)
}

/// Gives the items answers that were made elsewhere.
pub(super) fn predict(run: &Run<'_>, items: &mut [Planned]) {
    let Some(predictions) = run.predictions else {
        return;
    };
    for planned in items {
        let name = run.benchmarks[planned.benchmark].name();
        let responses = predictions.responses(name, &planned.item);
        for (slots, response) in planned.stages[0].responses.iter_mut().zip(responses) {
            // All answers to a request are one response.
            *slots = vec![Some(response)];
        }
    }
}
