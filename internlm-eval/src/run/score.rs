//! Log-likelihoods of many continuations, where one that fails does not take the others with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use internlm_core::scorer::{ScoreRequest, TokenScore, Tokens};
use internlm_core::{Error, Message, RewardModel, Scorer};

use super::rate::RateLimit;

/// The scores of one continuation, or why there are none, in one line.
pub(super) type Scores = Result<Vec<TokenScore>, String>;

/// Scores each; when the call fails, halves are tried, until what fails stands alone.
pub(super) fn score_each(
    scorer: &dyn Scorer,
    rate: &RateLimit,
    requests: &[ScoreRequest],
) -> Vec<Scores> {
    each(rate, requests, &|part| scorer.score(part), &finite)
}

/// The same for whole texts.
pub(super) fn score_rolling_each(
    scorer: &dyn Scorer,
    rate: &RateLimit,
    texts: &[Tokens],
) -> Vec<Scores> {
    each(rate, texts, &|part| scorer.score_rolling(part), &finite)
}

/// The same for conversations and a reward model.
pub(super) fn reward_each(
    model: &dyn RewardModel,
    rate: &RateLimit,
    conversations: &[Vec<Message>],
) -> Vec<Result<f64, String>> {
    let finite = |reward: f32| match reward.is_finite() {
        true => Ok(f64::from(reward)),
        false => Err(format!("the reward is {reward}, expected a finite number")),
    };
    each(rate, conversations, &|part| model.rewards(part), &finite)
}

type Call<'a, T, R> = &'a dyn Fn(&[T]) -> internlm_core::Result<Vec<R>>;
type Read<'a, R, S> = &'a dyn Fn(R) -> Result<S, String>;

fn each<T, R, S>(
    rate: &RateLimit,
    asked: &[T],
    call: Call<'_, T, R>,
    read: Read<'_, R, S>,
) -> Vec<Result<S, String>> {
    if asked.is_empty() {
        return Vec::new();
    }
    rate.wait();
    let (error, alone) = match catch_unwind(AssertUnwindSafe(|| call(asked))) {
        Ok(Ok(scores)) if scores.len() == asked.len() => {
            return scores.into_iter().map(read).collect();
        }
        Ok(Ok(scores)) => {
            let (got, want) = (scores.len(), asked.len());
            (
                format!("the scorer gave {got} scores for {want} requests"),
                false,
            )
        }
        Ok(Err(error)) => {
            let alone = is_outage(&error);
            (one_line(&error), alone)
        }
        Err(panic) => (panic_text(&*panic), false),
    };
    if alone || asked.len() == 1 {
        return asked.iter().map(|_| Err(error.clone())).collect();
    }
    let (left, right) = asked.split_at(asked.len() / 2);
    let mut scores = each(rate, left, call, read);
    scores.extend(each(rate, right, call, read));
    scores
}

fn finite(tokens: Vec<TokenScore>) -> Scores {
    match tokens.iter().position(|t| !t.logprob.is_finite()) {
        None => Ok(tokens),
        Some(place) => Err(format!(
            "the log-probability of token {place} is {}, expected a finite number",
            tokens[place].logprob
        )),
    }
}

/// Whether the server is out of reach, or has no way to do this, so that smaller calls fail as well.
fn is_outage(error: &Error) -> bool {
    match error {
        Error::Connection { .. } | Error::Timeout { .. } | Error::NotOffered { .. } => true,
        Error::Http { status, .. } => matches!(status, 401 | 403 | 404 | 408 | 429 | 500..),
        _ => false,
    }
}

/// An error with no line breaks.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("of unknown kind"))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn token(logprob: f32) -> Vec<TokenScore> {
        vec![TokenScore {
            id: 0,
            logprob,
            is_argmax: true,
        }]
    }

    fn error() -> Error {
        Error::Request {
            field: "continuation",
            what: "has no tokens".to_owned(),
        }
    }

    #[test]
    fn one_bad_request_fails_alone() {
        let calls = Mutex::new(0);
        let call = |part: &[i32]| {
            *calls.lock().unwrap() += 1;
            assert!(!part.contains(&11), "eleven");
            match part.contains(&5) {
                true => Err(error()),
                false => Ok(part.iter().map(|&n| token(n as f32)).collect()),
            }
        };
        let asked: Vec<i32> = (0..16).collect();
        let scores = each(&RateLimit::new(None), &asked, &call, &finite);
        for (n, scores) in scores.iter().enumerate() {
            match (n, scores) {
                (5, Err(why)) => assert_eq!(why, "`continuation`: has no tokens"),
                (11, Err(why)) => assert_eq!(why, "a panic: eleven"),
                (_, scores) => assert_eq!(scores.as_ref().unwrap()[0].logprob, n as f32),
            }
        }
    }

    #[test]
    fn a_server_that_is_gone_is_asked_once() {
        let calls = Mutex::new(0);
        let call = |_: &[i32]| {
            *calls.lock().unwrap() += 1;
            Err(Error::NotOffered {
                url: "u".to_owned(),
                what: "scores",
            })
        };
        let scores = each(&RateLimit::new(None), &[1, 2, 3, 4], &call, &finite);
        assert_eq!(scores.len(), 4);
        assert!(scores.iter().all(Result::is_err));
        assert_eq!(*calls.lock().unwrap(), 1);
    }

    #[test]
    fn too_few_scores_and_scores_that_are_no_numbers_are_failures() {
        let few = |_: &[i32]| Ok(vec![]);
        assert!(each(&RateLimit::new(None), &[1], &few, &finite)[0].is_err());
        let nan = |_: &[i32]| Ok(vec![token(f32::NAN)]);
        assert!(each(&RateLimit::new(None), &[1], &nan, &finite)[0].is_err());
    }
}
