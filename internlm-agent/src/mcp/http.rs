//! Requests to servers of streamable HTTP.
//!
//! The client that `rmcp` brings would add three dozen crates to those that are there anyway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};

use super::answer::{beginning, is_of, refusal, whole};
use super::events::{Bounded, Events};
use super::said::Said;

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
}

pub(super) type Fault = StreamableHttpError<HttpFault>;
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
    said: Arc<Said>,
}

impl HttpClient {
    pub(super) fn new(connect_timeout: Duration, said: &Arc<Said>) -> Result<Self, String> {
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
        Ok(Self {
            client,
            said: Arc::clone(said),
        })
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
            let events = Bounded::events(response, limits.max_sse_event_size, &self.said);
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
        Ok(Bounded::events(response, max_sse_event_size, &self.said))
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
}
