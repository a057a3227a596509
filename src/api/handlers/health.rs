//! `/healthz` and `/readyz`, as on the clients' port.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::StatusCode;

use crate::api::state::Api;
use crate::metrics::Metrics;

/// 200 while the server runs, 503 while it shuts down.
pub(crate) async fn alive(State(api): State<Api>) -> (StatusCode, Cow<'static, str>) {
    let metrics = &api.0.metrics;
    state(draining(metrics).or_else(|| metrics.health().problem().map(Cow::Borrowed)), "ok")
}

/// 200 while messages are taken.
pub(crate) async fn ready(State(api): State<Api>) -> (StatusCode, Cow<'static, str>) {
    let metrics = &api.0.metrics;
    state(draining(metrics).or_else(|| metrics.health().readiness_problem()), "ready")
}

fn draining(metrics: &Metrics) -> Option<Cow<'static, str>> {
    metrics.is_draining().then_some("draining".into())
}

fn state(problem: Option<Cow<'static, str>>, all_is_well: &'static str) -> (StatusCode, Cow<'static, str>) {
    match problem {
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem),
        None => (StatusCode::OK, all_is_well.into()),
    }
}
