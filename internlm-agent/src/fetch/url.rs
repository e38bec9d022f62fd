//! Addresses of pages as texts.

use std::borrow::Cow;

use ureq::http::Uri;

use super::FetchFault;

/// The address of a page.
pub(super) fn parse(url: &str) -> Result<Uri, FetchFault> {
    let fault = |what| FetchFault::Url {
        url: url.into(),
        what,
    };
    // What is behind `#` is for the reader, not for the server.
    let text = url.trim().split('#').next().unwrap_or_default();
    let is_web = |scheme: &str| {
        let start = text.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    if !is_web("http://") && !is_web("https://") {
        return Err(fault("it does not begin with http:// or https://"));
    }
    let text = ascii(text);
    let parsed: Uri = text.parse().map_err(|_| fault("it is not well-formed"))?;
    let authority = parsed.authority().ok_or_else(|| fault("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(fault("it has a user's name in it"));
    }
    if authority.host().is_empty() {
        return Err(fault("it has no host"));
    }
    Ok(parsed)
}

/// Where a redirect leads, seen from the page that redirects (RFC 3986, section 5.2, without the
/// dots, which servers resolve themselves).
pub(super) fn join(base: &Uri, to: &str) -> Result<Uri, FetchFault> {
    let scheme = base.scheme_str().unwrap_or("http");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let to = to.trim();
    // A colon ends a scheme if nothing that begins another part is before it.
    let has_scheme = to
        .find([':', '/', '?', '#'])
        .is_some_and(|at| to[at..].starts_with(':'));
    let text = if has_scheme {
        to.to_owned()
    } else if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else if to.starts_with('?') {
        format!("{scheme}://{authority}{}{to}", base.path())
    } else {
        let folder = base
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{to}")
    };
    parse(&text)
}

/// Where a link of a page leads, if that is a page.
pub(crate) fn resolve(base: &str, to: &str) -> Option<String> {
    let base = parse(base).ok()?;
    Some(join(&base, to).ok()?.to_string())
}

/// An address with letters of other scripts in its path and query as `%XX`, as a browser sends it.
fn ascii(text: &str) -> Cow<'_, str> {
    let host = text.find("://").map_or(0, |at| at + 3);
    let path = text[host..].find(['/', '?']).map(|at| host + at);
    match path {
        Some(path) if !text.is_ascii() => {
            let mut written = text[..path].to_owned();
            for letter in text[path..].chars() {
                match letter.is_ascii() {
                    true => written.push(letter),
                    false => written.push_str(&encode(letter.encode_utf8(&mut [0; 4]))),
                }
            }
            Cow::Owned(written)
        }
        _ => Cow::Borrowed(text),
    }
}

/// Whether two addresses have the same scheme, host and port: what a header for one may tell the other.
pub(super) fn same_origin(a: &Uri, b: &Uri) -> bool {
    a.scheme_str() == b.scheme_str() && a.authority() == b.authority()
}

/// A text as a part of a path or query: all but unreserved characters (RFC 3986, section 2.3) as `%XX`.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                encoded.push('%');
                encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
                encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    encoded
}

/// An address with more in its query.
pub(crate) fn with_query<'a>(
    url: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let (url, part) = match url.split_once('#') {
        Some((url, part)) => (url, Some(part)),
        None => (url, None),
    };
    let mut text = url.to_owned();
    for (name, value) in pairs {
        let last = text.chars().next_back();
        text.push_str(match text.contains('?') {
            false => "?",
            true if matches!(last, Some('?' | '&')) => "",
            true => "&",
        });
        text.push_str(&encode(name));
        text.push('=');
        text.push_str(&encode(value));
    }
    if let Some(part) = part {
        text.push('#');
        text.push_str(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_added_and_encoded() {
        let pairs = [("q", "a b&c=数"), ("n", "1")];
        let encoded = "q=a%20b%26c%3D%E6%95%B0&n=1";
        for (url, want) in [
            (
                "http://a.example/s",
                format!("http://a.example/s?{encoded}"),
            ),
            (
                "http://a.example/s?x",
                format!("http://a.example/s?x&{encoded}"),
            ),
            (
                "http://a.example/s?",
                format!("http://a.example/s?{encoded}"),
            ),
            (
                "http://a.example/s#p",
                format!("http://a.example/s?{encoded}#p"),
            ),
        ] {
            assert_eq!(with_query(url, pairs), want);
        }
    }

    #[test]
    fn redirects_are_read_from_where_they_stand() {
        let base = parse("http://a.example:8080/one/two?x=1#part").unwrap();
        for (to, want) in [
            ("https://b.example/c", "https://b.example/c"),
            ("//b.example/c", "http://b.example/c"),
            ("/c#d", "http://a.example:8080/c"),
            ("?y", "http://a.example:8080/one/two?y"),
            (
                "/in?next=http://b.example/",
                "http://a.example:8080/in?next=http://b.example/",
            ),
            ("in?at=http://b", "http://a.example:8080/one/in?at=http://b"),
            ("three", "http://a.example:8080/one/three"),
        ] {
            assert_eq!(join(&base, to).unwrap().to_string(), want, "{to}");
        }
    }

    #[test]
    fn other_scripts_are_encoded() {
        let at = parse("https://zh.example/wiki/数学?a=é")
            .unwrap()
            .to_string();
        assert_eq!(at, "https://zh.example/wiki/%E6%95%B0%E5%AD%A6?a=%C3%A9");
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for url in [
            "",
            "a.example",
            "file:///etc/passwd",
            "ftp://a.example/",
            "gopher://a.example/",
            "http://",
            "http:///path",
            "http://user@a.example/",
            "http://user:word@a.example/",
            "http://a.example@127.0.0.1/",
            "javascript:alert(1)",
            "http://a b/",
        ] {
            assert!(matches!(parse(url), Err(FetchFault::Url { .. })), "{url}");
        }
        let base = parse("http://a.example/").unwrap();
        assert!(join(&base, "file:///etc/passwd").is_err());
        assert!(join(&base, "mailto:someone").is_err());
    }
}
