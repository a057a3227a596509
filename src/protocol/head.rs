//! The request head: from the bytes received so far to a method, a target and fields.
//!
//! Driving rule: call [`parse`] on everything received, after every receive, until it says something
//! other than `Ok(None)`. It borrows and keeps no state, so however the bytes were cut on their way,
//! the result is the same. Reading each head from its start again is bounded by [`HEAD_BYTES_MAX`]:
//! sent byte by byte, parsing costs less than the kernel spends on the segments.

/// The longest head that is read, the empty line at its end included.
///
/// A browser with a large cookie sends 4 KiB; whoever sends more is told 431.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Header fields that are read without an allocation. Browsers send about 20.
const FIELDS_USUAL: usize = 64;

/// The most header fields that a head within its limit can hold: the shortest is `a:` and a line end.
const FIELDS_MAX: usize = HEAD_BYTES_MAX / 3;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is longer than [`HEAD_BYTES_MAX`], or has too many fields: 431.
    #[error("a request's head over {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    /// It is not HTTP/1: 400.
    #[error("what is no request of HTTP/1.0 or HTTP/1.1")]
    Unreadable,
}

/// A complete request head, borrowed from the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Head<'a> {
    /// The method, as sent: methods are case-sensitive (RFC 9110, 9.1).
    pub method: &'a str,
    /// The request target, as sent.
    pub target: &'a str,
    /// The `x` of HTTP/1.x.
    pub minor_version: u8,
    /// How many bytes the head has. What was received behind them belongs to what comes next.
    pub bytes: usize,
    fields: Vec<httparse::Header<'a>>,
}

/// Reads the head that `received` begins with; `Ok(None)` says that its end is not there yet.
///
/// # Errors
///
/// [`HeadError`] as soon as it is certain that no further bytes can make a good head.
pub fn parse(received: &[u8]) -> Result<Option<Head<'_>>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    match parse_into(received, &mut fields) {
        Err(ParseError::TooManyFields) => {
            let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
            parse_into(received, &mut fields)
        }
        parsed => parsed,
    }
    .map_err(|error| match error {
        ParseError::TooManyFields => HeadError::TooLarge,
        ParseError::Head(error) => error,
    })
}

/// Why a head was not parsed into so many fields.
enum ParseError {
    TooManyFields,
    Head(HeadError),
}

fn parse_into<'a>(
    received: &'a [u8],
    fields: &mut [httparse::Header<'a>],
) -> Result<Option<Head<'a>>, ParseError> {
    let mut request = httparse::Request::new(fields);
    let within_limit = &received[..received.len().min(HEAD_BYTES_MAX)];
    match request.parse(within_limit) {
        Ok(httparse::Status::Complete(bytes)) => Ok(Some(Head {
            method: request.method.expect("Bug: a complete head has a method"),
            target: request.path.expect("Bug: a complete head has a target"),
            minor_version: request.version.expect("Bug: a complete head has a version"),
            bytes,
            fields: request.headers.to_vec(),
        })),
        Ok(httparse::Status::Partial) if received.len() < HEAD_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Partial) => Err(ParseError::Head(HeadError::TooLarge)),
        Err(httparse::Error::TooManyHeaders) => Err(ParseError::TooManyFields),
        Err(_) => Err(ParseError::Head(HeadError::Unreadable)),
    }
}

impl<'a> Head<'a> {
    /// The values of all fields of this name, in order, without white space around them.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }

    /// The value of the field of this name, if there is exactly one and it is visible ASCII.
    #[must_use]
    pub fn only_value(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        let value = values.next()?;
        let is_visible = value.iter().all(|byte| (b' '..=b'~').contains(byte));
        if values.next().is_some() || !is_visible {
            return None;
        }
        str::from_utf8(value).ok()
    }

    /// True when a field of this name lists `token` among its comma-separated values.
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The path of the target: without its query, and without scheme and authority (RFC 9112, 3.2.2:
    /// a server accepts the absolute form too). Percent-encoding is left as it is.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let origin_form = match self.target.split_once("://") {
            Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                rest.find(['/', '?']).map_or("/", |start| &rest[start..])
            }
            _ => self.target,
        };
        match origin_form.split_once('?') {
            Some(("", _)) => "/",
            Some((path, _)) => path,
            None => origin_form,
        }
    }

    /// False for HEAD, which is answered as GET is, without the body.
    #[must_use]
    pub fn wants_body(&self) -> bool {
        self.method != "HEAD"
    }

    /// True when bytes of a body follow the head.
    #[must_use]
    pub fn announces_body(&self) -> bool {
        self.values("transfer-encoding").next().is_some()
            || self.values("content-length").any(|length| length != b"0")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(received: &[u8]) -> Head<'_> {
        parse(received).expect("a readable head").expect("a complete head")
    }

    #[test]
    fn bytes_behind_the_head_are_not_part_of_it() {
        let received = b"GET /chat HTTP/1.1\r\nHost: here\r\n\r\n\x81\x80behind";
        let head = complete(received);
        assert_eq!((head.method, head.target, head.minor_version), ("GET", "/chat", 1));
        assert_eq!(&received[head.bytes..], b"\x81\x80behind");
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read_and_one_byte_more_is_refused() {
        let head_of = |bytes: usize| {
            let frame = "GET / HTTP/1.1\r\nFiller: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nFiller: {}\r\n\r\n", "x".repeat(bytes - frame)).into_bytes()
        };
        assert_eq!(complete(&head_of(HEAD_BYTES_MAX)).bytes, HEAD_BYTES_MAX);
        assert_eq!(parse(&head_of(HEAD_BYTES_MAX + 1)), Err(HeadError::TooLarge));
    }

    #[test]
    fn more_fields_than_are_kept_are_too_large() {
        let received = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
        assert_eq!(parse(received.as_bytes()), Err(HeadError::TooLarge));
    }

    #[test]
    fn what_is_not_http_is_unreadable_at_once() {
        let tls_client_hello = b"\x16\x03\x01\x02\x00\x01";
        for received in [tls_client_hello.as_slice(), b"GET / HTTP/2.0\r\n\r\n", b"GET /\r\n\r\n"] {
            assert_eq!(parse(received), Err(HeadError::Unreadable), "{}", received.escape_ascii());
        }
    }

    #[test]
    fn the_path_is_the_target_without_authority_and_query() {
        for (target, path) in [
            ("/", "/"),
            ("/chat?room=general", "/chat"),
            ("/?x=/ws", "/"),
            ("/broadcast/a/b%20c?d", "/broadcast/a/b%20c"),
            ("http://here:80/echo?x", "/echo"),
            ("http://here", "/"),
            ("http://here?x", "/"),
            ("*", "*"),
            ("/broadcast/a://b", "/broadcast/a://b"),
        ] {
            let received = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_eq!(complete(received.as_bytes()).path(), path, "{target}");
        }
    }

    #[test]
    fn tokens_are_found_in_any_field_and_any_case() {
        let head =
            complete(b"GET / HTTP/1.1\r\nConnection: keep-alive\r\nconnection: x,\tUPGRADE , y\r\n\r\n");
        assert!(head.lists("Connection", "upgrade"));
        assert!(!head.lists("Connection", "keep"));
    }

    fn likely_head() -> impl Strategy<Value = Vec<u8>> {
        let field = prop_oneof![
            Just("Host: here\r\n".to_owned()),
            Just("Upgrade: websocket\r\n".to_owned()),
            Just("Bare: line feed\n".to_owned()),
            Just(" folded\r\n".to_owned()),
            "[A-Za-z-]{1,9}:[ -~]{0,4000}\r\n",
        ];
        let start = "(GET|POST|get) /[a-z?/]{0,9} HTTP/1.[0-2]\r\n";
        (start, prop::collection::vec(field, 0..6), prop::collection::vec(any::<u8>(), 0..9)).prop_map(
            |(start, fields, behind)| {
                [start.as_bytes(), fields.concat().as_bytes(), b"\r\n", &behind].concat()
            },
        )
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(received in prop::collection::vec(any::<u8>(), 0..9000)) {
            if let Ok(Some(head)) = parse(&received) {
                let _ = (head.path(), head.announces_body(), head.only_value("host"));
            }
        }

        /// However a head is cut, what is said about a beginning is what is said about the whole.
        #[test]
        fn the_place_of_a_cut_changes_nothing(received in likely_head(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(received.len() + 1);
            match parse(&received[..cut]) {
                Ok(None) => {}
                said => prop_assert_eq!(said, parse(&received)),
            }
        }
    }
}
