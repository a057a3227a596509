//! `/api/v1/openapi.json`: the description of the interface, for programs (OpenAPI 3.1). It needs no key.

use axum::http::{HeaderName, HeaderValue, header};

const DESCRIPTION: &str = include_str!("../../../docs/openapi.json");

pub(crate) async fn show() -> ([(HeaderName, HeaderValue); 1], &'static str) {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], DESCRIPTION)
}
