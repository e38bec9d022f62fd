//! Requests to servers of streamable HTTP.
//!
//! The client that `rmcp` brings would add three dozen crates to those that are there anyway.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use futures_core::Stream;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, HttpStatusError, SseError, StreamableHttpClient, StreamableHttpError,
    StreamableHttpPostResponse, StreamableHttpResponseLimits,
};
use sse_stream::{Sse, SseStream};

const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";
const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";
/// Redirects that are followed, within one origin.
const MAX_REDIRECTS: usize = 3;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpFault {
    /// The connection failed.
    #[error("{}", with_causes(.0))]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// The body broke off.
    #[error("the answer broke off: {0}")]
    Body(#[from] axum::Error),
    /// The request can't be written.
    #[error("{0}")]
    Request(#[from] axum::http::Error),
    /// It was sent elsewhere.
    #[error("it redirects to {0}, which is another origin: name that address")]
    Redirect(String),
    /// An event is too long.
    #[error("it sent an event of more than {0} bytes")]
    Event(usize),
}

type Fault = StreamableHttpError<HttpFault>;
type Events = Pin<Box<dyn Stream<Item = Result<Sse, SseError>> + Send>>;
type Headers = HashMap<HeaderName, HeaderValue>;

impl From<HttpFault> for Fault {
    fn from(fault: HttpFault) -> Self {
        Self::Client(fault)
    }
}

/// An error and what is behind it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A client of HTTP/1.1, with TLS and the authorities of Mozilla.
#[derive(Clone, Debug)]
pub(super) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl HttpClient {
    pub(super) fn new(connect_timeout: Duration) -> Result<Self, String> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(connect_timeout));
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(provider)
            .map_err(|error| error.to_string())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client })
    }

    /// Sends a request and follows redirects within its origin that keep the method.
    async fn send(
        &self,
        method: Method,
        uri: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Body>, Fault> {
        let mut uri: Uri = uri
            .parse()
            .map_err(|error| HttpFault::Request(axum::http::Error::from(error)))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = Request::builder().method(method.clone()).uri(uri.clone());
            let mut request = request
                .body(Body::from(body.clone()))
                .map_err(HttpFault::from)?;
            *request.headers_mut() = headers.clone();
            let response = self
                .client
                .request(request)
                .await
                .map_err(HttpFault::from)?;
            let kept = [
                StatusCode::TEMPORARY_REDIRECT,
                StatusCode::PERMANENT_REDIRECT,
            ];
            let location = response.headers().get(LOCATION);
            let Some(location) = location.filter(|_| kept.contains(&response.status())) else {
                return Ok(response.map(Body::new));
            };
            // Headers may hold keys, which are for this origin alone.
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            uri = within(&uri, &location).ok_or(HttpFault::Redirect(location))?;
        }
        let what = "it redirects without end";
        Err(StreamableHttpError::UnexpectedServerResponse(what.into()))
    }
}

/// Where a redirect leads, if that is the same origin.
fn within(from: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(location.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let to: Uri = location.parse().ok()?;
    (to.scheme() == from.scheme() && to.authority() == from.authority()).then_some(to)
}

/// The headers of a request: those of the user, none of which may be the protocol's own, and these.
fn headers(
    custom: Headers,
    bearer: Option<String>,
    own: &[(&'static str, Option<&str>)],
) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in custom {
        if name == ACCEPT || name == SESSION || name == LAST_EVENT {
            return Err(StreamableHttpError::ReservedHeaderConflict(
                name.to_string(),
            ));
        }
        headers.insert(name, value);
    }
    let value = |text: &str| {
        let value = HeaderValue::from_str(text);
        value.map_err(|error| Fault::from(HttpFault::Request(error.into())))
    };
    if let Some(bearer) = bearer {
        headers.insert("authorization", value(&format!("Bearer {bearer}"))?);
    }
    for (name, text) in own {
        if let Some(text) = text {
            headers.insert(*name, value(text)?);
        }
    }
    Ok(headers)
}

/// Whether a response is of a type, whatever its parameters.
fn is_of(response: &Response<Body>, kind: &str) -> bool {
    let given = response.headers().get(CONTENT_TYPE);
    let given = given.and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split(';').next());
    given.is_some_and(|given| given.trim().eq_ignore_ascii_case(kind))
}

/// What a status means that no message comes with.
fn refusal(response: &Response<Body>) -> Option<Fault> {
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
async fn whole(response: Response<Body>, max_size: usize) -> Result<Vec<u8>, Fault> {
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
async fn beginning(response: Response<Body>, max_size: usize) -> String {
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

/// The bytes of a stream of events, none of which may be longer than this.
struct Bounded {
    stream: BodyDataStream,
    max_size: usize,
    /// Bytes since the last empty line.
    size: usize,
    at_line_start: bool,
}

impl Bounded {
    fn events(response: Response<Body>, max_size: usize) -> Events {
        let stream = Self {
            stream: response.into_body().into_data_stream(),
            max_size,
            size: 0,
            at_line_start: true,
        };
        Box::pin(SseStream::from_bytes_stream(stream))
    }

    fn is_within(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            let end = matches!(byte, b'\n' | b'\r');
            self.size = match end && self.at_line_start {
                true => 0,
                false => self.size + 1,
            };
            self.at_line_start = end;
            if self.size > self.max_size {
                return false;
            }
        }
        true
    }
}

impl Stream for Bounded {
    type Item = Result<Bytes, HttpFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.stream).poll_next(cx);
        polled.map(|item| {
            let bytes = match item? {
                Ok(bytes) => bytes,
                Err(error) => return Some(Err(error.into())),
            };
            match self.is_within(&bytes) {
                true => Some(Ok(bytes)),
                false => Some(Err(HttpFault::Event(self.max_size))),
            }
        })
    }
}

impl StreamableHttpClient for HttpClient {
    type Error = HttpFault;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(
            uri,
            message,
            session_id,
            auth_header,
            custom_headers,
            limits,
        )
        .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Fault> {
        let own = [
            ("accept", Some("application/json, text/event-stream")),
            ("content-type", Some(JSON)),
            (SESSION, session_id.as_deref()),
        ];
        let headers = headers(custom_headers, auth_header, &own)?;
        let body = serde_json::to_vec(&message)?.into();
        let response = self.send(Method::POST, &uri, headers, body).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && session_id.is_some() {
            return Err(StreamableHttpError::SessionExpired);
        }
        let session = response.headers().get(SESSION);
        let session = session.and_then(|value| value.to_str().ok());
        let session = session.map(str::to_owned);
        let waits = matches!(message, ClientJsonRpcMessage::Request(_));
        if !status.is_success() {
            let refused = refusal(&response);
            let denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            if is_of(&response, JSON) && !denied {
                let body = whole(response, limits.max_json_response_size).await?;
                if let Ok(message @ ServerJsonRpcMessage::Error(_)) = serde_json::from_slice(&body)
                {
                    return Ok(StreamableHttpPostResponse::Json(message, session));
                }
                let max = body.len().min(limits.max_error_response_size);
                let body = String::from_utf8_lossy(&body[..max]);
                let what = format!("HTTP {status}: {body}");
                return Err(refused.unwrap_or_else(|| {
                    StreamableHttpError::UnexpectedServerResponse(what.into())
                }));
            }
            if let Some(refused) = refused {
                return Err(refused);
            }
            let what = beginning(response, limits.max_error_response_size).await;
            return Err(StreamableHttpError::UnexpectedServerResponse(what.into()));
        }
        // What is sent for no answer has been taken, whatever the server says besides.
        if !waits {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if is_of(&response, EVENTS) {
            let events = Bounded::events(response, limits.max_sse_event_size);
            return Ok(StreamableHttpPostResponse::Sse(events, session));
        }
        if !is_of(&response, JSON) {
            let kind = response.headers().get(CONTENT_TYPE);
            let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
            return Err(StreamableHttpError::UnexpectedContentType(kind));
        }
        let body = whole(response, limits.max_json_response_size).await?;
        Ok(StreamableHttpPostResponse::Json(
            serde_json::from_slice(&body)?,
            session,
        ))
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<(), Fault> {
        let headers = headers(
            custom_headers,
            auth_header,
            &[(SESSION, Some(&*session_id))],
        )?;
        let response = self
            .send(Method::DELETE, &uri, headers, Bytes::new())
            .await?;
        match response.status() {
            // A server need not let clients end sessions.
            status if status.is_success() || status == StatusCode::METHOD_NOT_ALLOWED => Ok(()),
            status => {
                let what = format!("HTTP {status} to the end of the session");
                Err(StreamableHttpError::UnexpectedServerResponse(what.into()))
            }
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
    ) -> Result<Events, Fault> {
        let max = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            max,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: Headers,
        max_sse_event_size: usize,
    ) -> Result<Events, Fault> {
        let own = [
            ("accept", Some(EVENTS)),
            (SESSION, session_id.as_deref()),
            (LAST_EVENT, last_event_id.as_deref()),
        ];
        let headers = headers(custom_headers, auth_header, &own)?;
        let response = self.send(Method::GET, &uri, headers, Bytes::new()).await?;
        let status = response.status();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        if let Some(refused) = refusal(&response) {
            return Err(refused);
        }
        if !status.is_success() || !is_of(&response, EVENTS) {
            let what = format!("HTTP {status} where events were asked for");
            return Err(StreamableHttpError::UnexpectedServerResponse(what.into()));
        }
        Ok(Bounded::events(response, max_sse_event_size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_within_the_origin() {
        let from: Uri = "http://h:1/mcp?a=b".parse().unwrap();
        for (location, want) in [
            ("/mcp/", Some("http://h:1/mcp/")),
            ("http://h:1/other", Some("http://h:1/other")),
            ("http://h:2/mcp", None),
            ("https://h:1/mcp", None),
            ("//elsewhere/mcp", None),
            ("", None),
        ] {
            let got = within(&from, location).map(|uri| uri.to_string());
            assert_eq!(got.as_deref(), want, "{location}");
        }
    }

    #[test]
    fn an_event_has_a_size() {
        let bounded = || Bounded {
            stream: Body::empty().into_data_stream(),
            max_size: 10,
            size: 0,
            at_line_start: true,
        };
        let mut events = bounded();
        for _ in 0..100 {
            assert!(events.is_within(b"data: 12\n\n") && events.is_within(b": ping\r\n\r\n"));
        }
        assert!(!bounded().is_within(b"data: 1234\n"));
        assert!(!bounded().is_within(b"data:\ndata:\n"));
    }
}
