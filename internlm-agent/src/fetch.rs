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
mod config;
mod fault;
mod hosts;
mod pinned;
mod request;
mod resolver;
mod url;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::{Request, Response, Uri};
use ureq::{Agent, Body};

pub use address::is_public;
pub use config::FetchConfig;
pub use fault::FetchFault;
use hosts::Hosts;
use pinned::Pinned;
pub use request::{FetchMethod, FetchRequest};
pub use resolver::{InternalServers, Resolver, SystemResolver};
pub(crate) use url::{encode, resolve, with_query};
use url::{join, parse, same_origin};

/// A page, or what a server said in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// Where it was in the end.
    pub url: String,
    /// The HTTP status, such as 404.
    pub status: u16,
    /// Where the server says that it is instead, if that was not followed.
    pub location: Option<String>,
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
    hosts: Option<Arc<Hosts>>,
}

impl Fetcher {
    /// One that asks the system for addresses.
    pub fn new(config: FetchConfig) -> Self {
        Self {
            config,
            resolver: Arc::new(SystemResolver),
            hosts: None,
        }
    }

    /// Sets who is asked for addresses, and which may be connected to.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Sets the only hosts that are connected to, redirects included. `a.example` is that host at the usual ports,
    /// `a.example:8080` that port of it, `*.a.example` every host below it.
    #[must_use]
    pub fn with_hosts<T: Into<String>>(mut self, hosts: impl IntoIterator<Item = T>) -> Self {
        self.hosts = Some(Arc::new(Hosts::new(hosts)));
        self
    }

    /// Its limits.
    pub fn config(&self) -> &FetchConfig {
        &self.config
    }

    /// Gets a page, through redirects. An error status is a page, too.
    ///
    /// # Errors
    /// If an address on the way is not public or no address, or if a limit but that of bytes is met.
    pub fn get(&self, url: &str) -> Result<Page, FetchFault> {
        self.send(&FetchRequest::get(url))
    }

    /// Sends a request. Redirects of `GET` and `HEAD` are followed, of others they are the answer. Headers of the
    /// request are told to its own host only.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn send(&self, request: &FetchRequest) -> Result<Page, FetchFault> {
        let begin = Instant::now();
        let timeout = request.timeout.unwrap_or(self.config.timeout);
        let first = parse(&request.url)?;
        let follow = matches!(request.method, FetchMethod::Get | FetchMethod::Head);
        let mut at = first.clone();
        for _ in 0..=self.config.max_redirects {
            if let Some(hosts) = self.hosts.as_ref().filter(|hosts| !hosts.allow(&at)) {
                return Err(FetchFault::Host {
                    url: at.to_string(),
                    allowed: hosts.to_string(),
                });
            }
            let left = timeout.saturating_sub(begin.elapsed());
            let addresses = self.addresses(&at, left)?;
            let left = timeout.saturating_sub(begin.elapsed());
            let own = same_origin(&first, &at);
            let response = self.ask(request, &at, own, addresses, left)?;
            let next = response.headers().get(LOCATION).cloned();
            match next {
                Some(next)
                    if follow
                        && matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) =>
                {
                    let next = next.to_str().map_err(|_| FetchFault::Url {
                        url: at.to_string(),
                        what: "it redirects to what is no address",
                    })?;
                    at = join(&at, next)?;
                }
                _ => return self.page(request, &at, response),
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
        request: &FetchRequest,
        url: &Uri,
        own_host: bool,
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
        let agent = Agent::with_parts(
            config,
            ureq::unversioned::transport::DefaultConnector::default(),
            Pinned(addresses),
        );
        let mut builder = Request::builder()
            .method(request.method.as_str())
            .uri(url.clone());
        for (name, value) in request.headers.iter().filter(|_| own_host) {
            builder = builder.header(name, value);
        }
        let failed = |error| connection(url, error);
        // A host that a redirect leads to is told nothing that was meant for the first one.
        match request.body.as_ref().filter(|_| own_host) {
            Some(body) => {
                let request = builder.body(body.as_slice());
                agent.run(request.map_err(|error| failed(error.into()))?)
            }
            None => {
                let request = builder.body(());
                agent.run(request.map_err(|error| failed(error.into()))?)
            }
        }
        .map_err(failed)
    }

    fn page(
        &self,
        request: &FetchRequest,
        url: &Uri,
        response: Response<Body>,
    ) -> Result<Page, FetchFault> {
        let status = response.status().as_u16();
        let header = |name| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (content_type, location) = (header(CONTENT_TYPE), header(LOCATION));
        let limit = request.max_bytes.unwrap_or(self.config.max_bytes);
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
            location,
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
