//! The opening handshake of both sides (RFC 6455, section 4): requests and the answer that accepts one, each
//! made here and checked here.

use std::fmt::Write as _;

use bytes::Bytes;
use data_encoding::BASE64;
use tungstenite::handshake::derive_accept_key;

use super::field::{is_field_value, is_token};
use super::head::Head;
use super::response::Response;

/// The longest response head that a client takes: servers send long cookies and policies.
pub const RESPONSE_BYTES_MAX: usize = 16 * 1024;

const RESPONSE_FIELDS_MAX: usize = 64;

/// The most characters of a server's text in an error.
const QUOTED_CHARS_MAX: usize = 200;

/// Checks an upgrade request (section 4.2.1). Returns its key, for [`accepted`].
///
/// # Errors
///
/// The response that refuses it.
pub fn check_request<'a>(head: &Head<'a>) -> Result<&'a str, Response> {
    if !head.lists("upgrade", "websocket") {
        return Err(Response::upgrade_required("Upgrade Required: connect here with a WebSocket client"));
    }
    // Ahead of all else, since another version may have another key, say.
    if head.only_value("sec-websocket-version") != Some("13") {
        return Err(Response::upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    if head.method != "GET" {
        return Err(Response::bad_request("An upgrade is a GET"));
    }
    // "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request" (RFC
    // 9110, 7.8). The client expects a WebSocket, though, so it is told instead of getting a page.
    if head.minor_version == 0 {
        return Err(Response::bad_request("An upgrade needs HTTP/1.1"));
    }
    if !head.lists("connection", "upgrade") {
        return Err(Response::bad_request("An upgrade needs Connection: upgrade"));
    }
    // What follows the head is read as frames, and a body would be mistaken for them.
    if head.announces_body() {
        return Err(Response::bad_request("An upgrade has no body"));
    }
    head.only_value("sec-websocket-key")
        .filter(|key| is_key(key))
        .ok_or_else(|| Response::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// True for the base64 of 16 bytes. The four bits to spare in the last digit may be anything: clients
/// with a made-up key are about, and nothing depends on those bits.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22
            && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    })
}

/// The 101 that answers this key; behind it the connection speaks WebSocket.
///
/// # Panics
///
/// When the subprotocol is no token, which those that a client offers are checked to be.
#[must_use]
pub fn accepted(key: &str, subprotocol: Option<&str>) -> Bytes {
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes()),
    );
    if let Some(subprotocol) = subprotocol {
        assert!(is_token(subprotocol), "Bug: the subprotocol {subprotocol:?} is no token");
        write!(head, "Sec-WebSocket-Protocol: {subprotocol}\r\n").expect("Bug: writing to a string failed");
    }
    head.push_str("\r\n");
    head.into()
}

/// A `Sec-WebSocket-Key` made of 16 given bytes, which are to be chosen at random (section 4.1).
#[must_use]
pub fn key(nonce: [u8; 16]) -> String {
    BASE64.encode(&nonce)
}

/// A client's request, with fields of its own behind those that every upgrade has.
///
/// # Panics
///
/// When a name is no token or a value has a line break: what comes from elsewhere must have been looked at
/// with [`is_token`] and [`is_field_value`].
#[must_use]
pub fn request<'a>(
    authority: &str,
    target: &str,
    key: &str,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut head = format!(
        "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    for (name, value) in fields {
        assert!(is_token(name) && is_field_value(value), "Bug: the field {name:?} was not looked at");
        write!(head, "{name}: {value}\r\n").expect("Bug: writing to a string failed");
    }
    head.push_str("\r\n");
    head
}

/// Why a server's response does not accept an upgrade, in words that follow "the server".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server answered something else than 101.
    #[error("answered {status} {reason} instead of 101 Switching Protocols")]
    Status {
        /// The status code.
        status: u16,
        /// The reason phrase, made safe to show.
        reason: String,
    },
    /// The server sent a redirect, which is not followed: what was meant for one server is not for another
    /// that it names.
    #[error("answered {status} with a redirect to {location}, which is not followed")]
    Redirect {
        /// The status code.
        status: u16,
        /// The target, made safe to show.
        location: String,
    },
    /// The response is a TLS record.
    #[error("answered in TLS")]
    Tls,
    /// The response is no HTTP/1.1 response.
    #[error("answered what is not HTTP: {0}")]
    Malformed(&'static str),
    /// The response's head is longer than [`RESPONSE_BYTES_MAX`], or has more fields than are taken.
    #[error("answered with a head over {RESPONSE_BYTES_MAX} bytes or {RESPONSE_FIELDS_MAX} fields")]
    TooLarge,
    /// A field that RFC 6455 requires is missing or wrong, or one is there that must not be.
    #[error("answered 101 with a wrong or missing {0}")]
    Field(&'static str),
}

/// A response that accepts an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How long the response is. What follows is the first frame.
    pub head_bytes: usize,
    /// The one of the offered subprotocols that the server has chosen.
    pub subprotocol: Option<String>,
}

/// Checks the response to a request that had this key and offered these subprotocols, as section 4.1 lays
/// down; `None` while its end is not there.
///
/// # Errors
///
/// A [`Refusal`].
pub fn check_response<S: AsRef<str>>(
    bytes: &[u8],
    key: &str,
    offered: &[S],
) -> Result<Option<Accepted>, Refusal> {
    // No response begins like an alert or a handshake message (RFC 8446, section 5.1).
    if let [21 | 22, ..] = bytes {
        return Err(Refusal::Tls);
    }
    let mut fields = [httparse::EMPTY_HEADER; RESPONSE_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let within_limit = &bytes[..bytes.len().min(RESPONSE_BYTES_MAX)];
    let head_bytes = match response.parse(within_limit) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) if bytes.len() < RESPONSE_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::TooLarge);
        }
        Err(error) => return Err(Refusal::Malformed(describe(error))),
    };
    let status = response.code.unwrap_or(0);
    let values = |name: &'static str| {
        let fields = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| field.value.trim_ascii())
    };
    // "The" value of a field that must not be repeated.
    let only = |name| {
        let mut all = values(name);
        all.next().filter(|_| all.next().is_none())
    };
    match (status, only("location")) {
        (101, _) => {}
        (300..400, Some(location)) => {
            let location = quoted(&String::from_utf8_lossy(location));
            return Err(Refusal::Redirect { status, location });
        }
        _ => return Err(Refusal::Status { status, reason: quoted(response.reason.unwrap_or("")) }),
    }
    if response.version != Some(1) {
        return Err(Refusal::Malformed("101 over HTTP/1.0"));
    }
    if !only("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::Field("Upgrade"));
    }
    let mut options = values("connection").flat_map(|value| value.split(|byte| *byte == b','));
    if !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade")) {
        return Err(Refusal::Field("Connection"));
    }
    if only("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err(Refusal::Field("Sec-WebSocket-Accept"));
    }
    // None was offered, so none may be chosen.
    if values("sec-websocket-extensions").next().is_some() {
        return Err(Refusal::Field("Sec-WebSocket-Extensions"));
    }
    let subprotocol = match (values("sec-websocket-protocol").next(), only("sec-websocket-protocol")) {
        (None, _) => None,
        (Some(_), None) => return Err(Refusal::Field("Sec-WebSocket-Protocol")),
        (Some(_), Some(chosen)) => {
            let mut offered = offered.iter().map(AsRef::as_ref);
            let known = offered.find(|offered| offered.as_bytes() == chosen);
            Some(known.ok_or(Refusal::Field("Sec-WebSocket-Protocol"))?.to_owned())
        }
    };
    Ok(Some(Accepted { head_bytes, subprotocol }))
}

/// The fields of a response that [`check_response`] has accepted, in their order. What is not UTF-8 in a value is
/// replaced.
#[must_use]
pub fn response_fields(head: &[u8]) -> Vec<(String, String)> {
    let mut fields = [httparse::EMPTY_HEADER; RESPONSE_FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    if !matches!(response.parse(head), Ok(httparse::Status::Complete(_))) {
        return Vec::new();
    }
    let value = |field: &httparse::Header<'_>| String::from_utf8_lossy(field.value.trim_ascii()).into_owned();
    response.headers.iter().map(|field| (field.name.to_owned(), value(field))).collect()
}

fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::Version => "it does not begin with HTTP/1.0 or HTTP/1.1",
        httparse::Error::Status => "its status is no number",
        httparse::Error::HeaderName | httparse::Error::HeaderValue => "a field has a forbidden character",
        httparse::Error::NewLine => "a line has no proper end",
        httparse::Error::Token | httparse::Error::TooManyHeaders => "it cannot be read",
    }
}

/// A peer's text for an error: shortened, and without control characters.
fn quoted(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    const NONE: [&str; 0] = [];

    fn refused(response: &str) -> Refusal {
        check_response(response.as_bytes(), KEY, &NONE).expect_err("refused")
    }

    fn with_field(field: &str) -> String {
        ACCEPTED.replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"))
    }

    #[test]
    fn the_key_of_the_standard_gets_the_accept_of_the_standard() {
        // RFC 6455, 1.3.
        assert_eq!(
            accepted(KEY, None),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        );
        assert!(accepted(KEY, Some("json")).ends_with(b"\r\nSec-WebSocket-Protocol: json\r\n\r\n"));
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        assert_eq!(key(*b"the sample nonce"), KEY);
        let with_a_frame = [ACCEPTED.as_bytes(), b"\x81\x00"].concat();
        let yes = Accepted { head_bytes: ACCEPTED.len(), subprotocol: None };
        assert_eq!(check_response(&with_a_frame, KEY, &NONE), Ok(Some(yes)));
        for end in 0..ACCEPTED.len() {
            assert_eq!(check_response(&ACCEPTED.as_bytes()[..end], KEY, &NONE), Ok(None));
        }
    }

    #[test]
    fn a_request_passes_its_own_check() {
        let text = request("here:80", "/a?b", KEY, [("Origin", "https://here")]);
        let head = super::super::head::parse(text.as_bytes()).expect("readable").expect("complete");
        assert_eq!((head.path(), check_request(&head)), ("/a", Ok(KEY)));
        assert_eq!(head.only_value("origin"), Some("https://here"));
    }

    #[test]
    fn the_fields_of_a_response_are_told_in_order() {
        let response = with_field("Set-Cookie: a=1\r\nset-cookie:  b=2 ");
        let fields = response_fields(response.as_bytes());
        let fields: Vec<_> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(fields[0], ("Upgrade", "websocket"));
        assert_eq!(fields[3..], [("Set-Cookie", "a=1"), ("set-cookie", "b=2")]);
    }

    #[test]
    fn one_of_the_offered_subprotocols_may_be_chosen() {
        let chosen = |response: &str, offered: &[&str]| {
            check_response(response.as_bytes(), KEY, offered)
                .map(|accepted| accepted.and_then(|accepted| accepted.subprotocol))
        };
        let wrong = Err(Refusal::Field("Sec-WebSocket-Protocol"));
        let json = with_field("Sec-WebSocket-Protocol: json");
        assert_eq!(chosen(&json, &["xml", "json"]), Ok(Some("json".to_owned())));
        assert_eq!(chosen(ACCEPTED, &["xml", "json"]), Ok(None));
        assert_eq!(chosen(&json, &["JSON"]), wrong);
        assert_eq!(chosen(&json, &[]), wrong);
        let twice = with_field("Sec-WebSocket-Protocol: json\r\nSec-WebSocket-Protocol: json");
        assert_eq!(chosen(&twice, &["json"]), wrong);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let status = refused("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status.to_string(), "answered 200 OK instead of 101 Switching Protocols");
        let redirect = refused("HTTP/1.1 301 Moved\r\nLocation: https://there/\r\n\r\n");
        assert_eq!(
            redirect.to_string(),
            "answered 301 with a redirect to https://there/, which is not followed"
        );
        assert_eq!(refused(&ACCEPTED.replace("s3p", "S3p")), Refusal::Field("Sec-WebSocket-Accept"));
        let twice = with_field("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(refused(&twice), Refusal::Field("Sec-WebSocket-Accept"));
        assert_eq!(refused(&ACCEPTED.replace("websocket", "h2c")), Refusal::Field("Upgrade"));
        assert_eq!(refused(&ACCEPTED.replace(", Upgrade", "")), Refusal::Field("Connection"));
        let extension = with_field("Sec-WebSocket-Extensions: x");
        assert_eq!(refused(&extension), Refusal::Field("Sec-WebSocket-Extensions"));
        assert_eq!(refused("\x15\x03\x03\x00\x02\x02\x16"), Refusal::Tls);
        assert!(matches!(refused("SSH-2.0-x\r\n\r\n"), Refusal::Malformed(_)));
        assert!(matches!(refused(&ACCEPTED.replace("1.1", "1.0")), Refusal::Malformed(_)));
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_the_limit() {
        let long = ["HTTP/1.1 101 S\r\nA: ".to_owned(), "x".repeat(RESPONSE_BYTES_MAX)].concat();
        assert_eq!(check_response(&long.as_bytes()[..RESPONSE_BYTES_MAX - 1], KEY, &NONE), Ok(None));
        assert_eq!(refused(&long), Refusal::TooLarge);
        assert_eq!(refused(&format!("HTTP/1.1 101 S\r\n{}", "a: b\r\n".repeat(65))), Refusal::TooLarge);
    }

    #[test]
    fn what_a_server_says_is_shown_without_control_characters() {
        let refusal = refused("HTTP/1.1 302 x\r\nLocation: ws://a\tb\r\n\r\n");
        assert_eq!(refusal, Refusal::Redirect { status: 302, location: "ws://ab".to_owned() });
    }
}
