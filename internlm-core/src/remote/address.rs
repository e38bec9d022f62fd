//! What a configuration says of the server, checked: its addresses and the headers it gets.

use ureq::http::{HeaderName, HeaderValue, Uri, header};

use super::config::RemoteConfig;
use crate::error::{Error, Result};

/// The headers of every request; the values are secrets.
pub(super) fn headers(config: &RemoteConfig) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let bad = |field, what: String| Error::Request { field, what };
    let mut headers = Vec::new();
    if let Some(key) = &config.api_key {
        let value = HeaderValue::try_from(format!("Bearer {}", key.reveal()));
        let value = value.map_err(|_| {
            let what = "has a character that no header can hold";
            bad("api_key", what.to_owned())
        })?;
        headers.push((header::AUTHORIZATION, value));
    }
    for (name, value) in &config.headers {
        let parsed = HeaderName::try_from(name.as_str())
            .map_err(|_| bad("headers", format!("`{}` is no name", name.escape_debug())))?;
        let value = HeaderValue::try_from(value.reveal())
            .map_err(|_| bad("headers", format!("the value of `{parsed}` can't be sent")))?;
        headers.push((parsed, value));
    }
    for (_, value) in &mut headers {
        value.set_sensitive(true);
    }
    Ok(headers)
}

/// The base of OpenAI's routes, the base of the server's own, and whether it is this machine.
pub(super) fn addresses(base_url: &str) -> Result<(String, String, bool)> {
    let base = base_url.trim().trim_end_matches('/');
    // The address itself is not shown: it may hold a password.
    let bad = || Error::Request {
        field: "base_url",
        what: "expected http:// or https://, a host and perhaps a path, and nothing else"
            .to_owned(),
    };
    let uri: Uri = base.parse().map_err(|_| bad())?;
    let host = uri.host().unwrap_or_default();
    let good = matches!(uri.scheme_str(), Some("http" | "https"))
        && !host.is_empty()
        && !base.contains(['@', '?', '#', '\\']);
    if !good {
        return Err(bad());
    }
    let (api, root) = match base.strip_suffix("/v1") {
        Some(root) => (base.to_owned(), root.to_owned()),
        None if uri.path() == "/" => (format!("{base}/v1"), base.to_owned()),
        None => (base.to_owned(), base.to_owned()),
    };
    let v4 = host.parse::<std::net::Ipv4Addr>();
    let loopback = host == "localhost" || host == "[::1]" || v4.is_ok_and(|ip| ip.is_loopback());
    Ok((api, root, loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_addresses() {
        for (base, api, root, loopback) in [
            ("http://h:8000", "http://h:8000/v1", "http://h:8000", false),
            (" https://h/v1/ ", "https://h/v1", "https://h", false),
            (
                "https://h/api/v4",
                "https://h/api/v4",
                "https://h/api/v4",
                false,
            ),
            (
                "https://h/llm/v1",
                "https://h/llm/v1",
                "https://h/llm",
                false,
            ),
            (
                "http://127.0.0.1:1",
                "http://127.0.0.1:1/v1",
                "http://127.0.0.1:1",
                true,
            ),
            (
                "http://[::1]:1/v1",
                "http://[::1]:1/v1",
                "http://[::1]:1",
                true,
            ),
            (
                "http://localhost.evil",
                "http://localhost.evil/v1",
                "http://localhost.evil",
                false,
            ),
        ] {
            let want = (api.to_owned(), root.to_owned(), loopback);
            assert_eq!(addresses(base).unwrap(), want);
        }
        for bad in [
            "",
            "h:8000",
            "ftp://h",
            "http://",
            "https:///v1",
            "http://user:hush@h",
            "http://h/?k=hush",
            "http://h/#x",
            "http://h h/",
            "http://h\\@evil",
        ] {
            let error = addresses(bad).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Request {
                        field: "base_url",
                        ..
                    }
                ),
                "{bad}"
            );
            assert!(!error.to_string().contains("hush"));
        }
    }

    #[test]
    fn headers_are_checked_and_not_shown() {
        let config = RemoteConfig::new("http://h", "m");
        let field = |config| match headers(&config) {
            Err(error @ Error::Request { field, .. }) => {
                assert!(!error.to_string().contains("hush"));
                field
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(field(config.clone().with_api_key("hush\n")), "api_key");
        assert_eq!(
            field(config.clone().with_header("x", "hush\r\n")),
            "headers"
        );
        assert_eq!(field(config.clone().with_header("x y", "hush")), "headers");
        let list = headers(&config.with_api_key("k").with_header("X", "y")).unwrap();
        let shown = format!("{list:?}");
        assert_eq!(list[0].1, "Bearer k");
        assert!(
            shown.contains("Sensitive") && !shown.contains("Bearer"),
            "{shown}"
        );
    }
}
