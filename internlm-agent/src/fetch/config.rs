//! Limits of a fetch.

use std::time::Duration;

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
