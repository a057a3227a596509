//! Handles the messages of a client: counted deliveries, and all others.

use crate::clients::context::Context;
use crate::dialect::Dialect;
use crate::dialect::chat::{self, Decoded, Notice, PrivateDecoded};
use crate::dialect::payload::{Altered, Stamp};
use crate::measure::presence::Presence;

/// One in this many messages that are not of this run is parsed completely.
const OTHER_SAMPLE: u64 = 1024;
/// The shortest messages are parsed even among the others when the client speaks: acknowledgements and
/// refusals are all far below this.
const NOTICE_BYTES_MAX: usize = 512;

/// One client as the receiver of messages.
#[derive(Debug)]
pub struct Receiver {
    client: u32,
    /// True once it reads what it is sent only to find the server's close.
    pub ignores_broadcasts: bool,
    /// What it is to receive.
    pub presence: Presence,
    /// The id of the last chat message.
    last_message_id: u64,
}

impl Receiver {
    /// Client `client`, which is to receive everything.
    #[must_use]
    pub(super) fn new(client: u32) -> Self {
        Self { client, ignores_broadcasts: false, presence: Presence::default(), last_message_id: 0 }
    }

    /// The same on another connection. What it was present for stays.
    #[must_use]
    pub(super) fn renewed(&self) -> Self {
        Self { presence: self.presence, last_message_id: self.last_message_id, ..Self::new(self.client) }
    }

    /// Takes a text message, of the room that a chat client has joined.
    pub(super) fn handle_text(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) {
        match context.plan.dialect {
            Dialect::Chat => self.handle_room(context, now_ns, text),
            Dialect::Private => self.handle_private(context, now_ns, text),
            // A binary message must come back as a binary one.
            Dialect::Raw | Dialect::Echo => self.count_other(context, text),
        }
    }

    /// Takes a binary message.
    pub(super) fn handle_binary(&mut self, context: &mut Context, now_ns: u64, payload: &[u8]) {
        if self.ignores_broadcasts {
            return;
        }
        let counts = &mut context.recorder.counts;
        match context.plan.template.read_binary(payload) {
            Ok(Some(stamp)) if !context.plan.dialect.joins_chat() => {
                self.note_delivery(context, stamp, now_ns);
            }
            Ok(_) => counts.other_messages += 1,
            Err(Altered) => counts.altered += 1,
        }
    }

    fn handle_room(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) {
        if self.ignores_broadcasts {
            return;
        }
        match context.decoder.decode(text) {
            Decoded::Broadcast(message) => {
                self.note_delivery(context, message.stamp, now_ns);
                context.recorder.message_id(self.client, message.stamp.sequence, message.message_id);
                // Every member of a room sees its messages in the same order, and ids grow.
                if message.message_id <= self.last_message_id {
                    context.recorder.id_not_growing(self.client, message.stamp.sequence);
                }
                self.last_message_id = message.message_id;
            }
            Decoded::Altered => context.recorder.counts.altered += 1,
            Decoded::Other => self.count_other(context, text),
        }
    }

    fn handle_private(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) {
        match context.decoder.decode_private(text) {
            PrivateDecoded::Received(stamp) => self.note_delivery(context, stamp, now_ns),
            PrivateDecoded::Acknowledged => context.recorder.counts.acknowledged += 1,
            PrivateDecoded::Altered => context.recorder.counts.altered += 1,
            PrivateDecoded::Other => self.count_other(context, text),
        }
    }

    fn note_delivery(&mut self, context: &mut Context, stamp: Stamp, now_ns: u64) {
        if !self.presence.covers(stamp.intended_ns) {
            context.recorder.counts.outside_presence += 1;
        } else if context.recorder.received(self.client, stamp, now_ns) {
            self.presence.heard_count += 1;
        }
    }

    /// Looks at a message that is no broadcast of this run: closely where it may be for this client
    /// alone, at one in many otherwise.
    fn count_other(&mut self, context: &mut Context, text: &[u8]) {
        let counts = &mut context.recorder.counts;
        counts.other_messages += 1;
        let speaks = self.client < context.plan.rooms.senders && text.len() <= NOTICE_BYTES_MAX;
        if !context.plan.dialect.joins_chat()
            || !(speaks || counts.other_messages.is_multiple_of(OTHER_SAMPLE))
        {
            return;
        }
        match chat::parse_notice(text) {
            Some(Notice::MessageSent(_)) => counts.acknowledged += 1,
            Some(Notice::Error(message)) => {
                counts.server_errors += 1;
                context.server_error.get_or_insert(message);
            }
            Some(_) => {}
            None => counts.altered += 1,
        }
    }
}
