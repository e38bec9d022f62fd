//! A model behind an HTTP server that speaks OpenAI's interface: LMDeploy, vLLM, llama.cpp, and
//! whatever else does. Feature `remote`.
//!
//! [`RemoteModel`] is a [`ChatModel`] and a [`Scorer`], so that what is written over those traits
//! runs against a server as it does in the process. Calls block; there is no async runtime.
//!
//! ```no_run
//! use internlm_core::remote::{RemoteConfig, RemoteModel};
//! use internlm_core::{ChatModel, ChatRequest, Message};
//!
//! let model = RemoteModel::connect(RemoteConfig::new("http://localhost:8000", "internlm2"))?;
//! let request = ChatRequest::messages(vec![Message::user("What does a KV cache hold?")]);
//! println!("{}", model.complete(&request)?.text);
//! # Ok::<(), internlm_core::Error>(())
//! ```
//!
//! # What is different behind HTTP
//!
//! - **Trust.** The border between [`Part::Text`] and [`Part::Marker`] does not survive: the server
//!   decides which spelled special tokens it recognises, and most recognise all, in messages of
//!   users too. Prompts are sent with markers spelled out; messages that hold markers are refused,
//!   since their template stands on the server. Whoever needs the border sends ids.
//! - **Token ids** of an answer are there where a server gives them (vLLM and LMDeploy with
//!   `return_token_ids`, llama.cpp with log-probabilities), else [`Event::Delta`] has none.
//! - **Log-probabilities** need token ids, which OpenAI's interface does not have. vLLM spells them
//!   (`token_id:123`), llama.cpp adds them; other servers' are refused before anything is sent.
//! - **Sampling.** Every field of [`SamplingParams`] is sent to a server whose [`Dialect`] is known,
//!   since their defaults differ from ours; to others an extension is sent only where it differs
//!   from its default, and whether it is kept can't be told.
//! - **Reasoning** that a server takes out of the text (`reasoning_content`) is not part of an
//!   answer here.
//! - **Scoring** needs a server that echoes prompts with log-probabilities: vLLM does. `encode` and
//!   `render_chat` need its routes `/tokenize` and `/detokenize` or the likes. Where a server has
//!   not what it takes, the error is [`Error::NotOffered`].
//!
//! [`Part::Text`]: crate::Part::Text
//! [`Part::Marker`]: crate::Part::Marker
//! [`SamplingParams`]: crate::SamplingParams
//! [`Event::Delta`]: crate::Event::Delta

mod address;
mod answer;
mod client;
mod config;
mod rendered;
mod request;
mod retry;
mod reward;
mod sampling;
mod scorer;
mod sse;
mod stream;

use std::fmt;

use serde::Deserialize;

use self::answer::Assembler;
use self::client::Client;
use self::stream::RemoteEvents;
use crate::chat_model::{ChatModel, ChatRequest, Events, ModelIdentity};
use crate::error::{Error, Result};
use crate::scorer::{ModelFacts, Scorer};

pub use config::{Dialect, RemoteConfig};

/// A model on a server.
///
/// Can be shared by threads; each call has a connection of its own.
pub struct RemoteModel {
    client: Client,
    name: String,
    dialect: Dialect,
    facts: ModelFacts,
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<ModelCard>,
}

#[derive(Deserialize)]
struct ModelCard {
    id: String,
    #[serde(default)]
    owned_by: Option<String>,
    /// vLLM's.
    #[serde(default)]
    max_model_len: Option<usize>,
    /// llama.cpp's.
    #[serde(default)]
    meta: Option<ModelMeta>,
}

#[derive(Deserialize)]
struct ModelMeta {
    #[serde(default)]
    n_ctx: Option<usize>,
    #[serde(default)]
    n_vocab: Option<usize>,
}

impl RemoteModel {
    /// A model of which nothing is asked: its facts are those of the configuration, and its dialect
    /// is [`Dialect::OpenAi`] unless set.
    ///
    /// # Errors
    /// [`Error::Request`] for an address, a key or a header that can't be sent, and for an empty
    /// name of the model.
    pub fn new(config: RemoteConfig) -> Result<Self> {
        if config.model.is_empty() {
            return Err(Error::Request {
                field: "model",
                what: "is empty".to_owned(),
            });
        }
        Ok(Self::with_card(Client::new(config)?, None))
    }

    /// Looks the model up in the server's list (`GET /v1/models`), for its context length and the
    /// server's dialect, and lets the server's tokenizer, if it has one, encode nothing, for the
    /// token that stands for no context.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Request`] that names the models of the server if this one is
    /// not among them, or if none was named and there is not just one; and whatever keeps the
    /// server from answering.
    pub fn connect(config: RemoteConfig) -> Result<Self> {
        let client = Client::new(config)?;
        let url = client.api("/models");
        let list = ModelList::deserialize(client.get(&url)?)
            .map_err(|e| client.protocol(&url, &format!("expected a list of models: {e}")))?;
        let wanted = client.config.model.as_str();
        let mut cards = list.data;
        let place = match (wanted, cards.len()) {
            ("", 1) => Some(0),
            _ => cards.iter().position(|card| card.id == wanted),
        };
        let Some(place) = place else {
            let ids: Vec<&str> = cards.iter().map(|card| card.id.as_str()).collect();
            let what = format!("`{wanted}` is not one of the server's: {}", ids.join(", "));
            return Err(client.refused_model(&what));
        };
        let mut model = Self::with_card(client, Some(cards.swap_remove(place)));
        if model.facts.prefix_token.is_none() {
            model.facts.prefix_token = match model.encode("", true) {
                Ok(ids) if ids.len() == 1 => ids.first().copied(),
                // No tokenizer, or one that puts nothing or more before a text, or refuses to
                // encode nothing: whoever needs the token is told so then.
                Ok(_) | Err(Error::NotOffered { .. } | Error::Http { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(model)
    }

    fn with_card(client: Client, card: Option<ModelCard>) -> Self {
        let config = &client.config;
        let mut facts = ModelFacts {
            name: config.model.clone(),
            prefix_token: config.prefix_token,
            ..ModelFacts::default()
        };
        let mut owner = None;
        if let Some(card) = card {
            let meta = card.meta.unwrap_or(ModelMeta {
                n_ctx: None,
                n_vocab: None,
            });
            facts.name = card.id;
            facts.context_length = card.max_model_len.or(meta.n_ctx).unwrap_or_default();
            facts.vocab_size = meta.n_vocab.unwrap_or_default();
            owner = card.owned_by;
        }
        if let Some(length) = config.context_length {
            facts.context_length = length;
        }
        let of_owner = || Dialect::of_owner(owner.as_deref().unwrap_or_default());
        Self {
            name: facts.name.clone(),
            dialect: config.dialect.unwrap_or_else(of_owner),
            facts,
            client,
        }
    }

    /// The extensions that requests use.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }
}

impl fmt::Debug for RemoteModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteModel")
            .field("config", &self.client.config)
            .field("dialect", &self.dialect)
            .field("facts", &self.facts)
            .finish()
    }
}

impl ChatModel for RemoteModel {
    /// Sends the request, and returns when the server begins to answer. Messages go to
    /// `/v1/chat/completions`, prompts and ids to `/v1/completions`; answers are always streamed.
    /// Dropping the events closes the connection.
    ///
    /// # Errors
    /// [`Error::Request`] for what the server can't keep, before anything is sent. Then
    /// [`Error::Http`], [`Error::Connection`], [`Error::Timeout`], [`Error::Protocol`] and
    /// [`Error::ResponseTooLarge`], here until the answer begins, then as events. Usage is zero
    /// where a server sends none.
    fn generate(&self, request: &ChatRequest) -> Result<Events<'_>> {
        let length = self.facts.context_length;
        let (route, body) = request::body(request, &self.name, self.dialect, length)?;
        let url = self.client.api(route.path());
        let answer = self.client.open(&url, &body)?;
        let assembler = Assembler::new(request.sampling.logprobs);
        let events = RemoteEvents::new(&self.client, url, answer, assembler);
        Ok(Box::new(events))
    }

    fn identity(&self) -> ModelIdentity {
        ModelIdentity::new(&self.name, self.dialect.as_str())
    }
}
