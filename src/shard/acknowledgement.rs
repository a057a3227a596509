//! The answers to the sender of a room message, and when they are sent.
//!
//! Members see a message at once. Its sender gets the acknowledgement when the message is safe: with a storage, when
//! the message is on the disk. The answer must keep its place in the room's order, so it is queued at once, as
//! a *gate* ahead of the out-queue until the receipt arrives. Messages outside that order pass the gate, so a
//! late disk does not delay them. A close drops the gate and everything behind it.

use uproar_ring::SharedBytes;

use super::client_io::ClientIo;
use super::user::User;
use crate::dialect::chat;
use crate::dialect::{ChatError, UserDialect};
use crate::rooms::RoomCursor;

impl User {
    /// Acknowledges a chat user's message; while it `is_pending`, behind a gate. A hub user gets its own message instead,
    /// like every member.
    pub(super) fn acknowledge(
        &self,
        cursor: RoomCursor,
        timestamp: u64,
        is_pending: bool,
        io: &mut ClientIo<'_>,
    ) {
        if self.dialect == UserDialect::Hub {
            return;
        }
        let sent = chat::message_sent(cursor.id, io.context.directory.name(cursor.room), timestamp);
        if is_pending {
            io.push_gate(cursor, sent);
        } else {
            io.push(sent);
        }
    }

    /// A message of this user was refused. The answer has the place that `message_sent` would have, so the sender knows
    /// which message is meant.
    pub(super) fn handle_refused_message(&self, io: &mut ClientIo<'_>) {
        let refusal = self.error(&ChatError::NotStored, io);
        match self.dialect {
            UserDialect::Chat => io.push_in_order(refusal),
            UserDialect::Hub => io.push(refusal),
        }
    }

    /// A message of this user was seen by the room and will not be kept.
    pub(super) fn handle_lost_message(&self, cursor: RoomCursor, io: &mut ClientIo<'_>) {
        let refusal = self.error(&ChatError::NotStored, io);
        match self.dialect {
            UserDialect::Chat => {
                io.link.open_gate(cursor, Some(SharedBytes::new(refusal)));
            }
            // Its own message came back to it before.
            UserDialect::Hub => io.push(refusal),
        }
    }
}
