//! One shard and what stands around it: its mailbox, its connections, its turns and its sleep. A turn is that of
//! `uproar::shard::turn`, over the scheduler's choice of what has completed or arrived by then. Between two turns the
//! shard falls asleep in two steps, between which others have theirs; then only a completion, a deadline or another
//! shard's wake-up has it go on. It is over 500 lines because its checks are of one shard as a whole.

use std::collections::VecDeque;
use std::sync::Arc;

use uproar::accounts::{Attempt, SignInResult};
use uproar::clock::Now;
use uproar::handshake::{Admission, UpgradeQuery, UpgradeRequest};
use uproar::mail::{Delivery, LogMail, Request};
use uproar::metrics::ShardMetrics;
use uproar::rooms::{
    self, Change, ClientRef, Directory, Event, Proposal, Receipt, RoomEvent, ShardIndex, SharedProposal,
    Unlogged, Visit, Write,
};
use uproar::shard::stage::{Progress, Stage};
use uproar::shard::turn::{self, Io};
use uproar::shard::{DELIVERIES_WAITING_MAX, GATED_LIMITS_MAX, REQUESTS_WAITING_MAX, Shard};
use uproar_ring::ConnectionId;
use uproar_ring::{Completion, Submission, TcpFacts};

use crate::client::{Client, greeting};
use crate::links::{Links, RECEIVES_MAX};
use crate::random::Random;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::sleep_check::SleepCheck;
use crate::socket::{Completed, RECEIVE_BYTES_MAX};
use crate::storage::Storage;
use crate::trace::Trace;
use crate::violation::{Checked, ensure};

/// Input of a connection that may wait to be read: what makes it pause, and what was on its way by then.
const PENDING_BYTES_MAX: usize = 64 * 1024 + (RECEIVES_MAX + 4) * RECEIVE_BYTES_MAX;

pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) mailbox: Mailbox,
    /// Clients on their way from an acceptor.
    pub(crate) admissions: VecDeque<usize>,
    pub(crate) links: Links,
    pub(crate) progress: Progress,
    rest: Rest,
}

/// What a shard does between two turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Its next turn is due, or is over.
    Awake,
    /// Its turn is over, and it is known as asleep, but has not yet looked whether anything has come.
    FallingAsleep,
    Asleep,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    pub(crate) requests: VecDeque<Request>,
    pub(crate) deliveries: VecDeque<Delivery>,
    /// What others see of its owner.
    is_asleep: bool,
    /// A wake-up is on its way to the owner.
    is_woken: bool,
    /// Who asked for room.
    pub(crate) room_wanted: VecDeque<ShardIndex>,
}

impl Mailbox {
    /// Wakes the owner if it sleeps.
    pub(crate) fn wake(&mut self) {
        self.is_woken |= std::mem::take(&mut self.is_asleep);
    }
}

/// The surroundings of a shard during a turn.
struct Outside<'a, 'b> {
    mailbox: &'a mut Mailbox,
    links: &'a mut Links,
    others: &'a mut [Mailbox],
    around: &'a mut Around<'b>,
    /// What completes in this turn.
    completions: VecDeque<(usize, ConnectionId, Completed)>,
    /// What the last completion lends.
    lent: Option<Completed>,
    /// How many messages have arrived for this turn.
    deliveries: usize,
    requests: usize,
    receipts: usize,
    index: usize,
    /// True once this shard has begun to close everyone.
    is_closing: bool,
    /// The first violation.
    outcome: Checked,
}

/// How a turn chooses among what is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As the seed's chances say.
    Random,
    /// Everything that can happen does.
    Eager,
}

/// What surrounds a host during its turn.
pub(crate) struct Around<'a> {
    pub(crate) clients: &'a mut Vec<Client>,
    pub(crate) scenario: &'a Scenario,
    pub(crate) random: &'a mut Random,
    pub(crate) trace: &'a mut Trace,
    pub(crate) record: &'a Record,
    pub(crate) storage: &'a mut Option<Storage>,
    /// What shards have answered to the HTTP API.
    pub(crate) api_answers: &'a mut Vec<Delivery>,
    pub(crate) now: Now,
    pub(crate) pace: Pace,
    /// True while a shard may close everyone, behind a shutdown's stages.
    pub(crate) is_draining: bool,
}

impl Around<'_> {
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.pace == Pace::Eager || self.random.percent(percent)
    }

    fn count(&mut self, available: usize) -> usize {
        match self.pace {
            Pace::Eager => available,
            Pace::Random if self.random.percent(self.scenario.chances.mail) => {
                self.random.between(0, available)
            }
            Pace::Random => 0,
        }
    }
}

impl Host {
    pub(crate) fn new(
        index: usize,
        scenario: &Scenario,
        directory: &Directory,
        metrics: Arc<ShardMetrics>,
        storage: Option<&Storage>,
    ) -> Self {
        let settings = scenario.settings(index as u16);
        let mut shard = Shard::new(settings, directory, Arc::clone(&metrics));
        if let Some(storage) = storage {
            shard.restore(&storage.restored());
        }
        Self {
            index,
            shard,
            metrics,
            mailbox: Mailbox::default(),
            admissions: VecDeque::new(),
            links: Links::new(index),
            progress: Progress::default(),
            rest: Rest::Awake,
        }
    }

    /// Takes the shard a step nearer to its sleep. True when it is known as asleep, and is to look what has come next.
    pub(crate) fn fall_asleep(&mut self, others: &mut [Mailbox], around: &Around<'_>) -> bool {
        let now_ms = around.now.monotonic_ms;
        match self.rest {
            Rest::Awake if turn::due_ms(&self.shard, now_ms).is_some_and(|due_ms| due_ms <= now_ms) => false,
            Rest::Awake => {
                self.mailbox.is_asleep = true;
                self.rest = Rest::FallingAsleep;
                true
            }
            Rest::FallingAsleep => {
                self.rest = if self.has_news(others, around) { Rest::Awake } else { Rest::Asleep };
                self.mailbox.is_asleep &= self.rest == Rest::Asleep;
                false
            }
            Rest::Asleep => false,
        }
    }

    /// Whether there is something to do that no completion tells of.
    fn has_news(&self, others: &mut [Mailbox], around: &Around<'_>) -> bool {
        let receipts = around.storage.as_ref().map_or(0, |storage| storage.receipts_for(self.index));
        let mut sleep_check = SleepCheck {
            index: self.index,
            mailbox: &self.mailbox,
            has_receipts: receipts > 0,
            has_more: !self.admissions.is_empty(),
            others,
            messages_max: around.scenario.mailbox_messages_max,
        };
        turn::has_news(&self.shard, &mut sleep_check)
    }

    /// When nothing happens any more, a shard that sleeps has nothing to do.
    pub(crate) fn check_sleep(&self, others: &mut [Mailbox], around: &Around<'_>) -> Checked {
        let has_news = self.has_news(others, around);
        ensure!(NoLostWakeUp, !has_news, "shard {} is {:?} and has something to do", self.index, self.rest);
        Ok(())
    }

    /// One turn, at the beginning of a stage if one is given. False when nothing would have woken the shard.
    pub(crate) fn turn(
        &mut self,
        stage: Option<Stage>,
        others: &mut [Mailbox],
        around: &mut Around<'_>,
    ) -> Checked<bool> {
        let completions = self.links.choose_completions(around);
        let deliveries = around.count(self.mailbox.deliveries.len());
        let requests =
            if self.shard.accepts_requests() { around.count(self.mailbox.requests.len()) } else { 0 };
        let receipts = around.storage.as_ref().map_or(0, |storage| storage.receipts_for(self.index));
        let receipts = around.count(receipts);
        // The event loop admits everyone who is there. Between stages it is as if some had come later.
        let admissions =
            if stage.is_some() { self.admissions.len() } else { around.count(self.admissions.len()) };
        let (now, now_ms) = (around.now, around.now.monotonic_ms);
        let is_due = turn::due_ms(&self.shard, now_ms).is_some_and(|due_ms| due_ms <= now_ms);
        // A wake-up is among the completions of the turn, whatever it was that brought it.
        let has_arrived = std::mem::take(&mut self.mailbox.is_woken) || !completions.is_empty();
        let is_asleep = self.rest != Rest::Awake;
        if stage.is_none() && is_asleep && !has_arrived && !is_due {
            return Ok(false);
        }
        self.rest = Rest::Awake;
        self.mailbox.is_asleep = false;
        let shard = self.index;
        around.trace.note([shard, completions.len(), deliveries + requests], || {
            format!(
                "shard {shard}: {stage:?}, {} completions, {deliveries} deliveries, {requests} requests, \
                 {admissions} admissions, due: {is_due}",
                completions.len()
            )
        });
        for _ in 0..admissions {
            self.admit(around)?;
        }
        let mut outside = Outside {
            mailbox: &mut self.mailbox,
            links: &mut self.links,
            others,
            around,
            completions: completions.into(),
            lent: None,
            deliveries: usize::MAX,
            requests,
            receipts,
            index: self.index,
            is_closing: false,
            outcome: Ok(()),
        };
        if let Some(stage) = stage {
            self.progress.begin(stage, &mut self.shard, &mut outside, now);
        }
        outside.deliveries = deliveries;
        outside.is_closing = self.progress.begun() >= Stage::Draining && outside.around.is_draining;
        turn::run(&mut self.shard, &mut outside, now);
        outside.outcome?;
        self.links.check_deadlines(&self.shard)?;
        self.check_bounds(around)?;
        Ok(true)
    }

    /// The stage that this shard has reached since it was last asked.
    pub(crate) fn poll_reached(&mut self, others: &mut [Mailbox], around: &mut Around<'_>) -> Option<Stage> {
        let outside = Outside {
            mailbox: &mut self.mailbox,
            links: &mut self.links,
            others,
            around,
            completions: VecDeque::new(),
            lent: None,
            deliveries: 0,
            requests: 0,
            receipts: 0,
            index: self.index,
            is_closing: false,
            outcome: Ok(()),
        };
        self.progress.poll_reached(&self.shard, &outside)
    }

    fn admit(&mut self, around: &mut Around<'_>) -> Checked {
        let Some(number) = self.admissions.pop_front() else { return Ok(()) };
        let client = &mut around.clients[number];
        let admission = Admission {
            request: UpgradeRequest {
                endpoint: client.endpoint(),
                query: UpgradeQuery { session: client.session.clone(), ..UpgradeQuery::default() },
                identity: None,
                peer: client.address().into(),
                response: greeting(),
            },
            received: bytes::Bytes::new(),
            tls: None,
            permit: client.permit.take().expect("a client that was let in has a place"),
        };
        let id = self.shard.admit(admission, around.now);
        let before = self.links.slots.insert(id.index, number);
        ensure!(TerminalCompletion, before.is_none(), "slot {id} of client {before:?} was given to {number}");
        client.socket.id = Some(id);
        around
            .trace
            .note([self.index, number, id.index as usize], || format!("  {number} is admitted as {id}"));
        // The first frames may have come right behind the request.
        if !client.socket.is_reset && around.random.percent(30) {
            let len = client.socket.up.len().min(1_000);
            let received: Vec<u8> = client.socket.up.drain(..len).collect();
            if !received.is_empty() {
                self.shard.handle_completion(Completion::Received(id, &received), around.now);
            }
        }
        Ok(())
    }

    fn check_bounds(&self, around: &Around<'_>) -> Checked {
        let scenario = around.scenario;
        // Beyond the mark there is what one message, or everyone's coming and going, leads to; and what a
        // shard had asked of itself when the mark was reached.
        let excess = 8 + 8 * scenario.arrivals_max;
        for to in (0..scenario.shards).map(ShardIndex) {
            let (requests, deliveries) = self.shard.mail().waiting_for(to);
            ensure!(EverythingBounded, requests <= REQUESTS_WAITING_MAX + excess, "{requests} requests wait");
            ensure!(
                EverythingBounded,
                deliveries <= DELIVERIES_WAITING_MAX + REQUESTS_WAITING_MAX + excess,
                "{deliveries} deliveries wait"
            );
        }
        // What waits for the disk counts by itself, and may all be let go at once.
        let gated_bytes_max = if scenario.is_durable {
            GATED_LIMITS_MAX * scenario.limits.queue_bytes_max + scenario.join_bytes_max()
        } else {
            0
        };
        let queue_bytes_max = scenario.limits.queue_bytes_max + gated_bytes_max + scenario.join_bytes_max();
        let queued_bytes = self.shard.clients().longest_queue_bytes();
        ensure!(
            EverythingBounded,
            queued_bytes <= queue_bytes_max,
            "{queued_bytes} bytes wait for a connection"
        );
        let pending_bytes = self.shard.clients().most_pending_bytes();
        ensure!(
            EverythingBounded,
            pending_bytes <= PENDING_BYTES_MAX,
            "{pending_bytes} bytes of a connection wait to be read"
        );
        Ok(())
    }
}

impl Io for Outside<'_, '_> {
    fn next_completion(&mut self) -> Option<Completion<'_>> {
        let (client, id, completed) = self.completions.pop_front()?;
        self.lent = Some(completed);
        self.links.complete(client, id, &mut self.lent, self.around)
    }

    fn is_short_of_buffers(&self) -> bool {
        false
    }

    fn next_receipt(&mut self) -> Option<Receipt> {
        self.receipts = self.receipts.checked_sub(1)?;
        self.around.storage.as_mut()?.next_receipt(self.index)
    }

    fn write(&mut self, write: Write) {
        let Some(storage) = self.around.storage else { unreachable!("{write:?} without a storage") };
        let outcome = storage.take(write);
        if self.outcome.is_ok() {
            self.outcome = outcome;
        }
    }

    fn propose(&mut self, proposal: SharedProposal) {
        unreachable!("{proposal:?} without a cluster")
    }

    fn post_to_log(&mut self, mail: LogMail) {
        unreachable!("{mail:?} without a cluster")
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        self.deliveries = self.deliveries.checked_sub(1)?;
        let delivery = self.mailbox.deliveries.pop_front()?;
        if self.outcome.is_ok() && self.is_closing {
            self.outcome = self.check_late_delivery(&delivery);
        }
        Some(delivery)
    }

    fn next_request(&mut self) -> Option<Request> {
        self.requests = self.requests.checked_sub(1)?;
        let request = self.mailbox.requests.pop_front()?;
        if self.outcome.is_ok() {
            self.outcome = self.check_request(&request);
        }
        Some(request)
    }

    fn has_mail(&self) -> bool {
        !self.mailbox.deliveries.is_empty() || !self.mailbox.requests.is_empty()
    }

    fn next_room_wanted(&mut self) -> Option<ShardIndex> {
        self.mailbox.room_wanted.pop_front()
    }

    fn wake(&mut self, shard: ShardIndex) {
        self.others[usize::from(shard.0)].wake();
    }

    fn post_delivery(&mut self, to: ShardIndex, delivery: impl FnOnce() -> Option<Delivery>) -> bool {
        let deliveries = &mut self.others[usize::from(to.0)].deliveries;
        post(deliveries, self.around.scenario.mailbox_messages_max, delivery)
    }

    fn post_request(&mut self, to: ShardIndex, request: impl FnOnce() -> Option<Request>) -> bool {
        let requests = &mut self.others[usize::from(to.0)].requests;
        post(requests, self.around.scenario.mailbox_messages_max, request)
    }

    fn post_to_api(&mut self, delivery: Delivery) {
        self.around.api_answers.push(delivery);
    }

    fn tcp_facts(&mut self, _: ConnectionId) -> Option<TcpFacts> {
        None
    }

    fn verify(&mut self, _: Attempt<ClientRef>) -> Option<SignInResult> {
        Some(SignInResult::Denied)
    }

    fn submit(&mut self, submission: Submission) {
        if self.outcome.is_ok() {
            self.outcome = self.links.submit(submission, self.around);
        }
    }
}

impl Outside<'_, '_> {
    /// Once a shard closes everyone, nothing is left of what clients have asked for. Their going may still
    /// be announced by shards that serve on, and newcomers arrive until the last moment.
    fn check_request(&self, request: &Request) -> Checked {
        let is_late = match request {
            Request::Room(rooms::Request::Room { proposal, .. }) => match proposal {
                Proposal::Change(Change::Join { member, .. }) => {
                    // Who comes back is known, and a newcomer.
                    let is_known = self.around.record.users.contains_key(&member.user.get());
                    is_known && member.visit == Visit::default()
                }
                Proposal::Change(Change::Leave { reply, .. }) => reply.is_some(),
                // Newcomers of the hub dialect ask for names, and are let go without having been anywhere.
                Proposal::Unlogged(Unlogged::ListNames { .. }) => false,
                _ => true,
            },
            Request::Room(rooms::Request::Subscribe { .. } | rooms::Request::Unsubscribe { .. })
            | Request::TakeOver(_) => false,
            // A client that has gone does not come, and rooms make place for others.
            Request::Room(rooms::Request::Release { .. } | rooms::Request::Forget { .. }) => false,
            _ => true,
        };
        ensure!(Settled, !self.around.is_draining || !is_late, "while others are closed, {request:?}");
        Ok(())
    }

    /// Once a shard closes its members, nothing comes for them but word of comings and goings.
    fn check_late_delivery(&self, delivery: &Delivery) -> Checked {
        let is_late = match delivery {
            Delivery::Room(rooms::Delivery::Joined { to, .. }) => {
                let client = self.links.slots.get(&to.connection.index);
                client.is_some_and(|&client| self.around.clients[client].is_welcomed())
            }
            Delivery::Room(rooms::Delivery::Publish(publication)) => match &publication.event {
                Event::Room { event, .. } => {
                    matches!(event, RoomEvent::Message(_) | RoomEvent::Typing { .. })
                }
                Event::Relay { .. } => true,
            },
            // Of a newcomer that has held the room before it was closed.
            Delivery::Room(rooms::Delivery::Closing { member, .. }) => member.is_none(),
            Delivery::Room(rooms::Delivery::Subscribed { .. } | rooms::Delivery::Names { .. })
            | Delivery::SessionEnded { .. } => false,
            _ => true,
        };
        ensure!(Settled, !is_late, "after everyone was closed, {delivery:?}");
        Ok(())
    }
}

fn post<T>(mailbox: &mut VecDeque<T>, messages_max: usize, message: impl FnOnce() -> Option<T>) -> bool {
    if mailbox.len() >= messages_max {
        return false;
    }
    message().map(|message| mailbox.push_back(message)).is_some()
}
