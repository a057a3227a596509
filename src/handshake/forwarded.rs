//! The client's address in the fields of a request that comes through proxies: `X-Forwarded-For`, or else `Forwarded`
//! (RFC 7239).
//!
//! Each proxy appends the address that it has been called from, so only the end of the list can be trusted. Lists are
//! read from the end, and no further than to the first address that is not a trusted proxy's: whatever stands ahead of
//! it may have been written by the client, an open quote included.

use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr};

use uproar_protocol::head::Head;

use super::proxies::ProxyPolicy;
use crate::address::ClientAddress;

/// The address that a request comes from, when `peer` has sent it.
pub(super) fn client_address(head: &Head<'_>, peer: ClientAddress, proxies: &ProxyPolicy) -> ClientAddress {
    let mut client = peer;
    if !proxies.trusts(peer.ip()) {
        return client;
    }
    let mut lines: Vec<_> = head.values("x-forwarded-for").collect();
    let is_standard = lines.is_empty();
    if is_standard {
        lines.extend(head.values("forwarded"));
    }
    for entry in lines.into_iter().rev().flat_map(|line| from_last(line, b',')) {
        let address = if is_standard { forwarded_element(entry) } else { node(entry) };
        let Some(address) = address else { break };
        client = address;
        if !proxies.trusts(client.ip()) {
            break;
        }
    }
    client
}

/// The parts of a text between separators that are not quoted, the last one first. Empty ones are left out (RFC 9110,
/// 5.6.1.2).
fn from_last(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    let parts = iter::from_fn(move || {
        let text = rest?;
        let mut is_quoted = false;
        let at = text.iter().rposition(|byte| {
            is_quoted ^= *byte == b'"';
            *byte == separator && !is_quoted
        });
        let (before, last) = at.map_or((None, text), |at| (Some(&text[..at]), &text[at + 1..]));
        rest = before;
        Some(last.trim_ascii())
    });
    parts.filter(|part| !part.is_empty())
}

/// The address in an element of `Forwarded`: the value of its one `for` (RFC 7239, section 4).
fn forwarded_element(element: &[u8]) -> Option<ClientAddress> {
    let mut values = from_last(element, b';').filter_map(|pair| {
        let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        name.trim_ascii().eq_ignore_ascii_case(b"for").then(|| value[1..].trim_ascii())
    });
    let value = values.next()?;
    node(value).filter(|_| values.next().is_none())
}

/// A node: an address, in brackets if it is of IPv6, and perhaps a port, which may be hidden (RFC 7239, section 6). It
/// may be quoted. IPv6 without brackets is accepted, too, for `X-Forwarded-For` has no grammar.
fn node(text: &[u8]) -> Option<ClientAddress> {
    let text = str::from_utf8(text).ok()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if let Ok(ip) = text.parse() {
        return Some(ClientAddress::new(ip, None));
    }
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            (ip.parse::<Ipv6Addr>().ok()?.into(), port)
        }
        None => {
            let (ip, port) = text.split_at(text.find(':')?);
            (ip.parse::<Ipv4Addr>().ok()?.into(), port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some(hidden) if hidden.starts_with('_') => None,
        Some(port) => Some(port.parse().ok().filter(|_| !port.starts_with('+'))?),
    };
    Some(ClientAddress::new(ip, port))
}

#[cfg(test)]
mod tests {
    use uproar_protocol::head::parse;

    use super::*;

    /// The client's address in a request with these fields, from a proxy at 10.0.0.1.
    fn client(fields: &str) -> String {
        client_of("10.0.0.1:9", fields)
    }

    fn client_of(peer: &str, fields: &str) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|range| range.parse().expect(range)).to_vec();
        let proxies = ProxyPolicy { trusted, ..ProxyPolicy::default() };
        let request = format!("GET / HTTP/1.0\r\n{fields}\r\n");
        let head = parse(request.as_bytes()).expect("readable").expect("complete");
        let peer: std::net::SocketAddr = peer.parse().expect(peer);
        client_address(&head, peer.into(), &proxies).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_clients() {
        for (list, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1, 10.0.0.2,10.0.0.3", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1:4711"),
            ("\"192.0.2.1:4711\"", "192.0.2.1:4711"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "[2001:db8::1]:4711"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, [2001:db8:1::7]:80, ::ffff:10.0.0.2", "192.0.2.1"),
            ("192.0.2.1, ,", "192.0.2.1"),
            // All are trusted: the first.
            ("10.0.0.2, 10.0.0.3", "10.0.0.2"),
            // What is no address ends the search, and the one behind it counts.
            ("192.0.2.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("192.0.2.1, unknown", "10.0.0.1:9"),
            ("unknown, 192.0.2.1", "192.0.2.1"),
            ("", "10.0.0.1:9"),
            // What the client has written itself cannot hide its address.
            ("\"evil, 192.0.2.1", "192.0.2.1"),
            ("\"evil\", \"x, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ] {
            assert_eq!(client(&format!("X-Forwarded-For: {list}\r\n")), expected, "{list}");
        }
        let forty: Vec<String> = (0..40).map(|n| format!("203.0.113.{n}")).collect();
        assert_eq!(client(&format!("X-Forwarded-For: {}\r\n", forty.join(", "))), "203.0.113.39");
    }

    #[test]
    fn rubbish_is_no_address() {
        for entry in [
            "192.0.2",
            "192.0.2.1.",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:65536",
            "192.0.2.1:+8",
            "192.0.2.256",
            "01.0.2.1",
            "[192.0.2.1]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[fe80::1%eth0]",
            "localhost",
            "_hidden",
            "\"192.0.2.1",
            "192.0.2.1\"",
            "\"",
            "[]",
            ":80",
            "192.0.2.1 192.0.2.2",
            "\u{e9}",
        ] {
            let field = format!("X-Forwarded-For: 192.0.2.7, {entry}, 10.0.0.2\r\n");
            assert_eq!(client(&field), "10.0.0.2", "{entry}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.3\r\nx-forwarded-for: 10.0.0.2\r\n";
        assert_eq!(client(lines), "192.0.2.1");
    }

    #[test]
    fn forwarded_counts_where_there_is_no_x_forwarded_for() {
        for (list, expected) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
            ("proto=https; FOR = \"192.0.2.1:4711\"", "192.0.2.1:4711"),
            ("for=\"[2001:db8::1]:4711\"", "[2001:db8::1]:4711"),
            ("for=\"[2001:db8::1]\";host=\"a;b,c\"", "2001:db8::1"),
            ("for=\"192.0.2.1:_port\"", "192.0.2.1"),
            ("for=203.0.113.9, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("for=192.0.2.1, for=unknown, for=10.0.0.2", "10.0.0.2"),
            ("for=192.0.2.1, for=_hidden", "10.0.0.1:9"),
            ("for=192.0.2.1, by=10.0.0.2", "10.0.0.1:9"),
            ("for=192.0.2.1;for=192.0.2.2", "10.0.0.1:9"),
            ("for=192.0.2.1, for", "10.0.0.1:9"),
            ("192.0.2.1", "10.0.0.1:9"),
            ("for=\"evil, for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=\"evil\\\", for=192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(client(&format!("Forwarded: {list}\r\n")), expected, "{list}");
        }
        let both = "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n";
        assert_eq!(client(both), "192.0.2.2");
    }

    #[test]
    fn nobody_else_is_believed() {
        for field in ["X-Forwarded-For: 203.0.113.9\r\n", "Forwarded: for=203.0.113.9\r\n"] {
            assert_eq!(client_of("192.0.2.1:9", field), "192.0.2.1:9");
            assert_eq!(client_of("[2001:db8:1::5]:9", field), "203.0.113.9");
        }
    }
}
