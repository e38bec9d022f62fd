//! A server that speaks OpenAI's protocol, over an [`Engine`].
//!
//! [`router`] gives the routes to an application that has a server of its own; [`serve`] is a whole server:
//! it limits what a client may send and how slowly, and ends without cutting answers off.
//!
//! ```no_run
//! use internlm_model::LoadConfig;
//! use internlm_serve::http::{self, ServerConfig};
//! use internlm_serve::{Engine, EngineConfig};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::load("internlm2_5-1_8b-chat", LoadConfig::default(), EngineConfig::default())?;
//! let config = ServerConfig::default();
//! let listener = http::bind("127.0.0.1:23333".parse()?, &config)?;
//! // A future that ends when the server is to end: a signal, or never.
//! http::serve(listener, engine, config, std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Beside other routes of an application:
//!
//! ```no_run
//! use axum::routing::get;
//! use internlm_serve::http::{self, ServerConfig};
//! # use internlm_serve::Engine;
//!
//! # fn app(engine: Engine) -> axum::Router {
//! axum::Router::new()
//!     .route("/", get(|| async { "the application's own page" }))
//!     .nest("/llm", http::router(engine, ServerConfig::default().with_api_key("a secret")))
//! # }
//! ```
//!
//! # Routes
//! - `POST /v1/chat/completions`, `POST /v1/completions`, `GET /v1/models`: as OpenAI's, with the further
//!   sampling fields that LMDeploy and vLLM have (`top_k`, `min_p`, `repetition_penalty`, `stop_token_ids`,
//!   `ignore_eos`, `skip_special_tokens`, `return_tokens_as_token_ids`). What a field may be is in one table,
//!   in `http/fields.rs`. Fields that are not known are ignored.
//! - `POST /v1/rank`: scores of a reward model. `{"input": [[message, …], …]}` gives
//!   `{"data": [{"index", "score"}, …]}`.
//! - `POST /tokenize`, `POST /detokenize`: as vLLM's.
//! - `GET /health` (without a key), `GET /metrics` (Prometheus), `GET /` (a page to chat with).
//! - `POST /v1/embeddings` answers with status 501: none of the models is trained to embed.
//!
//! # Who may ask
//! A browser lets every page that it shows send requests to this machine. So a request whose `Host` is not one
//! of [`ServerConfig::allowed_hosts`], or that comes from a page of another origin, is refused with 403. With
//! [`ServerConfig::api_keys`] each route but `/health` wants one of the keys, as a bearer token or as the
//! password of HTTP's basic authentication, which is what a browser asks for when it opens the chat page.

mod answers;
mod blocking;
mod body;
mod chat;
mod completions;
mod config;
mod connection;
mod error;
mod fields;
mod form;
mod guard;
mod logprobs;
mod metrics;
mod models;
mod page;
mod rank;
mod server;
mod state;
mod stream;
mod tokenize;
mod wire;

pub use config::{ApiKey, ServerConfig};
pub use server::{bind, serve};
pub use state::router;

#[cfg(doc)]
use crate::Engine;
