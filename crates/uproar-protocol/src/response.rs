//! Answers: complete HTTP responses. The one that opens a WebSocket is in [`super::upgrade`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use httpdate::HttpDate;

use super::field::{FieldError, is_field_value, is_token};
use super::head::HeadError;

/// The fields that say where a response ends and what becomes of its connection. [`Response::encode`] writes them.
const RESERVED_FIELDS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// A status code (RFC 9110, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(u16);

#[expect(missing_docs, reason = "each is the code of this name in RFC 9110, 15, or RFC 6585")]
impl Status {
    pub const OK: Self = Self(200);
    pub const CREATED: Self = Self(201);
    pub const ACCEPTED: Self = Self(202);
    pub const NO_CONTENT: Self = Self(204);
    pub const MOVED_PERMANENTLY: Self = Self(301);
    pub const FOUND: Self = Self(302);
    pub const SEE_OTHER: Self = Self(303);
    pub const NOT_MODIFIED: Self = Self(304);
    pub const TEMPORARY_REDIRECT: Self = Self(307);
    pub const PERMANENT_REDIRECT: Self = Self(308);
    pub const BAD_REQUEST: Self = Self(400);
    pub const UNAUTHORIZED: Self = Self(401);
    pub const FORBIDDEN: Self = Self(403);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const REQUEST_TIMEOUT: Self = Self(408);
    pub const CONFLICT: Self = Self(409);
    pub const GONE: Self = Self(410);
    pub const UPGRADE_REQUIRED: Self = Self(426);
    pub const TOO_MANY_REQUESTS: Self = Self(429);
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Self = Self(431);
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    pub const NOT_IMPLEMENTED: Self = Self(501);
    pub const BAD_GATEWAY: Self = Self(502);
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    pub const GATEWAY_TIMEOUT: Self = Self(504);
}

impl Status {
    /// Any code from 100 to 599, and `None` for other numbers: they are invalid (RFC 9110, section 15).
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            100..=599 => Some(Self(code)),
            _ => None,
        }
    }

    /// The three digits.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// The reason phrase; empty for a code that is not registered.
    #[must_use]
    pub fn reason(self) -> &'static str {
        http::StatusCode::from_u16(self.0).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
    }

    /// False where a response ends with its head (RFC 9110, section 6.4.1).
    const fn has_content(self) -> bool {
        !matches!(self.0, 100..=199 | 204 | 304)
    }
}

/// A response that ends its connection.
///
/// ```
/// use uproar_protocol::field::FieldError;
/// use uproar_protocol::response::{Response, Status};
///
/// /// Sends a browser where it wants to go, and has it remember its session. Both come from elsewhere.
/// fn welcome(to: &str, session: &str) -> Result<Response, FieldError> {
///     Response::empty(Status::SEE_OTHER)
///         .try_with_field("Location", to.to_owned())?
///         .try_with_field("Set-Cookie", format!("session={session}; HttpOnly"))
/// }
///
/// assert!(welcome("/chat", "8c2f").is_ok());
/// // Nobody gets a field of their own into the response.
/// let error = welcome("/\r\nSet-Cookie: session=mine", "8c2f").unwrap_err();
/// assert_eq!(error.to_string(), "the field \"Location\" has a name or a value that cannot be sent");
///
/// let conflict = Response::text(Status::CONFLICT, format!("{} is taken", "general"));
/// let teapot = Response::text(Status::new(418).expect("three digits"), "short and stout");
/// # drop((conflict, teapot));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: Status,
    content_type: Option<Cow<'static, str>>,
    /// Invariant: each name is a token, and each value that of a field.
    fields: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Bytes,
}

impl Response {
    /// A response with a text for a body.
    #[must_use]
    pub fn text(status: Status, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        };
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// A response with any body.
    #[must_use]
    pub fn new(status: Status, content_type: &'static str, body: Bytes) -> Self {
        Self { status, content_type: Some(content_type.into()), fields: Vec::new(), body }
    }

    /// A response without a body: 204, or a redirect.
    #[must_use]
    pub fn empty(status: Status) -> Self {
        Self { status, content_type: None, fields: Vec::new(), body: Bytes::new() }
    }

    /// 400, saying what is wrong.
    #[must_use]
    pub fn bad_request(body: &'static str) -> Self {
        Self::text(Status::BAD_REQUEST, body)
    }

    /// 204, naming the methods that are there: the answer to `OPTIONS` (RFC 9110, 9.3.7).
    #[must_use]
    pub fn options(methods: &'static str) -> Self {
        Self::empty(Status::NO_CONTENT).with_field("Allow", methods)
    }

    /// 405, naming the methods that are there. "The origin server MUST generate an Allow header field in a 405
    /// response" (RFC 9110, 15.5.6).
    #[must_use]
    pub fn method_not_allowed(methods: &'static str) -> Self {
        Self::text(Status::METHOD_NOT_ALLOWED, Status::METHOD_NOT_ALLOWED.reason())
            .with_field("Allow", methods)
    }

    /// 426, naming the protocol to use (RFC 9110, 15.5.22) and its version (RFC 6455, 4.4).
    #[must_use]
    pub fn upgrade_required(body: &'static str) -> Self {
        Self::text(Status::UPGRADE_REQUIRED, body)
            .with_field("Upgrade", "websocket")
            .with_field("Sec-WebSocket-Version", "13")
    }

    /// Adds a header field that is known beforehand.
    ///
    /// # Panics
    ///
    /// When it cannot be sent, see [`FieldError`]: what depends on anything goes to [`Self::try_with_field`].
    #[must_use]
    pub fn with_field(self, name: &'static str, value: &'static str) -> Self {
        self.try_with_field(name, value).unwrap_or_else(|error| panic!("Bug: {error}"))
    }

    /// Adds a header field, which may come from anywhere. A `Content-Type` takes the place of that of the body;
    /// other fields may come several times, as `Set-Cookie` does.
    ///
    /// # Errors
    ///
    /// A [`FieldError`]; the response is gone then.
    pub fn try_with_field(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Result<Self, FieldError> {
        let (name, value) = (name.into(), value.into());
        if !is_token(&name) || !is_field_value(&value) {
            return Err(FieldError::Malformed(name.into_owned()));
        }
        if RESERVED_FIELDS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(FieldError::Reserved(name.into_owned()));
        }
        if name.eq_ignore_ascii_case("content-type") {
            self.content_type = Some(value);
        } else {
            self.fields.push((name, value));
        }
        Ok(self)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The bytes of the response; without the body they are the answer to HEAD. `now` becomes its `Date`, which "an
    /// origin server with a clock MUST generate" (RFC 9110, 6.6.1), unless it has one.
    #[must_use]
    pub fn encode(&self, with_body: bool, now: SystemTime) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status.code(), self.status.reason());
        let mut field = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("Bug: writing to a string failed");
        };
        if let Some(content_type) = &self.content_type {
            field("Content-Type", content_type);
        }
        // "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx
        // (Informational) or 204 (No Content)" (RFC 9110, 8.6); that of a 304 would be about another response.
        if self.status.has_content() {
            field("Content-Length", &self.body.len().to_string());
        }
        field("Connection", "close");
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
            field("Date", &HttpDate::from(now).to_string());
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if with_body && self.status.has_content() {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl From<HeadError> for Response {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Self::text(
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Status::REQUEST_HEADER_FIELDS_TOO_LARGE.reason(),
            ),
            HeadError::Unreadable => Self::bad_request(Status::BAD_REQUEST.reason()),
            HeadError::Host => Self::bad_request("A request needs exactly one valid Host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The example of RFC 9110, 5.6.7.
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    const SECONDS: Duration = Duration::from_secs(784_111_777);

    #[test]
    fn a_response_is_complete_and_dated_and_closes() {
        assert_eq!(
            encoded(&Response::text(Status::NOT_FOUND, "Not Found")),
            format!(
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: 9\r\nConnection: close\r\n{DATE}\r\nNot Found"
            )
        );
        let dated = Response::empty(Status::OK).with_field("date", "yesterday");
        assert_eq!(encoded(&dated).to_ascii_lowercase().matches("\r\ndate: ").count(), 1);
    }

    #[test]
    fn head_is_answered_with_the_length_of_the_body_that_is_left_out() {
        let response = Response::upgrade_required("a hint");
        let with_body = response.encode(true, SystemTime::UNIX_EPOCH);
        let without = response.encode(false, SystemTime::UNIX_EPOCH);
        assert_eq!(with_body.strip_suffix(b"a hint"), Some(without.as_slice()));
        assert!(without.ends_with(b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"));
    }

    fn encoded(response: &Response) -> String {
        String::from_utf8(response.encode(true, SystemTime::UNIX_EPOCH + SECONDS)).expect("text")
    }

    #[test]
    fn any_status_text_and_field_may_be_sent() {
        let response = Response::text(Status::UNAUTHORIZED, format!("not {}", 1))
            .try_with_field("WWW-Authenticate".to_owned(), "Basic realm=\"here\"")
            .and_then(|response| response.try_with_field("Set-Cookie", "a=1"))
            .and_then(|response| response.try_with_field("Set-Cookie", "b=\u{e9}"))
            .and_then(|response| response.try_with_field("content-type", "text/x"))
            .expect("fields");
        assert_eq!(
            encoded(&response),
            format!(
                "HTTP/1.1 401 Unauthorized\r\nContent-Type: text/x\r\nContent-Length: 5\r\n\
                 Connection: close\r\n{DATE}WWW-Authenticate: Basic realm=\"here\"\r\nSet-Cookie: a=1\r\n\
                 Set-Cookie: b=\u{e9}\r\n\r\nnot 1"
            )
        );
        // A reason phrase may be empty, and the space before it stays (RFC 9112, 4).
        let unknown = Response::text(Status::new(599).expect("a code"), "");
        assert!(encoded(&unknown).starts_with("HTTP/1.1 599 \r\n"));
        assert_eq!([0, 99, 600, u16::MAX].map(Status::new), [None; 4]);
        assert_eq!([100, 599].map(|code| Status::new(code).map(Status::code)), [Some(100), Some(599)]);
    }

    #[test]
    fn where_there_can_be_no_content_there_is_no_length_either() {
        let expected = format!("HTTP/1.1 204 No Content\r\nConnection: close\r\n{DATE}Allow: GET\r\n\r\n");
        assert_eq!(encoded(&Response::options("GET")), expected);
        let with_body = Response::text(Status::NOT_MODIFIED, "lost");
        assert!(!encoded(&with_body).contains("Content-Length") && !encoded(&with_body).contains("lost"));
        let redirect = Response::empty(Status::FOUND).with_field("Location", "/there");
        let expected = format!(
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n{DATE}Location: /there\r\n\r\n"
        );
        assert_eq!(encoded(&redirect), expected);
    }

    #[test]
    fn nothing_gets_into_a_response_through_a_field() {
        let adding = |name: &str, value: &str| {
            Response::empty(Status::OK).try_with_field(name.to_owned(), value.to_owned())
        };
        for (name, value) in [
            ("Location", "/\r\nSet-Cookie: a=1"),
            ("Location", "/\n"),
            ("Location", "/\r"),
            ("Location", "\0"),
            ("A\r\nB", "c"),
            ("A: b", "c"),
            ("A ", "b"),
            ("", "b"),
            ("\u{e9}", "b"),
        ] {
            assert_eq!(adding(name, value), Err(FieldError::Malformed(name.to_owned())), "{value:?}");
        }
        for name in ["Content-Length", "transfer-encoding", "CONNECTION"] {
            assert_eq!(adding(name, "0"), Err(FieldError::Reserved(name.to_owned())));
        }
        assert!(adding("Location", "/a b\tc").is_ok());
    }
}
