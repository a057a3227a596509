//! What a server is in a cluster.

use uproar_cluster::NodeName;
use uproar_cluster::client::RedisAddress;

/// The place of a server among those that share rooms through Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where Redis is, and as whom to sign in.
    pub redis: RedisAddress,
    /// The name of this server. No other one in the cluster has it.
    pub node: NodeName,
    /// How many replicas of Redis must have a message before it is acknowledged. Default 0: only its primary.
    pub replicas: u16,
    /// Into how many logs rooms are divided. Default 1. All nodes have the same number. At most
    /// [`PARTITIONS_MAX`](super::PARTITIONS_MAX).
    pub partitions: u16,
    /// How many bytes of each log Redis keeps, for nodes that are behind. Default 256 MiB. At least
    /// [`LOG_BYTES_MIN`](super::LOG_BYTES_MIN).
    pub log_bytes: u64,
}

impl Cluster {
    /// The place of a node with the defaults.
    #[must_use]
    pub fn new(redis: RedisAddress, node: NodeName) -> Self {
        Self { redis, node, replicas: 0, partitions: 1, log_bytes: 256 << 20 }
    }
}
