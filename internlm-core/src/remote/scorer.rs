//! Log-likelihoods by a server: a completion that echoes its prompt, as lm-evaluation-harness's
//! `local-completions` asks for it.
//!
//! The server also generates one token, which is thrown away; so prompts are at most one token
//! shorter than its context.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Value, json};

use super::RemoteModel;
use super::answer::token_id;
use super::config::Dialect;
use super::rendered;
use super::request::{messages_json, tools_json};
use crate::error::{Error, Result};
use crate::message::{Message, Part, join};
use crate::scorer::{ModelFacts, ScoreRequest, ScoredIds, Scorer, SpanEncoder, TokenScore, Tokens};
use crate::tool::ToolSpec;

const PROMPT_LOGPROBS: &str = "log-probabilities of a prompt";

#[derive(Deserialize)]
struct Echoes {
    choices: Vec<Echo>,
}

#[derive(Deserialize)]
struct Echo {
    #[serde(default)]
    index: usize,
    #[serde(default)]
    logprobs: Option<EchoLogprobs>,
}

#[derive(Deserialize)]
struct EchoLogprobs {
    #[serde(default)]
    tokens: Option<Vec<String>>,
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f64>>>,
    #[serde(default)]
    top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
}

#[derive(Deserialize)]
struct Encoded {
    /// LMDeploy's name is the other.
    #[serde(alias = "input_ids")]
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Rendered {
    prompt: String,
}

/// Encodes each text once: the choices of a question share their context.
struct Encoder<'a> {
    model: &'a RemoteModel,
    known: HashMap<(Vec<Part>, bool), Vec<u32>>,
}

impl SpanEncoder for Encoder<'_> {
    type Error = Error;

    fn encode(&mut self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>> {
        let key = (parts.to_vec(), add_bos);
        if let Some(ids) = self.known.get(&key) {
            return Ok(ids.clone());
        }
        let ids = self.model.encode_parts(parts, add_bos)?;
        self.known.insert(key, ids.clone());
        Ok(ids)
    }

    fn prefix_token(&self) -> Result<u32> {
        self.model.facts.prefix_token.ok_or_else(|| Error::Request {
            field: "prefix_token",
            what: "the server does not tell which token stands for no context; set it".to_owned(),
        })
    }

    fn context_length(&self) -> usize {
        self.model.facts.context_length
    }

    /// The context less one token before them and the one that is generated. Without a limit where the
    /// context is not known.
    fn most_scored(&self) -> usize {
        match self.context_length() {
            0 => usize::MAX,
            length => length.saturating_sub(2),
        }
    }
}

impl RemoteModel {
    fn encoder(&self) -> Encoder<'_> {
        Encoder {
            model: self,
            known: HashMap::new(),
        }
    }

    fn score_spans(&self, spans: &[ScoredIds]) -> Result<Vec<Vec<TokenScore>>> {
        let mut scores = Vec::with_capacity(spans.len());
        for batch in spans.chunks(self.client.config.score_batch.max(1)) {
            scores.extend(self.score_batch(batch)?);
        }
        Ok(scores)
    }

    fn score_batch(&self, spans: &[ScoredIds]) -> Result<Vec<Vec<TokenScore>>> {
        let url = self.client.api("/completions");
        if matches!(self.dialect, Dialect::LmDeploy | Dialect::LlamaCpp) {
            // Neither echoes log-probabilities, and LMDeploy takes ids for texts.
            let what = PROMPT_LOGPROBS;
            return Err(Error::NotOffered { url, what });
        }
        let prompts: Vec<&[u32]> = spans.iter().map(|span| span.ids.as_slice()).collect();
        let mut body = json!({
            "model": self.name,
            "prompt": prompts,
            "echo": true,
            "max_tokens": 1,
            "logprobs": 1,
            "temperature": 0.0,
        });
        if self.dialect == Dialect::Vllm {
            body["return_tokens_as_token_ids"] = true.into();
        }
        let answer = self.client.post(&url, &body)?;
        let malformed = |what: String| self.client.protocol(&url, &what);
        let Echoes { mut choices } =
            Echoes::deserialize(answer).map_err(|e| malformed(format!("malformed: {e}")))?;
        choices.sort_by_key(|choice| choice.index);
        if !choices.iter().map(|choice| choice.index).eq(0..spans.len()) {
            let what = format!("{} prompts, {} answers", spans.len(), choices.len());
            return Err(malformed(what));
        }
        let read = |(span, choice): (&ScoredIds, Echo)| {
            let logprobs = choice.logprobs.filter(|logprobs| {
                let list = logprobs.token_logprobs.as_ref();
                list.is_some_and(|list| list.len() >= span.ids.len())
            });
            let Some(logprobs) = logprobs else {
                let url = url.clone();
                let what = PROMPT_LOGPROBS;
                return Err(Error::NotOffered { url, what });
            };
            echoed(&span.ids, span.scored, &logprobs).map_err(malformed)
        };
        spans.iter().zip(choices).map(read).collect()
    }

    /// The answer of a route that not every server has.
    fn own_route<T: for<'de> Deserialize<'de>>(
        &self,
        route: &str,
        body: &Value,
        what: &'static str,
    ) -> Result<T> {
        self.route(&self.client.root(route), body, what)
    }

    /// The same by its whole address.
    pub(super) fn route<T: for<'de> Deserialize<'de>>(
        &self,
        url: &str,
        body: &Value,
        what: &'static str,
    ) -> Result<T> {
        let answer = self.client.post(url, body).map_err(|error| match error {
            Error::Http {
                url,
                status: 404 | 405 | 501,
                ..
            } => Error::NotOffered { url, what },
            other => other,
        })?;
        T::deserialize(answer).map_err(|e| self.client.protocol(url, &format!("malformed: {e}")))
    }
}

/// The scores of the last `scored` of the echoed tokens.
fn echoed(ids: &[u32], scored: usize, logprobs: &EchoLogprobs) -> Result<Vec<TokenScore>, String> {
    let tokens = logprobs.tokens.as_deref().unwrap_or_default();
    let values = logprobs.token_logprobs.as_deref().unwrap_or_default();
    let tops = logprobs.top_logprobs.as_deref().unwrap_or_default();
    for (place, (&id, token)) in ids.iter().zip(tokens).enumerate() {
        if let Some(other) = token_id(token).filter(|&other| other != id) {
            return Err(format!("token {place} is {other}, sent was {id}"));
        }
    }
    let score = |place: usize| {
        let value = values.get(place).copied().flatten();
        let value = value.filter(|value| !value.is_nan());
        let value = value.ok_or_else(|| format!("token {place} has no log-probability"))?;
        let top = tops.get(place).and_then(Option::as_ref);
        let top = top.filter(|top| !top.is_empty());
        let top = top.ok_or_else(|| format!("token {place} has no most likely token beside it"))?;
        Ok(TokenScore {
            id: ids[place],
            logprob: value as f32,
            // Equals count, as in lm-evaluation-harness.
            is_argmax: top.values().all(|&other| value >= other),
        })
    };
    (ids.len() - scored..ids.len()).map(score).collect()
}

impl Scorer for RemoteModel {
    /// Sends each distinct text to the server's tokenizer, and [`RemoteConfig::score_batch`]
    /// prompts at a time to its model.
    ///
    /// [`RemoteConfig::score_batch`]: super::RemoteConfig::score_batch
    fn score(&self, requests: &[ScoreRequest]) -> Result<Vec<Vec<TokenScore>>> {
        let mut encoder = self.encoder();
        let spans = requests.iter().map(|r| ScoredIds::of(&mut encoder, r));
        let spans: Result<Vec<_>> = spans.collect();
        self.score_spans(&spans?)
    }

    fn score_rolling(&self, texts: &[Tokens]) -> Result<Vec<Vec<TokenScore>>> {
        let mut encoder = self.encoder();
        let mut scores = Vec::with_capacity(texts.len());
        for text in texts {
            let windows = ScoredIds::rolling(&mut encoder, text)?;
            scores.push(self.score_spans(&windows)?.concat());
        }
        Ok(scores)
    }

    /// Asks the server's tokenizer. vLLM's and LMDeploy's recognise special tokens wherever a text spells them;
    /// llama.cpp's and this workspace's do so only in a prompt with markers. They see no difference between its
    /// markers and its texts, so that a text which spells one of the markers is refused. `add_bos` is their
    /// `add_special_tokens`: a tokenizer that has no BOS puts none.
    fn encode_parts(&self, parts: &[Part], add_bos: bool) -> Result<Vec<u32>> {
        let markers = || {
            parts
                .iter()
                .filter(|part| matches!(part, Part::Marker { .. }))
        };
        let texts = || {
            parts
                .iter()
                .filter(|part| matches!(part, Part::Text { .. }))
        };
        let forged = markers().find(|marker| {
            let spelled = |text: &Part| text.as_str().contains(marker.as_str());
            texts().any(spelled)
        });
        if let Some(marker) = forged {
            return Err(Error::Request {
                field: "prompt",
                what: format!(
                    "a text spells the special token {}, which the server can't tell from the template's",
                    marker.as_str()
                ),
            });
        }
        let special = markers().next().is_some();
        let text = join(parts);
        let (route, body) = match self.dialect {
            Dialect::LmDeploy => {
                let body = json!({"input": text, "do_preprocess": false, "add_bos": add_bos});
                ("/v1/encode", body)
            }
            Dialect::LlamaCpp => {
                let body =
                    json!({"content": text, "add_special": add_bos, "parse_special": special});
                ("/tokenize", body)
            }
            Dialect::OpenAi | Dialect::Vllm => {
                let name = &self.name;
                let mut body =
                    json!({"model": name, "prompt": text, "add_special_tokens": add_bos});
                if special {
                    // This workspace's; vLLM ignores it.
                    body["parse_special_tokens"] = true.into();
                }
                ("/tokenize", body)
            }
        };
        let mut encoded: Encoded = self.own_route(route, &body, "a tokenizer")?;
        // A template that writes BOS itself, and a server that puts one before it.
        let twice = matches!(encoded.tokens[..], [a, b, ..] if a == b && Some(a) == self.facts.prefix_token);
        if twice && add_bos && matches!(parts.first(), Some(Part::Marker { .. })) {
            encoded.tokens.remove(0);
        }
        Ok(encoded.tokens)
    }

    /// What the messages say is text; words in brackets that stand between are markers
    /// ([`bracketed`](crate::message::bracketed)).
    fn render_chat(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        const WHAT: &str = "rendering of conversations";
        let mut body = json!({
            "messages": messages_json(messages)?,
            "add_generation_prompt": add_generation_prompt,
        });
        if !tools.is_empty() {
            body["tools"] = tools_json(tools);
        }
        let rendered: Rendered = match self.dialect {
            Dialect::LmDeploy => {
                let url = self.client.root("/v1/encode");
                return Err(Error::NotOffered { url, what: WHAT });
            }
            Dialect::LlamaCpp => self.own_route("/apply-template", &body, WHAT)?,
            // vLLM renders to ids only; detokenizing spells special tokens out again.
            Dialect::OpenAi | Dialect::Vllm => {
                body["model"] = self.name.as_str().into();
                let encoded: Encoded = self.own_route("/tokenize", &body, WHAT)?;
                let body = json!({"model": self.name, "tokens": encoded.tokens});
                self.own_route("/detokenize", &body, WHAT)?
            }
        };
        rendered::parts(&rendered.prompt, messages).ok_or_else(|| Error::Request {
            field: "messages",
            what:
                "a message spells what may be a special token, and the server's template changed it"
                    .to_owned(),
        })
    }

    fn facts(&self) -> &ModelFacts {
        &self.facts
    }
}
