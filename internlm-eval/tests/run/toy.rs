//! A model that is a function of its input and remembers what it was asked, and benchmarks of made-up items.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use internlm_core::chat_model::{Events, FinishReason, Usage};
use internlm_core::message::join;
use internlm_core::scorer::{ModelFacts, ScoreRequest, TokenScore, Tokens};
use internlm_core::{
    ChatModel, ChatRequest, CodeExecutor, Event, Message, Part, RewardModel, SamplingParams,
    Scorer, ToolSpec,
};
use internlm_eval::benchmark::Identity;
use internlm_eval::{Benchmark, Item, Request, Response, Result, Sample, Score};
use serde_json::{Map, Value, json};

/// Tokens are bytes. A token's log-probability is a function of what stands before it.
pub(crate) struct Toy {
    facts: ModelFacts,
    /// Continuations and texts that were scored, as text, and prompts that were answered.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Calls of the scorer.
    pub(crate) calls: AtomicUsize,
    /// Requests whose text holds this fail.
    pub(crate) poison: Option<&'static str>,
}

impl Toy {
    pub(crate) fn new() -> Self {
        let mut facts = ModelFacts::default();
        facts.name = "toy".to_owned();
        facts.context_length = 512;
        facts.prefix_token = Some(256);
        facts.model_hash = Some("aa".to_owned());
        Self {
            facts,
            asked: Mutex::default(),
            calls: AtomicUsize::new(0),
            poison: None,
        }
    }

    pub(crate) fn without_hash() -> Self {
        let mut toy = Self::new();
        toy.facts.model_hash = None;
        toy
    }

    pub(crate) fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.facts.name);
        self
    }

    pub(crate) fn poisoned(mut self, poison: &'static str) -> Self {
        self.poison = Some(poison);
        self
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, text: String) -> internlm_core::Result<()> {
        if self.poison.is_some_and(|poison| text.contains(poison)) {
            return Err(internlm_core::Error::Request {
                field: "text",
                what: "is poison".to_owned(),
            });
        }
        self.asked.lock().unwrap().push(text);
        Ok(())
    }
}

fn ids(tokens: &Tokens) -> Vec<u32> {
    match tokens {
        Tokens::Text(text) => text.bytes().map(u32::from).collect(),
        Tokens::Ids(ids) => ids.clone(),
        Tokens::Parts(parts) => join(parts).bytes().map(u32::from).collect(),
    }
}

fn spelled(ids: &[u32]) -> String {
    let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn scores(before: &[u32], scored: &[u32]) -> Vec<TokenScore> {
    let mut state: u32 = 17;
    let mut scores = Vec::new();
    for (place, &id) in before.iter().chain(scored).enumerate() {
        if place >= before.len() {
            let logprob = -((state % 997) as f32) / 100.0 - 0.01;
            scores.push(TokenScore {
                id,
                logprob,
                is_argmax: state.is_multiple_of(3),
            });
        }
        state = state.wrapping_mul(31).wrapping_add(id + 7);
    }
    scores
}

impl Scorer for Toy {
    fn score(&self, requests: &[ScoreRequest]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let texts = requests.iter().map(|r| {
            let (context, continuation) = (ids(&r.context), ids(&r.continuation));
            format!("{}|{}", spelled(&context), spelled(&continuation))
        });
        if let Some(poison) = self.poison
            && texts.clone().any(|text| text.contains(poison))
        {
            self.note(poison.to_owned())?;
        }
        for text in texts {
            self.note(text)?;
        }
        Ok(requests
            .iter()
            .map(|r| scores(&ids(&r.context), &ids(&r.continuation)))
            .collect())
    }

    fn score_rolling(&self, texts: &[Tokens]) -> internlm_core::Result<Vec<Vec<TokenScore>>> {
        for text in texts {
            self.note(spelled(&ids(text)))?;
        }
        Ok(texts
            .iter()
            .map(|text| scores(&[256], &ids(text)))
            .collect())
    }

    fn encode_parts(&self, parts: &[Part], _: bool) -> internlm_core::Result<Vec<u32>> {
        Ok(join(parts).bytes().map(u32::from).collect())
    }

    fn render_chat(
        &self,
        _: &[Message],
        _: &[ToolSpec],
        _: bool,
    ) -> internlm_core::Result<Vec<Part>> {
        Ok(Vec::new())
    }

    fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}

impl RewardModel for Toy {
    /// The length of what is said last.
    fn rewards(&self, conversations: &[Vec<Message>]) -> internlm_core::Result<Vec<f32>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let last = |messages: &Vec<Message>| messages.last().map(Message::text);
        let said: Vec<String> = conversations.iter().filter_map(last).collect();
        if let Some(poison) = self.poison
            && said.iter().any(|said| said.contains(poison))
        {
            self.note(poison.to_owned())?;
        }
        for said in &said {
            self.note(said.clone())?;
        }
        Ok(said.iter().map(|said| said.len() as f32).collect())
    }
}

impl ChatModel for Toy {
    /// Answers with the prompt's length and the seed.
    fn generate(&self, request: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        let prompt = serde_json::to_string(&request.input).unwrap();
        self.note(prompt.clone())?;
        let text = format!("{} {:?}", prompt.len(), request.sampling.seed);
        let events = [
            Event::Delta {
                text,
                ids: Vec::new(),
                logprobs: Vec::new(),
            },
            Event::Finish {
                reason: FinishReason::Stop,
                usage: Usage::default(),
            },
        ];
        Ok(Box::new(events.into_iter().map(Ok)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Choice,
    Perplexity,
    Rolling,
    /// With this many answers to each prompt.
    Text(usize),
    /// Two turns.
    Turns,
}

/// A benchmark of `count` items.
pub(crate) struct Made {
    name: String,
    kind: Kind,
    count: usize,
    pub(crate) identity: Identity,
    /// Judging this item panics.
    pub(crate) panics: Option<usize>,
}

impl Made {
    pub(crate) fn new(name: &str, kind: Kind, count: usize) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            count,
            identity: Identity {
                rules: "lm-eval".to_owned(),
                mode: format!("{kind:?}"),
                shots: 0,
                prompt_hash: "0123456789abcdef".to_owned(),
                data_hash: "fedcba9876543210".to_owned(),
                groups: vec!["all".to_owned()],
            },
            panics: None,
        }
    }
}

/// One of each kind.
pub(crate) fn all() -> Vec<Made> {
    vec![
        Made::new("choice", Kind::Choice, 12),
        Made::new("perplexity", Kind::Perplexity, 6),
        Made::new("rolling", Kind::Rolling, 3),
        Made::new("text", Kind::Text(1), 7),
        Made::new("texts", Kind::Text(3), 4),
        Made::new("turns", Kind::Turns, 3),
    ]
}

pub(crate) fn as_benchmarks(made: &[Made]) -> Vec<&dyn Benchmark> {
    made.iter().map(|b| b as &dyn Benchmark).collect()
}

impl Benchmark for Made {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn items(&self, _: Option<&dyn Scorer>) -> Result<Vec<Item>> {
        let shared = "The same long beginning of every prompt of this benchmark. ";
        let requests = |n: usize| -> Vec<Request> {
            let prompt = format!("{shared}{} {n}. 题", self.name);
            let label = |label: usize| match self.kind {
                Kind::Choice => Request::Loglikelihood {
                    context: prompt.as_str().into(),
                    continuation: format!(" answer {label}"),
                },
                _ => Request::Perplexity {
                    text: format!("{prompt} answer {label}").into(),
                    mask_length: (label == 2).then_some(3),
                },
            };
            match self.kind {
                Kind::Choice | Kind::Perplexity => (0..4).map(label).collect(),
                Kind::Rolling => vec![Request::Rolling { text: prompt }],
                Kind::Text(samples) => vec![Request::Generate {
                    input: ChatRequest::prompt(prompt).input,
                    sampling: SamplingParams::greedy(),
                    samples,
                    follow_ups: Vec::new(),
                }],
                Kind::Turns => vec![Request::Generate {
                    input: ChatRequest::messages(vec![Message::user(prompt)]).input,
                    sampling: SamplingParams::greedy(),
                    samples: 1,
                    follow_ups: vec!["And then?".to_owned()],
                }],
            }
        };
        let item = |n: usize| {
            let mut row = Map::new();
            row.insert("depth".to_owned(), json!(25 * (n % 3)));
            row.insert("length".to_owned(), json!(1000 * (1 + n % 4)));
            Item {
                index: n,
                row,
                requests: requests(n),
                gold: json!(n % 4),
            }
        };
        Ok((0..self.count).map(item).collect())
    }

    fn judge(
        &self,
        item: &Item,
        responses: &[Response],
        _: Option<&dyn CodeExecutor>,
    ) -> Result<Sample> {
        assert_ne!(self.panics, Some(item.index), "told to panic");
        assert_eq!(responses.len(), item.requests.len());
        let value = |response: &Response| match response {
            Response::Scores { .. } => response.loglikelihood().unwrap().0,
            Response::Perplexity { value, .. } => -value,
            Response::Texts { answers } => {
                let length: usize = answers.iter().flatten().map(String::len).sum();
                length as f64
            }
            Response::Reward { value } => *value,
            Response::Failed { .. } => panic!("a failed response reached the judge"),
        };
        let values: Vec<f64> = responses.iter().map(value).collect();
        let best = (0..values.len())
            .max_by(|&a, &b| values[a].total_cmp(&values[b]))
            .unwrap();
        let correct = item.gold == json!(best);
        Ok(Sample {
            index: item.index,
            prediction: json!(best),
            gold: item.gold.clone(),
            correct: Some(correct),
            metrics: [
                ("acc".to_owned(), json!(u8::from(correct))),
                ("sum".to_owned(), json!(values.iter().sum::<f64>())),
            ]
            .into(),
            note: (!correct).then(|| format!("took {best}")),
        })
    }

    fn scores(&self, samples: &[Sample]) -> Vec<Score> {
        let mean = |name: &str| {
            let values = samples.iter().filter_map(|s| s.metrics[name].as_f64());
            Score {
                metric: name.to_owned(),
                value: values.sum::<f64>() / samples.len() as f64,
                stderr: Some(0.125),
                n: samples.len(),
                higher_is_better: true,
            }
        };
        vec![mean("acc"), mean("sum")]
    }
}

/// The figures of a report, without times.
pub(crate) fn figures(report: &internlm_eval::Report) -> Value {
    let mut value = report.json();
    for name in ["seconds", "asked_after", "resumed", "started", "requests"] {
        value.as_object_mut().unwrap().remove(name);
    }
    value
}
