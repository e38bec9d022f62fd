//! What can be asked, and whether.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::error::ApiError;
use super::state::Server;
use super::wire::{Reply, ok};

#[derive(Serialize)]
struct ModelBody {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// The model under an adapter, as vLLM names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    max_model_len: usize,
}

fn models(server: &Server) -> Vec<ModelBody> {
    let body = |id: String, parent: Option<String>| ModelBody {
        id,
        object: "model",
        created: server.created,
        owned_by: "internlm-serve",
        parent,
        max_model_len: server.engine.context_length(),
    };
    let adapters = server.engine.adapters().into_iter();
    std::iter::once(body(server.model.clone(), None))
        .chain(adapters.map(|name| body(name, Some(server.model.clone()))))
        .collect()
}

/// The model and its adapters.
pub(super) async fn list(State(server): State<Arc<Server>>) -> Reply {
    ok(&json!({"object": "list", "data": models(&server)}))
}

/// One of them.
pub(super) async fn one(State(server): State<Arc<Server>>, Path(name): Path<String>) -> Reply {
    let found = models(&server).into_iter().find(|model| model.id == name);
    ok(&found.ok_or_else(|| ApiError::unknown_model(&name))?)
}

/// Says that the server is there.
pub(super) async fn health(State(server): State<Arc<Server>>) -> Reply {
    ok(&json!({"status": "ok", "model": server.model}))
}

/// None of the models is trained to embed texts; a mean of hidden states would look like an embedding and rank
/// texts badly.
pub(super) async fn embeddings() -> ApiError {
    ApiError::status(
        StatusCode::NOT_IMPLEMENTED,
        "model_not_supported",
        "The model makes no embeddings: it is trained to continue texts, not to compare them.",
    )
    .at("model")
}
