//! An application of one's own with a model in it: `embed PATH [ADDRESS]`, then
//! `curl -d "What does a KV cache hold?" http://127.0.0.1:8000/ask`.
#![allow(clippy::print_stdout, reason = "a program prints")]

use std::error::Error;

use axum::body::Body;
use axum::http::StatusCode;
use axum::{Router, extract::State, routing::post};
use futures_util::StreamExt;
use internlm_core::{ChatRequest, Event, Message};
use internlm_model::LoadConfig;
use internlm_serve::http::{self, ServerConfig};
use internlm_serve::{Engine, EngineConfig};

/// Answers in plain text, as it comes. Who hangs up cancels.
async fn ask(State(engine): State<Engine>, question: String) -> Result<Body, (StatusCode, String)> {
    let request = ChatRequest::messages(vec![Message::user(question)]);
    let refused = |e: internlm_serve::Error| (StatusCode::SERVICE_UNAVAILABLE, e.to_string());
    let response = engine.submit(request).map_err(refused)?;
    // A response is an iterator as well, for threads.
    Ok(Body::from_stream(StreamExt::map(response, |answer| {
        answer.map(|answer| match answer.event {
            Event::Delta { text, .. } => text,
            _ => String::new(),
        })
    })))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: embed PATH [ADDRESS]")?;
    let address = arguments.next().unwrap_or("127.0.0.1:8000".to_owned());
    let engine = Engine::load(path, LoadConfig::default(), EngineConfig::default())?;
    let app = Router::new()
        .route("/ask", post(ask))
        .with_state(engine.clone())
        .nest("/llm", http::router(engine, ServerConfig::default()));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening at http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
