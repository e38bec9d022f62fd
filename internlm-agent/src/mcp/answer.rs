//! Answers to requests: their type, their body within a size, what their status means.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, Response, StatusCode};
use futures_core::Stream as _;
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, StreamableHttpError,
};

use super::http::{Fault, HttpFault};

/// Whether a response is of a type, whatever its parameters.
pub(super) fn is_of(response: &Response<Body>, kind: &str) -> bool {
    let given = response.headers().get(CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next());
    given.is_some_and(|given| given.trim().eq_ignore_ascii_case(kind))
}

/// What a status means that no message comes with.
pub(super) fn refusal(response: &Response<Body>) -> Option<Fault> {
    let status = response.status();
    let text = |name: HeaderName| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    if status == StatusCode::UNAUTHORIZED {
        let asks = text(WWW_AUTHENTICATE)?;
        return Some(StreamableHttpError::AuthRequired(AuthRequiredError::new(
            asks,
        )));
    }
    let busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    busy.then(|| HttpStatusError::new(status.as_u16(), text(RETRY_AFTER)).into())
}

/// A body, which must not be longer than this.
pub(super) async fn whole(response: Response<Body>, max_size: usize) -> Result<Vec<u8>, Fault> {
    let mut stream = response.into_body().into_data_stream();
    let mut body = Vec::new();
    while let Some(chunk) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
        let chunk = chunk.map_err(HttpFault::from)?;
        if body.len() + chunk.len() > max_size {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The first bytes of an answer that is no message, for an error.
pub(super) async fn beginning(response: Response<Body>, max_size: usize) -> String {
    let status = response.status();
    let mut stream = response.into_body().into_data_stream();
    let mut body = Vec::new();
    while body.len() < max_size
        && let Some(Ok(chunk)) = poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(max_size);
    let body = String::from_utf8_lossy(&body);
    match body.trim() {
        "" => format!("HTTP {status}"),
        body => format!("HTTP {status}: {body}"),
    }
}
