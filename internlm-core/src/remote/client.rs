//! Requests over HTTP: headers, limits, retries, and what a failure is called.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use ureq::{Agent, Body};

use super::address::{addresses, headers};
use super::config::RemoteConfig;
use super::retry::{self, Failure};
use crate::error::{Error, Result, TimeLimit};

/// Most bytes of an error's body that are read.
const ERROR_BYTES: u64 = 64 << 10;
/// Most characters of a server's text in an error.
const MESSAGE_CHARS: usize = 2_000;

/// One server.
pub(super) struct Client {
    agent: Agent,
    pub(super) config: RemoteConfig,
    /// Where OpenAI's routes are: `http://host/v1`.
    api: String,
    /// Where the server's own routes are: `http://host`.
    root: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Client {
    /// Checks the address and the headers; asks nothing yet.
    pub(super) fn new(config: RemoteConfig) -> Result<Self> {
        let (api, root, loopback) = addresses(&config.base_url)?;
        let headers = headers(&config)?;
        let mut agent = Agent::config_builder()
            .http_status_as_error(false)
            // The key must not go elsewhere, and a POST has no business being redirected.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(config.connect_timeout))
            .timeout_connect(Some(config.connect_timeout))
            .timeout_recv_response(Some(config.read_timeout))
            .timeout_per_read(Some(config.read_timeout))
            .timeout_per_write(Some(config.read_timeout))
            .user_agent(concat!("internlm-core/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity");
        if loopback {
            agent = agent.proxy(None);
        }
        Ok(Self {
            agent: agent.build().new_agent(),
            config,
            api,
            root,
            headers,
        })
    }

    /// The address of one of OpenAI's routes, such as `/completions`.
    pub(super) fn api(&self, route: &str) -> String {
        format!("{}{route}", self.api)
    }

    /// The address of one of the server's own routes, such as `/tokenize`.
    pub(super) fn root(&self, route: &str) -> String {
        format!("{}{route}", self.root)
    }

    /// The JSON that a GET gives.
    pub(super) fn get(&self, url: &str) -> Result<Value> {
        self.retrying(url, |left| self.json(url, None, left))
    }

    /// The JSON that a POST gives.
    pub(super) fn post(&self, url: &str, body: &Value) -> Result<Value> {
        self.retrying(url, |left| self.json(url, Some(body), left))
    }

    /// Begins a streamed answer. Retries end with the head of an answer.
    pub(super) fn open(&self, url: &str, body: &Value) -> Result<Body> {
        let response = self.retrying(url, |left| {
            self.send(url, Some(body), "text/event-stream", left)
        })?;
        let (head, body) = response.into_parts();
        let kind = head.headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok());
        match kind {
            Some(kind) if !kind.trim_start().starts_with("text/event-stream") => {
                let what = format!("expected a stream of events, got `{kind}`");
                Err(self.protocol(url, &what))
            }
            _ => Ok(body),
        }
    }

    /// An answer that is not what it should be. What a server sent may be part of `what`.
    pub(super) fn protocol(&self, url: &str, what: &str) -> Error {
        Error::Protocol {
            url: url.to_owned(),
            what: self.shown(what),
        }
    }

    /// A server's own error.
    pub(super) fn refused(&self, url: &str, status: u16, message: &str) -> Error {
        Error::Http {
            url: url.to_owned(),
            status,
            message: self.shown(message),
        }
    }

    /// A model that the server does not have. What a server sent may be part of `what`.
    pub(super) fn refused_model(&self, what: &str) -> Error {
        Error::Request {
            field: "model",
            what: self.shown(what),
        }
    }

    /// Classifies a failure of the connection.
    pub(super) fn transport(&self, url: &str, error: ureq::Error, reading: bool) -> Failure {
        use std::io::ErrorKind::{InvalidData, InvalidInput};
        let url = url.to_owned();
        let limit = match &error {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                Some(TimeLimit::Connect)
            }
            ureq::Error::Timeout(ureq::Timeout::Global) => Some(TimeLimit::Deadline),
            ureq::Error::Timeout(_) => Some(TimeLimit::Read),
            _ => None,
        };
        if let Some(limit) = limit {
            return Failure {
                error: Error::Timeout { url, limit },
                // A server that is slow to answer is at work on the request: a second one would
                // double its load.
                retry: limit == TimeLimit::Connect,
                after: None,
            };
        }
        let retry = match &error {
            // Rustls reports a bad certificate as invalid data.
            ureq::Error::Io(e) => !matches!(e.kind(), InvalidData | InvalidInput),
            ureq::Error::ConnectionFailed => true,
            _ => false,
        };
        let error = match error {
            ureq::Error::BodyExceedsLimit(limit) if reading => {
                Error::ResponseTooLarge { url, limit }
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                self.protocol(&url, &error.to_string())
            }
            error => Error::Connection {
                url,
                source: Arc::new(error.into_io()),
            },
        };
        Failure {
            error,
            retry,
            after: None,
        }
    }

    /// One exchange, its answer read to the end.
    fn json(
        &self,
        url: &str,
        body: Option<&Value>,
        left: Option<Duration>,
    ) -> Result<Value, Failure> {
        let mut response = self.send(url, body, "application/json", left)?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(self.config.max_response_bytes)
            .read_to_vec()
            .map_err(|e| self.transport(url, e, true))?;
        Ok(serde_json::from_slice(&bytes)
            .map_err(|e| self.protocol(url, &format!("the answer is not JSON: {e}")))?)
    }

    /// One exchange, up to the head of a successful answer.
    fn send(
        &self,
        url: &str,
        body: Option<&Value>,
        accept: &str,
        left: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let result = match body {
            None => {
                let mut request = self.agent.get(url).header(header::ACCEPT, accept);
                for (name, value) in &self.headers {
                    request = request.header(name, value);
                }
                request.config().timeout_global(left).build().call()
            }
            Some(body) => {
                let mut request = self
                    .agent
                    .post(url)
                    .header(header::ACCEPT, accept)
                    .header(header::CONTENT_TYPE, "application/json");
                for (name, value) in &self.headers {
                    request = request.header(name, value);
                }
                let body = body.to_string();
                request.config().timeout_global(left).build().send(&body)
            }
        };
        let response = result.map_err(|e| self.transport(url, e, false))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.failed(url, response))
    }

    /// The meaning of an error status.
    fn failed(&self, url: &str, mut response: Response<Body>) -> Failure {
        let status = response.status();
        let after = response.headers().get(header::RETRY_AFTER);
        let after = after
            .and_then(|text| text.to_str().ok())
            .and_then(|text| retry::retry_after(text, SystemTime::now()));
        let body = response
            .body_mut()
            .with_config()
            .limit(ERROR_BYTES)
            .lossy_utf8(true)
            .read_to_string();
        let message = match body {
            _ if status.is_redirection() => "a redirect, which is not followed".to_owned(),
            Ok(body) => error_text(&body, status),
            Err(_) => reason(status),
        };
        Failure {
            error: self.refused(url, status.as_u16(), &message),
            retry: retry::is_transient(status.as_u16()),
            after,
        }
    }

    /// Repeats an attempt while it may go better and there is time.
    fn retrying<T>(
        &self,
        url: &str,
        mut attempt: impl FnMut(Option<Duration>) -> Result<T, Failure>,
    ) -> Result<T> {
        let begin = Instant::now();
        let left = || {
            self.config
                .deadline
                .map(|d| d.saturating_sub(begin.elapsed()))
        };
        let mut failures = 0;
        loop {
            let left_now = left();
            if left_now == Some(Duration::ZERO) {
                return Err(Error::Timeout {
                    url: url.to_owned(),
                    limit: TimeLimit::Deadline,
                });
            }
            let failure = match attempt(left_now) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            failures += 1;
            let wait = retry::wait(&self.config, failures, &failure, retry::random());
            match wait {
                // A wait past the deadline would only hide why there was one.
                Some(wait) if left().is_none_or(|left| wait < left) => std::thread::sleep(wait),
                _ => return Err(failure.error),
            }
        }
    }

    /// A text from outside, as errors show it: without secrets and control characters, and short.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let values = self.config.headers.iter().map(|(_, value)| value);
        // What is shorter is no secret, and to take each `1` out of a message would spoil it.
        let values = values.filter(|value| value.reveal().len() >= 4);
        for secret in self.config.api_key.iter().chain(values) {
            text = text.replace(secret.reveal(), "***");
        }
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(MESSAGE_CHARS).collect()
    }
}

/// The text of an error's body: OpenAI's `error.message`, LMDeploy's `message`, FastAPI's `detail`,
/// or the body itself.
fn error_text(body: &str, status: StatusCode) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let text = message(&json).or_else(|| json.get("detail").map(spelled));
    match text {
        Some(text) => text,
        None if body.trim().is_empty() => reason(status),
        None => body.trim().to_owned(),
    }
}

/// The message of a JSON object that is an error, `{"error": …}` or `{"object": "error", …}`.
pub(super) fn message(json: &Value) -> Option<String> {
    let error = match json.get("error") {
        Some(error) if !error.is_null() => error,
        _ if json.get("object").is_some_and(|object| object == "error") => json,
        _ => return None,
    };
    Some(error.get("message").map_or_else(|| spelled(error), spelled))
}

fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn reason(status: StatusCode) -> String {
    status
        .canonical_reason()
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_errors() {
        let text = |body: &str| error_text(body, StatusCode::NOT_FOUND);
        assert_eq!(text(r#"{"error": {"message": "a", "code": 1}}"#), "a");
        assert_eq!(text(r#"{"error": "b"}"#), "b");
        assert_eq!(text(r#"{"object": "error", "message": "c"}"#), "c");
        assert_eq!(text(r#"{"detail": "d"}"#), "d");
        assert_eq!(text(r#"{"detail": [{"loc": 1}]}"#), r#"[{"loc":1}]"#);
        assert_eq!(text(" <h1>e</h1>\n"), "<h1>e</h1>");
        assert_eq!(text(""), "Not Found");
        assert_eq!(
            message(&serde_json::json!({"error": null, "choices": []})),
            None
        );
    }

    #[test]
    fn what_a_server_says_is_cut_and_cleaned() {
        let config = RemoteConfig::new("http://h", "m")
            .with_api_key("sk-hush")
            .with_header("x", "whisper");
        let client = Client::new(config).unwrap();
        let said = format!("\u{1b}[2J sk-hush whisper {}", "x".repeat(3000));
        let Error::Http { message, .. } = client.refused("u", 400, &said) else {
            panic!()
        };
        assert!(message.starts_with(" [2J *** *** xxx"));
        assert_eq!(message.chars().count(), MESSAGE_CHARS);
    }
}
