//! The smallest pieces of work: a request, or one of the answers that it asks for.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::benchmark::Benchmark;
use crate::error::{Error, Result};
use crate::hash::hex16;
use crate::item::{Item, Request, Response};

/// The name of a unit in a journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct UnitKey {
    pub(crate) benchmark: String,
    pub(crate) item: usize,
    /// 0 for the item's own requests, 1 for those to the judge.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) stage: usize,
    pub(crate) request: usize,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) answer: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Where a unit stands in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Unit {
    /// The item, in the plan's list.
    pub(crate) item: usize,
    pub(crate) stage: usize,
    pub(crate) request: usize,
    pub(crate) answer: usize,
}

/// What came back to the requests of one stage of an item.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    /// The requests to the judge; the item's own are in the item.
    questions: Vec<Request>,
    /// By request and answer.
    pub(crate) responses: Vec<Vec<Option<Response>>>,
}

impl Stage {
    /// The item's own requests.
    pub(crate) fn own(requests: &[Request]) -> Self {
        let units = |request: &Request| match request {
            Request::Generate { samples, .. } => *samples,
            _ => 1,
        };
        Self {
            questions: Vec::new(),
            responses: requests.iter().map(|r| vec![None; units(r)]).collect(),
        }
    }

    /// Requests to the judge.
    pub(crate) fn judge(questions: Vec<Request>) -> Self {
        Self {
            responses: Self::own(&questions).responses,
            questions,
        }
    }

    pub(crate) fn pending(&self) -> impl Iterator<Item = (usize, usize)> {
        self.responses.iter().enumerate().flat_map(|(r, answers)| {
            let open = answers.iter().enumerate().filter(|(_, a)| a.is_none());
            open.map(move |(a, _)| (r, a))
        })
    }

    /// The responses to its requests, the answers of each joined; the first failure fails its request.
    pub(crate) fn responses(&self) -> Vec<Response> {
        self.responses.iter().map(|answers| join(answers)).collect()
    }
}

fn join(answers: &[Option<Response>]) -> Response {
    match answers {
        [Some(only)] => only.clone(),
        _ => {
            let mut texts = Vec::with_capacity(answers.len());
            for answer in answers.iter().flatten() {
                match answer {
                    Response::Texts { answers } => texts.extend(answers.iter().cloned()),
                    other => return other.clone(),
                }
            }
            Response::Texts { answers: texts }
        }
    }
}

/// One item on its way.
pub(crate) struct Planned {
    /// In the run's list.
    pub(crate) benchmark: usize,
    pub(crate) item: Item,
    /// Its own requests, and those to the judge once they are known.
    pub(crate) stages: Vec<Stage>,
    pub(crate) outcome: Option<super::Outcome>,
}

impl Planned {
    /// The requests of a stage.
    pub(crate) fn requests(&self, stage: usize) -> &[Request] {
        match self.stages.get(stage) {
            Some(judge) if stage > 0 => &judge.questions,
            _ => &self.item.requests,
        }
    }

    pub(crate) fn request(&self, unit: Unit) -> &Request {
        &self.requests(unit.stage)[unit.request]
    }

    pub(crate) fn key(&self, benchmarks: &[&dyn Benchmark], unit: Unit) -> UnitKey {
        UnitKey {
            benchmark: benchmarks[self.benchmark].name().to_owned(),
            item: self.item.index,
            stage: unit.stage,
            request: unit.request,
            answer: unit.answer,
        }
    }

    /// Takes a response from a journal. Unless `lenient`, it must be one to this very request.
    pub(crate) fn restore(
        &mut self,
        folder: &Path,
        lenient: bool,
        key: &UnitKey,
        hash: &str,
        response: &Response,
    ) -> Result<()> {
        let slot = self
            .stages
            .get(key.stage)
            .and_then(|s| s.responses.get(key.request));
        if slot.is_none_or(|answers| key.answer >= answers.len()) {
            return Ok(());
        }
        let now = request_hash(&self.requests(key.stage)[key.request]);
        if now != hash && !lenient {
            return Err(Error::OtherRun {
                folder: folder.to_owned(),
                what: format!(
                    "request {} of {} item {}",
                    key.request, key.benchmark, key.item
                ),
                recorded: format!("`{hash}`"),
                now: format!("`{now}`"),
            });
        }
        self.stages[key.stage].responses[key.request][key.answer] = Some(response.clone());
        Ok(())
    }
}

/// Identifies what is asked.
pub(crate) fn request_hash(request: &Request) -> String {
    // Requests are plain data with text keys, which always can be written.
    let text = serde_json::to_string(request).unwrap_or_default();
    hex16(text.as_bytes())
}
