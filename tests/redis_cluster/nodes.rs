//! The nodes of a test's cluster, and what each says of itself.

use std::thread;

use crate::harness::{Launch, Server, Wire, eventually, request};
use crate::redis::Redis;

/// A node of this name.
pub(crate) fn node(redis: &Redis, name: &str) -> Launch {
    node_at(&redis.url(), name)
}

/// A node of this name, which is told that Redis is at this address.
pub(crate) fn node_at(redis: &str, name: &str) -> Launch {
    let launch = Launch::with_shards(2).flag("--rooms", "general,games").without_rate_limit();
    launch.flag("--redis", redis).flag("--node", name)
}

/// The first nodes of a cluster, which begin at the same time: the first start of all waits some seconds for others.
pub(crate) fn start<const COUNT: usize>(launches: [Launch; COUNT]) -> [Server; COUNT] {
    let starting = launches.map(|launch| thread::spawn(move || launch.start()));
    starting.map(|node| node.join().expect("the node starts"))
}

/// Two nodes, `a` and `b`.
pub(crate) fn start_two(redis: &Redis) -> [Server; 2] {
    start([node(redis, "a"), node(redis, "b")])
}

/// What `/readyz` answers.
pub(crate) async fn readiness(node: &Server) -> (u16, String) {
    let mut wire = Wire::connect(node).await;
    wire.send(request(node, "GET", "/readyz", "")).await;
    let response = wire.response().await;
    (response.status, response.body.trim_end().to_owned())
}

/// Waits until the node is ready for clients.
pub(crate) async fn becomes_ready(node: &Server) {
    eventually("ready", async || readiness(node).await.0 == 200).await;
}

/// Waits until the node has found out that it has lost Redis.
pub(crate) async fn becomes_unready(node: &Server) {
    eventually("not ready", async || readiness(node).await.0 == 503).await;
    let (_, reason) = readiness(node).await;
    assert_eq!(reason, "the cluster's log is out of reach: Redis cannot be reached");
}

/// Waits until the node's log or banner has this.
pub(crate) async fn says(node: &Server, text: &str) {
    eventually(text, async || node.output().contains(text)).await;
}
