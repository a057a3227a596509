//! Answers: complete HTTP responses. The one that opens a WebSocket is in [`super::upgrade`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
pub use http::StatusCode;
use httpdate::HttpDate;

use super::field::{FieldError, is_field_value, is_token};
use super::head::HeadError;

/// The fields that say where a response ends and what becomes of its connection. [`Response::encode`] writes them.
const RESERVED_FIELDS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// A response that ends its connection.
///
/// ```
/// use uproar_protocol::field::FieldError;
/// use uproar_protocol::response::{Response, StatusCode};
///
/// /// Sends a browser where it wants to go, and has it remember its session. Both come from elsewhere.
/// fn welcome(to: &str, session: &str) -> Result<Response, FieldError> {
///     Response::empty(StatusCode::SEE_OTHER)
///         .try_with_field("Location", to.to_owned())?
///         .try_with_field("Set-Cookie", format!("session={session}; HttpOnly"))
/// }
///
/// assert!(welcome("/chat", "8c2f").is_ok());
/// // Nobody gets a field of their own into the response.
/// let error = welcome("/\r\nSet-Cookie: session=mine", "8c2f").unwrap_err();
/// assert_eq!(error.to_string(), "the field \"Location\" has a name or a value that cannot be sent");
///
/// let conflict = Response::text(StatusCode::CONFLICT, format!("{} is taken", "general"));
/// let teapot = Response::text(StatusCode::IM_A_TEAPOT, "short and stout");
/// # drop((conflict, teapot));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: StatusCode,
    content_type: Option<Cow<'static, str>>,
    /// Invariant: each name is a token, and each value that of a field.
    fields: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    body: Bytes,
}

impl Response {
    /// A response with a text for a body.
    #[must_use]
    pub fn text(status: StatusCode, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Bytes::from_static(text.as_bytes()),
            Cow::Owned(text) => text.into(),
        };
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// A response whose body is the status's reason phrase (RFC 9110, section 15).
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        Self::text(status, status.canonical_reason().unwrap_or_default())
    }

    /// A response with any body.
    #[must_use]
    pub fn new(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        Self { status, content_type: Some(content_type.into()), fields: Vec::new(), body }
    }

    /// A response without a body: 204, or a redirect.
    #[must_use]
    pub fn empty(status: StatusCode) -> Self {
        Self { status, content_type: None, fields: Vec::new(), body: Bytes::new() }
    }

    /// 400, saying what is wrong.
    #[must_use]
    pub fn bad_request(body: &'static str) -> Self {
        Self::text(StatusCode::BAD_REQUEST, body)
    }

    /// 204, naming the methods that are there: the answer to `OPTIONS` (RFC 9110, 9.3.7).
    #[must_use]
    pub fn options(methods: &'static str) -> Self {
        Self::empty(StatusCode::NO_CONTENT).with_field("Allow", methods)
    }

    /// 405, naming the methods that are there. "The origin server MUST generate an Allow header field in a 405
    /// response" (RFC 9110, 15.5.6).
    #[must_use]
    pub fn method_not_allowed(methods: &'static str) -> Self {
        Self::of_status(StatusCode::METHOD_NOT_ALLOWED).with_field("Allow", methods)
    }

    /// 426, naming the protocol to use (RFC 9110, 15.5.22) and its version (RFC 6455, 4.4).
    #[must_use]
    pub fn upgrade_required(body: &'static str) -> Self {
        Self::text(StatusCode::UPGRADE_REQUIRED, body)
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
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The bytes of the response; without the body they are the answer to HEAD. `now` becomes its `Date`, which "an
    /// origin server with a clock MUST generate" (RFC 9110, 6.6.1), unless it has one.
    #[must_use]
    pub fn encode(&self, with_body: bool, now: SystemTime) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_str());
        let mut field = |name: &str, value: &str| {
            write!(head, "{name}: {value}\r\n").expect("Bug: writing to a string failed");
        };
        if let Some(content_type) = &self.content_type {
            field("Content-Type", content_type);
        }
        // "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx
        // (Informational) or 204 (No Content)" (RFC 9110, 8.6); that of a 304 would be about another response.
        if has_content(self.status) {
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
        if with_body && has_content(self.status) {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// False where a response ends with its head (RFC 9110, section 6.4.1).
fn has_content(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

impl From<HeadError> for Response {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Self::of_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            HeadError::Unreadable => Self::of_status(StatusCode::BAD_REQUEST),
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
            encoded(&Response::text(StatusCode::NOT_FOUND, "Not Found")),
            format!(
                "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: 9\r\nConnection: close\r\n{DATE}\r\nNot Found"
            )
        );
        let dated = Response::empty(StatusCode::OK).with_field("date", "yesterday");
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
        let response = Response::text(StatusCode::UNAUTHORIZED, format!("not {}", 1))
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
        let unknown = Response::text(StatusCode::from_u16(599).expect("a code"), "");
        assert!(encoded(&unknown).starts_with("HTTP/1.1 599 \r\n"));
    }

    #[test]
    fn where_there_can_be_no_content_there_is_no_length_either() {
        let expected = format!("HTTP/1.1 204 No Content\r\nConnection: close\r\n{DATE}Allow: GET\r\n\r\n");
        assert_eq!(encoded(&Response::options("GET")), expected);
        let with_body = Response::text(StatusCode::NOT_MODIFIED, "lost");
        assert!(!encoded(&with_body).contains("Content-Length") && !encoded(&with_body).contains("lost"));
        let redirect = Response::empty(StatusCode::FOUND).with_field("Location", "/there");
        let expected = format!(
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n{DATE}Location: /there\r\n\r\n"
        );
        assert_eq!(encoded(&redirect), expected);
    }

    #[test]
    fn nothing_gets_into_a_response_through_a_field() {
        let adding = |name: &str, value: &str| {
            Response::empty(StatusCode::OK).try_with_field(name.to_owned(), value.to_owned())
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
