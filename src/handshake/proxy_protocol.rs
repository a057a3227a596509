//! The PROXY protocol, versions 1 and 2: a header ahead of everything else, in which a proxy tells whom a connection
//! comes from (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Its end is found here, so that it can arrive in pieces; [`ppp`] reads it.

use ppp::{v1, v2};

use crate::address::ClientAddress;

/// The longest header, far more than a proxy has to say: addresses have 36 bytes, and the rest is about its TLS.
/// Version 2 could have 65,551 bytes.
pub(super) const HEADER_BYTES_MAX: usize = 4096;

/// The longest header of version 1, its line end included (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// The beginning of a header of version 1.
const V1_PREFIX: &[u8] = b"PROXY ";

/// The line end of version 1.
const V1_END: &[u8] = b"\r\n";

/// The part of a header of version 2 that has its length.
const V2_BYTES_MIN: usize = 16;

/// The version and the command `LOCAL` (section 2.2): "The receiver must accept this connection as valid and must use
/// the real connection endpoints and discard the protocol block including the family which is ignored."
const V2_LOCAL: u8 = 0x20;

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxyHeader {
    /// The header's length.
    pub(super) bytes: usize,
    /// The client's address; `None` when the proxy speaks for itself, or does not know it.
    pub(super) client: Option<ClientAddress>,
}

/// The bytes are not a header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotProxyHeader;

/// Reads the header that `received` begins with. `Ok(None)` says that its end is not there yet, and that `received` has
/// fewer than [`HEADER_BYTES_MAX`].
///
/// # Errors
///
/// [`NotProxyHeader`].
pub(super) fn parse(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxyHeader> {
    if begins_as(received, v2::PROTOCOL_PREFIX) {
        parse_v2(received)
    } else if begins_as(received, V1_PREFIX) {
        parse_v1(received)
    } else {
        Err(NotProxyHeader)
    }
}

fn parse_v1(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxyHeader> {
    let within_limit = &received[..received.len().min(V1_BYTES_MAX)];
    let Some(end) = within_limit.windows(V1_END.len()).position(|two| two == V1_END) else {
        return if received.len() < V1_BYTES_MAX { Ok(None) } else { Err(NotProxyHeader) };
    };
    let bytes = end + V1_END.len();
    let header = v1::Header::try_from(&received[..bytes]).map_err(|_| NotProxyHeader)?;
    let client = match header.addresses {
        v1::Addresses::Tcp4(told) => {
            Some(ClientAddress::new(told.source_address.into(), Some(told.source_port)))
        }
        v1::Addresses::Tcp6(told) => {
            Some(ClientAddress::new(told.source_address.into(), Some(told.source_port)))
        }
        v1::Addresses::Unknown => None,
    };
    Ok(Some(ProxyHeader { bytes, client }))
}

fn parse_v2(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxyHeader> {
    let Some(start) = received.first_chunk::<V2_BYTES_MIN>() else { return Ok(None) };
    let bytes = V2_BYTES_MIN + usize::from(u16::from_be_bytes([start[14], start[15]]));
    if bytes > HEADER_BYTES_MAX {
        return Err(NotProxyHeader);
    }
    let Some(header) = received.get(..bytes) else { return Ok(None) };
    if start[12] == V2_LOCAL {
        return Ok(Some(ProxyHeader { bytes, client: None }));
    }
    let header = v2::Header::try_from(header).map_err(|_| NotProxyHeader)?;
    let client = match header.addresses {
        v2::Addresses::IPv4(told) => {
            Some(ClientAddress::new(told.source_address.into(), Some(told.source_port)))
        }
        v2::Addresses::IPv6(told) => {
            Some(ClientAddress::new(told.source_address.into(), Some(told.source_port)))
        }
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    Ok(Some(ProxyHeader { bytes, client }))
}

/// True when the bytes begin with `prefix`, as far as they are there.
fn begins_as(received: &[u8], prefix: &[u8]) -> bool {
    received.iter().zip(prefix).all(|(received, wanted)| received == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 with this version and command, family and rest.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, rest].concat()
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];

    fn tcp6() -> Vec<u8> {
        let client: std::net::Ipv6Addr = "2001:db8::1".parse().expect("an address");
        [&client.octets()[..], &[0; 16], &[0x12, 0x67, 0, 80]].concat()
    }

    #[test]
    fn headers_are_read_when_the_last_byte_has_come_and_not_before() {
        let tlv = [&TCP4[..], &[4, 0, 2, 0, 0]].concat();
        let all: [(Vec<u8>, Option<&str>); 12] = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n".to_vec(), Some("192.0.2.1:4711")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), Some("[2001:db8::1]:4711")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 4711 80\r\n".to_vec(), Some("192.0.2.1:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &TCP4), Some("192.0.2.1:4711")),
            (v2(0x21, 0x11, &tlv), Some("192.0.2.1:4711")),
            (v2(0x21, 0x21, &tcp6()), Some("[2001:db8::1]:4711")),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x31, &[b'/'; 216]), None),
            (v2(0x20, 0x00, &[]), None),
            // LOCAL, with a family that does not matter.
            (v2(0x20, 0x11, &[0; 3]), None),
        ];
        for (header, expected) in all {
            for cut in 0..header.len() {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut} of {header:?}");
            }
            let received = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let parsed = parse(&received).expect("a header").expect("a complete one");
            assert_eq!(parsed.bytes, header.len());
            assert_eq!(parsed.client.map(|client| client.to_string()).as_deref(), expected, "{header:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for received in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"\x16\x03\x01\x02".to_vec(),
            b"proxy TCP4".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 ::1 4711 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 80\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 4711 80\r\n".to_vec(),
            b"PROXY \r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; V1_BYTES_MAX][..]].concat(),
            v2(0x11, 0x11, &TCP4),
            v2(0x22, 0x11, &TCP4),
            v2(0x21, 0x41, &TCP4),
            v2(0x21, 0x13, &TCP4),
            v2(0x21, 0x21, &TCP4),
            v2(0x21, 0x11, &[0; HEADER_BYTES_MAX - V2_BYTES_MIN + 1]),
        ] {
            assert_eq!(parse(&received), Err(NotProxyHeader), "{received:?}");
        }
    }

    #[test]
    fn a_header_of_the_limit_is_read() {
        let tlv_bytes = HEADER_BYTES_MAX - V2_BYTES_MIN - TCP4.len();
        let header = v2(0x21, 0x11, &[&TCP4[..], &vec![0; tlv_bytes]].concat());
        assert_eq!(header.len(), HEADER_BYTES_MAX);
        assert_eq!(
            parse(&header).map(|parsed| parsed.map(|parsed| parsed.bytes)),
            Ok(Some(HEADER_BYTES_MAX))
        );
    }

    proptest! {
        #[test]
        fn an_incomplete_header_is_shorter_than_the_limit(
            rest in prop::collection::vec(any::<u8>(), 0..2 * HEADER_BYTES_MAX),
            prefix in prop::sample::select(vec![V1_PREFIX, v2::PROTOCOL_PREFIX]),
        ) {
            let received = [prefix, &rest].concat();
            match parse(&received) {
                Ok(Some(header)) => prop_assert!(header.bytes <= received.len().min(HEADER_BYTES_MAX)),
                Ok(None) => prop_assert!(received.len() < HEADER_BYTES_MAX),
                Err(NotProxyHeader) => {}
            }
        }
    }
}
