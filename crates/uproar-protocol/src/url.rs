//! `ws://` and `wss://` URLs (RFC 6455, section 3), taken apart.

use std::fmt;

/// Where a WebSocket server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// True for `wss://`.
    pub is_secure: bool,
    /// What goes into the `Host` field: host and port as they were written.
    pub authority: String,
    /// The host, which a certificate is to name; an IPv6 address without its brackets.
    pub host: String,
    /// The port, 80 or 443 when none was written.
    pub port: u16,
    /// Path and query, `/` when none was written.
    pub target: String,
}

/// Why a text is no URL of a WebSocket server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins with something else than `ws://` or `wss://`.
    #[error("only ws:// and wss:// are spoken")]
    Scheme,
    /// There is something in it that must not be there.
    #[error("neither user information nor fragments nor spaces belong in it")]
    Forbidden,
    /// There is no host between the slashes.
    #[error("it names no host")]
    NoHost,
    /// What follows the colon is no port.
    #[error("a port is a number from 1 to 65535")]
    Port,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    ///
    /// A [`UrlError`].
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        // Schemes are compared without regard to case (RFC 3986, 3.1).
        let scheme = |scheme: &str| {
            let (start, rest) = url.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some(rest)
        };
        let (is_secure, rest) = match (scheme("ws://"), scheme("wss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(UrlError::Scheme),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // Only visible ASCII has a place in a request line and in a Host field.
        if rest.contains(['#', '\\'])
            || authority.contains('@')
            || !rest.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(UrlError::Forbidden);
        }
        // An IPv6 host stands in brackets, so a colon behind the last bracket begins the port.
        let port_colon = authority.rfind(':').filter(|&colon| !authority[colon..].contains(']'));
        let (host, port) = match port_colon {
            Some(colon) => {
                let port = authority[colon + 1..].parse().ok().filter(|&port| port != 0);
                (&authority[..colon], port.ok_or(UrlError::Port)?)
            }
            None => (authority, if is_secure { 443 } else { 80 }),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_secure, authority: authority.to_owned(), host: host.to_owned(), port, target })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        write!(formatter, "{scheme}://{}{}", self.authority, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (url, is_secure, host, port, target) in [
            ("ws://127.0.0.1:8080/broadcast/a?b=c", false, "127.0.0.1", 8080, "/broadcast/a?b=c"),
            ("ws://[::1]:9/", false, "::1", 9, "/"),
            ("ws://[::1]", false, "::1", 80, "/"),
            ("wss://chat.example/a", true, "chat.example", 443, "/a"),
            ("WSS://chat.example?a", true, "chat.example", 443, "/?a"),
        ] {
            let parsed = Url::parse(url).expect(url);
            let Url { is_secure: secure, host: named, port: at, target: path, .. } = &parsed;
            assert_eq!((*secure, &**named, *at, &**path), (is_secure, host, port, target), "{url}");
        }
        assert_eq!(Url::parse("wss://[::1]:9").expect("parses").to_string(), "wss://[::1]:9/");
    }

    #[test]
    fn what_is_no_websocket_url_is_refused() {
        for (url, error) in [
            ("http://a", UrlError::Scheme),
            ("https://a", UrlError::Scheme),
            ("127.0.0.1:8080", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("ws://", UrlError::NoHost),
            ("wss:///a", UrlError::NoHost),
            ("ws://:80", UrlError::NoHost),
            ("ws://[]", UrlError::NoHost),
            ("ws://me@a", UrlError::Forbidden),
            ("ws://a/#b", UrlError::Forbidden),
            ("ws://a/b c", UrlError::Forbidden),
            ("ws://a/\r\nX: y", UrlError::Forbidden),
            ("ws://ä", UrlError::Forbidden),
            ("ws://a:", UrlError::Port),
            ("ws://a:0", UrlError::Port),
            ("ws://a:65536", UrlError::Port),
            ("ws://a:b", UrlError::Port),
        ] {
            assert_eq!(Url::parse(url), Err(error), "{url:?}");
        }
    }
}
