//! The authority `host:port` of `Host`, of absolute targets and of origins (RFC 3986, section 3.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A host, with a port where one was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Both, as they were written.
    pub text: &'a str,
    /// A name, an IPv4 address, or an IPv6 address in its brackets. Never empty.
    pub host: &'a str,
    /// The port; `None` when there is none, or nothing behind the colon.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Takes it apart. `None` for anything else, and with user information: HTTP has no place for that (RFC 9110,
    /// 4.2.4).
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        // An IPv6 host stands in brackets, so a colon behind the last bracket begins the port.
        let colon = text.rfind(':').filter(|&colon| !text[colon..].contains(']'));
        let (host, digits) = colon.map_or((text, ""), |colon| (&text[..colon], &text[colon + 1..]));
        let port = match digits {
            "" => None,
            // The parser of numbers would take a sign.
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        is_host(host).then_some(Self { text, host, port })
    }

    /// True when both name the same host and port, for a scheme with this port of its own: it may be left out.
    #[must_use]
    pub fn is_same(&self, other: &Self, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }

    /// True for names and addresses that lead to one's own machine wherever they are resolved: `localhost` and names
    /// below it (RFC 6761, section 6.3), 127.0.0.0/8 and `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = self.host.strip_suffix('.').unwrap_or(self.host).to_ascii_lowercase();
        let address = match bracketed(&name) {
            Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => name.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        };
        name == "localhost"
            || name.ends_with(".localhost")
            || address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

fn bracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// True for a host that is not empty (RFC 3986, section 3.2.2).
fn is_host(host: &str) -> bool {
    if let Some(address) = bracketed(host) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte))
        && host.split('%').skip(1).all(is_escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        for (text, host, port) in [
            ("chat.example", "chat.example", None),
            ("chat.example:8080", "chat.example", Some(8080)),
            ("chat.example:", "chat.example", None),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]:9", "[::1]", Some(9)),
            ("[::1]", "[::1]", None),
            ("a%20b", "a%20b", None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { text, host, port }), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:+1",
            "a:65536",
            "::1",
            "[::1",
            "[a]",
            "a:1:2",
            "a%2",
            "a%zz",
            "a\"",
            "a\\b",
            "m\u{fc}nchen.de",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_schemes_own_port_equals_none() {
        let is_same = |one, other, port| {
            let parse = |text| Authority::parse(text).expect("an authority");
            parse(one).is_same(&parse(other), port)
        };
        assert!(is_same("a.example", "A.example:443", 443));
        assert!(is_same("a.example:80", "a.example", 80));
        assert!(!is_same("a.example:80", "a.example", 443));
        assert!(!is_same("a.example", "b.example", 80));
    }

    #[test]
    fn loopback_is_told_by_name_and_by_address() {
        let is_loopback = |text| Authority::parse(text).expect("an authority").is_loopback();
        for text in ["localhost", "LocalHost:8080", "chat.localhost.", "127.0.0.1", "127.9.9.9:1", "[::1]:80"]
        {
            assert!(is_loopback(text), "{text}");
        }
        assert!(is_loopback("[::ffff:127.0.0.1]"));
        for text in
            ["chat.example", "localhost.example", "notlocalhost", "128.0.0.1", "[::2]", "127.0.0.1.example"]
        {
            assert!(!is_loopback(text), "{text}");
        }
    }
}
