//! Limits of a client.

use std::time::Duration;

/// What servers may use up, and how their tools are named.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct McpConfig {
    /// For a server to start and to say what it offers. 30 s by default.
    pub start_timeout: Duration,
    /// For a call. 60 s by default; the limit of the run may be shorter.
    pub call_timeout: Duration,
    /// For each of the steps that end a server: its input closes, it is asked to end, it is killed. 2 s by default.
    pub stop_timeout: Duration,
    /// Most bytes of a result's text; what comes behind them is cut. 64 KiB by default.
    pub max_output_bytes: usize,
    /// Most bytes of an image, a sound or a file of a result; what is larger is left out, which is said. 8 MiB by
    /// default.
    pub max_media_bytes: usize,
    /// Most bytes of a message of a server; a longer one ends the connection. 16 MiB by default.
    pub max_message_bytes: usize,
    /// Most tools of a server. 256 by default.
    pub max_tools: usize,
    /// Most bytes of a tool's description, and of its schema; a longer description is cut, and a tool with a longer
    /// schema is left out. 32 KiB by default.
    pub max_description_bytes: usize,
    /// Whether names begin with that of the server, as `files__read_text_file`, so that they stay the same whatever
    /// other servers offer. True by default.
    pub prefix_names: bool,
    /// Whether servers that do not start are passed over, to be found in
    /// [`McpClient::failures`](super::McpClient::failures), instead of being an error. False by default.
    pub allow_failures: bool,
}

impl Default for McpConfig {
    fn default() -> Self {
        Self {
            start_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(2),
            max_output_bytes: 64 << 10,
            max_media_bytes: 8 << 20,
            max_message_bytes: 16 << 20,
            max_tools: 256,
            max_description_bytes: 32 << 10,
            prefix_names: true,
            allow_failures: false,
        }
    }
}

impl McpConfig {
    /// Sets the limit of a start.
    #[must_use]
    pub fn with_start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Sets the limit of a call.
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// Sets the limit of each step that ends a server.
    #[must_use]
    pub fn with_stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = timeout;
        self
    }

    /// Sets the most bytes of a result's text.
    #[must_use]
    pub fn with_max_output_bytes(mut self, bytes: usize) -> Self {
        self.max_output_bytes = bytes;
        self
    }

    /// Sets the most bytes of an image, a sound or a file.
    #[must_use]
    pub fn with_max_media_bytes(mut self, bytes: usize) -> Self {
        self.max_media_bytes = bytes;
        self
    }

    /// Sets the most bytes of a message.
    #[must_use]
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the most tools of a server.
    #[must_use]
    pub fn with_max_tools(mut self, tools: usize) -> Self {
        self.max_tools = tools;
        self
    }

    /// Sets the most bytes of a description, and of a schema.
    #[must_use]
    pub fn with_max_description_bytes(mut self, bytes: usize) -> Self {
        self.max_description_bytes = bytes;
        self
    }

    /// Sets whether names begin with that of the server.
    #[must_use]
    pub fn with_prefix_names(mut self, prefix: bool) -> Self {
        self.prefix_names = prefix;
        self
    }

    /// Sets whether servers that do not start are passed over.
    #[must_use]
    pub fn with_allow_failures(mut self, allow: bool) -> Self {
        self.allow_failures = allow;
        self
    }
}
