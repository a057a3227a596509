//! What the sender of a message is told about it, and when.
//!
//! Members see a message at once. Its sender is told that it was sent when that is true for good: with a storage, when
//! the message is on the disk. The answer has its place in the room's order all the same, so it takes it at once, and is
//! a *gate* ahead of the out-queue until the storage has spoken. Messages without a place in that order pass it, so a
//! late disk silences nobody; and a close drops everything that is still behind it.

use uproar_ring::SharedBytes;

use super::client_io::ClientIo;
use super::user::User;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, UserDialect};
use crate::rooms::RoomCursor;

impl User {
    /// Tells a chat user that its message has been sent. A hub user gets its own words back, as everyone does.
    pub(super) fn acknowledge(&self, place: RoomCursor, timestamp: u64, io: &mut ClientIo<'_>) {
        if self.dialect == UserDialect::Hub {
            return;
        }
        let sent = chat::message_sent(place.id, io.context.directory.name(place.room), timestamp);
        if io.context.is_durable {
            io.push_gate(place, sent);
        } else {
            io.push(sent);
        }
    }

    /// A message of this user was not taken. The answer has the place that `message_sent` would have, so the sender knows
    /// which message is meant.
    pub(super) fn handle_refused_message(&self, io: &mut ClientIo<'_>) {
        match self.dialect {
            UserDialect::Chat => {
                let refusal = Direct::Error { message: ChatError::NotStored.to_string() };
                io.push_in_order(chat::direct(&refusal, io.now));
            }
            UserDialect::Hub => self.refuse(&ChatError::NotStored, io),
        }
    }

    /// A message of this user was seen by the room and will not be kept.
    pub(super) fn handle_lost_message(&self, place: RoomCursor, io: &mut ClientIo<'_>) {
        match self.dialect {
            UserDialect::Chat => {
                let refusal = Direct::Error { message: ChatError::NotStored.to_string() };
                let refusal = SharedBytes::new(chat::direct(&refusal, io.now));
                io.link.open_gate(place, Some(refusal));
            }
            // Its own words came back to it before.
            UserDialect::Hub => self.refuse(&ChatError::NotStored, io),
        }
    }
}
