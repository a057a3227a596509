//! What the homes of a server in a cluster know beside their rooms.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::rooms::shared_log::Nodes;
use crate::rooms::{ClientRef, RoomIndex, ShardIndex};

/// What homes of a cluster know.
#[derive(Debug)]
pub(super) struct Sharing {
    /// By partition, the epoch of its log.
    pub(super) epochs: Vec<Arc<str>>,
    pub(super) nodes: Nodes,
    /// The nodes that are gone, and the rooms in which their members are still to leave.
    pub(super) departing: Vec<(ShardIndex, Vec<RoomIndex>)>,
    /// The requests of the HTTP API that wait until a message of a topic is in the log, by ticket.
    pub(super) relays: HashMap<u64, ClientRef>,
    /// The rooms with changes of this server that too few replicas have, by partition and entry.
    pub(super) unreplicated: VecDeque<(u16, u64, RoomIndex)>,
    /// Whether replicas are waited for.
    pub(super) awaits_replicas: bool,
}
