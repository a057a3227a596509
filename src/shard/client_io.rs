//! The interface for a client's handlers: send to the client, write mail, and close the connection.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;
use uproar_protocol::connection::Config;
use uproar_ring::{ConnectionId, SendBatch, SharedBytes};

use super::by_account::ByAccount;
use super::ended_sessions::EndedSessions;
use super::link::{Link, Overflow};
use super::local_rooms::LocalRooms;
use super::outgoing_mail::OutgoingMail;
use super::settings::ShardSettings;
use super::token_connections::TokenConnections;
use super::work::Work;
use crate::accounts::{Identity, ReservedNames};
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::events::{Event, EventSender};
use crate::metrics::{EndReason, ShardMetrics};
use crate::name;
use crate::rooms::{ClientRef, Directory, Proposal, Request, RoomCursor, RoomIndex};
use crate::storage::StateLink;

/// The close codes of a server that shuts down, begins anew, or cannot serve the client now (RFC 6455, 7.4.1, and IANA's
/// registry). Whoever gets one may come back.
const LET_GO: [u16; 3] = [1001, 1012, 1013];

/// The state that the handlers of all clients of a shard share.
pub(super) struct Context {
    pub(super) settings: ShardSettings,
    /// The configuration that the connections of all clients share.
    pub(super) connection_config: Arc<Config>,
    pub(super) directory: Directory,
    /// The rooms and topics with members on this shard.
    pub(super) rooms: LocalRooms,
    /// The names that nobody may take without signing in.
    pub(super) reserved_names: Arc<ReservedNames>,
    /// Users, by the account with which they have signed in.
    pub(super) signed_in: ByAccount,
    /// Users that have come back, by the account that owns their session; also those who have signed in since.
    pub(super) in_sessions: ByAccount,
    pub(super) token_connections: TokenConnections,
    pub(super) ended_sessions: EndedSessions,
    /// Notes what changes of users, with `--data`.
    pub(super) state: Option<StateLink>,
    /// Tells those who watch the server; `None` where nobody does.
    pub(super) events: Option<EventSender>,
    pub(super) mail: OutgoingMail,
    pub(super) work: Work,
    pub(super) ping: SharedBytes,
    /// True once input of clients is no longer read, because the server shuts down.
    pub(super) has_stopped_reading: bool,
    pub(super) metrics: Arc<ShardMetrics>,
}

impl Context {
    /// Sends a proposal to the home of a room.
    pub(super) fn propose(&mut self, room: RoomIndex, proposal: impl Into<Proposal>) {
        let proposal = proposal.into();
        self.mail.request(room.home(), Request::Room { room, proposal });
    }

    /// Tells those who watch the server of an event.
    pub(super) fn tell(&self, event: Event) {
        if let Some(events) = &self.events
            && !events.send(event)
        {
            self.metrics.events_lost.add(1);
        }
    }

    /// Gives up a room that was held for a client.
    pub(super) fn release(&mut self, room: RoomIndex) {
        if self.directory.is_on_demand(room) {
            self.mail.request(room.home(), Request::Release { room });
        }
    }

    /// Notes that a connection is signed in, and reserves its names.
    pub(super) fn note_signed_in(&mut self, identity: &Identity, id: ConnectionId) {
        let Identity { account, name, .. } = identity;
        self.signed_in.insert(account, id);
        let online = self.directory.accounts();
        online.insert(account, name, self.settings.index);
        [account, name].into_iter().for_each(|name| online.reserve(&name::key(name).into()));
    }

    /// Ends the reservations of [`Context::note_signed_in`].
    pub(super) fn release_names(&self, identity: &Identity) {
        let online = self.directory.accounts();
        let names = [&identity.account, &identity.name];
        names.into_iter().for_each(|name| online.release(&name::key(name).into()));
    }

    /// Notes that a connection has ended.
    pub(super) fn note_signed_out(&mut self, identity: &Identity, id: ConnectionId) {
        self.release_names(identity);
        if self.signed_in.remove(&identity.account, id) {
            self.directory.accounts().remove(&identity.account, self.settings.index);
        }
    }

    /// An identity with a name that belongs to nobody else: its own, or else that of its account, or else none of both.
    pub(super) fn with_free_name(&self, identity: Identity) -> Identity {
        let account = &identity.account;
        let own_keys = || {
            let online = self.directory.accounts().find(account);
            [Some(name::key(account)), online.map(|online| name::key(&online.name))]
        };
        let is_free =
            |name: &Arc<str>| !self.is_reserved(name) || own_keys().contains(&Some(name::key(name)));
        if is_free(&identity.name) {
            return identity;
        }
        let name = Identity::name_of(account).filter(is_free).unwrap_or_else(|| "User".into());
        Identity { name, ..identity }
    }

    /// Whether a name belongs to the server, to an account, or to somebody who is signed in.
    pub(super) fn is_reserved(&self, name: &str) -> bool {
        let key = name::key(name);
        self.reserved_names.contains_key(&key) || self.directory.accounts().is_reserved(&key)
    }
}

/// A client's connection and the shared state of its shard, for the handler of one event.
pub(super) struct ClientIo<'s> {
    pub(super) id: ConnectionId,
    pub(super) link: &'s mut Link,
    pub(super) context: &'s mut Context,
    pub(super) now: Now,
}

impl ClientIo<'_> {
    /// Where answers to this client go.
    pub(super) fn origin(&self) -> ClientRef {
        ClientRef { shard: self.context.settings.index, connection: self.id }
    }

    /// Sends a proposal to the home of a room.
    pub(super) fn propose(&mut self, room: RoomIndex, proposal: impl Into<Proposal>) {
        self.context.propose(room, proposal);
    }

    /// Queues a message, ahead of messages that wait for the disk. If it does not fit, the client is evicted.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.push_with(bytes, Link::push);
    }

    /// As [`ClientIo::push`], for a message that has a place in the room's order.
    pub(super) fn push_in_order(&mut self, bytes: Bytes) {
        self.push_with(bytes, Link::push_in_order);
    }

    /// Queues an answer that is sent once the storage's receipt for the message at `cursor` has arrived.
    pub(super) fn push_gate(&mut self, cursor: RoomCursor, answer: Bytes) {
        self.push_with(answer, |link, answer| link.push_gate(cursor, answer));
    }

    /// Queues the messages of a join, which may exceed the queue's limit.
    pub(super) fn push_join<const COUNT: usize>(&mut self, messages: [Bytes; COUNT]) {
        for message in &messages {
            self.context.work.count_frames(1, message.len());
        }
        self.context.metrics.messages_delivered.add(COUNT as u64);
        self.link.greet();
        self.link.push_join(messages.map(SharedBytes::new));
    }

    /// Queues a ping.
    pub(super) fn ping(&mut self) {
        let ping = self.context.ping.clone();
        self.push_frame(ping, Link::push_control);
    }

    /// Handles the end of a send: a part, all or nothing of its batch was sent.
    pub(super) fn handle_sent(&mut self, batch: SendBatch, result: io::Result<usize>) {
        match result {
            Ok(sent_bytes) => {
                self.link.handle_sent(batch, sent_bytes, self.now.monotonic_ms);
                self.context.metrics.sent_bytes.add(sent_bytes as u64);
            }
            Err(error) => {
                debug!(shard = self.context.settings.index.0, connection = %self.id, %error, "broken");
                self.link.handle_send_failed();
            }
        }
    }

    /// Closes the connection with a code and a reason, after the queued messages that do not wait for the disk. A member
    /// whose client may return is told when.
    pub(super) fn close(&mut self, code: u16, reason: &str, end: EndReason) {
        let farewell = if LET_GO.contains(&code) { self.return_hint() } else { None };
        self.link.close(farewell, code, reason, end, self.now);
    }

    /// Evicts the client, because its queue is full.
    pub(super) fn evict(&mut self, overflow: Overflow) {
        let farewell = self.return_hint();
        self.link.evict(overflow, farewell, self.now);
    }

    /// The message that says when to return, for a member of the chat dialect whose connection is open.
    fn return_hint(&self) -> Option<SharedBytes> {
        if !self.link.is_open() || !self.link.is_chat_member {
            return None;
        }
        let after_ms = self.context.directory.return_slots().take(self.now.uptime_ms);
        self.context.metrics.messages_delivered.add(1);
        Some(SharedBytes::new(chat::direct(&Direct::Reconnect { after_ms }, self.now)))
    }

    fn push_with(&mut self, bytes: Bytes, push: impl FnOnce(&mut Link, SharedBytes) -> Result<(), Overflow>) {
        if !self.link.is_open() {
            return;
        }
        self.context.metrics.messages_delivered.add(1);
        self.push_frame(SharedBytes::new(bytes), push);
    }

    fn push_frame(
        &mut self,
        frame: SharedBytes,
        push: impl FnOnce(&mut Link, SharedBytes) -> Result<(), Overflow>,
    ) {
        self.context.work.count_frames(1, frame.len());
        if let Err(overflow) = push(self.link, frame) {
            self.evict(overflow);
        }
    }
}
