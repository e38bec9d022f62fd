//! Fetches pages for a model, which may ask for any address: from public ones only.
//!
//! A name is resolved first; every address that it has must be public, IPv4 within IPv6 included;
//! and the connection goes to the addresses that were checked, not to what the name means a moment later.
//! Each redirect starts anew. Time, redirects, headers and body have limits, and no proxy of the
//! environment takes the connection elsewhere.
//!
//! ```no_run
//! use internlm_agent::fetch::{FetchConfig, Fetcher};
//!
//! let page = Fetcher::new(FetchConfig::default()).get("https://www.rust-lang.org/")?;
//! println!("{} {} bytes", page.status, page.body.len());
//! # Ok::<(), internlm_agent::fetch::FetchFault>(())
//! ```

mod address;
mod pinned;

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

pub use address::is_public;
use pinned::Pinned;

/// Limits of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchConfig {
    /// For everything: names, connections, redirects, body.
    pub timeout: Duration,
    /// Most bytes of a body; what comes behind them is left.
    pub max_bytes: usize,
    /// Most redirects that are followed.
    pub max_redirects: usize,
    /// What the server is told of who asks.
    pub user_agent: String,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            max_bytes: 2 << 20,
            max_redirects: 5,
            user_agent: concat!("internlm-agent/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

impl FetchConfig {
    /// Sets the limit of time.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the most bytes of a body.
    #[must_use]
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the most redirects that are followed.
    #[must_use]
    pub fn with_max_redirects(mut self, max_redirects: usize) -> Self {
        self.max_redirects = max_redirects;
        self
    }
}

/// A reason why there is no page.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFault {
    /// It is no address of a page: not `http` or `https`, no host, a password in it, or not well-formed.
    #[error("`{url}`: {what}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The host has an address that is not public. Nothing was connected to.
    #[error("`{url}`: {address} is not a public address")]
    NotPublic {
        /// The address of the page.
        url: String,
        /// The address of the host.
        address: IpAddr,
    },
    /// The name means nothing.
    #[error("`{url}`: {source}")]
    Name {
        /// The address of the page.
        url: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// More redirects than are followed.
    #[error("`{url}`: more than {limit} redirects")]
    Redirects {
        /// The last address.
        url: String,
        /// How many are followed.
        limit: usize,
    },
    /// The time was up.
    #[error("`{url}`: no answer in time")]
    Timeout {
        /// The address of the page.
        url: String,
    },
    /// The connection failed, broke, or the answer is none.
    #[error("`{url}`: {source}")]
    Connection {
        /// The address of the page.
        url: String,
        /// What the system or the TLS library said.
        #[source]
        source: Arc<io::Error>,
    },
}

/// Says which addresses a name has, and which of them may be connected to.
///
/// A test has one that lets its local servers through; a program could let one internal host through.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses of a host, a name or an address itself.
    ///
    /// # Errors
    /// If there are none.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Whether an address may be connected to: if it [is public](is_public), unless overridden.
    fn permits(&self, address: SocketAddr) -> bool {
        is_public(address.ip())
    }
}

/// Asks the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // With its brackets an IPv6 address is no name.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// A page, or what a server said in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where it was in the end.
    pub url: String,
    /// The HTTP status, such as 404.
    pub status: u16,
    /// The `Content-Type` that the server named.
    pub content_type: Option<String>,
    /// The bytes, up to the limit.
    pub body: Vec<u8>,
    /// Whether more bytes were left.
    pub truncated: bool,
}

/// Fetches pages from public addresses.
#[derive(Clone, Debug)]
pub struct Fetcher {
    config: FetchConfig,
    resolver: Arc<dyn Resolver>,
}

impl Fetcher {
    /// One that asks the system for addresses.
    pub fn new(config: FetchConfig) -> Self {
        Self {
            config,
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Sets who is asked for addresses, and which may be connected to.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Gets a page, through redirects. An error status is a page, too.
    ///
    /// # Errors
    /// If an address on the way is not public or no address, or if a limit but that of bytes is met.
    pub fn get(&self, url: &str) -> Result<Page, FetchFault> {
        let begin = Instant::now();
        let mut at = parse(url)?;
        for _ in 0..=self.config.max_redirects {
            let left = self.config.timeout.saturating_sub(begin.elapsed());
            let addresses = self.addresses(&at, left)?;
            let left = self.config.timeout.saturating_sub(begin.elapsed());
            let response = self.ask(&at, addresses, left)?;
            let next = response.headers().get(LOCATION).cloned();
            match next {
                Some(next) if matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) => {
                    let next = next.to_str().map_err(|_| FetchFault::Url {
                        url: at.to_string(),
                        what: "it redirects to what is no address",
                    })?;
                    at = join(&at, next)?;
                }
                _ => return self.page(&at, response),
            }
        }
        Err(FetchFault::Redirects {
            url: at.to_string(),
            limit: self.config.max_redirects,
        })
    }

    /// The addresses of a host, all of them permitted.
    fn addresses(&self, url: &Uri, timeout: Duration) -> Result<Vec<SocketAddr>, FetchFault> {
        let name = |source: io::Error| FetchFault::Name {
            url: url.to_string(),
            source: Arc::new(source),
        };
        let host = url.host().unwrap_or_default().to_owned();
        let port = url.port_u16().unwrap_or(match url.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        // The system's call has no limit of time, so it gets a thread that may outlast this call.
        let (sender, receiver) = mpsc::channel();
        let resolver = Arc::clone(&self.resolver);
        std::thread::Builder::new()
            .name("resolve".into())
            .spawn(move || sender.send(resolver.resolve(&host, port)).ok())
            .map_err(name)?;
        let addresses = match receiver.recv_timeout(timeout) {
            Ok(found) => found.map_err(name)?,
            Err(_) => {
                return Err(FetchFault::Timeout {
                    url: url.to_string(),
                });
            }
        };
        if let Some(refused) = addresses.iter().find(|a| !self.resolver.permits(**a)) {
            return Err(FetchFault::NotPublic {
                url: url.to_string(),
                address: refused.ip(),
            });
        }
        match addresses.is_empty() {
            true => Err(name(io::ErrorKind::NotFound.into())),
            false => Ok(addresses),
        }
    }

    /// One request, to one of these addresses.
    fn ask(
        &self,
        url: &Uri,
        addresses: Vec<SocketAddr>,
        timeout: Duration,
    ) -> Result<Response<Body>, FetchFault> {
        if timeout.is_zero() {
            return Err(FetchFault::Timeout {
                url: url.to_string(),
            });
        }
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .max_response_header_size(64 << 10)
            .max_idle_connections(0)
            .user_agent(self.config.user_agent.as_str())
            .build();
        Agent::with_parts(
            config,
            ureq::unversioned::transport::DefaultConnector::default(),
            Pinned(addresses),
        )
        .get(url.clone())
        .call()
        .map_err(|error| connection(url, error))
    }

    fn page(&self, url: &Uri, response: Response<Body>) -> Result<Page, FetchFault> {
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let limit = self.config.max_bytes;
        let mut body = Vec::new();
        response
            .into_body()
            .into_reader()
            .take((limit as u64).saturating_add(1))
            .read_to_end(&mut body)
            .map_err(|error| connection(url, ureq::Error::from(error)))?;
        let truncated = body.len() > limit;
        body.truncate(limit);
        Ok(Page {
            url: url.to_string(),
            status,
            content_type,
            body,
            truncated,
        })
    }
}

fn connection(url: &Uri, error: ureq::Error) -> FetchFault {
    let url = url.to_string();
    match error {
        ureq::Error::Timeout(_) => FetchFault::Timeout { url },
        error => FetchFault::Connection {
            url,
            source: Arc::new(error.into_io()),
        },
    }
}

/// The address of a page.
fn parse(url: &str) -> Result<Uri, FetchFault> {
    let fault = |what| FetchFault::Url {
        url: url.into(),
        what,
    };
    // What is behind `#` is for the reader, not for the server.
    let text = url.trim().split('#').next().unwrap_or_default();
    let parsed: Uri = text.parse().map_err(|_| fault("it is not well-formed"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(fault("it does not begin with http:// or https://"));
    }
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
fn join(base: &Uri, to: &str) -> Result<Uri, FetchFault> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
