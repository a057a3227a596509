//! One shard and what stands around it: its mailbox, its connections' sockets, its turns. A turn is that
//! of `uproar::shard::floor`, with the scheduler's choice of what has completed or arrived by then; where
//! the floor would sleep, there is no turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use uproar::clock::Now;
use uproar::connection_id::ConnectionId;
use uproar::hub::{Delivery, Directory, Request, ShardIndex};
use uproar::metrics::ShardMetrics;
use uproar::ring::{Completion, SendBatch, Submission};
use uproar::shard::{Arrival, DELIVERIES_WAITING_MAX, REQUESTS_WAITING_MAX, Shard};

use crate::client::{Client, Talk, greeting};
use crate::random::Random;
use crate::record::content_key;
use crate::scenario::Scenario;
use crate::socket::{Completed, RECEIVE_BYTES_MAX};
use crate::trace::Trace;
use crate::violation::{Checked, ensure, violated};
use crate::wire::CLOSE;

/// Input that a connection may have held back: what makes it pause, and what was on its way by then.
const HELD_BYTES_MAX: usize = 64 * 1024 + 4 * RECEIVE_BYTES_MAX;

/// How long a client may take to answer a close frame or a FIN.
const ANSWER_MS: u64 = 2_000;

pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) shard: Shard,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) mailbox: Mailbox,
    /// Clients on their way from the lobby.
    pub(crate) admissions: VecDeque<usize>,
    /// The client in each slot in use.
    pub(crate) slots: BTreeMap<u32, usize>,
    /// Clients whose next send begins within a frame.
    halves: BTreeSet<usize>,
    /// Clients whose last batch ends with a close frame.
    being_closed: BTreeSet<usize>,
    /// By when clients that have been sent a close frame or a FIN must have answered, or be cut off.
    deadlines: BTreeMap<usize, u64>,
    /// Where each broadcast is held, by its content.
    held_at: BTreeMap<Vec<u8>, usize>,
}

#[derive(Default)]
pub(crate) struct Mailbox {
    pub(crate) requests: VecDeque<Request>,
    pub(crate) deliveries: VecDeque<Delivery>,
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
    pub(crate) now: Now,
    pub(crate) pace: Pace,
}

impl Around<'_> {
    fn chance(&mut self, percent: usize) -> bool {
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

#[derive(Clone, Copy, Debug)]
enum Operation {
    Receive,
    Send,
    Close,
}

impl Host {
    pub(crate) fn new(
        index: usize,
        scenario: &Scenario,
        directory: &Directory,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let settings = scenario.settings(index as u16);
        Self {
            index,
            shard: Shard::new(settings, directory, Arc::clone(&metrics)),
            metrics,
            mailbox: Mailbox::default(),
            admissions: VecDeque::new(),
            slots: BTreeMap::new(),
            halves: BTreeSet::new(),
            being_closed: BTreeSet::new(),
            deadlines: BTreeMap::new(),
            held_at: BTreeMap::new(),
        }
    }

    /// One turn. False when nothing would have woken the floor.
    pub(crate) fn turn(&mut self, others: &mut [Mailbox], around: &mut Around<'_>) -> Checked<bool> {
        let completions = self.choose_completions(around);
        let deliveries = around.count(self.mailbox.deliveries.len());
        let requests =
            if self.shard.accepts_requests() { around.count(self.mailbox.requests.len()) } else { 0 };
        let admissions = around.count(self.admissions.len());
        let is_due = self.shard.next_due_ms().is_some_and(|due_ms| due_ms <= around.now.monotonic_ms);
        let has_room = self.has_room(others, around.scenario.mailbox_messages_max);
        if completions.is_empty() && deliveries + requests + admissions == 0 && !is_due && !has_room {
            return Ok(false);
        }
        let (shard, due) = (self.index, is_due);
        around.trace.note([shard, completions.len(), deliveries + requests], || {
            format!(
                "shard {shard}: {} completions, {deliveries} deliveries, {requests} requests, \
                 {admissions} admissions, due: {due}, room: {has_room}",
                completions.len()
            )
        });
        let now = around.now;
        for (client, id, completed) in completions {
            self.complete(client, id, completed, around);
        }
        for delivery in self.mailbox.deliveries.drain(..deliveries) {
            self.shard.handle_delivery(delivery, now);
        }
        for _ in 0..requests {
            if !self.shard.accepts_requests() {
                break;
            }
            let Some(request) = self.mailbox.requests.pop_front() else { break };
            self.shard.handle_request(request, now);
        }
        for _ in 0..admissions {
            self.admit(around)?;
        }
        if self.shard.next_due_ms().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            self.shard.handle_tick(now);
        }
        self.shard.handle_turn_end(now);
        self.check_bounds(around)?;
        self.send_messages(others, around.scenario.mailbox_messages_max);
        self.submit(around)?;
        Ok(true)
    }

    /// Whether a mailbox that was full has room, for the shard that the floor waits for.
    fn has_room(&self, others: &[Mailbox], messages_max: usize) -> bool {
        (0..others.len())
            .find_map(|to| match self.shard.waiting_for(ShardIndex(to as u16)) {
                (0, 0) => None,
                (_, 0) => Some(others[to].requests.len() < messages_max),
                _ => Some(others[to].deliveries.len() < messages_max),
            })
            .unwrap_or(false)
    }

    /// Posts what waits for other shards, as far as their mailboxes have room.
    fn send_messages(&mut self, others: &mut [Mailbox], messages_max: usize) {
        for (to, mailbox) in (0..).map(ShardIndex).zip(others) {
            while mailbox.deliveries.len() < messages_max {
                let Some(delivery) = self.shard.poll_delivery(to) else { break };
                mailbox.deliveries.push_back(delivery);
            }
            while mailbox.requests.len() < messages_max {
                let Some(request) = self.shard.poll_request(to) else { break };
                mailbox.requests.push_back(request);
            }
        }
    }

    /// What the ring reports in this turn: in order for each connection and each direction, in any order
    /// between them.
    fn choose_completions(&self, around: &mut Around<'_>) -> Vec<(usize, ConnectionId, Completed)> {
        let mut operations: Vec<(usize, Operation)> = self
            .slots
            .values()
            .flat_map(|&client| {
                [Operation::Receive, Operation::Send, Operation::Close].map(|it| (client, it))
            })
            .collect();
        around.random.shuffle(&mut operations);
        let chances = around.scenario.chances.clone();
        let mut completions = Vec::new();
        for (client, operation) in operations {
            let completed = match operation {
                Operation::Receive if around.chance(chances.received) => {
                    let bytes_max = match around.random.below(4) {
                        _ if around.pace == Pace::Eager => RECEIVE_BYTES_MAX,
                        0 => 1,
                        1 => around.random.between(1, 40),
                        _ => around.random.between(1, RECEIVE_BYTES_MAX),
                    };
                    around.clients[client].socket.complete_receive(bytes_max)
                }
                Operation::Send => {
                    if around.pace == Pace::Random && around.random.percent(chances.send_failure) {
                        around.clients[client].socket.reset();
                    }
                    if around.chance(chances.taken) {
                        let is_short = around.pace == Pace::Random && around.random.percent(chances.short);
                        around.clients[client].socket.take(is_short, around.random);
                    }
                    if around.chance(chances.sent) {
                        around.clients[client].socket.complete_send()
                    } else {
                        None
                    }
                }
                Operation::Close if around.chance(chances.closed) => {
                    around.clients[client].socket.complete_close()
                }
                Operation::Receive | Operation::Close => None,
            };
            let id = around.clients[client].socket.id.expect("Bug: a client without a connection in a slot");
            completions.extend(completed.map(|completed| (client, id, completed)));
        }
        completions
    }

    fn complete(&mut self, client: usize, id: ConnectionId, completed: Completed, around: &mut Around<'_>) {
        let now = around.now;
        let number = match &completed {
            Completed::Received(bytes) => bytes.len(),
            Completed::Sent(_, Ok(sent)) => *sent,
            _ => 0,
        };
        around.trace.note([self.index, client, number], || match &completed {
            Completed::Sent(batch, result) => {
                format!("  {client} ({id}) sent {result:?} of {} frames", batch.frame_count())
            }
            Completed::Received(bytes) => format!("  {client} ({id}) received {} bytes", bytes.len()),
            other => format!("  {client} ({id}) {other:?}"),
        });
        let completion = match &completed {
            Completed::Received(bytes) => Completion::Received(id, bytes),
            Completed::EndOfStream => Completion::EndOfStream(id),
            Completed::ReceiveFailed(errno) => {
                Completion::ReceiveFailed(id, std::io::Error::from_raw_os_error(*errno))
            }
            Completed::Closed => {
                around.clients[client].socket.id = None;
                self.halves.remove(&client);
                self.being_closed.remove(&client);
                self.slots.remove(&id.index);
                Completion::Closed(id)
            }
            Completed::Sent(..) => {
                let Completed::Sent(batch, result) = completed else { return };
                if let Ok(sent) = result {
                    // A send that ends elsewhere than a frame has left one half sent.
                    if frame_ends(&batch).contains(&sent) {
                        self.halves.remove(&client);
                    } else {
                        self.halves.insert(client);
                    }
                    if sent == batch.remaining_bytes() && self.being_closed.contains(&client) {
                        self.deadlines.entry(client).or_insert(now.monotonic_ms + ANSWER_MS);
                    }
                }
                return self.shard.handle_completion(Completion::Sent(id, batch, result), now);
            }
        };
        self.shard.handle_completion(completion, now);
    }

    fn admit(&mut self, around: &mut Around<'_>) -> Checked {
        let Some(number) = self.admissions.pop_front() else { return Ok(()) };
        let client = &mut around.clients[number];
        let arrival =
            Arrival { endpoint: client.endpoint(), greeting: greeting(), permit: client.permit.take() };
        let id = self.shard.admit(arrival, around.now);
        let before = self.slots.insert(id.index, number);
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

    fn submit(&mut self, around: &mut Around<'_>) -> Checked {
        while let Some(submission) = self.shard.poll_submission() {
            let id = match &submission {
                Submission::Send(id, _)
                | Submission::PauseReceive(id)
                | Submission::ResumeReceive(id)
                | Submission::ShutdownWrite(id)
                | Submission::Close(id, _) => *id,
            };
            let Some(&client) = self.slots.get(&id.index) else {
                violated!(TerminalCompletion, "{submission:.60?} for a free slot")
            };
            let own = around.clients[client].socket.id;
            ensure!(TerminalCompletion, own == Some(id), "{id} is an earlier use of {own:?}'s slot");
            let number = match &submission {
                Submission::Send(_, batch) => {
                    self.check_sharing(client, batch, around)?;
                    let last = batch.slice(batch.frame_count() - 1);
                    let is_whole = batch.frame_count() > 1 || !self.halves.contains(&client);
                    if is_whole && last[0] == 0x80 | CLOSE {
                        self.being_closed.insert(client);
                    }
                    batch.remaining_bytes()
                }
                Submission::ShutdownWrite(_) => {
                    self.deadlines.insert(client, around.now.monotonic_ms + ANSWER_MS);
                    0
                }
                Submission::Close(..) => {
                    self.deadlines.remove(&client);
                    0
                }
                Submission::PauseReceive(_) | Submission::ResumeReceive(_) => 0,
            };
            around.trace.note([self.index, client, number], || match &submission {
                Submission::Send(_, batch) => {
                    format!("  {client} ({id}) <- {} frames, {number} bytes", batch.frame_count())
                }
                other => format!("  {client} <- {other:?}"),
            });
            around.clients[client].socket.submit(submission, around.random)?;
        }
        self.check_deadlines()
    }

    /// Whoever is told to go has two seconds to answer, and a timer that sees to it.
    fn check_deadlines(&self) -> Checked {
        let due_ms = self.shard.next_due_ms();
        for (client, &deadline_ms) in &self.deadlines {
            let is_seen_to = due_ms.is_some_and(|due_ms| due_ms <= deadline_ms);
            ensure!(
                Protocol,
                is_seen_to,
                "client {client} must answer by {deadline_ms} ms, looked at {due_ms:?}"
            );
        }
        Ok(())
    }

    /// Every member on this shard is sent the same bytes at the same address: a broadcast is encoded once
    /// and held once.
    fn check_sharing(&mut self, client: usize, batch: &SendBatch, around: &Around<'_>) -> Checked {
        let is_chat = match around.clients[client].talk {
            Talk::Chat(_) => true,
            Talk::Raw(_) => false,
            Talk::Echo(_) => return Ok(()),
        };
        let first = usize::from(self.halves.contains(&client));
        for index in first..batch.frame_count() {
            let slice = batch.slice(index);
            let Some(payload) = payload_begin(slice) else { continue };
            let is_broadcast = if is_chat {
                payload.starts_with(br#"{"type":"message","from_id""#)
            } else {
                let text = String::from_utf8_lossy(&payload[..payload.len().min(30)]);
                content_key(&text).is_some()
            };
            if is_broadcast {
                let mut key = slice[..slice.len().min(200)].to_vec();
                key.extend(slice.len().to_be_bytes());
                let address = slice.as_ptr().addr();
                let held = *self.held_at.entry(key).or_insert(address);
                ensure!(
                    HeldOnce,
                    held == address,
                    "a broadcast of {} bytes is held twice on a shard",
                    slice.len()
                );
            }
        }
        let (encoded, broadcasts) = (self.metrics.frames_encoded.get(), self.metrics.broadcasts.get());
        ensure!(EncodeOnce, encoded <= broadcasts, "{encoded} frames for {broadcasts} broadcasts");
        Ok(())
    }

    fn check_bounds(&self, around: &Around<'_>) -> Checked {
        let scenario = around.scenario;
        // Beyond the mark there is what one message, or everyone's coming and going, leads to.
        let excess = 8 + 8 * scenario.arrivals_max;
        for to in (0..scenario.shards).map(ShardIndex) {
            let (requests, deliveries) = self.shard.waiting_for(to);
            ensure!(EverythingBounded, requests <= REQUESTS_WAITING_MAX + excess, "{requests} requests wait");
            ensure!(
                EverythingBounded,
                deliveries <= DELIVERIES_WAITING_MAX + excess,
                "{deliveries} deliveries wait"
            );
        }
        let queue_bytes_max = scenario.limits.queue_bytes_max + scenario.join_bytes_max();
        let queued_bytes = self.shard.longest_queue_bytes();
        ensure!(
            EverythingBounded,
            queued_bytes <= queue_bytes_max,
            "{queued_bytes} bytes wait for a connection"
        );
        let held_bytes = self.shard.most_held_bytes();
        ensure!(
            EverythingBounded,
            held_bytes <= HELD_BYTES_MAX,
            "{held_bytes} bytes of a connection are held back"
        );
        Ok(())
    }
}

/// Where each frame of a batch ends, counted from its beginning.
fn frame_ends(batch: &SendBatch) -> Vec<usize> {
    (0..batch.frame_count())
        .scan(0, |end, index| {
            *end += batch.slice(index).len();
            Some(*end)
        })
        .collect()
}

/// What follows the header of a text or binary frame.
fn payload_begin(frame: &[u8]) -> Option<&[u8]> {
    let [first, second, ..] = frame else { return None };
    if !matches!(first & 0x0f, 1 | 2) {
        return None;
    }
    frame.get(
        match second {
            126 => 4,
            127 => 10,
            _ => 2,
        }..,
    )
}
