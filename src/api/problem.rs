//! Errors of the interface as `application/problem+json` (RFC 9457).

use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Why a request failed, as the caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    errors: Vec<FieldError>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// A field of the body or a parameter of the query that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// What is wrong.
    pub detail: String,
    /// A JSON pointer to the field (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The name of the query's parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
}

/// The kinds of problems: their type, title and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request or its body cannot be read.
    Malformed,
    /// There is no key.
    Unauthenticated,
    /// The key is not one of the file.
    WrongKey,
    /// The key lacks the scope.
    InsufficientScope,
    /// A page of another origin has made the request.
    ForeignOrigin,
    /// There is nothing of this name.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body did not come in time.
    Timeout,
    /// The body is longer than allowed.
    TooLarge,
    /// The body has another content type.
    UnsupportedType,
    /// The first request with the same idempotency key is under way.
    UnderWay,
    /// The state of what the request is about does not allow it.
    Conflict,
    /// A value is not allowed.
    Invalid,
    /// The interface has as much to do as it may.
    Busy,
    /// Nothing happened: the server shuts down, or cannot store the message.
    Unavailable,
    /// Members may have seen what happened, and it could not be stored.
    NotStored,
    /// The outcome is unknown.
    Unknown,
}

impl ProblemKind {
    /// The name that ends the problem's type, its title, and its status.
    fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::Malformed => ("malformed", "The request cannot be read", StatusCode::BAD_REQUEST),
            Self::Unauthenticated => ("unauthenticated", "A key is needed", StatusCode::UNAUTHORIZED),
            Self::WrongKey => ("wrong-key", "The key is not known", StatusCode::UNAUTHORIZED),
            Self::InsufficientScope => {
                ("insufficient-scope", "The key does not allow this", StatusCode::FORBIDDEN)
            }
            Self::ForeignOrigin => {
                ("foreign-origin", "Pages of other origins may not do this", StatusCode::FORBIDDEN)
            }
            Self::NotFound => ("not-found", "There is no such thing", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => {
                ("method-not-allowed", "The path has other methods", StatusCode::METHOD_NOT_ALLOWED)
            }
            Self::Timeout => ("timeout", "The request took too long", StatusCode::REQUEST_TIMEOUT),
            Self::TooLarge => ("too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedType => {
                ("unsupported-type", "The content type is not supported", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Self::UnderWay => ("under-way", "The first request is under way", StatusCode::CONFLICT),
            Self::Conflict => ("conflict", "The present state does not allow this", StatusCode::CONFLICT),
            Self::Invalid => ("invalid", "A value is not allowed", StatusCode::UNPROCESSABLE_ENTITY),
            Self::Busy => ("busy", "The interface is busy", StatusCode::TOO_MANY_REQUESTS),
            Self::Unavailable => ("unavailable", "Nothing happened", StatusCode::SERVICE_UNAVAILABLE),
            Self::NotStored => {
                ("not-stored", "It happened, and could not be stored", StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Unknown => ("unknown-outcome", "The outcome is unknown", StatusCode::GATEWAY_TIMEOUT),
        }
    }
}

impl Problem {
    /// A problem, explained by a sentence for the caller.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let mut problem = Self { kind, detail: detail.into(), errors: Vec::new(), fields: Vec::new() };
        if matches!(kind, ProblemKind::Busy | ProblemKind::Unavailable) {
            problem.fields.push((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        problem
    }

    /// A path whose names cannot be read.
    #[must_use]
    pub(super) fn of_path(rejection: PathRejection) -> Self {
        Self::new(ProblemKind::Malformed, rejection.body_text())
    }

    /// Fields or parameters that are wrong.
    #[must_use]
    pub fn of_fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(ProblemKind::Invalid, "see errors") }
    }

    /// With a header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    /// True where nothing happened, and the same request may succeed later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.kind, ProblemKind::Busy | ProblemKind::Unavailable)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.parts().2
    }

    /// The problem as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let (kind, title, status) = self.kind.parts();
        let mut value = serde_json::json!({
            "type": format!("urn:uproar:problem:{kind}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            value["errors"] = serde_json::json!(self.errors);
        }
        value
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = self.to_json().to_string();
        let mut response = (self.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.fields);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_the_rfc() {
        let error =
            FieldError { detail: "not a string".into(), pointer: Some("/content".into()), parameter: None };
        assert_eq!(
            Problem::of_fields(vec![error]).to_json(),
            serde_json::json!({
                "type": "urn:uproar:problem:invalid",
                "title": "A value is not allowed",
                "status": 422,
                "detail": "see errors",
                "errors": [{"detail": "not a string", "pointer": "/content"}],
            })
        );
        let busy = Problem::new(ProblemKind::Busy, "too many requests").into_response();
        assert_eq!(busy.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        assert_eq!(busy.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
