//! The floor: the event loop of a shard, one task on its runtime.
//!
//! It waits until something can be done and then runs a [`turn`]: collects what has completed or arrived,
//! steps the [`Shard`], and submits what it asks for, all at once. Nothing in here decides anything; it
//! moves values between the ring, the mesh, the acceptors and the state machine.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::stage::{Progress, Stage};
use super::turn::{self, Class, Message, Surroundings};
use super::{Arrival, Shard};
use crate::accounts::{Attempt, Verdict, Verifier, log_denial};
use crate::clock::{Now, RunningClock};
use crate::handshake::{ADMISSIONS_MAX, Admission};
use crate::hub::{Delivery, Origin, Receipt, Request, ShardIndex, Write};
use crate::mesh::{Address, Mailbox, Mesh};
use crate::metrics::ShardMetrics;
use crate::ring::{self, Completion, Ring, Submission};
use crate::storage::StorageLink;

/// How often the queues are added up: it looks at every connection, which is too much for every turn.
const QUEUES_EVERY_MS: u64 = 1_000;

/// What a floor has counted already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    ring: ring::Counts,
    next_ms: u64,
}

/// Everything that a floor connects.
pub struct Floor {
    /// The state machine.
    pub shard: Shard,
    /// Which shard it is.
    pub index: ShardIndex,
    /// Its sockets.
    pub ring: Ring,
    /// What other shards send.
    pub mailbox: Mailbox,
    /// Where to reach them.
    pub mesh: Mesh,
    /// Who verifies passwords; nobody where there are no accounts.
    pub verifier: Option<Verifier<Origin>>,
    /// The storage, where there is one.
    pub storage: Option<StorageLink>,
    /// What it has said, and has not had its turn.
    pub receipts: VecDeque<Receipt>,
    /// Connections from the acceptors.
    pub admissions: Receiver<Admission>,
    /// What the server wants.
    pub stage: watch::Receiver<Stage>,
    /// Told once for each stage of the shutdown that this floor has reached.
    pub reached: Box<dyn Fn(Stage)>,
    /// The time, less that in which the thread could not run.
    pub clock: RunningClock,
    /// What to count.
    pub metrics: Arc<ShardMetrics>,
    /// What was counted last.
    pub tally: Tally,
}

/// Everything that can wake the loop.
enum Wake {
    Ring,
    Message(Message),
    Receipts(Vec<Receipt>),
    Admission(Admission),
    /// A full mailbox has room again.
    Room,
    Tick,
    Stage(Stage),
}

impl Floor {
    /// Runs turns until [`Stage::Stopped`].
    ///
    /// # Errors
    ///
    /// When the ring fails, which ends the shard.
    pub async fn run(mut self) -> io::Result<()> {
        let event = ring::awaitable(self.ring.event_descriptor().try_clone_to_owned()?)?;
        let mut progress = Progress::default();
        // A first turn, so that the metrics tell of an idle shard too.
        self.turn(None)?;
        loop {
            let mut message = None;
            match self.wait(&event).await? {
                Wake::Ring | Wake::Tick | Wake::Room => {}
                Wake::Message(first) => message = Some(first),
                Wake::Receipts(receipts) => self.receipts.extend(receipts),
                Wake::Admission(admission) => self.admit(admission),
                Wake::Stage(Stage::Stopped) => return Ok(()),
                Wake::Stage(stage) => self.begin(stage, &mut progress),
            }
            self.turn(message)?;
            let (shard, around) = self.split();
            if let Some(stage) = progress.poll_reached(shard, &around) {
                (self.reached)(stage);
            }
        }
    }

    /// One turn over this floor's ring and mesh.
    fn turn(&mut self, first: Option<Message>) -> io::Result<()> {
        self.metrics.pulse.begin_turn();
        self.ring.enter()?;
        // As many as there can be at this moment: acceptors may add to them meanwhile.
        for _ in 0..ADMISSIONS_MAX {
            let Ok(admission) = self.admissions.try_recv() else { break };
            self.admit(admission);
        }
        let now = self.clock.now();
        let (shard, mut around) = self.split();
        turn::run(shard, &mut around, first, now);
        self.count(now);
        Ok(())
    }

    fn begin(&mut self, stage: Stage, progress: &mut Progress) {
        if stage == Stage::Draining {
            info!(shard = self.index.0, connections = self.shard.connection_count(), "draining");
        }
        let now = self.clock.now();
        let (shard, mut around) = self.split();
        progress.begin(stage, shard, &mut around, now);
    }

    /// Waits until a turn has something to do.
    async fn wait(&mut self, event: &AsyncFd<OwnedFd>) -> io::Result<Wake> {
        let now_ms = self.clock.now().monotonic_ms;
        let turn_ms = turn::due_ms(&self.shard, now_ms);
        if !self.ring.is_idle() || turn_ms.is_some_and(|turn_ms| turn_ms <= now_ms) {
            // There is more to do, so waiting ends at once.
            self.ring.wake()?;
        }
        // While something is queued, the gauge must not go stale.
        let count_ms = (self.metrics.queued_bytes.get() > 0).then_some(self.tally.next_ms);
        let due_ms = [turn_ms, count_ms].into_iter().flatten().min();
        self.clock.sleep_until(due_ms.map(|due_ms| due_ms.max(now_ms)));
        let due = due_ms.map(|due_ms| Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms)));
        let congested = turn::congested_with(&self.shard);
        self.metrics.pulse.end_turn();
        tokio::select! {
            biased;
            changed = self.stage.changed() => {
                changed.map_err(|_| io::Error::other("Bug: the server is gone"))?;
                Ok(Wake::Stage(*self.stage.borrow_and_update()))
            }
            ready = event.readable() => {
                ready?.clear_ready();
                Ok(Wake::Ring)
            }
            Some(receipts) = receipts_from(&mut self.storage) => Ok(Wake::Receipts(receipts)),
            Some(delivery) = self.mailbox.deliveries.recv() => Ok(Wake::Message(Message::Delivery(delivery))),
            Some(request) = self.mailbox.requests.recv(), if self.shard.accepts_requests() => {
                Ok(Wake::Message(Message::Request(request)))
            }
            Some(admission) = self.admissions.recv() => Ok(Wake::Admission(admission)),
            () = room_for(&self.mesh, congested) => Ok(Wake::Room),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(Wake::Tick),
        }
    }

    fn admit(&mut self, admission: Admission) {
        let Admission { socket, peer, endpoint, response, received, tls, permit } = admission;
        // A listener of both versions of IP sees clients of IPv4 as ::ffff:192.0.2.1 (RFC 4291, 2.5.5.2).
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let now = self.clock.now();
        let arrival = Arrival { endpoint, peer, greeting: response, received, tls, permit: Some(permit) };
        let id = self.shard.admit(arrival, now);
        debug!(shard = self.index.0, connection = %id, %peer, "admitted");
        self.ring.attach(id, socket);
    }

    /// The state machine, and what surrounds it.
    fn split(&mut self) -> (&mut Shard, Outside<'_>) {
        let outside = Outside {
            ring: &mut self.ring,
            mailbox: &mut self.mailbox,
            mesh: &self.mesh,
            verifier: self.verifier.as_ref(),
            storage: &mut self.storage,
            receipts: &mut self.receipts,
        };
        (&mut self.shard, outside)
    }

    fn count(&mut self, now: Now) {
        let counts = self.ring.counts();
        let before = std::mem::replace(&mut self.tally.ring, counts);
        self.metrics.ring_turns.add(1);
        self.metrics.ring_submissions.add(counts.submissions - before.submissions);
        self.metrics.ring_completions.add(counts.completions - before.completions);
        self.metrics.receive_buffer_shortages.add(counts.buffer_shortages - before.buffer_shortages);
        if now.monotonic_ms >= self.tally.next_ms {
            self.tally.next_ms = now.monotonic_ms + QUEUES_EVERY_MS;
            self.metrics.queued_bytes.set(self.shard.queued_bytes());
        }
        self.metrics.writes_unanswered.set(self.shard.writes_unanswered());
        self.metrics.rooms.set(self.shard.room_count());
        self.metrics.mailbox_messages.set(self.mailbox.requests.len() + self.mailbox.deliveries.len());
    }
}

/// A shard's surroundings, for as long as a turn takes.
struct Outside<'a> {
    ring: &'a mut Ring,
    mailbox: &'a mut Mailbox,
    mesh: &'a Mesh,
    verifier: Option<&'a Verifier<Origin>>,
    storage: &'a mut Option<StorageLink>,
    receipts: &'a mut VecDeque<Receipt>,
}

impl Surroundings for Outside<'_> {
    fn next_completion(&mut self) -> Option<Completion<'_>> {
        self.ring.next_completion()
    }

    fn is_short_of_buffers(&self) -> bool {
        self.ring.is_short_of_buffers()
    }

    fn next_receipt(&mut self) -> Option<Receipt> {
        if self.receipts.is_empty()
            && let Some(storage) = self.storage
            && let Ok(receipts) = storage.receipts.try_recv()
        {
            self.receipts.extend(receipts);
        }
        self.receipts.pop_front()
    }

    fn write(&mut self, write: Write) {
        let storage = self.storage.as_ref().expect("Bug: a write without a storage");
        match storage.writes.try_send(write) {
            // One that has ended takes the server with it: the main thread is about to end this one.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => unreachable!("Bug: more writes than a shard may have unanswered"),
        }
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        self.mailbox.deliveries.try_recv().ok()
    }

    fn next_request(&mut self) -> Option<Request> {
        self.mailbox.requests.try_recv().ok()
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.deliveries.is_empty() || !self.mailbox.requests.is_empty()
    }

    fn post_delivery(&mut self, to: ShardIndex, delivery: impl FnOnce() -> Option<Delivery>) -> bool {
        post(&address(self.mesh, to).deliveries, delivery)
    }

    fn post_request(&mut self, to: ShardIndex, request: impl FnOnce() -> Option<Request>) -> bool {
        post(&address(self.mesh, to).requests, request)
    }

    fn verify(&mut self, attempt: Attempt<Origin>) -> Option<Verdict> {
        match self.verifier {
            // Without accounts every pair is wrong.
            None => {
                log_denial(&attempt.credentials.username, attempt.address, "no accounts without --data");
                Some(Verdict::Denied)
            }
            Some(verifier) => (!verifier.submit(attempt)).then_some(Verdict::Unavailable),
        }
    }

    fn submit(&mut self, submission: Submission) {
        self.ring.submit(submission);
    }
}

fn post<T>(to: &Sender<T>, message: impl FnOnce() -> Option<T>) -> bool {
    let Ok(place) = to.try_reserve() else { return false };
    message().map(|message| place.send(message)).is_some()
}

fn address(mesh: &Mesh, to: ShardIndex) -> &Address {
    let (index, address) = mesh.addresses().nth(usize::from(to.0)).expect("Bug: an unknown shard");
    debug_assert_eq!(index, to);
    address
}

/// What the storage says next; never, where there is none.
async fn receipts_from(storage: &mut Option<StorageLink>) -> Option<Vec<Receipt>> {
    match storage {
        Some(storage) => storage.receipts.recv().await,
        None => pending().await,
    }
}

/// Ends when a mailbox that was full has room.
async fn room_for(mesh: &Mesh, congested: Option<(ShardIndex, Class)>) {
    let Some((to, class)) = congested else { return pending().await };
    let address = address(mesh, to);
    // An error means that the shard has stopped, and then this one is about to.
    match class {
        Class::Requests => drop(address.requests.reserve().await),
        Class::Deliveries => drop(address.deliveries.reserve().await),
    }
}
