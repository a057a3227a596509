//! What lies between a socket and the kernel: what waits to be sent, the task that sends it, and TLS.
//!
//! Whoever has something to say puts it into [`Outgoing`], and sees to it that a task is at work which sends
//! until nothing is left. The task exists only as long as that, so an idle connection has none. Nobody but the
//! task writes to the socket; so a writer whose future is dropped leaves no message half sent, and what waits
//! together leaves together.
//!
//! A tokio-uring operation whose future is dropped is *not* cancelled: it keeps its buffer and the descriptor
//! until the peer does something. So whoever is done with a link calls [`Link::abandon`], which shuts the
//! socket down as soon as what was queued has left, or has had its time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_uring::net::TcpStream;

use super::error::Failure;
use crate::protocol::frames::FRAGMENT_BYTES;
use crate::protocol::tls::TlsStream;

/// How long what is queued may take to leave when nobody waits for it any more.
const LINGER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the peer may take to end its side when we have ended ours, and how much of what it still sends is
/// read.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;

/// A buffer of at most this size is kept for the next message.
const SPARE_BYTES_MAX: usize = 4096;

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) tcp: TcpConnection,
    pub(super) peer: SocketAddr,
    pub(super) outgoing: RefCell<Outgoing>,
    pub(super) tls: RefCell<Option<Box<TlsStream>>>,
    /// Told whenever something has left, and when nothing will any more.
    pub(super) progress: Notify,
    /// True once nobody reads or waits any more.
    is_abandoned: Cell<bool>,
    /// Told when that comes about.
    abandoned: Notify,
    /// True while the task waits for the peer to end its side.
    is_lingering: Cell<bool>,
}

/// A [`TcpStream`] that can be shown.
pub(super) struct TcpConnection(pub(super) TcpStream);

impl std::fmt::Debug for TcpConnection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TcpConnection")
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Encoded frames, whole ones in each piece.
    pieces: VecDeque<Vec<u8>>,
    /// How many bytes are in the pieces and with the kernel.
    pub(super) bytes: usize,
    /// Encoded control frames that may overtake the pieces.
    pub(super) urgent: Vec<u8>,
    /// A buffer for the next message.
    spare: Vec<u8>,
    /// True exactly while the task is at work.
    is_sending: bool,
    /// True once nothing will be added: TLS and our side of TCP end behind what is there.
    is_finished: bool,
    /// Why nothing can be sent.
    pub(super) failure: Option<Failure>,
}

impl Outgoing {
    /// The buffer to encode a frame of so many bytes into, behind what is there. What is small is collected in
    /// one piece, what is long has a piece to itself, so that a control frame waits for one fragment at most.
    pub(super) fn piece_for(&mut self, bytes: usize) -> &mut Vec<u8> {
        let has_room = self.pieces.back().is_some_and(|piece| piece.len() + bytes <= FRAGMENT_BYTES);
        if !has_room {
            self.pieces.push_back(std::mem::take(&mut self.spare));
        }
        self.pieces.back_mut().expect("Bug: a piece was just added")
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        if !self.urgent.is_empty() {
            self.bytes += self.urgent.len();
            return Some(std::mem::take(&mut self.urgent));
        }
        self.pieces.pop_front()
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        self.bytes -= buffer.len();
        if buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }
}

impl Link {
    pub(super) fn new(tcp: TcpStream, peer: SocketAddr) -> Rc<Self> {
        Rc::new(Self {
            tcp: TcpConnection(tcp),
            peer,
            outgoing: RefCell::default(),
            tls: RefCell::new(None),
            progress: Notify::new(),
            is_abandoned: Cell::new(false),
            abandoned: Notify::new(),
            is_lingering: Cell::new(false),
        })
    }

    /// Sees to it that what is queued leaves. To be called after something was.
    pub(super) fn start_sending(self: &Rc<Self>) {
        let mut outgoing = self.outgoing.borrow_mut();
        if !outgoing.is_sending && outgoing.failure.is_none() {
            outgoing.is_sending = true;
            drop(outgoing);
            tokio_uring::spawn(Rc::clone(self).send());
        }
    }

    /// Queues bytes.
    pub(super) fn push(self: &Rc<Self>, bytes: &[u8]) {
        {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.bytes += bytes.len();
            outgoing.piece_for(bytes.len()).extend_from_slice(bytes);
        }
        self.start_sending();
    }

    /// Says that nothing will be added: our side ends behind what is queued.
    pub(super) fn finish(self: &Rc<Self>) {
        self.outgoing.borrow_mut().is_finished = true;
        self.start_sending();
    }

    /// True when something waits or is with the kernel.
    pub(super) fn is_sending(&self) -> bool {
        self.outgoing.borrow().is_sending
    }

    /// Waits until all that is queued is with the kernel.
    pub(super) async fn sent(&self) -> Result<(), Failure> {
        loop {
            let progress = self.progress.notified();
            if let Some(failure) = &self.outgoing.borrow().failure {
                return Err(failure.clone());
            }
            if !self.is_sending() {
                return Ok(());
            }
            progress.await;
        }
    }

    /// The task: sends until nothing is left.
    async fn send(self: Rc<Self>) {
        loop {
            let piece = match self.next_piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(failure) => return self.fail(failure),
            };
            let mut writing = std::pin::pin!(self.tcp.0.write_all(piece));
            let (result, piece) = tokio::select! {
                biased;
                written = &mut writing => written,
                () = self.abandoned.notified() => match timeout(LINGER_TIME_MAX, &mut writing).await {
                    Ok(written) => written,
                    Err(_) => return self.fail(Failure::Ended),
                },
            };
            if let Err(error) = result {
                return self.fail(error.into());
            }
            if self.tls.borrow().is_none() {
                self.outgoing.borrow_mut().recycle(piece);
            }
            self.progress.notify_waiters();
        }
        let is_finished = {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.is_sending = false;
            outgoing.is_finished
        };
        self.is_lingering.set(is_finished);
        self.progress.notify_waiters();
        if is_finished {
            self.see_off().await;
        } else if self.is_abandoned.get() {
            self.fail(Failure::Ended);
        }
    }

    /// Ends our side, and waits for the peer to end its own.
    ///
    /// A socket that is closed with unread data makes the kernel send a reset, and a reset makes the peer's
    /// kernel throw away what it has received from us. So what the peer still sends is read, within limits.
    async fn see_off(&self) {
        // It fails only when the connection has ended already.
        if self.tcp.0.shutdown(Shutdown::Write).is_ok() {
            let discard = async {
                let mut discarded_bytes = 0;
                let mut buffer = Vec::with_capacity(SPARE_BYTES_MAX);
                while discarded_bytes < DISCARDED_BYTES_MAX {
                    let (Ok(1..), filled) = self.tcp.0.read(buffer).await else { return };
                    discarded_bytes += filled.len();
                    buffer = filled;
                    buffer.clear();
                }
            };
            let _ = timeout(ANSWER_TIME_MAX, discard).await;
        }
        self.fail(Failure::Ended);
    }

    /// What is to be handed to the kernel now.
    fn next_piece(&self) -> Result<Option<Vec<u8>>, Failure> {
        let mut outgoing = self.outgoing.borrow_mut();
        let mut tls = self.tls.borrow_mut();
        let Some(tls) = tls.as_mut() else { return Ok(outgoing.next()) };
        if !tls.has_outgoing() && !tls.is_handshaking() {
            match outgoing.next() {
                Some(piece) => {
                    tls.write_plaintext(&piece)?;
                    outgoing.recycle(piece);
                }
                None if outgoing.is_finished => tls.close()?,
                None => {}
            }
        }
        Ok(tls.poll_transmit())
    }

    /// Ends the connection, and says so to whoever waits.
    pub(super) fn fail(&self, failure: Failure) {
        {
            let mut outgoing = self.outgoing.borrow_mut();
            outgoing.failure.get_or_insert(failure);
            outgoing.is_sending = false;
            outgoing.pieces.clear();
            outgoing.urgent.clear();
        }
        let _ = self.tcp.0.shutdown(Shutdown::Both);
        self.progress.notify_waiters();
    }

    /// Ends the connection as soon as what is queued has left.
    pub(super) fn abandon(&self) {
        self.is_abandoned.set(true);
        if self.is_sending() {
            self.abandoned.notify_one();
        } else if !self.is_lingering.get() {
            self.fail(Failure::Ended);
        }
    }
}
