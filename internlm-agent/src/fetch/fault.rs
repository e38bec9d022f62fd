//! Why there is no page.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::tool::ToolError;

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
    /// The host is not among those that this fetcher is for. Nothing was connected to.
    #[error("`{url}`: the host is not among those that are allowed: {allowed}")]
    Host {
        /// The address of the page.
        url: String,
        /// What is allowed, with commas between.
        allowed: String,
    },
    /// A header that cannot be sent.
    #[error("the header `{name}` cannot be sent: {what}")]
    Header {
        /// Its name.
        name: String,
        /// Why not.
        what: &'static str,
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

impl From<FetchFault> for ToolError {
    fn from(fault: FetchFault) -> Self {
        match &fault {
            FetchFault::NotPublic { .. } | FetchFault::Host { .. } => Self::Denied {
                why: fault.to_string(),
            },
            FetchFault::Timeout { .. } | FetchFault::Redirects { .. } => Self::Limit {
                what: fault.to_string(),
            },
            _ => Self::failed(fault),
        }
    }
}
