//! Requests to the homes of rooms and topics, and the deliveries that they send.
//!
//! Handling a [`Request`] leads to deliveries, and with `--data` to a write. [`Request::Open`] may also lead to one
//! [`Request::Forget`], which leads to no further mail; there is at most one for each room on its way. Handling a
//! [`Delivery`] sends something to clients, and to other shards at most one request for each connection: the next step of a
//! room change, the beginning of one that a closed room causes, the join or rename after a sign-in or a change of an account, or the leave of an evicted client. So
//! deliveries are always taken, and the mesh cannot lock up.

use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

use super::event::{HistoryPage, MemberEntry, MemberList, Publication, Snapshot};
use super::log::Proposal;
use super::{
    ClientRef, EntryNumber, Epoch, MessageId, ResumePoint, RoomCursor, RoomIndex, ShardIndex, UserId,
};

/// From a member's shard to the home of a room or topic.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Request {
    /// To a room.
    Room { room: RoomIndex, proposal: Proposal },
    /// Find or open the room of this name, and hold it until [`Change::Join`](super::Change::Join) or
    /// [`Request::Release`]. Answered with [`Delivery::Opened`] or [`Delivery::Refused`]. Where it `is_owed`, because the user has
    /// left its room for it already, it is opened even if there are too many.
    Open { name: Arc<str>, origin: ClientRef, is_owed: bool },
    /// Hold a room no longer: the client that has asked for it will not join.
    Release { room: RoomIndex },
    /// Forget a room, whose place another home has claimed. Not answered.
    Forget { room: RoomIndex },
    /// Subscribe to a topic. Answered with [`Delivery::Subscribed`].
    Subscribe { topic: Arc<str>, origin: ClientRef },
    /// Unsubscribe from a topic.
    Unsubscribe { topic: Arc<str>, shard: ShardIndex },
    /// Pass a message on to a topic. Where there is an origin, it is the HTTP API, which is answered with
    /// [`Delivery::Relayed`].
    Relay { topic: Arc<str>, kind: MessageKind, payload: Bytes, origin: Option<ClientRef> },
}

/// From a home to a member's shard.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Delivery {
    /// The room that this connection has asked for is open, and waits for the connection.
    Opened { to: ClientRef, room: RoomIndex },
    /// This connection is a member from now on.
    Joined { to: ClientRef, room: RoomIndex, snapshot: Snapshot },
    /// This connection has left its room. No event of that room follows.
    Left { to: ClientRef },
    /// To every member on this shard.
    Publish(Arc<Publication>),
    /// This connection's change, which was published before, is durable now.
    Kept { to: ClientRef, cursor: RoomCursor },
    /// This connection's change was published, but could not be stored, and the room has undone it.
    Lost { to: ClientRef, cursor: RoomCursor, refusal: RoomRefusal },
    /// This connection's user is in the room by a later connection, on another server, so it does not join.
    Superseded { to: ClientRef },
    /// The room that this connection was to join was forgotten meanwhile.
    RoomGone { to: ClientRef, after: Option<ResumePoint> },
    /// This connection's request had no effect.
    Refused { to: ClientRef, refusal: RoomRefusal },
    /// The requested list of members.
    Members { to: ClientRef, members: MemberList },
    /// The requested part of the history.
    History { to: ClientRef, page: HistoryPage },
    /// The requested list of names.
    Names { to: ClientRef, names: Arc<[MemberEntry]> },
    /// The new name of a user that wants names, in a room that is too large for an announcement.
    Renamed { to: ClientRef, old_name: Arc<str>, new_name: Arc<str>, names: Arc<[MemberEntry]> },
    /// To the author of a message, in any room: a user has read the message, at this time in Unix seconds.
    Read { author: UserId, message: MessageId, reader: UserId, read_at: u64 },
    /// To the HTTP API: the room has taken its message, or has deleted one. Where the room is durable,
    /// [`Delivery::Kept`] or [`Delivery::Lost`] follows for the entry `pending`.
    Done { to: ClientRef, message: MessageId, epoch: Epoch, pending: Option<EntryNumber> },
    /// To the HTTP API: its message was passed on to so many shards, each of which tells how many receivers it has there.
    Relayed { to: ClientRef, shards: usize },
    /// A room is being closed: its members on this shard are to go to another room; or the one that has just joined.
    Closing { room: RoomIndex, member: Option<ClientRef> },
    /// To the HTTP API: a room is closed to newcomers, and its members, so many, have been told to leave. False where the
    /// disk has refused to note it.
    Closed { to: ClientRef, members: usize, is_stored: bool },
    /// This connection is subscribed to its topic from now on.
    Subscribed { to: ClientRef },
}

/// Why a room did not do what a client has asked for. Only its home can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomRefusal {
    /// The room does not keep this message.
    UnknownMessage(MessageId),
    /// The user may not delete this message.
    PermissionDenied,
    /// A message could not be stored.
    NotStored,
    /// That a message is deleted could not be stored.
    NotDeleted,
    /// There are as many rooms as there may be, and none of them is empty.
    TooManyRooms,
    /// The room's history cannot be read, because the storage fails, or the room cannot be opened, because the log of the
    /// cluster is out of reach.
    NotOpened,
    /// The user cannot join, because the log of the cluster is out of reach.
    NotJoined,
    /// The room was forgotten meanwhile. Only the HTTP API is told: the members of a room that is forgotten have left it.
    NoRoom,
    /// The cluster's log has ended for this server, which may have it in the log or not. Only the HTTP API is told: clients
    /// are closed.
    OutcomeUnknown,
}
