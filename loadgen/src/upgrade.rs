//! The opening handshake from the client's side (RFC 6455, section 4.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tungstenite::handshake::derive_accept_key;

/// The longest response head that is taken.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Why an upgrade failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server answered something else than 101.
    #[error("answered {status} {reason} instead of 101 Switching Protocols")]
    Status {
        /// The status code.
        status: u16,
        /// The reason phrase.
        reason: String,
    },
    /// The response is a TLS record.
    #[error("answered in TLS: write wss:// in --url")]
    Tls,
    /// The response is no HTTP/1.1 response.
    #[error("answered what is not HTTP: {0}")]
    Malformed(String),
    /// A header that RFC 6455 requires is missing or wrong.
    #[error("answered 101 with a wrong or missing {0}")]
    Header(&'static str),
}

/// A `Sec-WebSocket-Key` made of 16 given bytes.
#[must_use]
pub fn key(nonce: [u8; 16]) -> String {
    STANDARD.encode(nonce)
}

/// The upgrade request.
#[must_use]
pub fn request(authority: &str, path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )
}

/// Checks the response and tells how long its head is; `None` when it is not complete. What follows the
/// head is the first frame.
///
/// # Errors
///
/// A [`Refusal`].
pub fn check_response(bytes: &[u8], key: &str) -> Result<Option<usize>, Refusal> {
    // No response begins like an alert or a handshake message (RFC 8446, section 5.1).
    if let [21 | 22, ..] = bytes {
        return Err(Refusal::Tls);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let malformed = |error: httparse::Error| Refusal::Malformed(error.to_string());
    let httparse::Status::Complete(head_bytes) = response.parse(bytes).map_err(malformed)? else {
        return match bytes.len() {
            0..HEAD_BYTES_MAX => Ok(None),
            _ => Err(Refusal::Malformed("a head over 16 KiB".to_owned())),
        };
    };
    let status = response.code.unwrap_or(0);
    if status != 101 {
        return Err(Refusal::Status { status, reason: response.reason.unwrap_or("").to_owned() });
    }
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    if !value("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
        return Err(Refusal::Header("Upgrade"));
    }
    let names_upgrade = |list: &str| list.split(',').any(|item| item.trim().eq_ignore_ascii_case("upgrade"));
    if !value("connection").is_some_and(names_upgrade) {
        return Err(Refusal::Header("Connection"));
    }
    if value("sec-websocket-accept") != Some(&derive_accept_key(key.as_bytes())) {
        return Err(Refusal::Header("Sec-WebSocket-Accept"));
    }
    // None was offered, so none may be chosen.
    for name in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
        if value(name).is_some() {
            return Err(Refusal::Header(name));
        }
    }
    Ok(Some(head_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(key(*b"the sample nonce"), KEY);
        let with_a_frame = [ACCEPTED.as_bytes(), b"\x81\x00"].concat();
        assert_eq!(check_response(&with_a_frame, KEY), Ok(Some(ACCEPTED.len())));
        for end in 0..ACCEPTED.len() {
            assert_eq!(check_response(&ACCEPTED.as_bytes()[..end], KEY), Ok(None));
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let refused = |response: &str| check_response(response.as_bytes(), KEY).expect_err("refused");
        let status = refused("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status.to_string(), "answered 200 OK instead of 101 Switching Protocols");
        assert_eq!(refused(&ACCEPTED.replace("s3p", "S3p")), Refusal::Header("Sec-WebSocket-Accept"));
        assert_eq!(refused(&ACCEPTED.replace("websocket", "h2c")), Refusal::Header("Upgrade"));
        assert_eq!(refused(&ACCEPTED.replace(", Upgrade", "")), Refusal::Header("Connection"));
        let extension = ACCEPTED.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n");
        assert_eq!(refused(&extension), Refusal::Header("Sec-WebSocket-Extensions"));
        assert_eq!(refused("\x15\x03\x03\x00\x02\x02\x16"), Refusal::Tls);
        assert!(matches!(refused("SSH-2.0-x\r\n\r\n"), Refusal::Malformed(_)));
    }
}
