//! What stands before every route: who may ask, and what is written down of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::ApiError;
use super::state::{Phase, Server};

/// Lets a request through, or refuses it.
pub(super) async fn guard(
    State(server): State<Arc<Server>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let start = Instant::now();
    let method = request.method().clone();
    // What is no route has no name: a stranger could make up any number of them.
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("(none)", MatchedPath::as_str).to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_page = request.uri().path() == "/";
    let mut response = match check(&server, &request) {
        Ok(()) if is_preflight(&request) => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => match authorize(&server, &request) {
            Ok(()) => next.run(request).await,
            Err(error) => challenge(error, is_page),
        },
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(origin) = origin.filter(|origin| is_listed(&server, origin)) {
        cross_origin(headers, origin);
    }
    let status = response.status().as_u16();
    server.requests.count(&route, status);
    let milliseconds = start.elapsed().as_millis();
    tracing::info!(%method, route, status, milliseconds, "request");
    response
}

/// Everything but the key.
fn check(server: &Server, request: &Request<Body>) -> Result<(), ApiError> {
    let headers = request.headers();
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let forbidden = |what: &str| ApiError::status(StatusCode::FORBIDDEN, "forbidden", what);
    // A request that names its target in full says it twice; both must be ours.
    let full = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let named = host
        .or(full)
        .ok_or_else(|| forbidden("The request has no Host header."))?;
    if hosts.next().is_some() {
        return Err(forbidden("The request has more than one Host header."));
    }
    if ![Some(named), full]
        .into_iter()
        .flatten()
        .all(|host| is_own_host(server, host))
    {
        return Err(forbidden(
            "The Host of the request is not a name of this server; the one who runs it can allow it.",
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let own = origin.to_str().ok().and_then(authority);
        let own = own.is_some_and(|origin| origin.eq_ignore_ascii_case(named));
        if !own && !is_listed(server, origin) {
            return Err(forbidden(
                "Pages of another origin may not ask this server.",
            ));
        }
    }
    match *server.phase.borrow() {
        Phase::Serving => Ok(()),
        _ => Err(ApiError::closed()),
    }
}

/// `example.org:80` of `http://example.org:80`.
fn authority(origin: &str) -> Option<&str> {
    origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => match name.ends_with(']')
        {
            true => name,
            false if name.contains(':') => host,
            false => name,
        },
        _ => host,
    }
}

fn is_own_host(server: &Server, host: &str) -> bool {
    let name = without_port(host);
    let listed = |allowed: &String| allowed == "*" || allowed.eq_ignore_ascii_case(name);
    if server.config.allowed_hosts.iter().any(listed) {
        return true;
    }
    // A page can make its own name point here, but it has no power over what an address is.
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    server.any_address && bare.parse::<IpAddr>().is_ok()
}

fn is_listed(server: &Server, origin: &HeaderValue) -> bool {
    let mut listed = server.config.allowed_origins.iter();
    listed.any(|allowed| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes()))
}

/// Whether a browser asks what it may send. Only those of listed origins come this far with an origin that is
/// not ours.
fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn cross_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type"),
    );
}

fn authorize(server: &Server, request: &Request<Body>) -> Result<(), ApiError> {
    let keys = &server.config.api_keys;
    if keys.is_empty() || request.uri().path() == "/health" {
        return Ok(());
    }
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()).and_then(secret);
    let given = given.unwrap_or_default();
    // Every key is compared, whichever it is.
    let known = keys.iter().fold(false, |known, key| known | key.is(&given));
    match known {
        true => Ok(()),
        false => Err(ApiError::unauthorized()),
    }
}

/// The token, or the password, of an `Authorization` header.
fn secret(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    decoded
        .split_once(':')
        .map(|(_, password)| password.to_owned())
}

/// A refusal that says how to name a key. A browser asks for it where the chat page is opened.
fn challenge(error: ApiError, is_page: bool) -> Response {
    let mut response = error.into_response();
    let how = match is_page {
        true => "Basic realm=\"the API key is the password\", charset=\"UTF-8\"",
        false => "Bearer",
    };
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_cut_off() {
        for (host, name) in [
            ("localhost", "localhost"),
            ("localhost:80", "localhost"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("::1", "::1"),
            ("a.example:http", "a.example:http"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn secrets_come_in_two_schemes() {
        assert_eq!(secret("Bearer k").as_deref(), Some("k"));
        assert_eq!(secret("bearer  k ").as_deref(), Some("k"));
        assert_eq!(secret("Basic dXNlcjprOmw=").as_deref(), Some("k:l"));
        for wrong in ["k", "Digest k", "Basic !", "Basic dXNlcg=="] {
            assert_eq!(secret(wrong), None, "{wrong}");
        }
    }
}
