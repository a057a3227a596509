//! Wakes the thread of a ring: other rings send a message, and threads without a ring write to an eventfd.
//!
//! A shard publishes that it sleeps, and then checks its mailbox once more. A sender puts its message into the
//! mailbox, and then checks whether the shard sleeps. Both have a fence between store and check, so at least one sees
//! the other. So a wake-up happens only when the shard sleeps, and only one thread makes it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the thread that waits in a ring. Cloning it gives another handle to the same thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<WakerState>);

#[derive(Debug)]
struct WakerState {
    /// True from when the thread is about to sleep until it is woken, or has woken up by itself.
    is_asleep: AtomicBool,
    /// The ring reads it, which ends the wait.
    event: OwnedFd,
    /// The ring, once it receives messages of other rings. Another descriptor of it, so that the number stays its own.
    ring: OnceLock<OwnedFd>,
}

impl Waker {
    /// A waker for a ring that is still to be made.
    ///
    /// # Errors
    ///
    /// What `eventfd(2)` reports: `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        // Without O_NONBLOCK, which would make the ring's read of it fail instead of wait.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(WakerState { is_asleep: AtomicBool::new(false), event, ring: OnceLock::new() })))
    }

    /// Wakes the thread if it sleeps. It sees everything that was stored before this call.
    pub fn wake(&self) {
        if self.take_sleep() {
            self.ring();
        }
    }

    /// True when the thread sleeps and no other thread wakes it: then the caller has to.
    pub(super) fn take_sleep(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.is_asleep.load(Ordering::Relaxed) && self.0.is_asleep.swap(false, Ordering::AcqRel)
    }

    /// Ends the thread's wait, or its next one. The event's counter cannot overflow, which would block: between two
    /// reads of it there is one call, and one more when the ring is dropped.
    pub(super) fn ring(&self) {
        // An eventfd has no other errors (eventfd(2)).
        let _ = rustix::io::retry_on_intr(|| rustix::io::write(&self.0.event, &1_u64.to_ne_bytes()));
    }

    /// The thread is about to sleep, and checks for messages once more after this call.
    pub(super) fn publish_sleep(&self) {
        self.0.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The thread is awake.
    pub(super) fn publish_awake(&self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Other rings may send messages to this one, which is the thread's.
    pub(super) fn receive_messages(&self, ring: OwnedFd) {
        // A waker is of use to one ring.
        let _ = self.0.ring.set(ring);
    }

    /// The ring to send a message to, if it receives any.
    pub(super) fn message_to(&self) -> Option<RawFd> {
        self.0.ring.get().map(AsRawFd::as_raw_fd)
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn event(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }
}
