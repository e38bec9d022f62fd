//! The hosts that a fetcher is for.

use std::fmt;

use ureq::http::Uri;

/// Hosts that may be connected to.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    pub(super) fn new<T: Into<String>>(hosts: impl IntoIterator<Item = T>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.into().to_lowercase());
        Self(hosts.collect())
    }

    pub(super) fn allow(&self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default().to_lowercase();
        // A name with the root's dot is the same name.
        let host = host.strip_suffix('.').unwrap_or(&host);
        let usual = match url.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        let port = url.port_u16().unwrap_or(usual);
        self.0.iter().any(|rule| {
            let (name, rule_port) = split(rule);
            let fits = match name.strip_prefix("*.") {
                Some(above) => host
                    .strip_suffix(above)
                    .is_some_and(|below| below.len() > 1 && below.ends_with('.')),
                None => host == name,
            };
            fits && port == rule_port.unwrap_or(usual)
        })
    }
}

/// A rule's name and port. The colons of an IPv6 address are within brackets.
fn split(rule: &str) -> (&str, Option<u16>) {
    match rule.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => match port.parse() {
            Ok(port) => (name, Some(port)),
            Err(_) => (rule, None),
        },
        _ => (rule, None),
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&self.0.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &str, url: &str, want: bool) {
        let allowed = Hosts::new([rule]).allow(&url.parse().unwrap_or_default());
        assert_eq!(allowed, want, "{rule} {url}");
    }

    #[test]
    fn a_rule_is_a_host_at_its_usual_ports_or_one_port_or_all_below() {
        check("a.example", "https://a.example/x", true);
        check("a.example", "http://A.example./x", true);
        check("a.example", "http://a.example:80/x", true);
        check("a.example", "http://a.example:8080/x", false);
        check("a.example", "http://b.a.example/x", false);
        check("a.example", "http://a.example.evil.example/", false);
        check("a.example:8080", "http://a.example:8080/x", true);
        check("a.example:8080", "http://a.example/x", false);
        check("*.a.example", "http://b.a.example/x", true);
        check("*.a.example", "http://a.example/x", false);
        check("*.a.example", "http://nota.example/x", false);
        check("[::1]:8080", "http://[::1]:8080/", true);
        check("[::1]", "http://[::1]/", true);
    }
}
