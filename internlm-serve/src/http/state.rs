//! What all requests share, and which route is whose.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use internlm_core::SamplingParams;
use tokio::sync::{Semaphore, watch};

use super::config::ServerConfig;
use super::error::ApiError;
use super::logprobs::TokenTexts;
use super::metrics::Requests;
use super::page::Page;
use super::wire::{Ids, now};
use super::{chat, completions, guard, metrics, models, page, rank, tokenize};
use crate::engine::Engine;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It answers.
    Serving,
    /// It takes no more requests and lets those that run finish.
    Draining,
    /// What still runs ends now.
    Over,
}

/// What all requests share.
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) config: ServerConfig,
    /// The name of the model.
    pub(super) model: String,
    /// When it was loaded, in seconds since 1970.
    pub(super) created: u64,
    /// Sampling of requests that don't say.
    pub(super) sampling: SamplingParams,
    pub(super) texts: TokenTexts,
    pub(super) ids: Ids,
    pub(super) page: Option<Page>,
    pub(super) requests: Requests,
    /// Places for work that takes a while.
    pub(super) places: Arc<Semaphore>,
    /// One place for log-probabilities of prompts, which are computed beside the engine.
    pub(super) scoring: Arc<Semaphore>,
    /// Whether any IP address is a name of this server.
    pub(super) any_address: bool,
    pub(super) phase: watch::Sender<Phase>,
}

impl Server {
    pub(super) fn new(engine: Engine, config: ServerConfig, any_address: bool) -> Arc<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let model = engine.model();
        Arc::new(Self {
            model: config
                .model_name
                .clone()
                .unwrap_or_else(|| model.name().to_owned()),
            created: now(),
            sampling: config
                .default_sampling
                .clone()
                .unwrap_or_else(|| model.recommended_sampling()),
            texts: TokenTexts::new(engine.tokenizer().clone()),
            ids: Ids::new(),
            page: config.chat_page.then(Page::new),
            requests: Requests::default(),
            places: Arc::new(Semaphore::new(threads)),
            scoring: Arc::new(Semaphore::new(1)),
            any_address,
            phase: watch::Sender::new(Phase::Serving),
            engine,
            config,
        })
    }

    /// Done when what still runs must end.
    pub(super) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut phase = self.phase.subscribe();
        async move {
            if phase.wait_for(|&phase| phase == Phase::Over).await.is_err() {
                // The server is gone, and with it who could end it.
                std::future::pending().await
            }
        }
    }

    /// The adapter of a request that names this model; `None` is the model itself.
    ///
    /// # Errors
    /// There is no such model.
    pub(super) fn adapter(&self, model: Option<&str>) -> Result<Option<String>, ApiError> {
        match model {
            None => Ok(None),
            Some(name) if name == self.model => Ok(None),
            Some(name) if self.engine.adapters().iter().any(|a| a == name) => {
                Ok(Some(name.to_owned()))
            }
            Some(name) => Err(ApiError::unknown_model(name)),
        }
    }
}

/// The routes, for an application that has a server of its own. What [`ServerConfig`] says of connections is
/// then up to that server; the rest (keys, hosts, origins, bodies, deadlines) is in the router.
pub fn router(engine: Engine, config: ServerConfig) -> Router {
    routes(Server::new(engine, config, false))
}

pub(super) fn routes(server: Arc<Server>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/health", get(models::health))
        .route("/metrics", get(metrics::metrics))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/embeddings", post(models::embeddings))
        .route("/v1/rank", post(rank::rank))
        .route("/tokenize", post(tokenize::tokenize))
        .route("/detokenize", post(tokenize::detokenize))
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(server.clone(), guard::guard))
        .with_state(server)
}

pub(super) async fn unknown(method: Method, uri: Uri) -> ApiError {
    let message = format!("There is no route {method} {}.", uri.path());
    ApiError::status(StatusCode::NOT_FOUND, "unknown_url", &message)
}

async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}.", uri.path());
    ApiError::status(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        &message,
    )
}
