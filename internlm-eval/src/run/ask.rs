//! Asking the models, and writing down what comes back.

use std::sync::atomic::Ordering;
use std::time::Instant;

use internlm_core::ChatModel;
use internlm_core::scorer::{ScoreRequest, Tokens};

use super::generate::generate;
use super::journal::Entry;
use super::perplexity::perplexities;
use super::queue::Job;
use super::score::{reward_each, score_each, score_rolling_each};
use super::unit::{Unit, request_hash};
use super::work::{Work, lock};
use crate::error::Result;
use crate::item::{Request, Response};

impl Work<'_, '_> {
    pub(super) fn carry_out(&self, job: &Job) -> Result<()> {
        let failed = |error: String| Response::Failed { error };
        if self.run.config.offline {
            let units: Vec<Unit> = match job {
                Job::Score(list) => list.concat(),
                Job::Perplexity(units) | Job::Rolling(units) | Job::Reward(units) => units.clone(),
                Job::Generate(unit) => vec![*unit],
            };
            for unit in units {
                self.complete(unit, failed("is not answered in the folder".to_owned()))?;
            }
            return Ok(());
        }
        self.asked.get_or_init(Instant::now);
        if let Job::Generate(unit) = job {
            return match self.run.chat {
                Some(model) => self.generate(model, *unit),
                None => self.complete(*unit, failed("no model to generate".to_owned())),
            };
        }
        if let Job::Reward(units) = job {
            return self.reward(units);
        }
        // A plan without a scorer holds no such job.
        let Some(scorer) = self.run.scorer else {
            return Ok(());
        };
        let scores = |scores: Result<_, String>| match scores {
            Ok(tokens) => Response::Scores { tokens },
            Err(error) => Response::Failed { error },
        };
        let texts = |units: &[Unit]| -> Vec<(Tokens, Option<usize>)> {
            let text = |&unit: &Unit| match lock(&self.items[unit.item]).request(unit) {
                Request::Perplexity { text, mask_length } => (text.clone(), *mask_length),
                Request::Rolling { text } => (text.as_str().into(), None),
                _ => ("".into(), None),
            };
            units.iter().map(text).collect()
        };
        match job {
            Job::Score(list) => {
                // All units of an entry ask the same.
                let request = |units: &Vec<Unit>| match self.request(units[0]) {
                    Request::Loglikelihood {
                        context,
                        continuation,
                    } => Some(ScoreRequest {
                        context,
                        continuation: continuation.into(),
                    }),
                    _ => None,
                };
                let requests: Vec<ScoreRequest> = list.iter().filter_map(request).collect();
                let responses = score_each(scorer, &self.rate, &requests);
                for (units, response) in list.iter().zip(responses) {
                    let response = scores(response);
                    for &unit in units {
                        self.complete(unit, response.clone())?;
                    }
                }
            }
            Job::Perplexity(units) => {
                let texts = texts(units);
                let texts: Vec<_> = texts.iter().map(|(t, m)| (t, *m)).collect();
                let batch = self.run.config.score_batch;
                let values = perplexities(scorer, &self.rate, &texts, batch);
                for (&unit, value) in units.iter().zip(values) {
                    let response = match value {
                        Ok((value, tokens)) => Response::Perplexity { value, tokens },
                        Err(error) => failed(error),
                    };
                    self.complete(unit, response)?;
                }
            }
            Job::Rolling(units) => {
                let texts = texts(units).into_iter();
                let texts: Vec<Tokens> = texts.map(|(text, _)| text).collect();
                let responses = score_rolling_each(scorer, &self.rate, &texts);
                for (&unit, response) in units.iter().zip(responses) {
                    self.complete(unit, scores(response))?;
                }
            }
            Job::Reward(_) | Job::Generate(_) => {}
        }
        Ok(())
    }

    fn reward(&self, units: &[Unit]) -> Result<()> {
        // A plan without a reward model holds no such job.
        let Some(model) = self.run.reward else {
            return Ok(());
        };
        let conversation = |&unit: &Unit| match self.request(unit) {
            Request::Reward { messages } => messages,
            _ => Vec::new(),
        };
        let conversations: Vec<_> = units.iter().map(conversation).collect();
        let values = reward_each(model, &self.rate, &conversations);
        for (&unit, value) in units.iter().zip(values) {
            let response = match value {
                Ok(value) => Response::Reward { value },
                Err(error) => Response::Failed { error },
            };
            self.complete(unit, response)?;
        }
        Ok(())
    }

    pub(super) fn request(&self, unit: Unit) -> Request {
        lock(&self.items[unit.item]).request(unit).clone()
    }

    pub(super) fn ask_judge(&self, unit: Unit) -> Result<()> {
        match &self.run.judge {
            Some((_, judge)) if !self.run.config.offline => self.generate(*judge, unit),
            _ => {
                let error = "a judge model is needed, and the run has none".to_owned();
                self.complete(unit, Response::Failed { error })
            }
        }
    }

    fn generate(&self, model: &dyn ChatModel, unit: Unit) -> Result<()> {
        let request = self.request(unit);
        let stop = || self.stopped.load(Ordering::SeqCst);
        let config = &self.run.config;
        let response = generate(model, config, &self.rate, &request, unit.answer, &stop);
        // What was stopped did not fail.
        if stop() && matches!(response, Response::Failed { .. }) {
            return Ok(());
        }
        self.complete(unit, response)
    }

    pub(super) fn append(&self, entry: &Entry) -> Result<()> {
        match &self.journal {
            Some(journal) => lock(journal).append(entry),
            None => Ok(()),
        }
    }

    /// Writes a response down, and goes on with the item if it was the last one that was open.
    pub(super) fn complete(&self, unit: Unit, response: Response) -> Result<()> {
        let mut planned = lock(&self.items[unit.item]);
        if self.journal.is_some() {
            self.append(&Entry::Response {
                key: planned.key(&self.run.benchmarks, unit),
                asked: request_hash(planned.request(unit)),
                response: response.clone(),
            })?;
        }
        let stage = &mut planned.stages[unit.stage];
        stage.responses[unit.request][unit.answer] = Some(response);
        let whole = stage.pending().next().is_none();
        drop(planned);
        lock(&self.tracker).progress.done += 1;
        if whole {
            self.advance(unit.item)?;
        }
        self.tell(false);
        Ok(())
    }
}
