//! The answers to the sender of a room message or a deletion, and when they are sent.
//!
//! Members see a message at once. Its sender gets the acknowledgement when the message is safe: with a storage, when
//! the message is on the disk. For a deletion this is the event itself, which only its sender waits for. The answer must
//! keep its place in the room's order, so it is queued at once, as a *gate* ahead of the out-queue until the receipt
//! arrives. Messages outside that order pass the gate, so a late disk does not delay them. A close drops the gate and
//! everything behind it.

use uproar_ring::SharedBytes;

use super::client_io::ClientIo;
use super::user::{RoomMembership, User};
use crate::dialect::chat;
use crate::dialect::{ChatError, UserDialect};
use crate::metrics::EndReason;
use crate::rooms::{EntryNumber, MessageId, RoomCursor, RoomIndex, RoomRefusal};

impl User {
    /// Acknowledges a chat user's message; behind a gate if it is `pending`. A hub user gets its own message instead,
    /// like every member.
    pub(super) fn acknowledge(
        &self,
        (room, room_name): (RoomIndex, &str),
        message: MessageId,
        timestamp: u64,
        pending: Option<EntryNumber>,
        io: &mut ClientIo<'_>,
    ) {
        if self.dialect == UserDialect::Hub {
            return;
        }
        let sent = chat::message_sent(message, room_name, timestamp);
        match pending {
            Some(entry) => io.push_gate(RoomCursor { room, entry }, sent),
            None => io.push(sent),
        }
    }

    /// A room has refused what this user has asked for. That a change could not be stored, or a room not opened, is told
    /// in the place that the answer would have, so the sender knows which one is meant.
    pub(super) fn handle_refusal(&mut self, refusal: RoomRefusal, io: &mut ClientIo<'_>) {
        if let RoomRefusal::TooManyRooms | RoomRefusal::NotOpened = refusal
            && self.handle_not_opened(io)
        {
            return;
        }
        if refusal == RoomRefusal::NotJoined {
            return self.turn_away(io);
        }
        let error = self.error(&error_of(refusal), io);
        match (self.dialect, refusal) {
            (UserDialect::Hub, _) => io.push(error),
            (UserDialect::Chat, RoomRefusal::UnknownMessage(_) | RoomRefusal::PermissionDenied) => {
                io.push(error)
            }
            (
                UserDialect::Chat,
                RoomRefusal::NotStored
                | RoomRefusal::NotDeleted
                | RoomRefusal::TooManyRooms
                | RoomRefusal::NotOpened
                | RoomRefusal::NotJoined
                | RoomRefusal::NoRoom
                | RoomRefusal::OutcomeUnknown,
            ) => io.push_in_order(error),
        }
    }

    /// Closes the connection of a user that cannot join a room now, or not leave its own.
    pub(super) fn turn_away(&mut self, io: &mut ClientIo<'_>) {
        // One that has left a room for this one has others told that it is gone.
        if let RoomMembership::Joining(_) = self.membership
            && !self.welcomed
        {
            self.membership = RoomMembership::None;
        }
        io.close(1013, "Try again later", EndReason::OutOfReach);
    }

    /// A change of this user was seen by the room and will not be kept.
    pub(super) fn handle_lost_change(&self, cursor: RoomCursor, refusal: RoomRefusal, io: &mut ClientIo<'_>) {
        let refusal = self.error(&error_of(refusal), io);
        match self.dialect {
            UserDialect::Chat => {
                io.link.open_gate(cursor, Some(SharedBytes::new(refusal)));
            }
            // Its own message came back to it before.
            UserDialect::Hub => io.push(refusal),
        }
    }
}

fn error_of(refusal: RoomRefusal) -> ChatError {
    match refusal {
        RoomRefusal::UnknownMessage(id) => ChatError::UnknownMessage(id.0.to_string()),
        RoomRefusal::PermissionDenied => ChatError::PermissionDenied,
        RoomRefusal::NotStored | RoomRefusal::OutcomeUnknown => ChatError::NotStored,
        RoomRefusal::NotDeleted => ChatError::NotDeleted,
        RoomRefusal::TooManyRooms => ChatError::TooManyRooms,
        RoomRefusal::NotOpened | RoomRefusal::NotJoined | RoomRefusal::NoRoom => ChatError::RoomNotOpened,
    }
}
