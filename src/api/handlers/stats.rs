//! `GET /stats`: the process in numbers.

use axum::Json;
use axum::extract::State;

use crate::api::state::Api;
use crate::api::stats::Stats;

pub(crate) async fn show(State(api): State<Api>) -> Json<Stats> {
    Json(Stats::of(&api.0.directory, &api.0.metrics, &api.0.loads))
}
