//! What a sender is told of its message, and when.
//!
//! Members see a message at once. Its sender is told that it was sent when that is true for good: where there
//! is a storage, when the message is on the disk. The answer has its place in the room's order all the same,
//! so it takes it at once, and is a *gate* in the out-queue until the storage has spoken. What has no place in that
//! order goes past it, so a late disk silences nobody; and a close gives up what is still behind it.

use bytes::Bytes;
use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;

use super::Shard;
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{Refusal, UserDialect};
use crate::rooms::Place;

impl Shard {
    /// Tells a chat user that its message has been sent. A hub user is told by its own words, which come back
    /// to it as to everyone.
    pub(super) fn acknowledge(&mut self, id: ConnectionId, place: Place, timestamp: u64, now: Now) {
        let sent = chat::message_sent(place.id, self.directory.name(place.room), timestamp);
        if self.is_durable {
            self.push_gate(id, place, sent, now);
        } else {
            self.push(id, sent, now);
        }
    }

    /// A message of this connection is on the disk.
    pub(super) fn handle_kept_message(&mut self, id: ConnectionId, place: Place) {
        self.open_gate(id, place, None);
    }

    /// A message of this connection was not even taken. The answer stands where that to a message that is
    /// kept would: so its sender knows which one is meant.
    pub(super) fn handle_refused_message(&mut self, id: ConnectionId, now: Now) {
        let Some(user) = self.clients.user(id) else { return };
        match user.dialect {
            UserDialect::Chat => {
                let refusal = Direct::Error { message: Refusal::NotStored.to_string() };
                self.push_in_order(id, chat::direct(&refusal, now), now);
            }
            UserDialect::Hub => self.refuse(id, &Refusal::NotStored, now),
        }
    }

    /// A message of this connection was seen by the room and will not be kept.
    pub(super) fn handle_lost_message(&mut self, id: ConnectionId, place: Place, now: Now) {
        let Some(user) = self.clients.user(id) else { return };
        match user.dialect {
            UserDialect::Chat => {
                let refusal = Direct::Error { message: Refusal::NotStored.to_string() };
                self.open_gate(id, place, Some(SharedBytes::new(chat::direct(&refusal, now))));
            }
            // Its own words came back to it before.
            UserDialect::Hub => self.refuse(id, &Refusal::NotStored, now),
        }
    }

    /// Queues an answer that leaves when the storage has spoken about the message at `place`.
    fn push_gate(&mut self, id: ConnectionId, place: Place, answer: Bytes, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.connection.is_open() {
            return;
        }
        self.metrics.messages_delivered.add(1);
        if let Err(overflow) = client.push_gate(place, SharedBytes::new(answer)) {
            self.evict(id, overflow, now);
        }
    }

    /// Lets an answer leave, or `other` in its place, and what is queued behind it.
    fn open_gate(&mut self, id: ConnectionId, place: Place, other: Option<SharedBytes>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let was_over_limit = client.is_over_limit();
        // Who is being closed has no gates any more.
        if !client.open_gate(place, other) {
            return;
        }
        if was_over_limit && !client.is_over_limit() {
            // So much waited for the disk that nothing was read from this connection.
            self.list_readable(id);
        }
        self.mark_dirty(id);
    }
}
