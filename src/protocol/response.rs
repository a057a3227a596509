//! Answers: complete HTTP responses. The one that opens a WebSocket is in [`super::upgrade`].

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;

/// The status codes that servers of WebSockets answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the code of this name in RFC 9110, 15, or RFC 6585")]
pub enum Status {
    Ok = 200,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    ServiceUnavailable = 503,
}

impl Status {
    /// The three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::UpgradeRequired => "Upgrade Required",
            Self::TooManyRequests => "Too Many Requests",
            Self::RequestHeaderFieldsTooLarge => "Request Header Fields Too Large",
            Self::InternalServerError => "Internal Server Error",
            Self::ServiceUnavailable => "Service Unavailable",
        }
    }
}

/// A response that ends its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: Status,
    content_type: &'static str,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Bytes,
}

impl Response {
    /// A response with a short text for a body.
    #[must_use]
    pub fn text(status: Status, body: &'static str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
    }

    /// A response with any body.
    #[must_use]
    pub fn new(status: Status, content_type: &'static str, body: Bytes) -> Self {
        Self { status, content_type, fields: Vec::new(), body }
    }

    /// The metrics in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn metrics(text: String) -> Self {
        Self::new(Status::Ok, "text/plain; version=0.0.4; charset=utf-8", text.into())
    }

    /// 400, saying what is wrong.
    #[must_use]
    pub fn bad_request(body: &'static str) -> Self {
        Self::text(Status::BadRequest, body)
    }

    /// 405. "The origin server MUST generate an Allow header field in a 405 response" (RFC 9110, 15.5.6).
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::text(Status::MethodNotAllowed, Status::MethodNotAllowed.reason())
            .with_field("Allow", "GET, HEAD")
    }

    /// 426, naming the protocol to use (RFC 9110, 15.5.22) and its version (RFC 6455, 4.4).
    #[must_use]
    pub fn upgrade_required(body: &'static str) -> Self {
        Self::text(Status::UpgradeRequired, body)
            .with_field("Upgrade", "websocket")
            .with_field("Sec-WebSocket-Version", "13")
    }

    /// Adds a header field.
    ///
    /// # Panics
    ///
    /// When the value has a line break: what comes from a request must have been looked at before.
    #[must_use]
    pub fn with_field(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let value = value.into();
        assert!(!value.contains(['\r', '\n']), "Bug: a line break in the field {name}");
        self.fields.push((name, value));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The bytes of the response; without the body they are the answer to HEAD.
    #[must_use]
    pub fn encode(&self, with_body: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n",
            self.status.code(),
            self.status.reason(),
            self.content_type,
            self.body.len(),
        );
        for (name, value) in &self.fields {
            write!(head, "{name}: {value}\r\n").expect("Bug: writing to a string failed");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if with_body {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_and_closes() {
        let bytes = Response::text(Status::NotFound, "Not Found").encode(true);
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 9\r\nConnection: close\r\n\r\nNot Found"
        );
    }

    #[test]
    fn head_is_answered_with_the_length_of_the_body_that_is_left_out() {
        let response = Response::upgrade_required("a hint");
        let with_body = response.encode(true);
        let without = response.encode(false);
        assert_eq!(with_body.strip_suffix(b"a hint"), Some(without.as_slice()));
        assert!(without.ends_with(b"\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"));
    }
}
