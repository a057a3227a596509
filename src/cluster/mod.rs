//! This server as a node of a cluster: the thread that connects it with the log that all nodes share in Redis.
//!
//! Toward the shards it is like the storage: they propose, and it answers with receipts, through bounded queues. For each
//! partition of the log it drives a [`Bridge`](uproar_cluster::Bridge) over connections to Redis (`partition`), and carries
//! what comes out of the log to the homes of the rooms that it is about (`routes`), and to the shards of users to whom other
//! nodes have `told` something. While one of them cannot take more, the log is not read.
//!
//! - `observed` counts for the metrics.
//! - `people` notes where the users of other nodes are.
//! - `replies` has what connections are told about their mail to other nodes.
//! - `waiting` has those that wait until their user has ended on another node.
//! - `start` begins with the log, and opens the configured rooms in it.
//! - `terms` has bans and mutes as the log has them.
//! - `link` is a shard's end.

mod error;
mod link;
mod observed;
mod partition;
mod people;
mod replies;
mod routes;
mod start;
mod terms;
mod told;
mod waiting;

pub use error::{ClusterEnd, ClusterError};
pub use link::{ClusterLink, MailRoom, Trust};
pub use start::{ClusterBeginning, ClusterStart, ClusterThread, start};
