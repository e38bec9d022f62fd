//! `/v1/completions`: texts continued as they are, without a chat template.

mod prompt;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request as HttpRequest;
use internlm_core::ChatRequest;
use internlm_core::chat_model::{Completion, FinishReason, Input, TokenLogprob, Usage};
use serde::{Deserialize, Serialize};

use super::answers::Answers;
use super::error::ApiError;
use super::fields::{self, Common};
use super::logprobs::TextLogprobs;
use super::state::Server;
use super::wire::{Reply, UsageBody, now, ok};
use super::{blocking, body};
use crate::request::Request;
use crate::response::Response;
use prompt::{Prompt, Source};
use stream::TextChunks;

/// The field of the prompt, for errors.
const PROMPT: &str = "prompt";

/// Most tokens of an answer where the request does not say, as in OpenAI's API.
const MAX_TOKENS: usize = 16;

/// What only this route has.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CompletionBody {
    prompt: Option<Source>,
    echo: Option<bool>,
    logprobs: Option<u64>,
    best_of: Option<u64>,
    suffix: Option<String>,
    /// Whether special tokens that the prompt spells are special tokens. Only for prompts that the client has
    /// made itself: what a person typed could then end the prompt.
    parse_special_tokens: Option<bool>,
}

/// What the answer is made with.
struct Plan {
    requests: Vec<Request>,
    shape: Shape,
    streams: bool,
    includes_usage: bool,
}

/// What all pieces of an answer need to know.
struct Shape {
    id: String,
    created: u64,
    model: String,
    /// Answers to each prompt that are shown, and that are made.
    n: usize,
    best_of: usize,
    echo: bool,
    logprobs: Option<usize>,
    tokens_as_ids: bool,
    returns_ids: bool,
    prompts: Vec<Prompt>,
}

/// Continues prompts.
pub(super) async fn complete(
    State(server): State<Arc<Server>>,
    request: HttpRequest<Body>,
) -> Reply {
    let bytes = body::read(&server.config, request).await?;
    let (mut plan, responses) = blocking::run(&server, move |server| {
        let plan = plan(server, &bytes)?;
        let submit = |request: &Request| server.engine.submit(request.clone());
        let responses: Result<Vec<Response>, _> = plan.requests.iter().map(submit).collect();
        let responses = responses.map_err(|error| ApiError::of(error, PROMPT))?;
        Ok::<_, ApiError>((plan, responses))
    })
    .await??;
    let mut answers = Answers::new(&server, responses, plan.shape.best_of);
    if plan.shape.echo && plan.shape.logprobs.is_some() {
        plan.shape = score_prompts(&server, plan.shape).await?;
    }
    let shape = plan.shape;
    if plan.streams {
        let chunks = TextChunks::new(server.clone(), shape, plan.includes_usage);
        return super::stream::respond(answers, chunks).await;
    }
    let mut completions: Vec<_> = shape.unstarted().collect();
    while let Some(item) = answers.next().await {
        let (index, event) = item.map_err(|error| ApiError::of(error, PROMPT))?;
        if let Some(completion) = completions.get_mut(index) {
            completion.push(event);
        }
    }
    ok(&whole(&server, &shape, completions))
}

/// Computes what the prompts' own tokens are worth, one request at a time.
async fn score_prompts(server: &Arc<Server>, mut shape: Shape) -> Result<Shape, ApiError> {
    let _place = server.scoring.clone().acquire_owned().await;
    blocking::run(server, move |server| {
        let top = shape.logprobs.unwrap_or(0);
        for prompt in &mut shape.prompts {
            let scored = server.engine.prompt_logprobs(&prompt.ids, top);
            prompt.logprobs = scored.map_err(|error| ApiError::of(error, PROMPT))?;
        }
        Ok::<_, ApiError>(shape)
    })
    .await?
}

/// Reads and checks a request.
fn plan(server: &Server, bytes: &[u8]) -> Result<Plan, ApiError> {
    let common = Common::parse(bytes)?;
    let fields: CompletionBody = body::parse(bytes)?;
    if fields.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        let message = "`suffix` can't be used: the models don't fill in.";
        return Err(ApiError::field("suffix", message));
    }
    let source = fields
        .prompt
        .ok_or_else(|| ApiError::field(PROMPT, "`prompt` is missing."))?;
    let special = fields.parse_special_tokens == Some(true);
    let most = server.config.max_answers;
    let prompts = prompt::read(server, source, special, most)?;
    let n = common.n(server, prompts.len())?;
    let best_of = match fields.best_of {
        None => n,
        Some(best_of) => {
            let best_of = usize::try_from(best_of).unwrap_or(usize::MAX);
            fields::check_answers(server, "best_of", best_of, prompts.len())?;
            if best_of < n || (best_of > n && common.streams()) {
                let message = "`best_of` is at least `n`, and the same in a stream.";
                return Err(ApiError::field("best_of", message));
            }
            best_of
        }
    };
    let mut sampling = common.sampling(server)?;
    let limited = common.max_tokens.or(common.max_completion_tokens).is_some();
    if !limited {
        sampling.max_new_tokens = Some(MAX_TOKENS);
    }
    let logprobs = match fields.logprobs {
        Some(top) => {
            fields::check("logprobs", top as f64)?;
            Some(top as usize)
        }
        None => None,
    };
    // The best ones are found by their log-probabilities.
    sampling.logprobs = logprobs.or((best_of > n).then_some(0));
    let silent = sampling.max_new_tokens == Some(0);
    let request = |prompt: &Prompt| {
        let chat = ChatRequest::new(Input::Ids(prompt.ids.clone()));
        common.request(server, chat.with_sampling(sampling.clone()), best_of)
    };
    let requests = match silent {
        true => Vec::new(),
        false => prompts.iter().map(request).collect::<Result<_, _>>()?,
    };
    server.adapter(common.model.as_deref())?;
    Ok(Plan {
        requests,
        streams: common.streams(),
        includes_usage: common.includes_usage(),
        shape: Shape {
            id: server.ids.next("cmpl-"),
            created: now(),
            tokens_as_ids: common.tokens_as_ids(),
            returns_ids: common.returns_ids(),
            model: common.model.unwrap_or_else(|| server.model.clone()),
            n,
            best_of,
            echo: fields.echo == Some(true),
            logprobs,
            prompts,
        },
    })
}

impl Shape {
    /// Answers of which nothing is known: what they are if no token is asked for.
    fn unstarted(&self) -> impl Iterator<Item = Completion> {
        let answers = self.best_of;
        self.prompts.iter().flat_map(move |prompt| {
            let completion = Completion {
                finish_reason: Some(FinishReason::Length),
                usage: Usage {
                    prompt_tokens: prompt.ids.len(),
                    ..Usage::default()
                },
                ..Completion::default()
            };
            std::iter::repeat_n(completion, answers)
        })
    }

    /// Log-probabilities of an echoed prompt, and its length in characters.
    fn echoed(&self, server: &Server, prompt: &Prompt) -> (TextLogprobs, usize) {
        let (mut logprobs, mut offset) = (TextLogprobs::default(), 0);
        if !self.echo {
            return (logprobs, 0);
        }
        let scored = std::iter::once(None).chain(prompt.logprobs.iter().map(Some));
        for (&id, scored) in prompt.ids.iter().zip(scored) {
            logprobs.push(&server.texts, id, scored, self.tokens_as_ids, &mut offset);
        }
        (logprobs, prompt.text.chars().count())
    }

    /// Log-probabilities of tokens of the answer that begin after `offset` characters.
    fn answered(
        &self,
        server: &Server,
        scored: &[TokenLogprob],
        logprobs: &mut TextLogprobs,
        offset: &mut usize,
    ) {
        for scored in scored {
            let as_ids = self.tokens_as_ids;
            logprobs.push(&server.texts, scored.id, Some(scored), as_ids, offset);
        }
    }
}

#[derive(Serialize)]
struct TextCompletion<'s> {
    id: &'s str,
    object: &'static str,
    created: u64,
    model: &'s str,
    choices: Vec<Choice>,
    /// As in a chat's chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
}

#[derive(Default, Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<Vec<u32>>,
}

/// The mean log-probability of an answer's tokens.
fn mean_logprob(completion: &Completion) -> f32 {
    let sum: f32 = completion
        .logprobs
        .iter()
        .map(|scored| scored.logprob)
        .sum();
    sum / completion.logprobs.len().max(1) as f32
}

/// Answers in one piece.
fn whole<'s>(
    server: &Server,
    shape: &'s Shape,
    completions: Vec<Completion>,
) -> TextCompletion<'s> {
    let usages: Vec<_> = completions.iter().map(|c| c.usage).collect();
    let mut choices = Vec::new();
    let mut made = completions.into_iter();
    for prompt in &shape.prompts {
        let mut answers: Vec<_> = made.by_ref().take(shape.best_of).collect();
        if shape.best_of > shape.n {
            answers.sort_by(|a, b| mean_logprob(b).total_cmp(&mean_logprob(a)));
            answers.truncate(shape.n);
        }
        for answer in answers {
            let logprobs = shape.logprobs.map(|_| {
                let (mut logprobs, mut offset) = shape.echoed(server, prompt);
                shape.answered(server, &answer.logprobs, &mut logprobs, &mut offset);
                logprobs
            });
            let text = match shape.echo {
                true => prompt.text.clone() + &answer.text,
                false => answer.text,
            };
            choices.push(Choice {
                index: choices.len(),
                text,
                logprobs,
                finish_reason: answer.finish_reason.map(|reason| reason.as_str()),
                token_ids: shape.returns_ids.then_some(answer.ids),
            });
        }
    }
    TextCompletion {
        id: &shape.id,
        object: "text_completion",
        created: shape.created,
        model: &shape.model,
        choices,
        usage: Some(Some(UsageBody::of(&usages, shape.best_of))),
    }
}
