//! Connects to addresses that were checked, whatever the name means by now.

use std::net::SocketAddr;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Most addresses that the client takes.
const MOST: usize = 16;

/// The answer to every question for an address.
#[derive(Debug)]
pub(super) struct Pinned(pub(super) Vec<SocketAddr>);

impl Resolver for Pinned {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        for address in self.0.iter().take(MOST) {
            addresses.push(*address);
        }
        Ok(addresses)
    }
}
