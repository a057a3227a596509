//! `/metrics`: Prometheus text, version 0.0.4.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};

use crate::api::state::Api;
use crate::metrics::TEXT_TYPE;

pub(crate) async fn show(State(api): State<Api>) -> ([(HeaderName, HeaderValue); 1], String) {
    let text = api.0.metrics.render(api.0.directory.users_online());
    ([(header::CONTENT_TYPE, HeaderValue::from_static(TEXT_TYPE))], text)
}
