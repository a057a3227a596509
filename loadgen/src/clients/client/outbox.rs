//! What a client is to send, until the kernel takes it.

use std::collections::VecDeque;

use bytes::Bytes;
use uproar_protocol::frames::{self, Opcode};
use uproar_ring::{BATCH_FRAMES_MAX, SendBatch, SharedBytes};

use crate::clients::context::Context;
use crate::dialect::Dialect;
use crate::dialect::chat;
use crate::dialect::payload::Stamp;

/// What waits to be sent, in order. At most one batch of it is with the kernel.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    outgoing: VecDeque<Outgoing>,
    /// True exactly when a batch is with the kernel.
    send_under_way: bool,
}

/// Something to send.
#[derive(Debug)]
enum Outgoing {
    /// An HTTP request or an encoded frame.
    Encoded(Vec<u8>),
    /// A broadcast, encoded and dated when it is handed to the kernel.
    Broadcast { sequence: u64, intended_ns: u64 },
}

impl Outbox {
    /// True when `poll_batch` has something to yield, now or after the send under way.
    pub(super) fn has_waiting(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Queues an HTTP request or an encoded frame.
    pub(super) fn push(&mut self, encoded: Vec<u8>) {
        self.outgoing.push_back(Outgoing::Encoded(encoded));
    }

    /// Queues a broadcast that is due.
    pub(super) fn push_due(&mut self, sequence: u64, intended_ns: u64) {
        self.outgoing.push_back(Outgoing::Broadcast { sequence, intended_ns });
    }

    /// What to send now, if anything; then `handle_sent` must come before there is more.
    pub(super) fn poll_batch(&mut self, context: &mut Context, now_ns: u64) -> Option<SendBatch> {
        if self.send_under_way {
            return None;
        }
        let first = self.outgoing.pop_front()?;
        self.send_under_way = true;
        let frame = encode(context, first, now_ns);
        if self.outgoing.is_empty() {
            return Some(SendBatch::one(frame, 0));
        }
        let rest = self.outgoing.len().min(BATCH_FRAMES_MAX - 1);
        let rest = self.outgoing.drain(..rest).map(|outgoing| encode(context, outgoing, now_ns));
        Some(SendBatch::many(std::iter::once(frame).chain(rest).collect(), 0))
    }

    /// Notes that the batch last polled has left entirely.
    pub(super) fn handle_sent(&mut self) {
        self.send_under_way = false;
    }
}

fn encode(context: &mut Context, outgoing: Outgoing, now_ns: u64) -> SharedBytes {
    let encoded = match outgoing {
        Outgoing::Encoded(bytes) => bytes,
        Outgoing::Broadcast { sequence, intended_ns } => {
            let stamp = Stamp { sequence, intended_ns, sent_ns: now_ns };
            let mask = context.mask();
            let Context { plan, scratch, recorder, .. } = context;
            scratch.clear();
            recorder.sent(stamp);
            let content = |out: &mut Vec<u8>| plan.template.put_text(stamp, out);
            let opcode = match plan.dialect {
                Dialect::Chat => {
                    chat::put_message(content, scratch);
                    Opcode::Text
                }
                Dialect::Private => {
                    let to_id = plan.partner_id_of(plan.speaker_of(sequence));
                    chat::put_private_message(to_id, content, scratch);
                    Opcode::Text
                }
                Dialect::Raw | Dialect::Echo => {
                    plan.template.put_binary(stamp, scratch);
                    Opcode::Binary
                }
            };
            frames::frame(opcode, scratch, Some(mask))
        }
    };
    SharedBytes::new(Bytes::from(encoded))
}
