//! Connects a [`Connection`] to the kernel: the task that carries out its actions, its deadlines, and its end.
//!
//! Reader and writers change the connection through [`Link::change`], which sees to it that a task is at work as long as the
//! connection asks for something. So an idle connection has no task. Nobody but the task writes to the socket; so a
//! writer whose future is dropped leaves no message half sent, and what waits together leaves together.
//!
//! A tokio-uring operation whose future is dropped is *not* cancelled: it keeps its buffer and the descriptor
//! until the peer does something. So every connection is ended by [`Link::fail`], which shuts the socket down: at the
//! latest [`Options::close_timeout`] after its close was queued or its user has finished.

use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{self, Handle};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::error::Failure;
use super::options::{Options, TIME_MAX};
use super::random;
use uproar_protocol::connection::{
    Action, Batch, ClosingTimes, Config, Connection, ControlOrder, Entries, KeepAlive, QueueLimits,
};
use uproar_protocol::frames::Role;
use uproar_ring::unacknowledged_bytes;

/// How long the peer may take to end its side of TCP, and how much of what it still sends is read.
const END_TIME_MAX: Duration = Duration::from_secs(2);
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
const DISCARD_BYTES: usize = 4096;

/// One connection, from the accepted or connected socket to its end.
pub(super) struct Link {
    /// Present until the connection has ended, even if others still hold the link.
    tcp: RefCell<Option<Rc<TcpStream>>>,
    /// The runtime on which it lives.
    runtime: Option<runtime::Id>,
    pub(super) peer: SocketAddr,
    /// The protocol: what waits to be sent, TLS, and how far its end has come.
    connection: RefCell<Connection<Bytes>>,
    /// Where the connection's time begins.
    begin: Instant,
    /// What the task is doing.
    task: Cell<Task>,
    /// How long the end may take, see [`Options::close_timeout`].
    close_timeout: Cell<Duration>,
    /// True once a task watches the deadlines.
    is_watched: Cell<bool>,
    /// How many bytes the kernel has taken to send.
    taken_bytes: Cell<u64>,
    /// Why nothing can be sent or received any more.
    failure: RefCell<Option<Failure>>,
    /// Notified when bytes were sent, and when no more will be.
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

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Link")
            .field("peer", &self.peer)
            .field("role", &self.role())
            .field("task", &self.task)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(tcp: TcpStream, peer: SocketAddr, role: Role) -> Rc<Self> {
        let options = Options::default();
        Rc::new(Self {
            tcp: RefCell::new(Some(Rc::new(tcp))),
            runtime: current_runtime(),
            peer,
            connection: RefCell::new(Connection::new(&config(role, &options), None, 0)),
            begin: Instant::now(),
            task: Cell::new(Task::Idle),
            close_timeout: Cell::new(options.close_timeout),
            is_watched: Cell::new(false),
            taken_bytes: Cell::new(0),
            failure: RefCell::new(None),
            progress: Notify::new(),
            kept: RefCell::new(None),
        })
    }

    /// Sets what applies from now on.
    pub(super) fn set_options(&self, options: &Options) {
        self.close_timeout.set(options.close_timeout);
        let config = config(self.role(), options);
        self.connection.borrow_mut().set_config(&config);
    }

    /// The side of the connection that we are on.
    pub(super) fn role(&self) -> Role {
        self.connection.borrow().config().role()
    }

    /// The connection, to be asked something.
    pub(super) fn connection(&self) -> Ref<'_, Connection<Bytes>> {
        self.connection.borrow()
    }

    /// Changes the connection, and has done what it then asks for.
    pub(super) fn change<T>(self: &Rc<Self>, change: impl FnOnce(&mut Connection<Bytes>) -> T) -> T {
        let mut connection = self.connection.borrow_mut();
        let result = change(&mut connection);
        let (is_open, has_work) = (
            connection.is_open(),
            connection.has_action() || !connection.is_reading() && connection.is_flushed(),
        );
        drop(connection);
        if !is_open {
            self.watch_deadlines();
        }
        if has_work && self.task.get() == Task::Idle && self.failure.borrow().is_none() {
            self.task.set(Task::Sending);
            tokio_uring::spawn(Rc::clone(self).work());
        }
        result
    }

    /// Queues HTTP, which leaves before any frame.
    ///
    /// # Errors
    ///
    /// [`Failure::Ended`] when this side has finished.
    pub(super) fn push_http(self: &Rc<Self>, bytes: &[u8]) -> Result<(), Failure> {
        if !self.connection.borrow().is_open() {
            return Err(Failure::Ended);
        }
        self.change(|connection| connection.push_http(bytes));
        Ok(())
    }

    /// Ends our side behind what is queued, and then the connection. Without effect on one that is closing.
    pub(super) fn finish(self: &Rc<Self>) {
        if self.failure().is_some() {
            return;
        }
        if !self.is_at_home() {
            // Nobody is left to send anything.
            return self.fail(Failure::Ended);
        }
        self.change(|connection| connection.finish(self.now_ms()));
    }

    /// The socket, until the connection has ended.
    pub(super) fn tcp(&self) -> Option<Rc<TcpStream>> {
        self.tcp.borrow().clone()
    }

    /// True on the runtime to which the connection belongs. Elsewhere it can only be dropped.
    pub(super) fn is_at_home(&self) -> bool {
        self.runtime.is_some() && self.runtime == current_runtime()
    }

    /// Keeps a value until the connection has ended.
    pub(super) fn keep(&self, value: Rc<dyn Any>) {
        self.kept.replace(Some(value));
    }

    /// Why nothing can be sent, when that is so.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.borrow().clone()
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

    /// The task: does what the connection asks for, until that is nothing or the end.
    async fn work(self: Rc<Self>) {
        let failure = loop {
            if let Err(failure) = self.act().await {
                break failure;
            }
            // Where all has been sent, the peer's FIN is next. Otherwise the connection is open, or waits for the peer's
            // close or handshake, which the reader brings.
            let is_ending = {
                let connection = self.connection.borrow();
                !connection.is_reading() && connection.is_flushed()
            };
            self.task.set(if is_ending { Task::Ending } else { Task::Idle });
            self.progress.notify_waiters();
            if !is_ending {
                return;
            }
            self.await_end().await;
        };
        self.fail(failure);
    }

    /// Does what the connection asks for.
    async fn act(&self) -> Result<(), Failure> {
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            // Nothing is joined where a batch has one entry.
            let action = self.connection.borrow_mut().poll_action(&mut Vec::new())?;
            match action {
                None => return Ok(()),
                Some(Action::Send(batch)) => self.send(batch).await?,
                Some(Action::ShutdownWrite) => {
                    if let Some(tcp) = self.tcp() {
                        // It fails only when the connection has ended already.
                        let _ = tcp.shutdown(Shutdown::Write);
                    }
                }
                Some(Action::Close(_)) => return Err(Failure::Ended),
                Some(Action::PauseReceive | Action::ResumeReceive) => {
                    unreachable!("Bug: received bytes wait in the stream, not in the connection")
                }
            }
        }
    }

    /// Hands a batch to the kernel, or a part of it.
    async fn send(&self, batch: Batch<Bytes>) -> Result<(), Failure> {
        let tcp = self.tcp().ok_or(Failure::Ended)?;
        let (Entries::One(bytes), head_offset) = batch.into_parts() else {
            unreachable!("Bug: a batch of several entries, and control frames leave between them")
        };
        let (result, rest) = tcp.write(BoundedBuf::slice(bytes, head_offset..)).submit().await;
        let sent_bytes = result?;
        self.taken_bytes.set(self.taken_bytes.get() + sent_bytes as u64);
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let batch = Batch::new(Entries::One(rest.into_inner()), head_offset);
        self.connection.borrow_mut().handle_sent(batch, sent_bytes, self.now_ms());
        self.progress.notify_waiters();
        Ok(())
    }

    /// Reads until the peer ends its side, or a deadline has changed the connection.
    ///
    /// A socket that is closed with unread data makes the kernel send a reset, which makes the peer's kernel
    /// throw away what it has received from us. So what the peer still sends is read, within limits.
    async fn await_end(&self) {
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
        let progress = self.progress.notified();
        tokio::select! {
            biased;
            () = progress => {}
            () = discard => self.connection.borrow_mut().handle_end_of_stream(false, self.now_ms()),
        }
    }

    /// Has a task watch the deadlines of a connection that is to end.
    fn watch_deadlines(self: &Rc<Self>) {
        if self.is_watched.replace(true) || self.failure.borrow().is_some() {
            return;
        }
        let link = Rc::clone(self);
        tokio_uring::spawn(async move {
            loop {
                let mut progress = pin!(link.progress.notified());
                if link.failure.borrow().is_some() {
                    return;
                }
                let due_ms = link.connection.borrow().next_due_ms(&KeepAlive::OFF);
                let due = link.begin + Duration::from_millis(due_ms).min(TIME_MAX * 2);
                tokio::select! {
                    () = &mut progress => {}
                    () = sleep_until(due) => link.handle_deadline(),
                }
            }
        });
    }

    /// A deadline is over. A peer that has not closed is cut off; one that only owes its FIN is not waited for.
    fn handle_deadline(&self) {
        if self.task.get() != Task::Ending {
            return self.fail(Failure::NotClosed(self.close_timeout.get()));
        }
        let _ = self.connection.borrow_mut().handle_timeout(&KeepAlive::OFF, self.now_ms());
        self.progress.notify_waiters();
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

    /// Ends the connection at once, and wakes all waiting tasks. The first failure counts.
    pub(super) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.connection.borrow_mut().handle_send_failed();
        // The descriptor is closed when the kernel has completed what is under way, which this brings about.
        if let Some(tcp) = self.tcp.take() {
            let _ = tcp.shutdown(Shutdown::Both);
        }
        self.progress.notify_waiters();
        drop(self.kept.take());
    }

    /// The connection's time. Reading the clock costs as much as a short message, so only what needs it does.
    pub(super) fn now_ms(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }
}

/// What the options mean for a connection.
fn config(role: Role, options: &Options) -> Arc<Config> {
    let close_ms = milliseconds(options.close_timeout);
    Arc::new(Config {
        new_mask: match role {
            Role::Server => None,
            Role::Client => Some(random::bytes),
        },
        message_bytes_max: options.message_bytes_max,
        queue: QueueLimits {
            charged_bytes_max: options.queue_bytes_max,
            overhead_bytes: 0,
            control: ControlOrder::Ahead { pong_bytes_max: options.queue_bytes_max },
        },
        closing: ClosingTimes {
            answer_ms: close_ms,
            fin_ms: milliseconds(END_TIME_MAX),
            stall_ms: close_ms,
            total_ms: close_ms,
        },
    })
}

/// A time in whole milliseconds, none of it lost.
fn milliseconds(time: Duration) -> u64 {
    time.as_nanos().div_ceil(1_000_000) as u64
}

fn current_runtime() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}
