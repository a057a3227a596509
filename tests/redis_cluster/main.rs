//! What becomes of a cluster when something of it fails: nodes as processes, and Redis as a process of each test's own.
//!
//! A file holds one kind of failure, or what is divided among nodes and logs. `nodes` starts nodes and asks them how
//! they are, `redis` is a Redis that can be broken, and `room` is a room as its members see it. A failure lasts until
//! clients, or the probes of a load balancer, have seen it.

#![allow(clippy::unwrap_used)]

#[path = "../behaviour/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "nodes need a part of what the behaviours of a server need"
)]
mod harness;

mod nodes;
mod redis;
mod room;

mod moderation;
mod node_behind;
mod node_fenced;
mod node_killed;
mod node_names;
mod node_settings;
mod node_stopped;
mod partitions;
mod redis_damaged;
mod redis_emptied;
mod redis_gone;
mod redis_hindered;
mod redis_of_cluster;
mod redis_replicas;
mod redis_restarted;
mod redis_sentinels;
mod sessions;
mod topics;
