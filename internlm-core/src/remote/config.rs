//! Where the server is and how patiently it is asked.

use std::fmt;
use std::time::Duration;

/// Which extensions of OpenAI's interface a server speaks.
///
/// [`RemoteModel::connect`](super::RemoteModel::connect) reads it from `owned_by` in the server's
/// list of models; behind a proxy that hides this, set it with [`RemoteConfig::with_dialect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI's fields, and the others under vLLM's names only where a request needs them. Such a
    /// server names tokens by their text, so that `logprobs` are refused.
    #[default]
    OpenAi,
    /// vLLM, and servers that follow it, this workspace's among them.
    Vllm,
    /// LMDeploy's `api_server`. It reads several fields without keeping to them; requests that need
    /// these are refused.
    LmDeploy,
    /// llama.cpp's `llama-server`. Its frequency and presence penalties count the prompt too, and it
    /// leaves out log-probabilities of tokens that have no text of their own.
    LlamaCpp,
}

impl Dialect {
    /// What the server is called, as in OpenTelemetry's `gen_ai.provider.name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Vllm => "vllm",
            Dialect::LmDeploy => "lmdeploy",
            Dialect::LlamaCpp => "llama_cpp",
        }
    }

    pub(super) fn of_owner(owned_by: &str) -> Self {
        match owned_by {
            "vllm" | "internlm-serve" => Dialect::Vllm,
            "lmdeploy" => Dialect::LmDeploy,
            "llamacpp" => Dialect::LlamaCpp,
            _ => Dialect::OpenAi,
        }
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Settings of a [`RemoteModel`](super::RemoteModel).
///
/// `Debug` shows neither the key nor the values of extra headers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RemoteConfig {
    /// The server's address, `http://host:port` or `https://host/v1`. Where it has no path, `/v1` is
    /// appended.
    pub base_url: String,
    /// The model's name; empty takes the one model that the server has
    /// ([`RemoteModel::connect`](super::RemoteModel::connect) only).
    pub model: String,
    /// The extensions that the server speaks; `None` asks the server when connecting.
    pub dialect: Option<Dialect>,
    /// Longest wait for a connection, name and TLS included (10 s).
    pub connect_timeout: Duration,
    /// Longest wait for the head of an answer, and for each further piece (600 s: a long prompt can
    /// keep a server busy that long before its first token).
    pub read_timeout: Duration,
    /// Longest time for a request with all its retries, from the call to the last event of a
    /// stream; without one it may take as long as pieces keep coming (none).
    pub deadline: Option<Duration>,
    /// How often a request is repeated after status 408, 429 and 5xx (but 501), and after a
    /// connection that failed (2). An answer that has begun is never asked for again.
    pub retries: u32,
    /// The wait before the first repetition; doubles with each further one, and a random part of
    /// up to a half is taken off (500 ms).
    pub backoff: Duration,
    /// Longest wait between two attempts. A server that asks for a longer one by `Retry-After` is
    /// not asked again (60 s).
    pub max_wait: Duration,
    /// Most bytes of one answer, streamed or whole (64 MiB).
    pub max_response_bytes: u64,
    /// Prompts that are scored by one request (8).
    pub score_batch: usize,
    /// Most tokens of prompt and answer together, in place of what the server says.
    pub context_length: Option<usize>,
    /// The token that stands for "no context" (BOS, else EOS), in place of what the server's
    /// tokenizer puts before an empty text.
    pub prefix_token: Option<u32>,
    pub(super) api_key: Option<Secret>,
    pub(super) headers: Vec<(String, Secret)>,
}

impl RemoteConfig {
    /// A server and the name of a model on it.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            dialect: None,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(600),
            deadline: None,
            retries: 2,
            backoff: Duration::from_millis(500),
            max_wait: Duration::from_secs(60),
            max_response_bytes: 64 << 20,
            score_batch: 8,
            context_length: None,
            prefix_token: None,
            api_key: None,
            headers: Vec::new(),
        }
    }

    /// Sets the key, sent as `Authorization: Bearer …` to this server only: redirects are not
    /// followed. An empty key is none.
    #[must_use]
    pub fn with_api_key(mut self, api_key: impl Into<String>) -> Self {
        let api_key = api_key.into();
        self.api_key = (!api_key.is_empty()).then_some(Secret(api_key));
        self
    }

    /// Adds a header to every request. Its value is treated as a secret.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Secret(value.into())));
        self
    }

    /// Sets the extensions that the server speaks.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }

    /// Sets the longest wait for a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the longest wait for the head of an answer and for each further piece.
    #[must_use]
    pub fn with_read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets the longest time for a request as a whole.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets how often a request is repeated.
    #[must_use]
    pub fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the wait before the first repetition.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest wait between two attempts.
    #[must_use]
    pub fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }

    /// Sets the most bytes of one answer.
    #[must_use]
    pub fn with_max_response_bytes(mut self, bytes: u64) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Sets how many prompts are scored by one request; 0 counts as 1.
    #[must_use]
    pub fn with_score_batch(mut self, prompts: usize) -> Self {
        self.score_batch = prompts.max(1);
        self
    }

    /// Sets the most tokens of prompt and answer together.
    #[must_use]
    pub fn with_context_length(mut self, tokens: usize) -> Self {
        self.context_length = Some(tokens);
        self
    }

    /// Sets the token that stands for "no context".
    #[must_use]
    pub fn with_prefix_token(mut self, id: u32) -> Self {
        self.prefix_token = Some(id);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let config = RemoteConfig::new("http://h", "m")
            .with_api_key("sk-hush")
            .with_header("x-team", "whisper");
        let shown = format!("{config:?} {config:#?}");
        assert!(!shown.contains("hush") && !shown.contains("whisper"));
        assert!(shown.contains("x-team"));
        assert!(config.with_api_key("").api_key.is_none());
    }

    #[test]
    fn owners() {
        assert_eq!(Dialect::of_owner("vllm"), Dialect::Vllm);
        assert_eq!(Dialect::of_owner("lmdeploy"), Dialect::LmDeploy);
        assert_eq!(Dialect::of_owner("llamacpp"), Dialect::LlamaCpp);
        assert_eq!(Dialect::of_owner("organization-owner"), Dialect::OpenAi);
    }
}
