//! The event loop of a shard, on a thread of its own.
//!
//! It waits in one place, the ring, until something can be done, and then runs a [`turn`]: collects what has completed or
//! arrived, steps the [`Shard`], and submits what it asks for with the next wait. Nothing in here decides anything; it
//! moves values between the ring, the mesh, the acceptors and the state machine.
//!
//! Everything that ends the wait is a completion of the ring or the next deadline. Others leave what they have for the
//! shard in a queue, and wake it: other shards with a message to its ring, other threads with its [`uproar_ring::Waker`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Sender, UnboundedSender};
use tokio::sync::watch;
use tracing::{debug, info};
use uproar_ring::{Completion, ConnectionId, Ring, Submission, TcpFacts, give_back_own_end};

use super::Shard;
use super::stage::{Progress, Stage};
use super::turn::{self, Class, Io, WakeSources};
use crate::accounts::{Attempt, SignInResult, Verifier, log_denial};
use crate::clock::{Now, RunningClock};
use crate::cluster::ClusterLink;
use crate::handshake::{ADMISSIONS_MAX, Admission, Admissions};
use crate::mail::{Delivery, LogMail, Request};
use crate::mesh::{Mailbox, Mesh};
use crate::metrics::ShardMetrics;
use crate::rooms::{ClientRef, Receipt, ShardIndex, SharedProposal, Write};
use crate::storage::StorageLink;

/// How often the queue gauge is updated: that visits every connection, which is too slow for every turn.
const QUEUES_EVERY_MS: u64 = 1_000;

/// How many sends may be submitted by the call that also waits. Their frames are held until the wait is over; after a
/// broadcast another call costs little, and gives its frames back at once.
const SENDS_WITH_WAIT_MAX: usize = 16;

/// The counts that have been added to the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    ring: uproar_ring::Counts,
    clients: usize,
    next_ms: u64,
}

/// Everything that an event loop connects.
pub struct EventLoop {
    /// The state machine.
    pub shard: Shard,
    /// Which shard it is.
    pub index: ShardIndex,
    /// Its sockets.
    pub ring: Ring,
    /// Mail from other shards.
    pub mailbox: Mailbox,
    /// The mailboxes of other shards.
    pub mesh: Mesh,
    /// The thread that verifies passwords; none where there are no accounts.
    pub verifier: Option<Verifier<ClientRef>>,
    /// The HTTP API, where there is one. Its queue is bounded by the requests that it has under way.
    pub api: UnboundedSender<Delivery>,
    /// The storage, where there is one.
    pub storage: Option<StorageLink>,
    /// The log that several servers share, where there is one.
    pub cluster: Option<ClusterLink>,
    /// Receipts that were taken from one of these, and not handled yet.
    pub receipts: VecDeque<Receipt>,
    /// Connections from the acceptors.
    pub admissions: Admissions,
    /// The stage that the leading thread wants.
    pub stage: watch::Receiver<Stage>,
    /// Called once for each stage of the shutdown that this shard has reached.
    pub reached: Box<dyn Fn(Stage)>,
    /// The time, less that in which the thread could not run.
    pub clock: RunningClock,
    /// How long to look for something to do before the thread sleeps; zero for not at all.
    pub busy_poll: Duration,
    /// The shard's metrics.
    pub metrics: Arc<ShardMetrics>,
    /// The counts at the last update of the metrics.
    pub tally: Tally,
}

impl EventLoop {
    /// Runs turns until [`Stage::Stopped`].
    ///
    /// # Errors
    ///
    /// When the ring fails, which ends the shard.
    pub fn run(mut self) -> io::Result<()> {
        self.metrics.busy.measure_this_thread();
        let mut progress = Progress::default();
        loop {
            match self.next_stage()? {
                None => {}
                Some(Stage::Stopped) => return Ok(()),
                Some(stage) => self.begin(stage, &mut progress),
            }
            self.turn();
            let (shard, io) = self.split();
            if let Some(stage) = progress.poll_reached(shard, &io) {
                (self.reached)(stage);
            }
            self.wait()?;
        }
    }

    /// The stage that the leading thread wants, if it has changed.
    fn next_stage(&mut self) -> io::Result<Option<Stage>> {
        match self.stage.has_changed() {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(*self.stage.borrow_and_update())),
            Err(_) => Err(io::Error::other("Bug: the server is gone")),
        }
    }

    fn begin(&mut self, stage: Stage, progress: &mut Progress) {
        if stage == Stage::Draining {
            info!(shard = self.index.0, connections = self.shard.clients().count(), "draining");
        }
        let now = self.clock.now();
        let (shard, mut io) = self.split();
        progress.begin(stage, shard, &mut io, now);
    }

    /// One turn over this loop's ring and mesh.
    fn turn(&mut self) {
        self.metrics.turn.set();
        // As many as there can be at this moment: acceptors may add to them meanwhile.
        for _ in 0..ADMISSIONS_MAX {
            let Some((socket, admission)) = self.admissions.take() else { break };
            self.admit(socket, admission);
        }
        let now = self.clock.now();
        let (shard, mut io) = self.split();
        turn::run(shard, &mut io, now);
        self.count(now);
    }

    /// Submits what the turn has queued, and waits until the next one has something to do.
    fn wait(&mut self) -> io::Result<()> {
        let now_ms = self.clock.now().monotonic_ms;
        let turn_ms = turn::due_ms(&self.shard, now_ms);
        let is_send_awaited = self.shard.take_is_send_awaited();
        if is_send_awaited || self.ring.unsettled_count() > SENDS_WITH_WAIT_MAX || turn_ms == Some(now_ms) {
            return self.ring.enter();
        }
        // While something is queued, the gauge must not go stale.
        let count_ms = (self.metrics.queued_bytes.get() > 0).then_some(self.tally.next_ms);
        let due_ms = [turn_ms, count_ms].into_iter().flatten().min().map(|due_ms| due_ms.max(now_ms));
        self.clock.sleep_until(due_ms);
        let timeout = due_ms.map(|due_ms| Duration::from_millis(due_ms - now_ms));
        if self.has_polled_something()? {
            return self.ring.enter();
        }
        self.metrics.turn.clear();
        let (ring, shard, mut sources) = self.sleep_check();
        ring.wait(timeout, || turn::has_news(shard, &mut sources))
    }

    /// Looks for something to do for as long as `busy_poll`.
    fn has_polled_something(&mut self) -> io::Result<bool> {
        if self.busy_poll.is_zero() {
            return Ok(false);
        }
        self.ring.submit_queued()?;
        let began = Instant::now();
        let mut now = began;
        let has_found = loop {
            if now >= began + self.busy_poll {
                break false;
            }
            let (ring, shard, mut sources) = self.sleep_check();
            if ring.has_completions() || turn::has_news(shard, &mut sources) {
                break true;
            }
            std::hint::spin_loop();
            now = Instant::now();
        };
        self.metrics.busy.add_polled(now - began);
        Ok(has_found)
    }

    fn admit(&mut self, socket: OwnedFd, admission: Admission) {
        let peer = admission.request.peer;
        let now = self.clock.now();
        let id = self.shard.admit(admission, now);
        debug!(shard = self.index.0, connection = %id, %peer, "admitted");
        self.ring.attach(id, socket);
    }

    /// The state machine, and the rest of the loop for it.
    fn split(&mut self) -> (&mut Shard, RingIo<'_>) {
        let io = RingIo {
            ring: &mut self.ring,
            mailbox: &mut self.mailbox,
            mesh: &self.mesh,
            verifier: self.verifier.as_ref(),
            api: &self.api,
            storage: &mut self.storage,
            cluster: &mut self.cluster,
            receipts: &mut self.receipts,
        };
        (&mut self.shard, io)
    }

    /// The ring, the state machine, and the queues to check before sleeping.
    fn sleep_check(&mut self) -> (&mut Ring, &Shard, SleepCheck<'_>) {
        let sleep_check = SleepCheck {
            index: self.index,
            mailbox: &self.mailbox,
            mesh: &self.mesh,
            storage: self.storage.as_ref(),
            cluster: self.cluster.as_ref(),
            receipts: &self.receipts,
            admissions: &self.admissions,
            stage: &self.stage,
        };
        (&mut self.ring, &self.shard, sleep_check)
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
            self.metrics.queued_bytes.set(self.shard.clients().queued_bytes());
        }
        let clients = self.shard.clients().count();
        if clients < std::mem::replace(&mut self.tally.clients, clients) {
            // What a client has left behind is many small blocks, where it was slow.
            give_back_own_end();
        }
        self.metrics.writes_unanswered.set(self.shard.homes().writes_unanswered());
        self.metrics.rooms.set(self.shard.homes().room_count());
        self.metrics.mailbox_messages.set(self.mailbox.len());
    }
}

/// The queues that a shard checks before it sleeps.
struct SleepCheck<'a> {
    index: ShardIndex,
    mailbox: &'a Mailbox,
    mesh: &'a Mesh,
    storage: Option<&'a StorageLink>,
    cluster: Option<&'a ClusterLink>,
    receipts: &'a VecDeque<Receipt>,
    admissions: &'a Admissions,
    stage: &'a watch::Receiver<Stage>,
}

impl WakeSources for SleepCheck<'_> {
    fn has_deliveries(&self) -> bool {
        !self.mailbox.deliveries.is_empty()
    }

    fn has_requests(&self) -> bool {
        !self.mailbox.requests.is_empty()
    }

    fn has_receipts(&self) -> bool {
        !self.receipts.is_empty()
            || self.storage.is_some_and(|storage| !storage.receipts.is_empty())
            || self.cluster.is_some_and(ClusterLink::has_receipts)
    }

    fn has_more(&self) -> bool {
        !self.admissions.is_empty()
            // An error means that the server is gone, which the next turn reports.
            || self.stage.has_changed().unwrap_or(true)
    }

    fn ask_for_room(&mut self, to: ShardIndex) {
        self.mesh.address(to).ask_for_room(self.index);
    }

    fn has_room(&self, to: ShardIndex, class: Class) -> bool {
        let address = self.mesh.address(to);
        match class {
            Class::Requests => address.requests.capacity() > 0,
            Class::Deliveries => address.deliveries.capacity() > 0,
        }
    }
}

/// The ring and the queues, for as long as a turn takes.
struct RingIo<'a> {
    ring: &'a mut Ring,
    mailbox: &'a mut Mailbox,
    mesh: &'a Mesh,
    verifier: Option<&'a Verifier<ClientRef>>,
    api: &'a UnboundedSender<Delivery>,
    storage: &'a mut Option<StorageLink>,
    cluster: &'a mut Option<ClusterLink>,
    receipts: &'a mut VecDeque<Receipt>,
}

impl Io for RingIo<'_> {
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
        if self.receipts.is_empty()
            && let Some(cluster) = self.cluster
            && let Some(receipts) = cluster.take_receipts()
        {
            self.receipts.extend(receipts);
        }
        self.receipts.pop_front()
    }

    fn write(&mut self, write: Write) {
        let storage = self.storage.as_ref().expect("Bug: a write without a storage");
        match storage.writes.try_send(write) {
            // If the storage thread has ended, the leading thread is about to end the server, so the write is dropped.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => unreachable!("Bug: more writes than a shard may have unanswered"),
        }
    }

    fn propose(&mut self, proposal: SharedProposal) {
        self.cluster.as_ref().expect("Bug: a proposal without a cluster").propose(proposal);
    }

    fn post_to_log(&mut self, mail: LogMail) {
        self.cluster.as_ref().expect("Bug: mail for another server without a cluster").post(mail);
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        self.mailbox.deliveries.try_recv().ok()
    }

    fn next_request(&mut self) -> Option<Request> {
        self.mailbox.requests.try_recv().ok()
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    fn next_room_wanted(&mut self) -> Option<ShardIndex> {
        self.mailbox.next_room_wanted()
    }

    fn wake(&mut self, shard: ShardIndex) {
        self.ring.wake(&self.mesh.address(shard).waker);
    }

    fn post_delivery(&mut self, to: ShardIndex, delivery: impl FnOnce() -> Option<Delivery>) -> bool {
        post(&self.mesh.address(to).deliveries, delivery)
    }

    fn post_request(&mut self, to: ShardIndex, request: impl FnOnce() -> Option<Request>) -> bool {
        post(&self.mesh.address(to).requests, request)
    }

    fn post_to_api(&mut self, delivery: Delivery) {
        // Once it has ended, nobody waits for the answer.
        let _ = self.api.send(delivery);
    }

    fn tcp_facts(&mut self, id: ConnectionId) -> Option<TcpFacts> {
        self.ring.tcp_facts(id)
    }

    fn verify(&mut self, attempt: Attempt<ClientRef>) -> Option<SignInResult> {
        match self.verifier {
            // Without accounts every pair is wrong.
            None => {
                log_denial(&attempt.credentials.username, attempt.address, "no accounts without --data");
                Some(SignInResult::Denied)
            }
            Some(verifier) => (!verifier.submit(attempt)).then_some(SignInResult::Unavailable),
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
