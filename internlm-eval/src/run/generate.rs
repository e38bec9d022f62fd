//! Answers of a model, turn by turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use internlm_core::chat_model::{Completion, Input};
use internlm_core::{ChatModel, ChatRequest, Error, Message, SamplingParams};

use super::config::RunConfig;
use super::rate::{RateLimit, backoff};
use super::score::{one_line, panic_text};
use crate::item::{Request, Response};

/// One answer to a [`Request::Generate`], its number `answer`; `stop` ends it early.
pub(super) fn generate(
    model: &dyn ChatModel,
    config: &RunConfig,
    rate: &RateLimit,
    request: &Request,
    answer: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Response {
    let turns = catch_unwind(AssertUnwindSafe(|| {
        turns(model, config, rate, request, answer, stop)
    }));
    let turns = turns.unwrap_or_else(|panic| Err(panic_text(&*panic)));
    match turns {
        Ok(turns) => Response::Texts {
            answers: vec![turns],
        },
        Err(error) => Response::Failed { error },
    }
}

fn turns(
    model: &dyn ChatModel,
    config: &RunConfig,
    rate: &RateLimit,
    request: &Request,
    answer: usize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<String>, String> {
    let Request::Generate {
        input,
        sampling,
        samples,
        follow_ups,
    } = request
    else {
        return Err("not a request for a text".to_owned());
    };
    let sampling = seeded(sampling, config.seed, *samples, answer);
    let mut input = input.clone();
    let mut texts = Vec::with_capacity(1 + follow_ups.len());
    let mut follow_ups = follow_ups.iter();
    loop {
        let asked = ChatRequest::new(input.clone()).with_sampling(sampling.clone());
        let text = complete(model, config, rate, &asked, stop)?;
        let next = follow_ups.next();
        if let Some(next) = next {
            let Input::Messages(messages) = &mut input else {
                return Err("further turns need a conversation, not a raw prompt".to_owned());
            };
            messages.push(Message::assistant(text.clone()));
            messages.push(Message::user(next.clone()));
        }
        texts.push(text);
        if next.is_none() {
            return Ok(texts);
        }
    }
}

/// Sampled answers have seeds, so that a run can be made again, and each its own. A greedy answer needs none.
fn seeded(params: &SamplingParams, base: u64, samples: usize, answer: usize) -> SamplingParams {
    let mut params = params.clone();
    if params.temperature > 0.0 || samples > 1 {
        let seed = params.seed.unwrap_or(base);
        params.seed = Some(seed.wrapping_add(answer as u64));
    }
    params
}

/// A failed attempt, and whether the answer had begun.
struct Broken {
    error: String,
    again: bool,
}

fn complete(
    model: &dyn ChatModel,
    config: &RunConfig,
    rate: &RateLimit,
    request: &ChatRequest,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<String, String> {
    let mut failures = 0;
    loop {
        rate.wait();
        let broken = match attempt(model, config, request, stop) {
            Ok(text) => return Ok(text),
            Err(broken) => broken,
        };
        failures += 1;
        if !broken.again || failures > config.retries || stop() {
            return Err(broken.error);
        }
        std::thread::sleep(backoff(config.backoff, failures));
    }
}

fn attempt(
    model: &dyn ChatModel,
    config: &RunConfig,
    request: &ChatRequest,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<String, Broken> {
    let final_error = |error: String| Broken {
        error,
        again: false,
    };
    let begin = Instant::now();
    let events = model
        .generate(request)
        .map_err(|e| final_error(one_line(&e)))?;
    let mut completion = Completion::default();
    for event in events {
        let event = event.map_err(|e| Broken {
            error: one_line(&e),
            again: may_go_better(&e),
        })?;
        completion.push(event);
        if let Some(deadline) = config.deadline
            && begin.elapsed() > deadline
            && completion.finish_reason.is_none()
        {
            let seconds = deadline.as_secs_f64();
            return Err(final_error(format!("no whole answer within {seconds} s")));
        }
        if stop() {
            return Err(final_error("stopped".to_owned()));
        }
    }
    match completion.finish_reason {
        Some(_) => Ok(completion.text),
        None => Err(Broken {
            error: "the answer broke off".to_owned(),
            again: true,
        }),
    }
}

/// Whether an answer that broke with this may be whole the next time. Not after a timeout: a server that is slow
/// would get twice the work.
fn may_go_better(error: &Error) -> bool {
    match error {
        Error::Connection { .. } | Error::Protocol { .. } => true,
        Error::Http { status, .. } => matches!(status, 200 | 408 | 429 | 500 | 502..),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use internlm_core::scripted::{Reply, ScriptedModel};

    use super::*;

    fn request(follow_ups: &[&str]) -> Request {
        Request::Generate {
            input: Input::Messages(vec![Message::user("a")]),
            sampling: SamplingParams::greedy(),
            samples: 1,
            follow_ups: follow_ups.iter().map(|&t| t.to_owned()).collect(),
        }
    }

    fn ask(model: &ScriptedModel, request: &Request) -> Response {
        let config = RunConfig::default().with_backoff(Duration::ZERO);
        generate(model, &config, &RateLimit::new(None), request, 0, &|| false)
    }

    fn texts(turns: &[&str]) -> Response {
        Response::Texts {
            answers: vec![turns.iter().map(|&t| t.to_owned()).collect()],
        }
    }

    #[test]
    fn turns_see_the_answers_before_them() {
        let model = ScriptedModel::new(["one", "two"]);
        assert_eq!(ask(&model, &request(&["b"])), texts(&["one", "two"]));
        let Input::Messages(messages) = &model.requests()[1].input else {
            panic!("a conversation")
        };
        let said: Vec<String> = messages.iter().map(Message::text).collect();
        assert_eq!(said, ["a", "one", "b"]);
    }

    #[test]
    fn an_answer_that_broke_off_is_asked_for_again() {
        let broken = || {
            Reply::text("o").with_failure(Error::Protocol {
                url: "u".to_owned(),
                what: "cut".to_owned(),
            })
        };
        let model = ScriptedModel::new([broken(), Reply::text("one")]);
        assert_eq!(ask(&model, &request(&[])), texts(&["one"]));
        let model = ScriptedModel::new([broken(), broken(), broken(), Reply::text("one")]);
        let Response::Failed { error } = ask(&model, &request(&[])) else {
            panic!("three times is enough")
        };
        assert_eq!(error, "u: cut");
        assert_eq!(model.remaining(), 1);
    }

    #[test]
    fn what_was_refused_is_not_asked_again() {
        let refused = Error::PromptTooLong {
            prompt_tokens: 9,
            context_length: 8,
        };
        let model = ScriptedModel::new([Reply::error(refused), Reply::text("one")]);
        assert!(matches!(
            ask(&model, &request(&[])),
            Response::Failed { .. }
        ));
        assert_eq!(model.remaining(), 1);
    }

    #[test]
    fn seeds_differ_by_answer() {
        let greedy = SamplingParams::greedy();
        assert_eq!(seeded(&greedy, 5, 1, 0).seed, None);
        assert_eq!(seeded(&greedy, 5, 4, 3).seed, Some(8));
        let own = greedy.with_seed(100).with_temperature(1.0);
        assert_eq!(seeded(&own, 5, 1, 0).seed, Some(100));
        assert_eq!(seeded(&own, 5, 2, 1).seed, Some(101));
    }
}
