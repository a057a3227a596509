//! Rooms, their members and events: the part of the server that implements the chat and knows
//! no sockets or bytes.
//!
//! Each room has one *home*, the shard that its name hashes to. Everything that changes a room goes to its
//! home as a [`Request`], is proposed to the room's log, and is applied when it is an entry of it; every shard that has
//! members gets a [`Delivery`]. One home means one order, and ids without gaps, without a lock.
//!
//! [`Homes`] holds the rooms whose home is one shard: requests and ticks go in, deliveries come out.

mod accounts_online;
mod connection_name;
mod deletion;
mod directory;
mod durability;
mod epoch;
mod event;
mod fan_out_sample;
mod fan_out_timer;
mod history;
mod homes;
mod id_blocks;
mod ids;
mod listed_room;
mod log;
mod mail;
mod member;
mod observed;
mod outbox;
mod presence;
mod recent_fan_outs;
mod room;
mod room_list;
mod room_slots;
mod roster;
mod settings;
mod shared;
mod shared_log;
mod topic;
mod user_session;
mod users;
mod visit;

pub use accounts_online::{AccountsOnline, OnlineAccount};
pub use connection_name::{ConnectionName, Instance, NoConnectionName};
pub use deletion::Deletion;
pub use directory::Directory;
pub use durability::{
    HistoryChange, Receipt, Restored, RestoredRoom, RoomReceipt, WRITES_UNANSWERED_MAX, Write, WriteAction,
};
pub use epoch::Epoch;
pub use event::{
    Content, Event, HistoryPage, KeptMessage, MemberEntry, MemberList, PresenceReport, Publication, Resumed,
    RoomEvent, RoomMessage, Snapshot,
};
pub use fan_out_timer::FanOutTimer;
pub use homes::Homes;
pub use id_blocks::IdBlocks;
pub use ids::{ClientRef, EntryNumber, MessageId, RoomIndex, ShardIndex, UserId};
pub use listed_room::ListedRoom;
pub use log::{Change, NewMessage, PROPOSALS_WAITING_MAX, Proposal, Unlogged};
pub use mail::{Delivery, Request, RoomRefusal};
pub use member::{Member, MemberAccount, NamedMember, Page, ResumePoint, RoomCursor};
pub use observed::{ObservedEvent, ObservedKind};
pub use presence::PresencePolicy;
pub use recent_fan_outs::{COLLECT_EVERY, FanOuts, RecentFanOuts, RoomFanOut};
pub use room_list::{RoomList, RoomPage};
pub use settings::RoomSettings;
pub use shared::{
    Decision, LogEnd, NodeLife, RoomNotice, SHARED_PROPOSALS_MAX, SharedProposal, SharedProposalKind,
    SharedReceipt, Ticket,
};
pub use shared_log::{MemberPayload, MessagePayload};
pub use user_session::{EndedSession, StoredSession, UserSession};
pub use users::{Resumption, Users, Whereabouts};
pub use visit::Visit;
use visit::VisitNode;
