//! The log that several servers share, as the home of a room sees it.
//!
//! - `log` is the log of one room: what its home has proposed, and what comes of it.
//! - `waiting` is what has no outcome yet.
//! - `payload` is what nodes tell each other of members and messages, in bytes.
//! - `nodes` numbers the nodes that have members here.
//! - `start` is a room as the log has it when a server starts.

mod log;
mod nodes;
mod payload;
mod start;
mod waiting;

pub(super) use log::SharedLog;
pub(super) use nodes::Nodes;
pub use payload::{MemberPayload, MessagePayload};
pub(super) use start::{RAISED_BY, kept_member, restored};

use super::{UserId, Visit};

/// A user and its visit as an entry names them; `None` for a number that no node gives.
fn member_of(user: u64, visit: u64) -> Option<(UserId, Visit)> {
    Some((UserId::from_wire(user)?, Visit(visit)))
}
