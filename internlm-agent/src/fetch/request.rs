//! What a server is asked.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderName, HeaderValue};

use super::FetchFault;

/// A method of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum FetchMethod {
    /// Reads.
    #[default]
    Get,
    /// Reads the headers.
    Head,
    /// Sends.
    Post,
    /// Puts in place.
    Put,
    /// Changes.
    Patch,
    /// Deletes.
    Delete,
}

impl FetchMethod {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
    ];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for FetchMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request. Its texts may be secrets, so [`Debug`] shows the method and the address only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchRequest {
    /// The method.
    pub method: FetchMethod,
    /// The address.
    pub url: String,
    /// Headers for the host of the address; no other is told of them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// Another limit of time than the fetcher's.
    pub timeout: Option<Duration>,
    /// Another limit of bytes than the fetcher's.
    pub max_bytes: Option<usize>,
}

impl fmt::Debug for FetchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchRequest")
            .field("method", &self.method)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Headers that the client itself writes: others in their place would change where a message ends or who is asked.
const OWN: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl FetchRequest {
    /// A request without headers and body.
    pub fn new(method: FetchMethod, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout: None,
            max_bytes: None,
        }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(FetchMethod::Get, url)
    }

    /// Adds a header.
    ///
    /// # Errors
    /// [`FetchFault::Header`] if it is none, or one that the client itself writes.
    pub fn with_header(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, FetchFault> {
        let (name, value) = (name.into(), value.into());
        let fault = |what| FetchFault::Header {
            name: name.chars().take(64).collect(),
            what,
        };
        let proxy = name
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("proxy-"));
        if proxy || OWN.iter().any(|own| own.eq_ignore_ascii_case(&name)) {
            return Err(fault("the client writes it"));
        }
        HeaderName::try_from(name.as_str()).map_err(|_| fault("it is no name of a header"))?;
        HeaderValue::try_from(value.as_str())
            .map_err(|_| fault("its value has characters that no header has"))?;
        self.headers.push((name, value));
        Ok(self)
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the limit of time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the most bytes of an answer.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_forge_a_message_are_refused() {
        let get = || FetchRequest::get("http://a.example/");
        assert!(get().with_header("X-Key", "数 is no header").is_ok());
        for (name, value) in [
            ("Host", "b.example"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "x"),
            ("X Key", "x"),
            ("", "x"),
            ("X-Key", "a\r\nHost: b.example"),
        ] {
            let fault = get().with_header(name, value);
            assert!(matches!(fault, Err(FetchFault::Header { .. })), "{name}");
        }
        let secret = get().with_header("Authorization", "Bearer secret");
        assert!(!format!("{secret:?}").contains("secret"), "{secret:?}");
    }
}
