//! The floor: the event loop of a shard, one task on its runtime.
//!
//! A turn waits until something can be done, collects what has completed or arrived, steps the [`Shard`],
//! and submits what it asks for, all at once. Nothing in here decides anything; it moves values between
//! the ring, the mesh, the lobby and the state machine.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::lobby::Admission;
use super::{Arrival, Shard};
use crate::clock::{Clock, Now};
use crate::hub::{Delivery, Request, ShardIndex};
use crate::mesh::{Mailbox, Mesh};
use crate::metrics::ShardMetrics;
use crate::ring::{self, Completion, Ring};

/// Messages of other shards that are handled in one turn, so that clients have their turn as well.
const MESSAGES_A_TURN: usize = 1_024;

/// How often the queues are added up: it looks at every connection, which is too much for every turn.
const QUEUES_EVERY_MS: u64 = 1_000;

/// What a floor has counted already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    ring: ring::Counts,
    next_ms: u64,
}

/// What the server wants of its floors.
///
/// A shutdown takes all floors through the stages together: one begins when every floor has reached the
/// one before. So whatever a sender was told is sent has arrived with everyone before anyone is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serve.
    Serving,
    /// Read no more from clients. Reached when all that they asked for is in its home's mailbox.
    Hushed,
    /// Reached when the homes have dealt with it, and their answers are in the members' mailboxes.
    Settled,
    /// Deliver that, and close everyone. Reached when nobody is left.
    Draining,
    /// Return.
    Stopped,
}

impl Stage {
    /// The stage behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Serving => Self::Hushed,
            Self::Hushed => Self::Settled,
            Self::Settled => Self::Draining,
            Self::Draining | Self::Stopped => Self::Stopped,
        }
    }
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
    /// Connections from the lobby. The lobby's own limit bounds them.
    pub admissions: UnboundedReceiver<Admission>,
    /// What the server wants.
    pub stage: watch::Receiver<Stage>,
    /// Told once for each stage of the shutdown that this floor has reached.
    pub reached: Box<dyn Fn(Stage)>,
    /// The time.
    pub clock: Clock,
    /// What to count.
    pub metrics: Arc<ShardMetrics>,
    /// What was counted last.
    pub tally: Tally,
}

/// Everything that can wake the loop.
enum Wake {
    Ring,
    Request(Request),
    Delivery(Delivery),
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
        let mut reached = Stage::Serving;
        // A first turn, so that the metrics tell of an idle shard too.
        self.turn()?;
        loop {
            match self.wait(&event).await? {
                Wake::Ring | Wake::Tick | Wake::Room => {}
                Wake::Request(request) => self.shard.handle_request(request, self.clock.now()),
                Wake::Delivery(delivery) => self.shard.handle_delivery(delivery, self.clock.now()),
                Wake::Admission(admission) => self.admit(admission),
                Wake::Stage(Stage::Serving | Stage::Settled) => {}
                Wake::Stage(Stage::Hushed) => self.shard.hush(),
                Wake::Stage(Stage::Draining) => {
                    let now = self.clock.now();
                    while let Ok(delivery) = self.mailbox.deliveries.try_recv() {
                        self.shard.handle_delivery(delivery, now);
                    }
                    info!(shard = self.index.0, connections = self.shard.connection_count(), "draining");
                    self.shard.begin_drain(now);
                }
                Wake::Stage(Stage::Stopped) => return Ok(()),
            }
            self.turn()?;
            let stage = *self.stage.borrow();
            if reached < stage && self.has_reached(stage) {
                reached = stage;
                (self.reached)(stage);
            }
        }
    }

    fn has_reached(&self, stage: Stage) -> bool {
        let mut waiting = self.mesh.addresses().map(|(to, _)| self.shard.waiting_for(to));
        match stage {
            Stage::Serving | Stage::Stopped => true,
            Stage::Hushed => waiting.all(|(requests, _)| requests == 0),
            Stage::Settled => {
                self.mailbox.requests.is_empty() && waiting.all(|(_, deliveries)| deliveries == 0)
            }
            Stage::Draining => self.shard.connection_count() == 0,
        }
    }

    /// One turn: collect, step, submit.
    fn turn(&mut self) -> io::Result<()> {
        self.ring.enter()?;
        let now = self.clock.now();
        while let Some(completion) = self.ring.next_completion() {
            self.shard.handle_completion(completion, now);
        }
        self.receive_messages(now);
        while let Ok(admission) = self.admissions.try_recv() {
            self.admit(admission);
        }
        if self.shard.next_due_ms().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            self.shard.handle_tick(now);
        }
        // First what waits, so that input that was held back for it can be read.
        self.send_messages();
        self.shard.handle_turn_end(now);
        self.send_messages();
        while let Some(submission) = self.shard.poll_submission() {
            self.ring.submit(submission);
        }
        self.count(now);
        Ok(())
    }

    /// Waits until a turn has something to do.
    async fn wait(&mut self, event: &AsyncFd<OwnedFd>) -> io::Result<Wake> {
        if !self.ring.is_idle() || self.shard.has_readable_input() {
            // The lobby's operations reach the kernel when the runtime parks. Making our own event ready
            // lets it park for no time at all, where a mere yield would leave the lobby hungry.
            self.ring.wake()?;
        }
        // While something is queued, the gauge must not go stale.
        let count_ms = (self.metrics.queued_bytes.get() > 0).then_some(self.tally.next_ms);
        let due_ms = [self.shard.next_due_ms(), count_ms].into_iter().flatten().min();
        let due = due_ms.map(|due_ms| self.deadline(due_ms));
        let congested = self.congested_with();
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
            Some(delivery) = self.mailbox.deliveries.recv() => Ok(Wake::Delivery(delivery)),
            Some(request) = self.mailbox.requests.recv(), if self.shard.accepts_requests() => {
                Ok(Wake::Request(request))
            }
            Some(admission) = self.admissions.recv() => Ok(Wake::Admission(admission)),
            () = room_for(&self.mesh, congested) => Ok(Wake::Room),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(Wake::Tick),
        }
    }

    fn deadline(&self, due_ms: u64) -> Instant {
        let now_ms = self.clock.now().monotonic_ms;
        Instant::now() + Duration::from_millis(due_ms.saturating_sub(now_ms))
    }

    fn admit(&mut self, admission: Admission) {
        let Admission { socket, peer, endpoint, response, received, permit } = admission;
        let now = self.clock.now();
        let id = self.shard.admit(Arrival { endpoint, greeting: response, permit: Some(permit) }, now);
        debug!(shard = self.index.0, connection = %id, %peer, "admitted");
        self.ring.attach(id, socket);
        if !received.is_empty() {
            self.shard.handle_completion(Completion::Received(id, &received), now);
        }
    }

    fn receive_messages(&mut self, now: Now) {
        for _ in 0..MESSAGES_A_TURN {
            let Ok(delivery) = self.mailbox.deliveries.try_recv() else { break };
            self.shard.handle_delivery(delivery, now);
        }
        for _ in 0..MESSAGES_A_TURN {
            if !self.shard.accepts_requests() {
                break;
            }
            let Ok(request) = self.mailbox.requests.try_recv() else { break };
            self.shard.handle_request(request, now);
        }
    }

    /// Posts what waits for other shards, as far as their mailboxes have room.
    fn send_messages(&mut self) {
        for (to, address) in self.mesh.addresses() {
            while let Ok(place) = address.deliveries.try_reserve() {
                let Some(delivery) = self.shard.poll_delivery(to) else { break };
                place.send(delivery);
            }
            while let Ok(place) = address.requests.try_reserve() {
                let Some(request) = self.shard.poll_request(to) else { break };
                place.send(request);
            }
        }
    }

    /// A shard whose mailbox could not take everything.
    fn congested_with(&self) -> Option<(ShardIndex, Class)> {
        self.mesh.addresses().find_map(|(to, _)| match self.shard.waiting_for(to) {
            (0, 0) => None,
            (_, 0) => Some((to, Class::Requests)),
            _ => Some((to, Class::Deliveries)),
        })
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
        self.metrics.rooms.set(self.shard.room_count());
        self.metrics.mailbox_messages.set(self.mailbox.requests.len() + self.mailbox.deliveries.len());
    }
}

/// A class of messages between shards.
#[derive(Clone, Copy, Debug)]
enum Class {
    Requests,
    Deliveries,
}

/// Ends when a mailbox that was full has room.
async fn room_for(mesh: &Mesh, congested: Option<(ShardIndex, Class)>) {
    let Some((to, class)) = congested else { return pending().await };
    let (_, address) = mesh.addresses().nth(usize::from(to.0)).expect("Bug: an unknown shard");
    // An error means that the shard has stopped, and then this one is about to.
    match class {
        Class::Requests => drop(address.requests.reserve().await),
        Class::Deliveries => drop(address.deliveries.reserve().await),
    }
}
