//! Answers as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use futures_core::Stream;
use internlm_core::Event;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::answers::Answers;
use super::error::ApiError;
use super::wire::{Reply, data};

/// While nothing happens for this long, a comment keeps proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long the first event is waited for before the response begins: what fails until then has a status of
/// its own.
const PATIENCE: Duration = Duration::from_millis(500);

/// Makes lines of JSON of events.
pub(super) trait Chunks: Send + Unpin + 'static {
    /// Before the first event.
    fn begin(&mut self, out: &mut Vec<String>);
    /// An event of the answer with this index.
    fn push(&mut self, index: usize, event: Event, out: &mut Vec<String>);
    /// After the last event.
    fn end(&mut self, out: &mut Vec<String>);
    /// The field that holds the prompt, for errors.
    fn prompt_field(&self) -> &'static str;
}

/// Begins a stream.
///
/// # Errors
/// The request failed before it said anything.
pub(super) async fn respond(mut answers: Answers, mut chunks: impl Chunks) -> Reply {
    let prompt = chunks.prompt_field();
    answers
        .begin(PATIENCE)
        .await
        .map_err(|error| ApiError::of(error, prompt))?;
    let mut lines = Vec::new();
    chunks.begin(&mut lines);
    let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = Events {
        answers,
        chunks,
        lines,
        keep_alive,
        ended: false,
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx would hold the events back otherwise.
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

struct Events<C> {
    answers: Answers,
    chunks: C,
    /// What is not sent yet.
    lines: Vec<String>,
    keep_alive: Interval,
    ended: bool,
}

impl<C: Chunks> Stream for Events<C> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // Whatever has happened by now goes out together.
        while !this.ended {
            match this.answers.poll(cx) {
                Poll::Ready(Some(Ok((index, event)))) => {
                    this.chunks.push(index, event, &mut this.lines);
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = ApiError::of(error, this.chunks.prompt_field());
                    this.lines.push(data(&error.body()));
                    this.finish();
                }
                Poll::Ready(None) => {
                    this.chunks.end(&mut this.lines);
                    this.finish();
                }
                Poll::Pending => break,
            }
        }
        if !this.lines.is_empty() {
            this.keep_alive.reset();
            let mut text = String::new();
            for line in this.lines.drain(..) {
                text.push_str("data: ");
                text.push_str(&line);
                text.push_str("\n\n");
            }
            return Poll::Ready(Some(Ok(text.into())));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        match this.keep_alive.poll_tick(cx) {
            Poll::Ready(_) => Poll::Ready(Some(Ok(Bytes::from_static(b": \n\n")))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<C> Events<C> {
    fn finish(&mut self) {
        self.lines.push("[DONE]".to_owned());
        self.ended = true;
    }
}
