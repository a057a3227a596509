//! Queues bytes to send, and yields the actions for the socket.

use std::mem;

use super::phase::Phase;
use super::{Action, Batch, Connection, QueueFull};
use crate::frames::{MessageKind, Opcode};
use crate::tls;

impl<B: AsRef<[u8]> + From<Vec<u8>>> Connection<B> {
    /// Queues bytes that are frames of this side.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], when more than the limit would wait; nothing was queued then.
    #[inline]
    pub fn push(&mut self, bytes: B) -> Result<(), QueueFull> {
        self.queue.push(bytes)
    }

    /// Queues bytes on top of the limit. The caller reads nothing from the peer while [`Connection::is_over_limit`], so
    /// that the peer cannot collect such bytes.
    pub fn push_beyond_limit(&mut self, bytes: B) {
        self.queue.push_beyond_limit(bytes);
    }

    /// Encodes a message and queues it, in fragments where it is long. Small ones are collected in one entry where the
    /// config says [`Ahead`](super::ControlOrder::Ahead).
    ///
    /// # Errors
    ///
    /// [`QueueFull`], when the limit is reached; nothing was queued then. A message may exceed what is left below it.
    pub fn push_message(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), QueueFull> {
        self.queue.push_message(kind, payload)
    }

    /// Queues a ping or a pong of the user's, where [`ControlOrder`](super::ControlOrder) says, and on top of the limit: a
    /// caller that sends more than an occasional ping asks [`Connection::has_room`] first.
    ///
    /// # Panics
    ///
    /// For another opcode, and for more than 125 bytes.
    pub fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        assert!(matches!(opcode, Opcode::Ping | Opcode::Pong), "{opcode:?} is not the user's to send");
        self.queue.push_control(opcode, payload);
    }

    /// Queues HTTP on top of the limit. No frame leaves before it.
    pub fn push_http(&mut self, bytes: &[u8]) {
        self.queue.push_http(bytes);
    }

    /// True while less is queued than the limit: see [`Connection::push_message`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queue.has_room()
    }

    /// The next action for the socket. `scratch` is used during the call.
    ///
    /// Actions are made only here, from the current state. So nothing is requested for a connection that
    /// has ended: its close is the last action.
    ///
    /// # Errors
    ///
    /// When TLS cannot encrypt any more. [`Connection::abort`] is what remains.
    pub fn poll_action(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Action<B>>, tls::Error> {
        if let Phase::Ended(mode) = &mut self.phase {
            return Ok(mode.take().map(Action::Close));
        }
        if self.is_pause_due() {
            self.is_paused = !self.is_paused;
            return Ok(Some(if self.is_paused { Action::PauseReceive } else { Action::ResumeReceive }));
        }
        let batch = match &mut self.encryption {
            None => self.queue.next_batch(),
            Some(encryption) => encryption.next_batch(&mut self.queue, scratch)?,
        };
        if let Some(batch) = batch {
            return Ok(Some(Action::Send(batch)));
        }
        Ok(mem::take(&mut self.is_fin_due).then_some(Action::ShutdownWrite))
    }

    /// True when [`Connection::poll_action`] has something.
    #[must_use]
    pub fn has_action(&self) -> bool {
        if let Phase::Ended(mode) = &self.phase {
            return mode.is_some();
        }
        self.is_fin_due
            || self.is_pause_due()
            || match &self.encryption {
                None => self.queue.has_batch(),
                Some(encryption) => encryption.has_batch(&self.queue),
            }
    }

    /// Takes back a batch of which `sent_bytes` have left.
    pub fn handle_sent(&mut self, batch: Batch<B>, sent_bytes: usize, now_ms: u64) {
        match &mut self.encryption {
            None => self.queue.handle_sent(batch, sent_bytes),
            Some(encryption) => encryption.handle_sent(&mut self.queue, batch, sent_bytes),
        }
        let times = &self.queue.config().closing;
        let due_ms = |answer_ms, is_flushed| now_ms + if is_flushed { answer_ms } else { times.stall_ms };
        let is_flushed = self.is_flushed();
        match &mut self.phase {
            Phase::Closing(deadlines) => deadlines.progress_due_ms = due_ms(times.answer_ms, is_flushed),
            Phase::Lingering(deadlines) => {
                deadlines.progress_due_ms = due_ms(times.fin_ms, is_flushed);
                self.advance(now_ms);
            }
            Phase::Open(_) | Phase::Ended(_) => {}
        }
    }

    /// True while more waits to be sent than the limit: see [`Connection::push_beyond_limit`].
    #[inline]
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.queue.is_over_limit()
    }

    /// True when nothing waits to be sent, and nothing is under way.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty() && !self.encryption.as_ref().is_some_and(|encryption| encryption.has_unsent())
    }

    /// True when TLS itself has something to send.
    #[must_use]
    pub fn has_unsent_tls(&self) -> bool {
        self.encryption.as_ref().is_some_and(|encryption| encryption.has_unsent())
    }

    /// True when something is to be done once the send under way has ended.
    #[must_use]
    pub fn awaits_send(&self) -> bool {
        !self.is_open()
            || self.is_fin_due
            || self.is_at_end_of_stream
            || self.has_pending()
            || self.queue.waiting_entries() > 0
            || self.queue.is_over_limit()
            || self.encryption.as_ref().is_some_and(|encryption| encryption.has_waiting())
    }

    /// The charge for all entries that wait or are under way, in bytes: see [`QueueLimits`](super::QueueLimits).
    #[inline]
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.queued_bytes()
    }

    /// The limit of the queue, in charged bytes.
    #[inline]
    #[must_use]
    pub fn queue_bytes_max(&self) -> usize {
        self.config().queue.charged_bytes_max
    }

    /// How many entries wait or are under way.
    #[must_use]
    pub fn queued_entries(&self) -> usize {
        self.queue.queued_entries()
    }
}
