//! `GET /admin`: the admin page. It needs no key; what it shows does.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::IntoResponse;

use crate::page;

pub(crate) async fn show() -> impl IntoResponse {
    let (html, policy) = page::admin();
    let fields: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (fields, html)
}
