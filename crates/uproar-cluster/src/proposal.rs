//! What a node asks the log for.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::terms::{TermChange, changes_text};
use crate::{Incarnation, NodeName, Tag};

/// A room, as a proposal names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// Its name.
    pub name: Arc<str>,
    /// The entry that opened it. A room that was forgotten since, or opened anew, is another one: the answer is
    /// [`Answer::RoomGone`](crate::Answer::RoomGone).
    pub opened: u64,
}

/// Names a request that may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// A digest of who asks, and of the key.
    pub key: u128,
    /// A digest of what is asked for.
    pub content: u64,
}

/// A change that a node asks for, or something that all nodes are to hear in the log's order.
///
/// Payloads are what only nodes read: a member's name, a message's content. They lie beside the proposals in an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proposal {
    /// The only proposal of a node's first batch. An earlier incarnation of its name ends with it, and all that one's
    /// members.
    Begin {
        /// The incarnation that ends, as this process has seen it.
        replaces: Option<Incarnation>,
        /// The newest format that it reads.
        reads: u16,
    },
    /// Nothing. A node that sees its own canaries knows that it reads the log; others see that the node is there.
    Canary,
    /// A node was silent. Those of its incarnation are members no longer, unless it has appended a batch since.
    NodeGone {
        /// Its last batch that was seen.
        seen: Tag,
    },
    /// The node ends in order, and with it all its members. It is the last proposal of its last batch.
    End,
    /// The log's epoch changes: ids of messages before and after are not compared. Only a recovery proposes it.
    Epoch {
        /// The new one.
        epoch: Arc<str>,
    },
    /// Give a block of user ids to the node, that nobody else gets. Only the first partition gives them out.
    Numbers,
    /// Open a room, if it is not open.
    Open {
        /// Its name.
        name: Arc<str>,
    },
    /// Forget a room and its messages, if it has no members.
    Forget {
        /// The room.
        room: Room,
    },
    /// Enter a room. A user who is a member by an earlier visit leaves first; one by a later visit stays.
    Join {
        /// The room.
        room: Room,
        /// The user.
        user: u64,
        /// Which of the user's connections this is: later ones have higher numbers.
        visit: u64,
        /// The member as others see it.
        #[serde(skip)]
        member: Bytes,
    },
    /// Leave a room, unless the user is a member by another visit. Whatever the answer, the user has left the cluster,
    /// unless it goes on.
    Leave {
        /// The room.
        room: Room,
        /// The user.
        user: u64,
        /// Its connection.
        visit: u64,
        /// True where the connection is about to enter another room. If it does not, one that does not go on follows.
        goes_on: bool,
    },
    /// Change what others see of a member.
    Rename {
        /// The room.
        room: Room,
        /// The user.
        user: u64,
        /// Its connection.
        visit: u64,
        /// The member as others see it from now on.
        #[serde(skip)]
        member: Bytes,
    },
    /// Send a message to a room. It is dropped if its author is no member by `visit`.
    Message {
        /// The room.
        room: Room,
        /// The author; 0 is the system.
        user: u64,
        /// Its connection; `None` for one that need not be a member.
        visit: Option<u64>,
        /// Its account, which may delete the message later.
        account: Option<Arc<str>>,
        /// Names the request: if it was made before, the message is not sent again.
        request: Option<RequestKey>,
        /// The message.
        #[serde(skip)]
        message: Bytes,
    },
    /// Delete a message from a room's history.
    Delete {
        /// The room.
        room: Room,
        /// Its id.
        message: u64,
        /// Who wants to.
        user: u64,
        /// The account of that user.
        account: Option<Arc<str>>,
        /// True for one who may delete messages of others.
        is_admin: bool,
    },
    /// Tell all nodes, or one, something that nothing here keeps: who types, a message of a topic, a private message.
    Tell {
        /// The only node that is to hear it.
        only: Option<(NodeName, Incarnation)>,
        /// What it is.
        #[serde(skip)]
        what: Bytes,
    },
    /// Change bans and mutes. Only the first partition has them.
    Terms {
        /// The changes, in their order.
        changes: Vec<TermChange>,
        /// What they mean for connections.
        #[serde(skip)]
        notices: Bytes,
    },
}

impl Proposal {
    /// The room that the script has to know.
    pub(crate) fn room(&self) -> Option<(&Arc<str>, Option<u64>)> {
        match self {
            Self::Open { name } => Some((name, None)),
            Self::Forget { room }
            | Self::Join { room, .. }
            | Self::Leave { room, .. }
            | Self::Rename { room, .. }
            | Self::Message { room, .. }
            | Self::Delete { room, .. } => Some((&room.name, Some(room.opened))),
            Self::Begin { .. }
            | Self::Canary
            | Self::NodeGone { .. }
            | Self::End
            | Self::Epoch { .. }
            | Self::Numbers
            | Self::Tell { .. }
            | Self::Terms { .. } => None,
        }
    }

    /// What only nodes read.
    pub(crate) fn payload(&self) -> &[u8] {
        match self {
            Self::Join { member, .. } | Self::Rename { member, .. } => member,
            Self::Message { message, .. } => message,
            Self::Tell { what, .. } => what,
            Self::Terms { notices, .. } => notices,
            _ => &[],
        }
    }

    pub(crate) fn set_payload(&mut self, payload: Bytes) {
        match self {
            Self::Join { member, .. } | Self::Rename { member, .. } => *member = payload,
            Self::Message { message, .. } => *message = payload,
            Self::Tell { what, .. } => *what = payload,
            Self::Terms { notices, .. } => *notices = payload,
            _ => {}
        }
    }

    /// The script's word for it, and the fields that go with it. `payload` is the place of the payload: from, to.
    pub(crate) fn arguments(&self, payload: (usize, usize)) -> (&'static str, Vec<String>) {
        let (from, to) = (payload.0.to_string(), payload.1.to_string());
        let text = |account: &Option<Arc<str>>| account.as_deref().unwrap_or_default().to_owned();
        match self {
            Self::Begin { replaces, reads } => {
                let replaced = replaces.map(|it| it.to_string()).unwrap_or_default();
                ("begin", vec![replaced, reads.to_string()])
            }
            Self::Canary | Self::Tell { .. } => ("pass", vec![]),
            Self::Terms { changes, .. } => ("terms", vec![changes_text(changes)]),
            Self::NodeGone { seen } => {
                ("gone", vec![seen.node.to_string(), seen.incarnation.to_string(), seen.batch.to_string()])
            }
            Self::End => ("ends", vec![]),
            Self::Epoch { epoch } => ("epoch", vec![epoch.as_ref().to_owned()]),
            Self::Numbers => ("numbers", vec![]),
            Self::Open { .. } => ("open", vec![]),
            Self::Forget { .. } => ("forget", vec![]),
            Self::Join { user, visit, .. } => ("join", vec![user.to_string(), visit.to_string(), from, to]),
            Self::Leave { user, visit, .. } => ("leave", vec![user.to_string(), visit.to_string()]),
            Self::Rename { user, visit, .. } => {
                ("rename", vec![user.to_string(), visit.to_string(), from, to])
            }
            Self::Message { user, visit, account, request, .. } => {
                let visit = visit.map(|visit| visit.to_string()).unwrap_or_default();
                let mut fields = vec![user.to_string(), visit, from, to, text(account)];
                if let Some(RequestKey { key, content }) = request {
                    fields.extend([format!("{key:032x}"), format!("{content:016x}")]);
                }
                ("message", fields)
            }
            Self::Delete { message, user, account, is_admin, .. } => {
                let role = if *is_admin { "admin" } else { "" };
                ("delete", vec![message.to_string(), user.to_string(), text(account), role.to_owned()])
            }
        }
    }
}
