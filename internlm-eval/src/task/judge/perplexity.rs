//! Targets and whole texts.

use serde_json::json;

use super::super::Task;
use super::super::metric::MetricKind;
use super::{bad_responses, loglikelihoods, sample};
use crate::benchmark::Sample;
use crate::error::Result;
use crate::item::{Item, Request, Response};

/// A target after a context.
pub(super) fn judge_target(task: &Task, item: &Item, responses: &[Response]) -> Result<Sample> {
    let scored = loglikelihoods(task, item, responses)?;
    let [(ll, greedy)] = scored[..] else {
        return Err(bad_responses(task, item, "one log-likelihood was expected".to_owned()));
    };
    sample(task, item, json!({"ll": ll, "is_greedy": greedy}), |_, kind| {
        Ok(match kind {
            MetricKind::Perplexity => Some(json!(ll)),
            MetricKind::Acc | MetricKind::ExactMatch => Some(json!(if greedy { 1.0 } else { 0.0 })),
            _ => None,
        })
    })
}

/// A whole text: its log-likelihood and the units that it is divided by.
pub(super) fn judge_text(task: &Task, item: &Item, responses: &[Response]) -> Result<Sample> {
    let scored = loglikelihoods(task, item, responses)?;
    let ([(ll, _)], [Request::Rolling { text }]) = (&scored[..], &item.requests[..]) else {
        return Err(bad_responses(task, item, "one text was expected".to_owned()));
    };
    sample(task, item, json!({"ll": ll}), |metric, kind| {
        let counted = task.counted(metric, item)?;
        let counted = counted.as_deref().unwrap_or(text);
        Ok(match kind {
            MetricKind::WordPerplexity => Some(json!([ll, words(counted)])),
            MetricKind::BytePerplexity | MetricKind::BitsPerByte => {
                Some(json!([ll, counted.len()]))
            }
            _ => None,
        })
    })
}

/// The number of parts of Python's `re.split(r"\s+", text)`: one more than there are runs of white space.
fn words(text: &str) -> usize {
    let mut runs = 0;
    let mut inside = false;
    for character in text.chars() {
        // Python also takes the four information separators for white space.
        let space = character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character);
        if space && !inside {
            runs += 1;
        }
        inside = space;
    }
    runs + 1
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_are_what_python_splits() {
        assert_eq!(words("a b  c"), 3);
        assert_eq!(words(" a\n"), 3);
        assert_eq!(words(""), 1);
        assert_eq!(words("   "), 2);
    }
}
