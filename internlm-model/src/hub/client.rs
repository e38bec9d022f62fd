//! Requests to the hub: its listing, a file's metadata, a file's bytes. Redirects are followed here,
//! not by the HTTP library, because the token must stay with the hub's own host.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::environment::Token;
use super::error::{Error, Result};
use super::names::{encode, is_commit, is_hex};

/// Longest listing that is read. The hub's largest repositories stay below it.
const LISTING_BYTES: u64 = 64 << 20;
const REDIRECTS: usize = 8;
/// Longest wait that a server may ask for between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is being fetched, for URLs and errors.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) repo: String,
    pub(super) revision: String,
}

/// A file as the hub describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) name: String,
    /// Bytes.
    pub(super) size: u64,
    /// SHA-256 (64 hex digits) or git blob SHA-1 (40): the blob's name in the cache.
    pub(super) hash: String,
}

/// The hub's listing of a revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// A file of a listing; size and hash may be absent.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) size: Option<u64>,
    pub(super) hash: Option<String>,
}

/// A failed attempt and whether another one may go better.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) retry: bool,
    pub(super) after: Option<Duration>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            error,
            retry: false,
            after: None,
        }
    }
}

/// How often and how patiently to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) timeout: Duration,
}

impl Patience {
    /// Sleeps before attempt `failures` + 1; doubles from `backoff`.
    pub(super) fn wait(&self, failures: u32, failure: &Failure) {
        let doubled = self
            .backoff
            .saturating_mul(1 << failures.saturating_sub(1).min(6));
        let wait = failure.after.unwrap_or(doubled).min(LONGEST_WAIT);
        tracing::warn!(error = %failure.error, ?wait, "hub: trying again");
        std::thread::sleep(wait);
    }
}

pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    pub(super) patience: Patience,
}

#[derive(Deserialize)]
struct ApiListing {
    sha: String,
    #[serde(default)]
    siblings: Vec<ApiFile>,
}

#[derive(Deserialize)]
struct ApiFile {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<ApiLfs>,
}

#[derive(Deserialize)]
struct ApiLfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        token: Option<Token>,
        certificates: Option<&Path>,
        patience: Patience,
    ) -> Result<Self> {
        let endpoint = endpoint.trim().trim_end_matches('/');
        let Some(origin) = Origin::of(endpoint).filter(|_| !endpoint.contains(['?', '#', '@']))
        else {
            return Err(Error::Setting {
                name: "HF_ENDPOINT",
                what: "not an http:// or https:// address of host and path".to_owned(),
            });
        };
        let loopback = origin.is_loopback();
        let token = token.filter(|_| {
            let safe = origin.scheme == "https" || loopback;
            if !safe {
                tracing::warn!(endpoint, "hub: the token is not sent without https");
            }
            safe
        });
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(patience.timeout))
            .timeout_recv_response(Some(patience.timeout))
            .timeout_per_read(Some(patience.timeout))
            .user_agent(concat!("internlm-model/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        if loopback {
            config = config.proxy(None);
        }
        if let Some(file) = certificates.filter(|_| origin.scheme == "https") {
            let tls = TlsConfig::builder()
                .root_certs(read_certificates(file)?)
                .build();
            config = config.tls_config(tls);
        }
        Ok(Self {
            agent: config.build().new_agent(),
            endpoint: endpoint.to_owned(),
            token,
            patience,
        })
    }

    /// The files of a revision and the commit it stands for.
    pub(super) fn listing(&self, target: &Target) -> Result<Listing> {
        let url = format!(
            "{}/api/models/{}/revision/{}?blobs=true",
            self.endpoint,
            encode(&target.repo, true),
            encode(&target.revision, false)
        );
        let bad = |what: String| Error::Response {
            url: shown(&url),
            what,
        };
        let body = self.retrying(|| {
            let mut response = self.send(Method::Get, &url, None, target, None)?.last;
            let body = response
                .body_mut()
                .with_config()
                .limit(LISTING_BYTES)
                .read_to_vec();
            body.map_err(|e| self.transport(&url, e))
        })?;
        let listing: ApiListing =
            serde_json::from_slice(&body).map_err(|e| bad(format!("not a listing: {e}")))?;
        if !is_commit(&listing.sha) {
            return Err(bad(format!(
                "`{}` is not a commit",
                listing.sha.escape_debug()
            )));
        }
        let files = listing.siblings.into_iter().map(|file| {
            let (hash, size) = match file.lfs {
                Some(lfs) => (lfs.sha256, lfs.size.or(file.size)),
                None => (file.blob_id, file.size),
            };
            Listed {
                name: file.rfilename,
                size,
                hash: hash.filter(|hash| is_hash(hash)),
            }
        });
        Ok(Listing {
            commit: listing.sha,
            files: files.collect(),
        })
    }

    /// Size and hash of a file, from the headers of its URL.
    pub(super) fn metadata(&self, target: &Target, commit: &str, name: &str) -> Result<Remote> {
        let url = self.file_url(target, commit, name);
        let headers = self.retrying(|| {
            let reply = self.send(Method::Head, &url, None, target, Some(name))?;
            Ok(reply.last.into_parts().0.headers)
        })?;
        let bad = |what: &str| Error::Response {
            url: shown(&url),
            what: what.to_owned(),
        };
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        check_commit(&headers, commit, &url)?;
        let hash = value("x-linked-etag").or_else(|| value("etag"));
        let hash = hash.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        let hash = hash.filter(|hash| is_hash(hash));
        let size = value("x-linked-size").or_else(|| value("content-length"));
        Ok(Remote {
            name: name.to_owned(),
            hash: hash
                .ok_or_else(|| bad("no ETag with a SHA-256 or SHA-1"))?
                .to_owned(),
            size: size
                .and_then(|size| size.parse().ok())
                .ok_or_else(|| bad("no size"))?,
        })
    }

    /// The bytes of a file from `start` on: one attempt.
    pub(super) fn bytes(
        &self,
        target: &Target,
        commit: &str,
        name: &str,
        start: u64,
    ) -> Result<Response<Body>, Failure> {
        let url = self.file_url(target, commit, name);
        let reply = self.send(Method::Get, &url, Some(start), target, Some(name))?;
        check_commit(&reply.first, commit, &url)?;
        Ok(reply.last)
    }

    /// Where a file of a commit is.
    pub(super) fn file_url(&self, target: &Target, commit: &str, name: &str) -> String {
        let (repo, name) = (encode(&target.repo, true), encode(name, true));
        format!("{}/{repo}/resolve/{commit}/{name}", self.endpoint)
    }

    /// Repeats an attempt that may go better the next time.
    fn retrying<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut failures = 0;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) if failure.retry && failures < self.patience.retries => {
                    failures += 1;
                    self.patience.wait(failures, &failure);
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }

    /// One request, with its redirects. A `HEAD` stops where the hub points to its storage, whose
    /// headers describe something else.
    fn send(
        &self,
        method: Method,
        url: &str,
        start: Option<u64>,
        target: &Target,
        file: Option<&str>,
    ) -> Result<Reply, Failure> {
        let home = Origin::of(&self.endpoint);
        let mut at = url.to_owned();
        let mut first = None;
        for _ in 0..=REDIRECTS {
            let mut request = match method {
                Method::Get => self.agent.get(&at),
                Method::Head => self.agent.head(&at),
            };
            if let Some(token) = self.token.as_ref().filter(|_| Origin::of(&at) == home) {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            if let Some(start) = start.filter(|&start| start > 0) {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|e| self.transport(url, e))?;
            let status = response.status().as_u16();
            let headers = first.get_or_insert_with(|| response.headers().clone());
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                // 416 is the business of whoever asked for a range.
                if response.status().is_success() || (status == 416 && start.is_some()) {
                    return Ok(Reply {
                        first: headers.clone(),
                        last: response,
                    });
                }
                return Err(refused(url, &response, target, file));
            }
            let bad = |what: String| Error::Response {
                url: shown(url),
                what,
            };
            let location = response
                .headers()
                .get("location")
                .and_then(|l| l.to_str().ok());
            let location = location.ok_or_else(|| bad(format!("status {status}, no location")))?;
            let next = resolve(&at, location)
                .ok_or_else(|| bad("redirected to no http address".to_owned()))?;
            if at.starts_with("https:") && !next.starts_with("https:") {
                return Err(bad("redirected from https to http".to_owned()).into());
            }
            if matches!(method, Method::Head) && Origin::of(&next) != home {
                return Ok(Reply {
                    first: headers.clone(),
                    last: response,
                });
            }
            at = next;
        }
        let what = format!("more than {REDIRECTS} redirects");
        Err(Error::Response {
            url: shown(url),
            what,
        }
        .into())
    }

    /// Classifies an error of the connection.
    fn transport(&self, url: &str, error: ureq::Error) -> Failure {
        use std::io::ErrorKind::{InvalidData, InvalidInput};
        let retry = match &error {
            // Rustls reports a bad certificate as invalid data.
            ureq::Error::Io(e) => !matches!(e.kind(), InvalidData | InvalidInput),
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                true
            }
            _ => false,
        };
        let (url, source) = (shown(url), error.into_io());
        Failure {
            error: Error::Transport { url, source },
            retry,
            after: None,
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Head,
}

struct Reply {
    /// Headers of the hub's own answer, before any redirect.
    first: HeaderMap,
    last: Response<Body>,
}

/// The meaning of an error status; the hub names it in `X-Error-Code`.
fn refused(url: &str, response: &Response<Body>, target: &Target, file: Option<&str>) -> Failure {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
    let repo = target.repo.clone();
    let revision = target.revision.clone();
    let error = match (header("x-error-code"), status, file) {
        (Some("GatedRepo"), ..) => Error::Gated { repo },
        (Some("RepoNotFound"), ..) => Error::RepoNotFound { repo },
        (Some("RevisionNotFound"), ..) => Error::RevisionNotFound { repo, revision },
        (Some("EntryNotFound"), _, Some(file)) | (_, 404, Some(file)) => Error::FileNotFound {
            repo,
            revision,
            file: file.to_owned(),
        },
        (_, 401 | 403, _) => Error::Unauthorized { repo, status },
        (_, 404, None) => Error::RepoNotFound { repo },
        _ => Error::Status {
            url: shown(url),
            status,
        },
    };
    let after = header("retry-after").and_then(|text| text.trim().parse().ok());
    Failure {
        retry: matches!(error, Error::Status { .. })
            && (status >= 500 || matches!(status, 408 | 429)),
        after: after.map(Duration::from_secs),
        error,
    }
}

fn is_hash(hash: &str) -> bool {
    is_hex(hash, 64) || is_hex(hash, 40)
}

/// The hub says which commit an answer is of; another one would mix two snapshots.
fn check_commit(headers: &HeaderMap, commit: &str, url: &str) -> Result<()> {
    match headers.get("x-repo-commit") {
        Some(got) if got.as_bytes() != commit.as_bytes() => Err(Error::Response {
            url: shown(url),
            what: format!("commit {got:?}, asked for {commit}"),
        }),
        _ => Ok(()),
    }
}

/// A URL without its query, which may hold a signature.
fn shown(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or(url).to_owned()
}

/// Scheme and authority (host, port, user) of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    /// `None` for what is no HTTP address, and for characters that two readers of it might take
    /// differently.
    fn of(url: &str) -> Option<Self> {
        if url.contains(|c: char| c == '\\' || c.is_control() || c.is_whitespace()) {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
        let known = matches!(scheme.as_str(), "http" | "https") && !authority.is_empty();
        known.then_some(Self { scheme, authority })
    }

    fn is_loopback(&self) -> bool {
        if self.authority.starts_with("[::1]") {
            return true;
        }
        let host = self.authority.split(':').next().unwrap_or_default();
        let address = host.parse::<std::net::Ipv4Addr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// The absolute URL of a `Location` header.
fn resolve(base: &str, location: &str) -> Option<String> {
    if let Some(origin) = Origin::of(location) {
        let rest = &location[location.find("://")? + 3..];
        return Some(format!("{}://{rest}", origin.scheme));
    }
    let origin = Origin::of(base)?;
    if let Some(rest) = location.strip_prefix("//") {
        let next = format!("{}://{rest}", origin.scheme);
        return Origin::of(&next).map(|_| next);
    }
    if location.starts_with('/') {
        return Some(format!(
            "{}://{}{location}",
            origin.scheme, origin.authority
        ));
    }
    // A scheme other than HTTP, or a path relative to the page; the hub sends no such path.
    None
}

fn read_certificates(file: &Path) -> Result<RootCerts> {
    let pem = std::fs::read(file).map_err(Error::io(file))?;
    let bad = |what: &str| Error::Setting {
        name: "SSL_CERT_FILE",
        what: format!("{}: {what}", file.display()),
    };
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        match item.map_err(|_| bad("not PEM"))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            _ => continue,
        }
    }
    if certificates.is_empty() {
        return Err(bad("no certificate in it"));
    }
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, location: &str, want: Option<&str>) {
        assert_eq!(resolve(base, location).as_deref(), want);
    }

    #[test]
    fn locations() {
        check("https://h/a/b?q", "/c", Some("https://h/c"));
        check("http://h:1/a", "//g/c", Some("http://g/c"));
        check("http://h", "https://g/c?x=y", Some("https://g/c?x=y"));
        check("http://h", "HTTPS://g/c", Some("https://g/c"));
        check("http://h", "file:///etc/passwd", None);
        check("http://h", "javascript:x", None);
        check("http://h", "", None);
        check("http://h", "//", None);
    }

    #[test]
    fn origins() {
        assert_eq!(Origin::of("https://H/a"), Origin::of("HTTPS://h?x"));
        for other in [
            "http://h/",
            "https://h:444/",
            "https://h@evil/",
            "https://h.evil/",
            "https://evil/h",
        ] {
            assert_ne!(Origin::of("https://h/"), Origin::of(other), "{other}");
        }
        for not in [
            "h/a",
            "ftp://h",
            "https://",
            "https:///a",
            "",
            "https://h\\@evil/",
            "https://h\n/",
        ] {
            assert_eq!(Origin::of(not), None, "{not}");
        }
    }

    #[test]
    fn loopback() {
        let is = |url: &str| Origin::of(url).is_some_and(|origin| origin.is_loopback());
        for url in [
            "http://127.0.0.1:8/",
            "http://localhost",
            "http://[::1]:80/",
            "http://127.9.9.9",
        ] {
            assert!(is(url), "{url}");
        }
        for url in [
            "http://127.0.0.1.evil.com/",
            "http://localhost.evil/",
            "http://10.0.0.1",
        ] {
            assert!(!is(url), "{url}");
        }
    }

    const PATIENCE: Patience = Patience {
        retries: 0,
        backoff: Duration::ZERO,
        timeout: Duration::from_secs(1),
    };

    #[test]
    fn endpoints() {
        for bad in [
            "",
            "huggingface.co",
            "ftp://x",
            "https://",
            "https://x?y",
            "https://u:p@x",
            "https://x\\y",
        ] {
            let got = Client::new(bad, None, None, PATIENCE).map(drop);
            assert!(
                matches!(
                    got,
                    Err(Error::Setting {
                        name: "HF_ENDPOINT",
                        ..
                    })
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_token_needs_https_or_loopback() {
        let sent = |endpoint: &str| {
            let token = Token::new("hf_x").unwrap();
            Client::new(endpoint, token, None, PATIENCE)
                .unwrap()
                .token
                .is_some()
        };
        assert!(sent("https://hub"));
        assert!(sent("http://127.0.0.1:1"));
        assert!(!sent("http://hub"));
    }

    #[test]
    fn certificates() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let make = || Client::new("https://hub", None, Some(&file), PATIENCE).map(drop);
        assert!(matches!(make(), Err(Error::Io { .. })));
        for text in [
            "",
            "hello",
            "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&file, text).unwrap();
            assert!(
                matches!(
                    make(),
                    Err(Error::Setting {
                        name: "SSL_CERT_FILE",
                        ..
                    })
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn queries_are_not_shown() {
        assert_eq!(shown("https://s/x?Signature=secret"), "https://s/x");
    }
}
