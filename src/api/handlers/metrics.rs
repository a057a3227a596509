//! `/metrics`: Prometheus text, version 0.0.4.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::api::keys::Scope;
use crate::api::{Api, Problem};
use crate::metrics::TEXT_TYPE;

pub(in crate::api) async fn show(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<([(HeaderName, HeaderValue); 1], String), Problem> {
    api.0.access.authorize(&headers, Scope::Read)?;
    let text = api.0.metrics.render(api.0.directory.users_online());
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_TYPE))], text))
}
