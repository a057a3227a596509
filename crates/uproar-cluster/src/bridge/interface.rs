//! What a bridge is given, asks for and tells.

use std::sync::Arc;

use crate::{Command, Entry, Incarnation, Keys, Mirror, NodeName, Settings};

/// What a bridge is made for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub node: NodeName,
    /// A random number: a node that begins again has another.
    pub incarnation: Incarnation,
    /// The partition.
    pub keys: Keys,
    /// What all nodes have alike.
    pub settings: Settings,
    /// How many replicas of Redis must have an entry of this node before [`Event::Replicated`] tells of it. With 0 that
    /// event never comes: what the primary has counts.
    pub replicas: u16,
}

/// What the thread around the bridge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this on the connection for commands, and hand the answer to
    /// [`Bridge::handle_reply`](crate::Bridge::handle_reply). No other follows before.
    Run(Command),
    /// Read some entries behind this one on the connection for reading, and hand the answer of `XREAD` for this stream
    /// to [`Bridge::handle_read`](crate::Bridge::handle_read). No other follows before.
    Read {
        /// The number of an entry; 0 for the beginning.
        behind: u64,
        /// Whether to wait a second for the first, or to be told at once that there is none.
        waits: bool,
    },
    /// Close both connections, and open new ones: see [`Bridge::handle_connected`](crate::Bridge::handle_connected).
    /// Answers to earlier actions do not count any more.
    Reconnect {
        /// Why, for the log.
        why: &'static str,
    },
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<T> {
    /// The node has begun. What was true at this moment is here; entries follow.
    Begun(Box<Mirror>),
    /// An entry of the log. For one of this node, `tickets` has that of each proposal that had one.
    Entry {
        /// The entry.
        entry: Arc<Entry>,
        /// As many as proposals, or none.
        tickets: Vec<Option<T>>,
    },
    /// As many replicas as were asked for have all entries of this node up to this one, whether they were read already
    /// or not.
    Replicated {
        /// The number of an entry.
        through: u64,
    },
    /// A proposal has waited too long and was never sent. It will not happen.
    Refused(T),
    /// A room is damaged in Redis: hand it to [`Bridge::repair`](crate::Bridge::repair) as it is after the last entry.
    Damaged {
        /// Its name.
        room: Arc<str>,
        /// The entry by which that happened.
        entry: u64,
    },
    /// Redis has lost the log: hand everything to [`Bridge::rewrite`](crate::Bridge::rewrite) as it is after the last
    /// entry.
    Rewrite,
    /// The node is at an end here, and has to begin with another incarnation. It is not certain what became of the
    /// proposals with these tickets.
    Ended {
        /// Why.
        end: End,
        /// Those that had no answer.
        tickets: Vec<T>,
    },
}

/// Why a bridge is at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The node has ended in order, as [`Bridge::leave`](crate::Bridge::leave) has asked for. If Redis could not be
    /// reached, the others will declare it gone.
    Left,
    /// Others have declared the node gone, because it was silent for too long.
    Fenced,
    /// Another process has begun with the node's name. Beginning again would end that one.
    Replaced,
    /// The log is not what this node has read: it was trimmed meanwhile, or an end was lost that only this node has
    /// seen.
    OtherLog,
    /// The node cannot take part, for example because its settings differ. Trying again does not help.
    Refused(String),
}
