//! Where the server is: a `ws://` or `wss://` URL taken apart.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::error::Error;

/// A parsed `ws://host[:port][/path]`, or `wss://` for the same over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// True for `wss://`.
    pub is_secure: bool,
    /// What goes into the `Host` header: host and port as they were written.
    pub authority: String,
    /// The host, which a certificate is to name.
    pub host: String,
    /// Host and port, for the resolver.
    host_port: String,
    /// The path and query, when the URL names one beyond `/`.
    pub path: Option<String>,
}

impl Target {
    /// Parses a URL.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for another scheme, user information, a fragment, or no host.
    pub fn parse(url: &str) -> Result<Self, Error> {
        let usage = |why: &str| Error::Usage(format!("--url {url}: {why}"));
        let (is_secure, rest) = match (url.strip_prefix("ws://"), url.strip_prefix("wss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(usage("only ws:// and wss:// are spoken")),
        };
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        if authority.contains('@') || path.contains(['#', ' ', '\r', '\n']) {
            return Err(usage("neither user information nor fragments nor spaces belong in it"));
        }
        // An IPv6 host stands in brackets, so a colon behind the last bracket begins the port.
        let port_colon = authority.rfind(':').filter(|&colon| authority[colon..].find(']').is_none());
        let host = &authority[..port_colon.unwrap_or(authority.len())];
        let host_port = match (port_colon, is_secure) {
            (Some(_), _) => authority.to_owned(),
            (None, false) => format!("{authority}:80"),
            (None, true) => format!("{authority}:443"),
        };
        if authority.is_empty() || port_colon == Some(0) {
            return Err(usage("it names no host"));
        }
        let path = match path {
            "" | "/" => None,
            query if query.starts_with('?') => Some(format!("/{query}")),
            path => Some(path.to_owned()),
        };
        Ok(Self {
            is_secure,
            authority: authority.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            host_port,
            path,
        })
    }

    /// The URL of a path, to show.
    #[must_use]
    pub fn url_of(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_secure { "wss" } else { "ws" }, self.authority)
    }

    /// Resolves the host.
    ///
    /// # Errors
    ///
    /// [`Error::Preflight`] when it has no address.
    pub fn resolve(&self) -> Result<SocketAddr, Error> {
        let failed = |why: String| Error::Preflight(format!("{} has no address: {why}", self.host_port));
        let mut addresses = self.host_port.to_socket_addrs().map_err(|error| failed(error.to_string()))?;
        addresses.next().ok_or_else(|| failed("the resolver found none".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::parse("ws://127.0.0.1:8080/broadcast/a?b=c").expect("parses");
        assert_eq!(target.authority, "127.0.0.1:8080");
        assert_eq!(target.path.as_deref(), Some("/broadcast/a?b=c"));
        assert_eq!(target.resolve().expect("resolves"), ([127, 0, 0, 1], 8080).into());
        assert_eq!(Target::parse("ws://[::1]:9/").expect("parses").path, None);
        assert_eq!(Target::parse("ws://[::1]").expect("parses").host_port, "[::1]:80");
    }

    #[test]
    fn a_url_may_ask_for_tls() {
        let target = Target::parse("wss://chat.example/a").expect("parses");
        assert!(target.is_secure && !Target::parse("ws://a").expect("parses").is_secure);
        assert_eq!((&*target.host, &*target.host_port), ("chat.example", "chat.example:443"));
        assert_eq!(target.url_of("/b"), "wss://chat.example/b");
        assert_eq!(Target::parse("wss://[::1]:9").expect("parses").host, "::1");
    }

    #[test]
    fn what_is_no_websocket_url_is_refused() {
        for url in [
            "http://a",
            "https://a",
            "ws://",
            "wss://",
            "ws://:80",
            "ws://me@a",
            "ws://a/#b",
            "127.0.0.1:8080",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
