//! The request head: from the bytes received so far to a method, a target and fields.
//!
//! Driving rule: call [`parse`] on everything received, after each receive for which [`ParseSchedule::is_due`], until
//! it returns something other than `Ok(None)`. It borrows and keeps no state, so the result does not depend on how
//! the bytes were split on their way.

use super::authority::Authority;

/// The longest head that is read by default, the empty line at its end included.
///
/// A browser behind single sign-on sends cookies of 8 KiB and more; longer heads get a 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header fields that are read without an allocation. Browsers send about 20.
const FIELDS_USUAL: usize = 64;

/// The bytes of the shortest header field, `a:` and a line end. They bound how many a head can hold.
const FIELD_BYTES_MIN: usize = 3;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is longer than allowed, or has too many fields: 431.
    #[error("a request head that is too long")]
    TooLarge,
    /// It is not HTTP/1: 400.
    #[error("an invalid HTTP/1 request")]
    Unreadable,
    /// It has no valid `Host`, or several: 400. "A server MUST respond with a 400 (Bad Request) status code to any
    /// HTTP/1.1 request message that lacks a Host header field and to any request message that contains more than
    /// one Host header field line or a Host header field with an invalid field value" (RFC 9112, 3.2).
    #[error("a request without exactly one valid Host")]
    Host,
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

/// Reads the head that `received` begins with, of at most [`HEAD_BYTES_MAX`]; `Ok(None)` says that its end is not
/// there yet.
///
/// # Errors
///
/// [`HeadError`] as soon as it is certain that no further bytes can make a good head.
pub fn parse(received: &[u8]) -> Result<Option<Head<'_>>, HeadError> {
    parse_within(received, HEAD_BYTES_MAX)
}

/// As [`parse`], for heads of at most so many bytes.
///
/// # Errors
///
/// As for [`parse`].
pub fn parse_within(received: &[u8], bytes_max: usize) -> Result<Option<Head<'_>>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_USUAL];
    let parsed = match parse_into(received, bytes_max, &mut fields) {
        Err(ParseError::TooManyFields) => {
            let mut fields = vec![httparse::EMPTY_HEADER; bytes_max / FIELD_BYTES_MIN];
            parse_into(received, bytes_max, &mut fields)
        }
        parsed => parsed,
    };
    match parsed {
        Ok(Some(head)) if !head.has_valid_host() => Err(HeadError::Host),
        Ok(head) => Ok(head),
        Err(ParseError::TooManyFields) => Err(HeadError::TooLarge),
        Err(ParseError::Head(error)) => Err(error),
    }
}

/// Tells after which receives [`parse`] can find more than before, so that a head that arrives byte by byte is parsed a
/// few times in all instead of once a byte.
#[derive(Debug, Default)]
pub struct ParseSchedule {
    seen_bytes: usize,
    parsed_bytes: usize,
}

impl ParseSchedule {
    /// True when `received`, all that has come, may hold a whole head or is `bytes_max` long; and whenever it has
    /// doubled, so that an invalid head is refused early. To be asked once after each receive.
    pub fn is_due(&mut self, received: &[u8], bytes_max: usize) -> bool {
        // An empty line may have begun in bytes that were seen before.
        let unseen = &received[self.seen_bytes.saturating_sub(2)..];
        self.seen_bytes = received.len();
        let is_due = received.len() >= bytes_max.min(2 * self.parsed_bytes)
            || unseen.windows(2).any(|two| two == b"\n\n")
            || unseen.windows(3).any(|three| three == b"\n\r\n");
        if is_due {
            self.parsed_bytes = received.len();
        }
        is_due
    }
}

/// Why a head was not parsed into so many fields.
enum ParseError {
    TooManyFields,
    Head(HeadError),
}

fn parse_into<'a>(
    received: &'a [u8],
    bytes_max: usize,
    fields: &mut [httparse::Header<'a>],
) -> Result<Option<Head<'a>>, ParseError> {
    let mut request = httparse::Request::new(fields);
    let within_limit = &received[..received.len().min(bytes_max)];
    match request.parse(within_limit) {
        Ok(httparse::Status::Complete(bytes)) => Ok(Some(Head {
            method: request.method.expect("Bug: a complete head has a method"),
            target: request.path.expect("Bug: a complete head has a target"),
            minor_version: request.version.expect("Bug: a complete head has a version"),
            bytes,
            fields: request.headers.to_vec(),
        })),
        Ok(httparse::Status::Partial) if received.len() < bytes_max => Ok(None),
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

    /// The comma-separated values of all fields of this name, in order.
    pub fn listed(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
    }

    /// True when a field of this name lists `token` among its comma-separated values.
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.listed(name).any(|listed| listed.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The authority of the request: that of a target in absolute form, which replaces `Host` (RFC 9112,
    /// 3.2.2), or else `Host`. `None` where that is empty, or missing as in HTTP/1.0.
    #[must_use]
    pub fn authority(&self) -> Option<Authority<'a>> {
        Authority::parse(self.absolute_form().map(|(authority, _)| authority).or(self.only_value("host"))?)
    }

    /// True for one `Host`, empty or an authority, which HTTP/1.0 may do without, and an authority in a target of
    /// absolute form.
    fn has_valid_host(&self) -> bool {
        let is_host_valid = match self.values("host").count() {
            0 => self.minor_version == 0,
            1 => self
                .only_value("host")
                .is_some_and(|host| host.is_empty() || Authority::parse(host).is_some()),
            _ => false,
        };
        let is_target_valid =
            self.absolute_form().is_none_or(|(authority, _)| Authority::parse(authority).is_some());
        is_host_valid && is_target_valid
    }

    /// The target's authority and what follows it, where it is a URL.
    fn absolute_form(&self) -> Option<(&'a str, &'a str)> {
        let (scheme, rest) = self.target.split_once("://")?;
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_scheme.then(|| rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
    }

    /// The path of the target: without its query, and without scheme and authority (RFC 9112, 3.2.2:
    /// a server accepts the absolute form too). Percent-encoding is left as it is.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let origin_form = self.absolute_form().map_or(self.target, |(_, rest)| rest);
        match origin_form.split('?').next() {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// The query of the target: what follows the first `?`, without it. Empty where there is none.
    #[must_use]
    pub fn query(&self) -> &'a str {
        let origin_form = self.absolute_form().map_or(self.target, |(_, rest)| rest);
        origin_form.split_once('?').map_or("", |(_, query)| query)
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
            let frame = "GET / HTTP/1.0\r\nFiller: \r\n\r\n".len();
            format!("GET / HTTP/1.0\r\nFiller: {}\r\n\r\n", "x".repeat(bytes - frame)).into_bytes()
        };
        assert_eq!(complete(&head_of(HEAD_BYTES_MAX)).bytes, HEAD_BYTES_MAX);
        assert_eq!(parse(&head_of(HEAD_BYTES_MAX + 1)), Err(HeadError::TooLarge));
        let with_limit = |bytes, bytes_max| parse_within(&head_of(bytes), bytes_max).map(|_| ());
        assert_eq!(with_limit(50_000, 50_000), Ok(()));
        assert_eq!(with_limit(1_001, 1_000), Err(HeadError::TooLarge));
    }

    #[test]
    fn more_fields_than_are_kept_are_too_large() {
        let fields_max = HEAD_BYTES_MAX / FIELD_BYTES_MIN;
        let received = format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(fields_max + 1));
        assert_eq!(parse(received.as_bytes()), Err(HeadError::TooLarge));
    }

    #[test]
    fn a_request_says_exactly_once_whom_it_calls() {
        let said = |start: &str, fields: &str| {
            let received = format!("GET {start}\r\n{fields}\r\n");
            parse(received.as_bytes())
                .map(|head| head.expect("complete").authority().map(|authority| authority.text.to_owned()))
        };
        let called = |authority: &str| Ok(Some(authority.to_owned()));
        assert_eq!(said("/ HTTP/1.1", "Host: here:80\r\n"), called("here:80"));
        assert_eq!(said("/ HTTP/1.1", "hOST:here\r\n"), called("here"));
        assert_eq!(said("/ HTTP/1.1", "Host:\r\n"), Ok(None));
        assert_eq!(said("/ HTTP/1.0", ""), Ok(None));
        assert_eq!(said("/ HTTP/1.1", ""), Err(HeadError::Host));
        for version in ["1.0", "1.1"] {
            let start = format!("/ HTTP/{version}");
            assert_eq!(said(&start, "Host: here\r\nHost: here\r\n"), Err(HeadError::Host));
            for invalid in ["a b", "a/b", "a@b", "a, b/", "a:b", "http://a", "\u{fc}"] {
                assert_eq!(said(&start, &format!("Host: {invalid}\r\n")), Err(HeadError::Host), "{invalid}");
            }
        }
        assert_eq!(said("http://there/x HTTP/1.1", "Host: here\r\n"), called("there"));
        assert_eq!(said("ws://there?x HTTP/1.1", "Host:\r\n"), called("there"));
        assert_eq!(said("http://there HTTP/1.1", ""), Err(HeadError::Host));
        for invalid in ["http:///x", "http://a@there/", "http://there:x/"] {
            assert_eq!(said(&format!("{invalid} HTTP/1.1"), "Host: here\r\n"), Err(HeadError::Host));
        }
    }

    #[test]
    fn what_is_not_http_is_unreadable_at_once() {
        let tls_client_hello = b"\x16\x03\x01\x02\x00\x01";
        for received in [tls_client_hello.as_slice(), b"GET / HTTP/2.0\r\n\r\n", b"GET /\r\n\r\n"] {
            assert_eq!(parse(received), Err(HeadError::Unreadable), "{}", received.escape_ascii());
        }
    }

    #[test]
    fn path_and_query_are_the_target_without_authority() {
        for (target, path, query) in [
            ("/", "/", ""),
            ("/chat?room=general", "/chat", "room=general"),
            ("/?x=/ws", "/", "x=/ws"),
            ("/broadcast/a/b%20c?d", "/broadcast/a/b%20c", "d"),
            ("/chat?a=1?b", "/chat", "a=1?b"),
            ("http://here:80/echo?x", "/echo", "x"),
            ("http://here", "/", ""),
            ("http://here?x", "/", "x"),
            ("*", "*", ""),
            ("/broadcast/a://b", "/broadcast/a://b", ""),
        ] {
            let received = format!("GET {target} HTTP/1.0\r\n\r\n");
            let head = complete(received.as_bytes());
            assert_eq!((head.path(), head.query()), (path, query), "{target}");
        }
    }

    #[test]
    fn tokens_are_found_in_any_field_and_any_case() {
        let head =
            complete(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nconnection: x,\tUPGRADE , y\r\n\r\n");
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
                let _ = (head.path(), head.announces_body(), head.authority());
            }
        }

        /// A head that arrives in small pieces is found complete, or invalid, as early as it would be otherwise, and is
        /// parsed a few times.
        #[test]
        fn a_schedule_finds_what_parsing_each_time_would(received in likely_head(), piece in 1_usize..40) {
            let mut schedule = ParseSchedule::default();
            let (mut parses, mut end) = (0, 0);
            let found = loop {
                end = (end + piece).min(received.len());
                if schedule.is_due(&received[..end], HEAD_BYTES_MAX) {
                    parses += 1;
                    match parse(&received[..end]) {
                        Ok(None) => {}
                        found => break found,
                    }
                }
                if end == received.len() {
                    break Ok(None);
                }
            };
            match parse(&received) {
                // An invalid head may be found out at the next doubling, if there is one.
                Err(error) => prop_assert!(matches!(found, Ok(None)) || found == Err(error)),
                whole => prop_assert_eq!(found, whole),
            }
            let empty_lines = received.windows(2).filter(|two| two == b"\n\n").count()
                + received.windows(3).filter(|three| three == b"\n\r\n").count();
            prop_assert!(parses <= 1 + received.len().ilog2() as usize + empty_lines, "{}", parses);
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
