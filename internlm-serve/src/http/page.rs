//! `/`: a page to chat with.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::error::ApiError;
use super::state::Server;

/// The page, with its scripts and styles in it.
const HTML: &str = include_str!("chat.html");

/// The page and what a browser may do with it.
pub(super) struct Page {
    policy: String,
}

impl Page {
    pub(super) fn new() -> Self {
        Self {
            policy: policy(HTML),
        }
    }
}

/// Runs nothing that is not written in the page itself, and loads nothing from elsewhere: what a model says
/// can't become a script, even if the page were to show it badly.
fn policy(html: &str) -> String {
    let (scripts, styles) = (hashes(html, "script"), hashes(html, "style"));
    format!(
        "default-src 'none'; script-src{scripts}; style-src{styles}; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The hashes of all elements of this name, as a policy lists them.
fn hashes(html: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}"), format!("</{name}>"));
    let mut list = String::new();
    let mut rest = html;
    while let Some(start) = rest.find(&open) {
        rest = &rest[start + open.len()..];
        let Some(body) = rest.find('>') else { break };
        let Some(end) = rest.find(&close) else { break };
        let hash = Sha256::digest(rest.get(body + 1..end).unwrap_or_default());
        list.push_str(" 'sha256-");
        list.push_str(&STANDARD.encode(hash));
        list.push('\'');
        rest = &rest[end..];
    }
    match list.is_empty() {
        true => " 'none'".to_owned(),
        false => list,
    }
}

/// Shows the page.
pub(super) async fn page(State(server): State<Arc<Server>>) -> Result<Response, ApiError> {
    let Some(page) = &server.page else {
        return Err(super::state::unknown(axum::http::Method::GET, Uri::from_static("/")).await);
    };
    let policy = HeaderValue::from_str(&page.policy).map_err(|e| ApiError::internal(&e))?;
    let headers: [(HeaderName, HeaderValue); 5] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    Ok((headers, HTML).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_hashed() {
        // The example of the Content Security Policy specification, level 3.
        let html = "<script>doSomething()</script><p>x</p><style lang=a></style>";
        let policy = policy(html);
        let script = STANDARD.encode(Sha256::digest("doSomething()"));
        let style = STANDARD.encode(Sha256::digest(""));
        assert!(policy.contains(&format!("script-src 'sha256-{script}';")));
        assert!(policy.contains(&format!("style-src 'sha256-{style}';")));
        assert_eq!(hashes("<p>", "script"), " 'none'");
    }

    #[test]
    fn the_page_runs_under_its_policy() {
        // Handlers in attributes would be blocked.
        for attribute in [
            " onclick=",
            " onload=",
            " onsubmit=",
            " style=\"",
            "javascript:",
        ] {
            assert!(!HTML.contains(attribute), "{attribute}");
        }
    }
}
