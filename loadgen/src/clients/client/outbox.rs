//! The broadcasts that a client is to send. They are encoded and dated when they are handed to the kernel, and not
//! when they are due: so what had to wait shows as send lag.

use std::collections::VecDeque;

use uproar_protocol::connection::{BATCH_ENTRIES_MAX, Connection};
use uproar_protocol::frames::{self, Opcode};
use uproar_ring::SharedBytes;

use crate::clients::context::Context;
use crate::dialect::Dialect;
use crate::dialect::chat;
use crate::dialect::payload::Stamp;

/// Broadcasts that are due, in order. There are never more than the run has.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The first. Here, because mostly nothing waits behind it, and then nothing else is to be fetched from memory.
    first: Option<Due>,
    /// The others. Invariant: empty when there is no first.
    others: VecDeque<Due>,
}

#[derive(Debug)]
struct Due {
    sequence: u64,
    intended_ns: u64,
}

impl Outbox {
    /// True when nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Queues a broadcast that is due.
    pub(super) fn push(&mut self, sequence: u64, intended_ns: u64) {
        let due = Due { sequence, intended_ns };
        match self.first {
            None => self.first = Some(due),
            Some(_) => self.others.push_back(due),
        }
    }

    /// Queues a batch of what is due on a connection that has nothing else to send, as sent at `now_ns`.
    pub(super) fn hand_over(
        &mut self,
        context: &mut Context,
        connection: &mut Connection<SharedBytes>,
        now_ns: u64,
    ) {
        for _ in 0..BATCH_ENTRIES_MAX {
            let Some(due) = self.first.take() else { return };
            self.first = self.others.pop_front();
            let frame = encode(context, &due, now_ns).into();
            connection.push(frame).expect("Bug: an empty queue takes a batch");
        }
    }
}

fn encode(context: &mut Context, due: &Due, now_ns: u64) -> Vec<u8> {
    let stamp = Stamp { sequence: due.sequence, intended_ns: due.intended_ns, sent_ns: now_ns };
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
            let to_id = plan.partner_id_of(plan.speaker_of(due.sequence));
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
