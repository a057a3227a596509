//! The answers to the sender of a room message, and when they are sent.
//!
//! Members see a message at once. Its sender gets the acknowledgement when the message is safe: with a storage, when
//! the message is on the disk. The answer must keep its place in the room's order, so it is queued at once, as
//! a *gate* ahead of the out-queue until the receipt arrives. Messages outside that order pass the gate, so a
//! late disk does not delay them. A close drops the gate and everything behind it.

use uproar_ring::SharedBytes;

use super::client_io::ClientIo;
use super::user::User;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{ChatError, UserDialect};
use crate::rooms::RoomCursor;

impl User {
    /// Acknowledges a chat user's message. A hub user gets its own message instead, like every member.
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

    /// A message of this user was refused. The answer has the place that `message_sent` would have, so the sender knows
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

    /// A message of this user was published, but could not be stored.
    pub(super) fn handle_lost_message(&self, place: RoomCursor, io: &mut ClientIo<'_>) {
        match self.dialect {
            UserDialect::Chat => {
                let refusal = Direct::Error { message: ChatError::NotStored.to_string() };
                let refusal = SharedBytes::new(chat::direct(&refusal, io.now));
                io.link.open_gate(place, Some(refusal));
            }
            // It already got its own message.
            UserDialect::Hub => self.refuse(&ChatError::NotStored, io),
        }
    }
}
