//! Targets and whole texts.

use serde_json::json;

use super::super::Task;
use super::super::metric::MetricKind;
use super::{bad_responses, loglikelihoods, sample};
use crate::benchmark::Sample;
use crate::error::Result;
use crate::item::{Item, Request, Response};
use crate::metric::perplexity::word_count;

/// A target after a context.
pub(super) fn judge_target(task: &Task, item: &Item, responses: &[Response]) -> Result<Sample> {
    let scored = loglikelihoods(task, item, responses)?;
    let [(ll, greedy)] = scored[..] else {
        return Err(bad_responses(
            task,
            item,
            "one log-likelihood was expected".to_owned(),
        ));
    };
    sample(
        task,
        item,
        json!({"ll": ll, "is_greedy": greedy}),
        |_, kind| {
            Ok(match kind {
                MetricKind::Perplexity => Some(json!(ll)),
                MetricKind::Acc | MetricKind::ExactMatch => {
                    Some(json!(if greedy { 1.0 } else { 0.0 }))
                }
                _ => None,
            })
        },
    )
}

/// A whole text: its log-likelihood and the units that it is divided by.
pub(super) fn judge_text(task: &Task, item: &Item, responses: &[Response]) -> Result<Sample> {
    let scored = loglikelihoods(task, item, responses)?;
    let ([(ll, _)], [Request::Rolling { text }]) = (&scored[..], &item.requests[..]) else {
        return Err(bad_responses(
            task,
            item,
            "one text was expected".to_owned(),
        ));
    };
    sample(task, item, json!({"ll": ll}), |metric, kind| {
        let counted = task.counted(metric, item)?;
        let counted = counted.as_deref().unwrap_or(text);
        Ok(match kind {
            MetricKind::WordPerplexity => Some(json!([ll, word_count(counted)])),
            MetricKind::BytePerplexity | MetricKind::BitsPerByte => {
                Some(json!([ll, counted.len()]))
            }
            _ => None,
        })
    })
}
