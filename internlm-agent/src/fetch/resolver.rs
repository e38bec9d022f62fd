//! What a name means, and which addresses may be connected to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use super::is_public;

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

/// Asks the system, and lets some servers through that are not public: those that the host program itself runs or
/// trusts, such as a search engine of its own. Everything else follows the rules.
#[derive(Clone, Debug, Default)]
pub struct InternalServers {
    permitted: Vec<SocketAddr>,
}

impl InternalServers {
    /// These addresses with their ports.
    pub fn new(permitted: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            permitted: permitted.into_iter().collect(),
        }
    }
}

impl Resolver for InternalServers {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        SystemResolver.resolve(host, port)
    }

    fn permits(&self, address: SocketAddr) -> bool {
        is_public(address.ip()) || self.permitted.contains(&address)
    }
}
