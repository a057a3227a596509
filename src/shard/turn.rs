//! A turn of a shard: the order in which it handles input and hands over output, which shards it wakes, and
//! when the next turn is due.
//!
//! Between two turns the shard sleeps if it may. It marks itself as asleep, calls [`has_news`], and sleeps if there
//! is none. Anything that arrives before that is news; a sender that comes later finds the shard asleep and wakes it.
//!
//! The event loop runs turns over a ring and a mesh, a simulation over models of both; the order is the same,
//! because it is defined only here. Nothing in here waits, allocates or knows a descriptor.

use uproar_ring::{Completion, ConnectionId, Submission, TcpFacts};

use super::ended_client::EndedClient;
use super::{Shard, work};
use crate::accounts::{Attempt, SignInResult};
use crate::clock::Now;
use crate::config::SHARDS_MAX;
use crate::mail::{Delivery, LogMail, Request};
use crate::rooms::{ClientRef, Receipt, ShardIndex, SharedProposal, Write};

/// Messages of one class that are handled in one turn, so that clients have their turn as well. What they cost is
/// bounded, too: see [`work::MAIL_MAX`].
const MESSAGES_A_TURN: usize = 1_024;

/// Submissions made in one turn: as many as the ring's queue holds, twice. A send costs some 5 µs, so a broadcast to
/// ten thousand takes several turns, between which others are heard. A report with a close counts as a submission.
const SUBMISSIONS_A_TURN: usize = 2_048;

/// How long deadlines wait for bytes that no buffer was free for: several turns of all buffers, and no more than a
/// client would notice of a deadline.
const SHORTAGE_MS_MAX: u64 = 1_000;

/// The environment of a turn: the shard's ring, its mailbox, and the mailboxes of other shards.
pub trait Io {
    /// The next thing that the ring reports. Its bytes are lent until the next call.
    fn next_completion(&mut self) -> Option<Completion<'_>>;

    /// True while connections have sent bytes that no buffer was free for. The next turns bring them.
    fn is_short_of_buffers(&self) -> bool;

    /// The next receipt of the storage for this shard.
    fn next_receipt(&mut self) -> Option<Receipt>;

    /// Gives a message to the storage, which has room for it: see [`WRITES_UNANSWERED_MAX`].
    ///
    /// [`WRITES_UNANSWERED_MAX`]: crate::rooms::WRITES_UNANSWERED_MAX
    fn write(&mut self, write: Write);

    /// Gives a proposal to the log that several servers share.
    fn propose(&mut self, proposal: SharedProposal);

    /// Gives mail for other servers to that log.
    fn post_to_log(&mut self, mail: LogMail);

    /// The next delivery in the mailbox.
    fn next_delivery(&mut self) -> Option<Delivery>;

    /// The next request in the mailbox.
    fn next_request(&mut self) -> Option<Request>;

    /// True while a delivery or a request is in the mailbox.
    fn has_mail(&self) -> bool;

    /// The next shard that has asked for room in the mailbox. Called when the turn has taken its mail.
    fn next_room_wanted(&mut self) -> Option<ShardIndex>;

    /// Wakes a shard if it sleeps.
    fn wake(&mut self, shard: ShardIndex);

    /// Posts a delivery to another shard, and asks for it only when the mailbox there has room. False when
    /// it has none, or there is no delivery.
    fn post_delivery(&mut self, to: ShardIndex, delivery: impl FnOnce() -> Option<Delivery>) -> bool;

    /// As [`Io::post_delivery`], for a request.
    fn post_request(&mut self, to: ShardIndex, request: impl FnOnce() -> Option<Request>) -> bool;

    /// Posts a delivery to the HTTP API, which always has room: see [`ShardIndex::API`].
    fn post_to_api(&mut self, delivery: Delivery);

    /// What the kernel knows of a connection, if that is known.
    fn tcp_facts(&mut self, id: ConnectionId) -> Option<TcpFacts>;

    /// Has a name and a password verified. The result follows as a delivery, unless there is one at once.
    fn verify(&mut self, attempt: Attempt<ClientRef>) -> Option<SignInResult>;

    /// Hands a submission to the ring.
    fn submit(&mut self, submission: Submission);
}

/// The queues that a shard checks before it sleeps, after it has marked itself as asleep.
pub trait WakeSources {
    /// True while a delivery is in the mailbox.
    fn has_deliveries(&self) -> bool;

    /// True while a request is in the mailbox.
    fn has_requests(&self) -> bool;

    /// True while there are receipts for this shard.
    fn has_receipts(&self) -> bool;

    /// True when something else has come that no completion tells of: an admission, or a stage of the shutdown.
    fn has_more(&self) -> bool;

    /// Asks the owner of another mailbox to wake this shard once it has taken something out of it.
    fn ask_for_room(&mut self, to: ShardIndex);

    /// True when another shard's mailbox has room for a message.
    fn has_room(&self, to: ShardIndex, class: Class) -> bool;
}

/// A class of messages between shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// For a room, topic or user of the other shard: [`Request`].
    Requests,
    /// For its members: [`Delivery`].
    Deliveries,
}

/// One turn: collect, step, submit.
///
/// Newcomers are admitted ahead of it: see [`Shard::admit`].
pub fn run(shard: &mut Shard, io: &mut impl Io, now: Now) {
    // Ahead of input: once `/readyz` has told a client that the storage has failed, its next message is refused.
    receive_receipts(shard, io, now);
    while let Some(completion) = io.next_completion() {
        shard.handle_completion(completion, now);
    }
    receive_messages(shard, io, now);
    if is_tick_due(shard, io, now.monotonic_ms) {
        shard.handle_tick(now);
    }
    // Before anyone can see what was published: see `Homes::poll_write`.
    write_messages(shard, io);
    let mut posted = ShardSet::default();
    // First what waits, so that input that was held back for it can be read.
    post_messages(shard, io, &mut posted);
    receive_receipts(shard, io, now);
    shard.handle_turn_end(now);
    while let Some(attempt) = shard.context.mail.poll_attempt() {
        let to = attempt.ticket;
        if let Some(result) = io.verify(attempt) {
            shard.handle_delivery(Delivery::PasswordChecked { to, result }, now);
        }
    }
    write_messages(shard, io);
    // Ahead of the submissions, which may close their sockets.
    report_ended(shard, io, now);
    post_messages(shard, io, &mut posted);
    // At the end: a wake-up may leave only with the submissions, and until then no other shard wakes that one; and
    // ahead of the sends, so that it does not wait for them.
    for to in shard.mail().shards().filter(|to| posted.has(*to)) {
        io.wake(to);
    }
    while let Some(waiting) = io.next_room_wanted() {
        io.wake(waiting);
    }
    let mut left = SUBMISSIONS_A_TURN;
    while left > 0
        && let Some(submission) = shard.poll_submission(now)
    {
        left -= 1;
        if let Submission::Close(id, _) = submission
            && let Some(ended) = shard.ended.take(id)
        {
            left = left.saturating_sub(1);
            report(shard, ended, io, now);
        }
        io.submit(submission);
    }
}

/// True when there is something for the next turn to do that no completion tells of.
pub fn has_news(shard: &Shard, sources: &mut impl WakeSources) -> bool {
    // Before looking whether there is room: the owner wakes the shards that have asked when it takes messages out later.
    for (to, _) in congested_with(shard) {
        sources.ask_for_room(to);
    }
    sources.has_deliveries()
        || sources.has_receipts() && !shard.context.mail.is_full_of_deliveries()
        || sources.has_requests() && shard.accepts_requests()
        || sources.has_more()
        // Other threads may have ended what held it back.
        || shard.may_read()
        || congested_with(shard).any(|(to, class)| sources.has_room(to, class))
}

/// When the next turn is due though nothing comes from outside: at `now_ms` when there is work left.
#[must_use]
pub fn due_ms(shard: &Shard, now_ms: u64) -> Option<u64> {
    if shard.is_cut_short() { Some(now_ms) } else { shard.next_due_ms() }
}

/// The mailboxes that could not take everything: a turn is due when one of them has room again.
fn congested_with(shard: &Shard) -> impl Iterator<Item = (ShardIndex, Class)> {
    shard.mail().shards().flat_map(|to| {
        let (requests, deliveries) = shard.mail().waiting_for(to);
        let requests = (requests > 0).then_some((to, Class::Requests));
        requests.into_iter().chain((deliveries > 0).then_some((to, Class::Deliveries)))
    })
}

/// Some of the shards.
#[derive(Default)]
struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    fn add(&mut self, shard: ShardIndex) {
        self.0[usize::from(shard.0) / 64] |= 1 << (shard.0 % 64);
    }

    fn has(&self, shard: ShardIndex) -> bool {
        self.0[usize::from(shard.0) / 64] & 1 << (shard.0 % 64) != 0
    }
}

/// True when deadlines are due, and the bytes that arrived in time were read, or would take too long to read.
fn is_tick_due(shard: &Shard, io: &impl Io, now_ms: u64) -> bool {
    shard.next_due_ms().is_some_and(|due_ms| {
        due_ms <= now_ms && (!io.is_short_of_buffers() || now_ms - due_ms >= SHORTAGE_MS_MAX)
    })
}

/// Takes receipts, as long as the deliveries that they lead to have room, and within the work of a turn: in a cluster, what
/// other servers' clients do comes this way.
fn receive_receipts(shard: &mut Shard, io: &mut impl Io, now: Now) {
    let begun = shard.context.work.done();
    while !shard.context.mail.is_full_of_deliveries() && shard.context.work.done() - begun < work::MAIL_MAX {
        if shard.homes.have_departing() {
            shard.let_some_depart(now);
        } else if let Some(receipt) = io.next_receipt() {
            shard.handle_receipt(receipt, now);
        } else {
            break;
        }
    }
}

fn receive_messages(shard: &mut Shard, io: &mut impl Io, now: Now) {
    let begun = shard.context.work.done();
    for _ in 0..MESSAGES_A_TURN {
        if shard.context.work.done() - begun >= work::MAIL_MAX {
            break;
        }
        let Some(delivery) = io.next_delivery() else { break };
        shard.handle_delivery(delivery, now);
    }
    let begun = shard.context.work.done();
    for _ in 0..MESSAGES_A_TURN {
        if shard.context.work.done() - begun >= work::MAIL_MAX || !shard.accepts_requests() {
            break;
        }
        let Some(request) = io.next_request() else { break };
        shard.handle_request(request, now);
    }
}

fn write_messages(shard: &mut Shard, io: &mut impl Io) {
    while let Some(write) = shard.homes.poll_write() {
        io.write(write);
    }
    while let Some(proposal) = shard.homes.poll_proposal() {
        io.propose(proposal);
    }
    while let Some(mail) = shard.context.mail.poll_log_mail() {
        io.post_to_log(mail);
    }
}

/// Reports connections that have ended. The rest follows in the next turns, or with its closes.
fn report_ended(shard: &mut Shard, io: &mut impl Io, now: Now) {
    let begun = shard.context.work.done();
    while shard.context.work.done() - begun < work::REPORTS_MAX
        && let Some(ended) = shard.ended.pop()
    {
        report(shard, ended, io, now);
    }
}

/// Reports a connection that has ended, with what the kernel knows of it.
fn report(shard: &mut Shard, mut ended: EndedClient, io: &mut impl Io, now: Now) {
    ended.facts.tcp = io.tcp_facts(ended.facts.name.client.connection);
    shard.report_end(ended, now);
}

/// Posts what waits for other shards, as far as their mailboxes have room.
fn post_messages(shard: &mut Shard, io: &mut impl Io, posted: &mut ShardSet) {
    while let Some(mut delivery) = shard.context.mail.poll_api_delivery() {
        if let Delivery::Connections { facts, .. } = &mut delivery {
            facts.iter_mut().for_each(|facts| facts.tcp = io.tcp_facts(facts.name.client.connection));
        }
        io.post_to_api(delivery);
    }
    for to in shard.mail().shards() {
        let (requests, deliveries) = shard.mail().waiting_for(to);
        if deliveries > 0 {
            while io.post_delivery(to, || shard.context.mail.poll_delivery(to)) {
                posted.add(to);
            }
        }
        if requests > 0 {
            while io.post_request(to, || shard.context.mail.poll_request(to)) {
                posted.add(to);
            }
        }
    }
}
