//! Who may ask our server by HTTP.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

/// How tools are served by HTTP.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpHttpConfig {
    /// Names and addresses by which the server may be called in the `Host` of a request, with or without a port; `*` is
    /// any. Those of this machine by default: a page that makes its own name point here is refused.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://example.org`) of pages that may ask. None by default.
    pub allowed_origins: Vec<String>,
    /// The key that requests must bring as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// Whether an address that other machines reach may be served without a key.
    pub open: bool,
    /// Most sessions of MCP at once; one that is silent for five minutes ends.
    pub max_sessions: usize,
}

impl Default for McpHttpConfig {
    fn default() -> Self {
        Self {
            allowed_hosts: ["localhost", "127.0.0.1", "[::1]"]
                .map(str::to_owned)
                .into(),
            allowed_origins: Vec::new(),
            api_key: None,
            open: false,
            max_sessions: 256,
        }
    }
}

/// The key is not shown.
impl fmt::Debug for McpHttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpHttpConfig")
            .field("allowed_hosts", &self.allowed_hosts)
            .field("allowed_origins", &self.allowed_origins)
            .field("has_key", &self.api_key.is_some())
            .field("open", &self.open)
            .field("max_sessions", &self.max_sessions)
            .finish()
    }
}

impl McpHttpConfig {
    /// Adds a name by which the server may be called.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Adds an origin of pages that may ask.
    #[must_use]
    pub fn with_allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets the key.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Serves everybody who reaches the address.
    #[must_use]
    pub fn with_open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Sets the most sessions.
    #[must_use]
    pub fn with_max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    fn check(&self, request: &Request<Body>) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        let refused = |what| Err((StatusCode::FORBIDDEN, what));
        // A request that names its target in full says it twice; both must be ours.
        let full = request
            .uri()
            .authority()
            .map(|authority| authority.as_str());
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().map(|host| host.to_str().unwrap_or_default());
        let mut named = [host, full].into_iter().flatten().peekable();
        if hosts.next().is_some() || named.peek().is_none() {
            return refused("the request needs one Host");
        }
        if !named.all(|host| self.is_own(host)) {
            return refused("the Host of the request is not a name of this server");
        }
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if !origins.all(|origin| self.may_ask(origin.to_str().unwrap_or_default(), host.or(full))) {
            return refused("pages of another origin may not ask this server");
        }
        match &self.api_key {
            Some(key) if !has_key(headers, key) => {
                Err((StatusCode::UNAUTHORIZED, "a key is needed"))
            }
            _ => Ok(()),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let mut allowed = self.allowed_hosts.iter();
        allowed.any(|allowed| {
            allowed == "*"
                || allowed.eq_ignore_ascii_case(host)
                || allowed.eq_ignore_ascii_case(without_port(host))
        })
    }

    fn may_ask(&self, origin: &str, host: Option<&str>) -> bool {
        let own = host.is_some_and(|host| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        });
        let mut listed = self.allowed_origins.iter();
        own || listed.any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Whether only this machine reaches an address.
pub(super) fn is_local(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn has_key(headers: &HeaderMap, key: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let given = given.map_or("", |(_, token)| token.trim());
    !key.is_empty() && bool::from(given.as_bytes().ct_eq(key.as_bytes()))
}

/// A host without its port.
pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit())
                && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

/// Lets a request through, or refuses it.
pub(super) async fn guard(
    State(config): State<Arc<McpHttpConfig>>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let mut response = match config.check(&request) {
        Ok(()) => next.run(request).await,
        Err((status, what)) => super::door::refusal(status, what).into_response(),
    };
    let nosniff = header::HeaderValue::from_static("nosniff");
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if response.status() == StatusCode::UNAUTHORIZED {
        let bearer = header::HeaderValue::from_static("Bearer");
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, bearer);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &McpHttpConfig, headers: &[(&str, &str)], want: u16) {
        let mut request = Request::builder().uri("/mcp");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let got = config.check(&request.body(Body::empty()).unwrap());
        let status = got.map_or_else(|(status, _)| status.as_u16(), |()| 200);
        assert_eq!(status, want, "{headers:?}");
    }

    #[test]
    fn hosts_and_origins_must_be_ours() {
        let config = McpHttpConfig::default();
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8000",
            "[::1]:1",
            "[::1]",
        ] {
            check(&config, &[("host", host)], 200);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "::1",
            "0.0.0.0",
        ] {
            check(&config, &[("host", host)], 403);
        }
        check(&config, &[], 403);
        check(
            &config,
            &[("host", "localhost"), ("host", "localhost")],
            403,
        );
        let with = |origin| [("host", "localhost:80"), ("origin", origin)];
        check(&config, &with("http://localhost:80"), 200);
        for origin in [
            "http://localhost:81",
            "http://evil.example",
            "null",
            "",
            "localhost:80",
        ] {
            check(&config, &with(origin), 403);
        }
        let config = config
            .with_allowed_host("a.example:80")
            .with_allowed_origin("https://b.example");
        check(&config, &with("https://b.example"), 200);
        check(&config, &[("host", "a.example:80")], 200);
        check(&config, &[("host", "a.example:81")], 403);
    }

    #[test]
    fn a_key_is_compared_whole() {
        let config = McpHttpConfig::default().with_api_key("sesame");
        let with = |value| [("host", "localhost"), ("authorization", value)];
        check(&config, &with("Bearer sesame"), 200);
        check(&config, &with("bearer  sesame"), 200);
        for value in [
            "Bearer sesam",
            "Bearer sesames",
            "sesame",
            "Basic sesame",
            "Bearer",
            "",
        ] {
            check(&config, &with(value), 401);
        }
        check(&config, &[("host", "localhost")], 401);
        check(
            &McpHttpConfig::default().with_api_key(""),
            &with("Bearer "),
            401,
        );
        assert!(!format!("{config:?}").contains("sesame"));
    }

    #[test]
    fn addresses_of_this_machine_are_known() {
        for (address, local) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.168.0.1", false),
        ] {
            assert_eq!(is_local(address.parse().unwrap()), local, "{address}");
        }
    }
}
