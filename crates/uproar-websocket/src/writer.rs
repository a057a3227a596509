//! The half of a socket that writes. There may be many of them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::error::{Failure, WriteError};
use super::link::Link;
use super::message::{Close, Message};
use super::options::Options;
use uproar_protocol::frames::{CONTROL_BYTES_MAX, MessageKind, Opcode, is_close_code};

/// Writes to a socket, from any task of its thread. Clones write to the same socket; their messages never mix, and
/// waiting writers are served in turn.
///
/// It does not answer the peer's pings and closes: the task that reads does, see [`Socket`](super::Socket).
///
/// It does not keep the connection: that ends with the [`Socket`](super::Socket), and writers are refused from
/// then on.
#[derive(Clone, Debug)]
pub struct Writer(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    link: Rc<Link>,
    /// How long a writer waits for a peer that takes nothing.
    progress_timeout: Option<Duration>,
    /// The queue of waiting writers.
    line: Mutex<()>,
    /// The number of waiting writers.
    waiting: Cell<usize>,
}

/// A waiting writer, until its turn comes.
struct InLine<'a>(&'a Cell<usize>);

impl<'a> InLine<'a> {
    fn new(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Writer {
    pub(super) fn new(link: Rc<Link>, options: &Options) -> Self {
        let progress_timeout = options.heartbeat.map(|heartbeat| heartbeat.timeout);
        Self(Rc::new(Shared { link, progress_timeout, line: Mutex::new(()), waiting: Cell::new(0) }))
    }

    /// Queues a message, and waits for that only while too much is queued already
    /// ([`Options::queue_bytes_max`](super::Options::queue_bytes_max)): a slow peer delays those that write to it,
    /// and nobody else. Text and binary of 64 KiB and more leave in fragments of that size, between which pings
    /// and pongs have their turn.
    ///
    /// It can be dropped while it waits: then nothing was queued.
    ///
    /// # Errors
    ///
    /// A [`WriteError`]; nothing was queued.
    pub async fn write(&self, message: impl Into<Message>) -> Result<(), WriteError> {
        match message.into() {
            Message::Text(text) => self.data(MessageKind::Text, text.as_bytes()).await,
            Message::Binary(bytes) => self.data(MessageKind::Binary, &bytes).await,
            Message::Ping(payload) => self.control(Opcode::Ping, &payload).await,
            Message::Pong(payload) => self.control(Opcode::Pong, &payload).await,
            Message::Close(close) => self.close(close.as_ref()),
        }
    }

    /// As [`Writer::write`], of a text that is borrowed.
    ///
    /// # Errors
    ///
    /// As for [`Writer::write`].
    pub async fn text(&self, text: &str) -> Result<(), WriteError> {
        self.data(MessageKind::Text, text.as_bytes()).await
    }

    /// As [`Writer::write`], of bytes that are borrowed.
    ///
    /// # Errors
    ///
    /// As for [`Writer::write`].
    pub async fn binary(&self, bytes: &[u8]) -> Result<(), WriteError> {
        self.data(MessageKind::Binary, bytes).await
    }

    /// Waits until everything that was queued is with the kernel. Other writers wait meanwhile, too.
    ///
    /// # Errors
    ///
    /// [`WriteError::Failed`].
    pub async fn flush(&self) -> Result<(), WriteError> {
        let _in_line = InLine::new(&self.0.waiting);
        let _turn = self.0.line.lock().await;
        Ok(self.0.link.sent().await?)
    }

    async fn data(&self, kind: MessageKind, payload: &[u8]) -> Result<(), WriteError> {
        let _turn = self.turn().await?;
        let pushed = self.0.link.change(|connection| connection.push_message(kind, payload));
        pushed.expect("Bug: a turn came, and there was no room");
        Ok(())
    }

    async fn control(&self, opcode: Opcode, payload: &[u8]) -> Result<(), WriteError> {
        if payload.len() > CONTROL_BYTES_MAX {
            return Err(WriteError::ControlTooLong { bytes: payload.len() });
        }
        let _turn = self.turn().await?;
        self.0.link.change(|connection| connection.push_control(opcode, payload));
        Ok(())
    }

    /// Queues a ping, unless a close was queued.
    pub(super) fn ping(&self) {
        self.0.link.change(|connection| connection.push_control(Opcode::Ping, &[]));
    }

    /// Queues a close, behind everything else; from then on the connection has its time to end.
    pub(super) fn close(&self, close: Option<&Close>) -> Result<(), WriteError> {
        if let Some(Close { code, reason }) = close {
            if !is_close_code(*code) {
                return Err(WriteError::CloseCode(*code));
            }
            if reason.len() + 2 > CONTROL_BYTES_MAX {
                return Err(WriteError::ControlTooLong { bytes: reason.len() + 2 });
            }
        }
        self.is_usable()?;
        let now_ms = self.0.link.now_ms();
        self.0.link.change(|connection| match close {
            Some(Close { code, reason }) => connection.close(*code, reason, now_ms),
            None => connection.close_without_code(now_ms),
        });
        Ok(())
    }

    /// True once a close was queued, or nothing can be sent any more.
    pub(super) fn has_closed(&self) -> bool {
        !self.0.link.connection().is_open()
    }

    fn is_usable(&self) -> Result<(), WriteError> {
        if let Some(failure) = self.0.link.failure() {
            return Err(failure.into());
        }
        if let Some(error) = self.0.link.connection().tls().and_then(|tls| tls.failure()) {
            return Err(Failure::from(error.clone()).into());
        }
        if self.has_closed() { Err(WriteError::Closed) } else { Ok(()) }
    }

    /// Waits until all who came before have written, and less is queued than may be. What is yielded is to be
    /// held until the message is queued.
    async fn turn(&self) -> Result<Option<MutexGuard<'_, ()>>, WriteError> {
        let Shared { link, progress_timeout, line, waiting } = &*self.0;
        let has_room = || link.connection().has_room();
        self.is_usable()?;
        if waiting.get() == 0 && has_room() {
            return Ok(None);
        }
        let _in_line = InLine::new(waiting);
        let turn = line.lock().await;
        loop {
            self.is_usable()?;
            if has_room() {
                return Ok(Some(turn));
            }
            // Nothing else runs between the look at the queue and this, so no progress is missed.
            let progress = link.progress.notified();
            let Some(progress_timeout) = *progress_timeout else {
                progress.await;
                continue;
            };
            let acknowledged_bytes = link.acknowledged_bytes();
            if timeout(progress_timeout, progress).await.is_err()
                && link.acknowledged_bytes() == acknowledged_bytes
            {
                link.fail(Failure::Stalled(progress_timeout));
            }
        }
    }
}
