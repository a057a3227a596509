//! What lies between a socket and the kernel: the task that sends what waits, TLS, and the end.
//!
//! Whoever has something to say puts it into [`Outgoing`], and sees to it that a task is at work which sends
//! until nothing is left. The task exists only as long as that, so an idle connection has none. Nobody but the
//! task writes to the socket; so a writer whose future is dropped leaves no message half sent, and what waits
//! together leaves together.
//!
//! A tokio-uring operation whose future is dropped is *not* cancelled: it keeps its buffer and the descriptor
//! until the peer does something. So every connection is ended by [`Link::fail`], which shuts the socket down:
//! at the latest [`Link::limit`] after its close was queued or its user has finished.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::error::Failure;
use super::options::CLOSE_TIMEOUT;
use super::outgoing::Outgoing;
use uproar_protocol::frames::Role;
use uproar_protocol::tls::TlsStream;
use uproar_ring::unacknowledged_bytes;

/// How long the peer may take to end its side of TCP, and how much of what it still sends is read.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
const DISCARD_BYTES: usize = 4096;

/// One connection.
pub(super) struct Link {
    /// Until the connection has ended, whoever else still knows of it.
    tcp: RefCell<Option<Rc<TcpStream>>>,
    /// The runtime on which it lives.
    runtime: Option<runtime::Id>,
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    pub(super) outgoing: RefCell<Outgoing>,
    pub(super) tls: RefCell<Option<Box<TlsStream>>>,
    /// What the task is doing.
    task: Cell<Task>,
    /// Once nothing will be queued, so that our side ends behind what is there: which side ends TCP first.
    finished: Cell<Option<First>>,
    /// How long the end may take, from when it was begun.
    pub(super) end_timeout: Cell<Duration>,
    is_limited: Cell<bool>,
    /// How many bytes the kernel has taken to send.
    taken_bytes: Cell<u64>,
    /// Told whenever something has left, and when nothing will any more.
    pub(super) progress: Notify,
    /// What is kept until the connection has ended.
    kept: RefCell<Option<Rc<dyn Any>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// There is none.
    Idle,
    Sending,
    /// All has been sent; the two sides end.
    Ending,
}

/// Which side ends TCP first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// We do.
    Us,
    /// The peer, if it does not take long.
    Peer,
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Link")
            .field("peer", &self.peer)
            .field("role", &self.role)
            .field("task", &self.task)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(tcp: TcpStream, peer: SocketAddr, role: Role) -> Rc<Self> {
        Rc::new(Self {
            tcp: RefCell::new(Some(Rc::new(tcp))),
            runtime: current_runtime(),
            peer,
            role,
            outgoing: RefCell::default(),
            tls: RefCell::new(None),
            task: Cell::new(Task::Idle),
            finished: Cell::new(None),
            end_timeout: Cell::new(CLOSE_TIMEOUT),
            is_limited: Cell::new(false),
            taken_bytes: Cell::new(0),
            progress: Notify::new(),
            kept: RefCell::new(None),
        })
    }

    /// Sees to it that what is queued leaves. To be called after something was.
    pub(super) fn start_sending(self: &Rc<Self>) {
        if self.task.get() == Task::Idle && self.outgoing.borrow().failure.is_none() {
            self.task.set(Task::Sending);
            tokio_uring::spawn(Rc::clone(self).send());
        }
    }

    /// Queues HTTP, which leaves before any frame.
    ///
    /// # Errors
    ///
    /// [`Failure::Ended`] when this side has finished.
    pub(super) fn push_http(self: &Rc<Self>, bytes: &[u8]) -> Result<(), Failure> {
        if self.finished.get().is_some() {
            return Err(Failure::Ended);
        }
        self.outgoing.borrow_mut().push_http(bytes);
        self.start_sending();
        Ok(())
    }

    /// Says that nothing will be queued: our side ends behind what is there, and the connection with it. The
    /// first call counts.
    pub(super) fn finish(self: &Rc<Self>, first: First) {
        if self.finished.get().is_some() || self.failure().is_some() {
            return;
        }
        self.finished.set(Some(first));
        if !self.is_at_home() {
            // Nobody is left to send anything.
            return self.fail(Failure::Ended);
        }
        self.limit();
        self.start_sending();
    }

    /// The connection, until it has ended.
    pub(super) fn tcp(&self) -> Option<Rc<TcpStream>> {
        self.tcp.borrow().clone()
    }

    /// True on the runtime to which the connection belongs. Elsewhere it can only be dropped.
    pub(super) fn is_at_home(&self) -> bool {
        self.runtime.is_some() && self.runtime == current_runtime()
    }

    /// Gives the connection so long to end; the first call counts.
    pub(super) fn limit(self: &Rc<Self>) {
        if self.is_limited.replace(true) {
            return;
        }
        let link = Rc::clone(self);
        tokio_uring::spawn(async move {
            let limit = link.end_timeout.get();
            if timeout(limit, link.ended()).await.is_err() {
                link.fail(Failure::NotClosed(limit));
            }
        });
    }

    /// Keeps a value until the connection has ended.
    pub(super) fn keep(&self, value: Rc<dyn Any>) {
        self.kept.replace(Some(value));
    }

    /// Why nothing can be sent, when that is so.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.outgoing.borrow().failure.clone()
    }

    /// Waits until the connection has ended.
    async fn ended(&self) {
        loop {
            let progress = self.progress.notified();
            if self.outgoing.borrow().failure.is_some() {
                return;
            }
            progress.await;
        }
    }

    /// Waits until all that is queued is with the kernel.
    pub(super) async fn sent(&self) -> Result<(), Failure> {
        loop {
            let progress = self.progress.notified();
            // How the connection has ended since takes nothing back.
            if self.task.get() == Task::Ending {
                return Ok(());
            }
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.task.get() != Task::Sending {
                return Ok(());
            }
            progress.await;
        }
    }

    /// The task: sends until nothing is left, and ends our side when nothing will follow.
    async fn send(self: Rc<Self>) {
        if let Err(failure) = self.send_queued().await {
            return self.fail(failure);
        }
        let finished = self.finished.get();
        self.task.set(if finished.is_some() { Task::Ending } else { Task::Idle });
        self.progress.notify_waiters();
        if let Some(first) = finished {
            self.end(first).await;
            self.fail(Failure::Ended);
        }
    }

    async fn send_queued(&self) -> Result<(), Failure> {
        while let Some(piece) = self.next_piece()? {
            let piece = self.hand_over(piece).await?;
            if self.tls.borrow().is_none() {
                self.outgoing.borrow_mut().recycle(piece);
            }
            self.progress.notify_waiters();
        }
        Ok(())
    }

    /// What is to be handed to the kernel now.
    fn next_piece(&self) -> Result<Option<Vec<u8>>, Failure> {
        let mut outgoing = self.outgoing.borrow_mut();
        if let Some(failure) = &outgoing.failure {
            return Err(failure.clone());
        }
        let mut tls = self.tls.borrow_mut();
        let Some(tls) = tls.as_mut() else { return Ok(outgoing.next()) };
        if !tls.has_outgoing()
            && !tls.is_handshaking()
            && tls.failure().is_none()
            && let Some(piece) = outgoing.next()
        {
            tls.write_plaintext(&piece)?;
            outgoing.recycle(piece);
        }
        Ok(tls.poll_transmit())
    }

    /// Hands a piece to the kernel, all of it, and yields its buffer.
    async fn hand_over(&self, mut piece: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let tcp = self.tcp().ok_or(Failure::Ended)?;
        let mut sent_bytes = 0;
        while sent_bytes < piece.len() {
            let (result, rest) = tcp.write(piece.slice(sent_bytes..)).submit().await;
            piece = rest.into_inner();
            let count = result?;
            sent_bytes += count;
            self.taken_bytes.set(self.taken_bytes.get() + count as u64);
        }
        Ok(piece)
    }

    /// Ends both sides.
    ///
    /// A socket that is closed with unread data makes the kernel send a reset, which makes the peer's kernel
    /// throw away what it has received from us. So what the peer still sends is read, within limits.
    async fn end(&self, first: First) {
        if first == First::Peer {
            self.discard().await;
        }
        let close_notify = match self.tls.borrow_mut().as_mut() {
            Some(tls) => tls.close().ok().and_then(|()| tls.poll_transmit()),
            None => None,
        };
        if let Some(record) = close_notify
            && self.hand_over(record).await.is_err()
        {
            return;
        }
        // It fails only when the connection has ended already.
        if self.tcp().is_some_and(|tcp| tcp.shutdown(Shutdown::Write).is_ok()) && first == First::Us {
            self.discard().await;
        }
    }

    /// Reads until the peer ends its side.
    async fn discard(&self) {
        let Some(tcp) = self.tcp() else { return };
        let discard = async {
            let mut discarded_bytes = 0;
            let mut buffer = Vec::with_capacity(DISCARD_BYTES);
            while discarded_bytes < DISCARDED_BYTES_MAX {
                let (Ok(1..), filled) = tcp.read(buffer).await else { return };
                discarded_bytes += filled.len();
                buffer = filled;
                buffer.clear();
            }
        };
        // A peer that takes longer is not waited for.
        let _ = timeout(END_TIME_MAX, discard).await;
    }

    /// How much the peer's TCP has acknowledged of what was sent.
    pub(super) fn acknowledged_bytes(&self) -> u64 {
        self.taken_bytes.get().saturating_sub(self.unacknowledged_bytes())
    }

    /// True when all that was said has been acknowledged by the peer's TCP.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.task.get() != Task::Sending && self.unacknowledged_bytes() == 0
    }

    fn unacknowledged_bytes(&self) -> u64 {
        // It fails only for what is no socket of TCP.
        self.tcp().and_then(|tcp| unacknowledged_bytes(&*tcp).ok()).unwrap_or(0)
    }

    /// Ends the connection at once, and says so to whoever waits.
    pub(super) fn fail(&self, failure: Failure) {
        self.outgoing.borrow_mut().fail(failure);
        // The descriptor is closed when the kernel has completed what is under way, which this brings about.
        if let Some(tcp) = self.tcp.take() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        self.progress.notify_waiters();
        drop(self.kept.take());
    }
}

fn current_runtime() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}
