//! `GET /stats`: the process in numbers.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::api::state::Api;

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    version: &'static str,
    uptime_seconds: u64,
    users_online: usize,
    connections: usize,
    connections_max: usize,
    rooms: usize,
    shards: u16,
    draining: bool,
}

pub(crate) async fn show(State(api): State<Api>) -> Json<Stats> {
    let (directory, metrics) = (&api.0.directory, &api.0.metrics);
    Json(Stats {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: metrics.uptime().as_secs(),
        users_online: directory.users_online(),
        connections: metrics.clients(),
        connections_max: metrics.clients_max(),
        rooms: directory.rooms().len() + directory.on_demand().len(),
        shards: directory.shards(),
        draining: metrics.is_draining(),
    })
}
