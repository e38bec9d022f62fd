//! `/v1/rank`: conversations by a reward model's score.
//!
//! ```json
//! {"input": [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]]}
//! ```
//! gives `{"object": "list", "model": …, "data": [{"object": "score", "index": 0, "score": 0.5}]}`, in the order
//! of the input. A higher score is a better answer; scores of different models can't be compared.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use internlm_core::Message;
use serde::Deserialize;
use serde_json::json;

use super::error::ApiError;
use super::state::Server;
use super::wire::{Reply, ok};
use super::{blocking, body, chat};

/// The field of the conversations.
const INPUT: &str = "input";

#[derive(Debug, Deserialize)]
struct RankBody {
    model: Option<String>,
    input: Option<Vec<Vec<Message>>>,
}

/// Scores conversations.
pub(super) async fn rank(State(server): State<Arc<Server>>, request: Request<Body>) -> Reply {
    let bytes = body::read(&server.config, request).await?;
    let fields: RankBody = body::parse(&bytes)?;
    server.adapter(fields.model.as_deref())?;
    let conversations = fields.input.unwrap_or_default();
    let most = server.config.max_answers;
    if !(1..=most).contains(&conversations.len()) {
        let len = conversations.len();
        let message = format!("`input` has {len} conversations, expected 1 to {most}.");
        return Err(ApiError::field(INPUT, message));
    }
    let mut data = Vec::with_capacity(conversations.len());
    // One after the other, so that a client that goes away stops the rest.
    for (index, conversation) in conversations.into_iter().enumerate() {
        let messages = chat::messages(Some(conversation))
            .map_err(|error| error.at(format!("{INPUT}[{index}]")))?;
        let score = blocking::run(&server, move |server| server.engine.reward(&messages)).await?;
        let score = score.map_err(|error| ApiError::of(error, INPUT))?;
        data.push(json!({"object": "score", "index": index, "score": score}));
    }
    ok(&json!({"object": "list", "model": server.model, "data": data}))
}
