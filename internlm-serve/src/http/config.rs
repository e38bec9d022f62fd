//! How a server is set up.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use internlm_core::SamplingParams;
use subtle::ConstantTimeEq;

use crate::error::{Error, Result};

/// A secret that clients name. `Debug` does not show it.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key; white space around it is no part of it.
    pub fn new(key: impl Into<String>) -> Self {
        ApiKey(key.into().trim().to_owned())
    }

    /// Whether it is this text. Takes as long for a text that differs in the first character as for one that
    /// differs in the last.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The configuration of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Keys that clients may name; without any, everybody may ask who reaches the server.
    pub api_keys: Vec<ApiKey>,
    /// Whether a server without keys may listen where other machines reach it.
    pub allow_public_without_key: bool,
    /// Names that requests may call this server, without ports; `*` stands for every name. A server that
    /// listens on other than loopback addresses may also be called by any IP address.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://example.org`) of other pages that may ask. They get CORS headers; without any there is
    /// no CORS.
    pub allowed_origins: Vec<String>,
    /// The name of the model; the checkpoint's own without.
    pub model_name: Option<String>,
    /// Sampling of requests that don't say; what the checkpoint recommends without.
    pub default_sampling: Option<SamplingParams>,
    /// Longest body of a request in bytes.
    pub max_body_bytes: usize,
    /// Most header fields of a request.
    pub max_headers: usize,
    /// Longest head of a request in bytes, at least 8192.
    pub max_header_bytes: usize,
    /// Time for the head of a request; a connection on which none comes is closed after it as well.
    pub header_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Most connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Most answers (`n` times prompts) of one request.
    pub max_answers: usize,
    /// Time from a request's arrival to the end of its answer; the engine's own deadline without.
    pub request_deadline: Option<Duration>,
    /// Time that running requests get when the server is to end.
    pub shutdown_grace: Duration,
    /// Whether `/` is a page to chat with.
    pub chat_page: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_keys: Vec::new(),
            allow_public_without_key: false,
            allowed_hosts: ["localhost", "127.0.0.1", "[::1]"]
                .map(str::to_owned)
                .into(),
            allowed_origins: Vec::new(),
            model_name: None,
            default_sampling: None,
            max_body_bytes: 4 << 20,
            max_headers: 100,
            max_header_bytes: 32 << 10,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            max_connections: 1024,
            max_answers: 32,
            request_deadline: None,
            shutdown_grace: Duration::from_secs(20),
            chat_page: true,
        }
    }
}

macro_rules! with {
    ($($(#[$doc:meta])* $name:ident: $field:ident, $type:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $field: $type) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

impl ServerConfig {
    /// Adds a key.
    #[must_use]
    pub fn with_api_key(mut self, key: impl Into<String>) -> Self {
        self.api_keys.push(ApiKey::new(key));
        self
    }

    /// Adds a name that requests may call this server.
    #[must_use]
    pub fn with_allowed_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.push(host.into());
        self
    }

    /// Adds an origin whose pages may ask.
    #[must_use]
    pub fn with_allowed_origin(mut self, origin: impl Into<String>) -> Self {
        self.allowed_origins.push(origin.into());
        self
    }

    /// Sets the name of the model.
    #[must_use]
    pub fn with_model_name(mut self, name: impl Into<String>) -> Self {
        self.model_name = Some(name.into());
        self
    }

    with! {
        /// Sets whether a server without keys may listen where other machines reach it.
        with_allow_public_without_key: allow_public_without_key, bool;
        /// Sets the sampling of requests that don't say.
        with_default_sampling: default_sampling, Option<SamplingParams>;
        /// Sets the longest body.
        with_max_body_bytes: max_body_bytes, usize;
        /// Sets the most header fields.
        with_max_headers: max_headers, usize;
        /// Sets the longest head of a request.
        with_max_header_bytes: max_header_bytes, usize;
        /// Sets the time for the head of a request.
        with_header_timeout: header_timeout, Duration;
        /// Sets the time for the body of a request.
        with_body_timeout: body_timeout, Duration;
        /// Sets the most connections.
        with_max_connections: max_connections, usize;
        /// Sets the most answers of one request.
        with_max_answers: max_answers, usize;
        /// Sets the time to the end of an answer.
        with_request_deadline: request_deadline, Option<Duration>;
        /// Sets the time that running requests get in the end.
        with_shutdown_grace: shutdown_grace, Duration;
        /// Sets whether `/` is a page to chat with.
        with_chat_page: chat_page, bool;
    }

    /// Checks every value on its own.
    ///
    /// # Errors
    /// [`Error::Config`] that names the first field out of its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, what: &str| {
            Err(Error::Config {
                field,
                what: what.to_owned(),
            })
        };
        for (field, value, least) in [
            ("max_body_bytes", self.max_body_bytes, 1),
            ("max_headers", self.max_headers, 1),
            ("max_header_bytes", self.max_header_bytes, 8192),
            ("max_connections", self.max_connections, 1),
            ("max_answers", self.max_answers, 1),
        ] {
            if value < least {
                return refuse(field, &format!("is {value}, expected at least {least}"));
            }
        }
        if self.api_keys.iter().any(|key| key.0.is_empty()) {
            return refuse("api_keys", "has an empty key");
        }
        match &self.default_sampling {
            Some(sampling) => Ok(sampling.validate()?),
            None => Ok(()),
        }
    }

    /// Whether a server may listen at an address.
    ///
    /// # Errors
    /// [`Error::PublicWithoutKey`].
    pub fn check_address(&self, address: SocketAddr) -> Result<()> {
        let guarded = !self.api_keys.is_empty() || self.allow_public_without_key;
        match guarded || address.ip().to_canonical().is_loopback() {
            true => Ok(()),
            false => Err(Error::PublicWithoutKey { address }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open_to_all() {
        let open = ServerConfig::default();
        for address in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(open.check_address(address.parse().unwrap()).is_ok());
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let address = address.parse().unwrap();
            let refused = open.check_address(address);
            assert!(
                matches!(refused, Err(Error::PublicWithoutKey { address: named }) if named == address)
            );
            let allowed = open.clone().with_allow_public_without_key(true);
            assert!(allowed.check_address(address).is_ok());
            assert!(
                open.clone()
                    .with_api_key("k")
                    .check_address(address)
                    .is_ok()
            );
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let config = ServerConfig::default().with_api_key("sesame");
        assert!(!format!("{config:?}").contains("sesame"));
        assert!(config.api_keys[0].is("sesame"));
        for wrong in ["", "sesam", "sesame ", "Sesame"] {
            assert!(!config.api_keys[0].is(wrong));
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let field = |config: ServerConfig| match config.validate() {
            Err(Error::Config { field, .. }) => field,
            _ => "",
        };
        assert_eq!(field(ServerConfig::default()), "");
        assert_eq!(field(ServerConfig::default().with_api_key(" ")), "api_keys");
        assert_eq!(
            field(ServerConfig::default().with_max_header_bytes(100)),
            "max_header_bytes"
        );
    }
}
