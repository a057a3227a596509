//! The process in numbers.

use serde::Serialize;

use super::shard_loads::ShardLoads;
use crate::metrics::Metrics;
use crate::rooms::Directory;

/// The process in numbers, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// The version of the server.
    pub version: &'static str,
    /// The time since it started.
    pub uptime_seconds: u64,
    /// The users of chat and hub.
    pub users_online: usize,
    /// All upgraded connections.
    pub connections: usize,
    /// The most that there may be.
    pub connections_max: usize,
    /// The rooms that are open.
    pub rooms: usize,
    /// The threads that serve connections.
    pub shards: u16,
    /// The load of each of them.
    pub shard_loads: Vec<ShardLoad>,
    /// Whether it shuts down.
    pub draining: bool,
}

/// The load of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ShardLoad {
    /// Its index.
    pub shard: usize,
    /// Its upgraded connections.
    pub connections: u64,
    /// Its busy share of the last seconds; `None` in the first one.
    pub busy_share: Option<f64>,
}

impl Stats {
    pub(super) fn of(directory: &Directory, metrics: &Metrics, loads: &ShardLoads) -> Self {
        let shares = metrics.shard_connections().into_iter().zip(loads.busy_shares(metrics)).enumerate();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: metrics.uptime().as_secs(),
            users_online: directory.users_online(),
            connections: metrics.clients(),
            connections_max: metrics.clients_max(),
            rooms: directory.rooms().len() + directory.on_demand().len(),
            shards: directory.shards(),
            shard_loads: shares
                .map(|(shard, (connections, busy_share))| ShardLoad { shard, connections, busy_share })
                .collect(),
            draining: metrics.is_draining(),
        }
    }
}
