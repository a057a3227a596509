//! The clients of one thread and the ring that serves them: opening, turning, ending.
//!
//! One turn hands over what is to be sent, enters the ring and handles what has completed. What the
//! worker has to act upon (a connection that is gone, a client that is back) is recorded here and taken
//! in its turn.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use uproar_protocol::connection::{self, Action};
use uproar_protocol::tls::Error;
use uproar_ring::ConnectionId;
use uproar_ring::{CloseMode, Completion, Feature, Features, Options, Ring, Submission, Waker};

use crate::clients::batch::to_ring;
use crate::clients::busy::Turns;
use crate::clients::client::{Client, Phase, Standing};
use crate::clients::context::Context;
use crate::clients::report::Signals;
use crate::clients::socket;
use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::measure::presence::Presence;
use crate::network::security::TlsFailure;
use crate::plan::Plan;

/// A client that is not ready after this long has failed.
const OPENING_NS_MAX: u64 = 30_000_000_000;
/// How often clients are looked through for those that take too long.
const SCAN_NS: u64 = 1_000_000_000;
/// How long before something is due a sleeping thread starts to poll: sleeps end up to 50 µs late (the
/// default timer slack, prctl(2)), and later still when the core has gone to a deeper idle state.
const SPIN_NS: u64 = 150_000;
/// From when on a rejoined client of the raw dialect counts: its only confirmation is the answer to the
/// upgrade, and nothing says that a server enters it in the topic before. In chat the join is confirmed.
const RAW_SETTLE_NS: u64 = 50_000_000;

/// The clients of one thread.
pub struct Crowd {
    /// Serves their connections.
    pub ring: Ring,
    /// All of them, by local index.
    pub clients: Vec<Client>,
    /// What they share.
    pub context: Context,
    /// The counts of clients by state.
    pub tally: Tally,
    /// The total time of the turns.
    pub turns: Turns,
    /// Clients whose connection is closed and whose slot is free, for the caller to take.
    pub closed: Vec<u32>,
    /// Clients that have rejoined, with the time from which they are present, for the caller to take.
    pub rejoined: Vec<(u32, u64)>,
    /// When the warm-up began; 0 before.
    pub start_ns: u64,
    /// Clients that may have something to send.
    dirty: Vec<u32>,
    next_scan_ns: u64,
    clock: Clock,
    signals: Arc<Signals>,
}

/// How the clients stand.
#[derive(Default)]
pub struct Tally {
    /// On their way to be ready for the first time.
    pub connecting: usize,
    /// Have become ready.
    pub ready: usize,
    /// Ready since the last progress report.
    pub unreported: u32,
    /// Have never become ready, and will not.
    pub failed: usize,
    /// Without a connection, among those that read.
    pub gone: usize,
    /// Why clients failed.
    pub failures: BTreeMap<String, u64>,
    /// Why clients were lost that had been ready.
    pub lost: BTreeMap<String, u64>,
}

impl Crowd {
    /// The clients of `thread`, none of them begun.
    ///
    /// # Errors
    ///
    /// When there is no ring.
    pub fn new(plan: &Arc<Plan>, thread: u32, clock: Clock, signals: Arc<Signals>) -> io::Result<Self> {
        let count = plan.clients_of(thread);
        Ok(Self {
            ring: Ring::new(
                Options {
                    // A broadcast comes to all clients at once, and is to be read at once.
                    buffers: 4096,
                    // Each send has its completion when it has left, and not with what comes next.
                    features: Features::ALL.without(Feature::ImmediateSends),
                    ..Options::default()
                },
                Waker::new()?,
            )?,
            clients: (0..count).map(|index| Client::new(plan.client_at(thread, index))).collect(),
            context: Context::new(Arc::clone(plan), thread),
            tally: Tally::default(),
            turns: Turns::default(),
            closed: Vec::new(),
            rejoined: Vec::new(),
            start_ns: 0,
            dirty: Vec::with_capacity(count),
            next_scan_ns: 0,
            clock,
            signals,
        })
    }

    /// Opens a client's connection for the first time.
    pub fn open(&mut self, index: usize) {
        self.tally.connecting += 1;
        self.connect(index);
    }

    /// Opens it again.
    pub fn reopen(&mut self, index: usize) {
        self.clients[index].renew();
        self.tally.gone -= 1;
        self.connect(index);
    }

    fn connect(&mut self, index: usize) {
        let started_ns = self.now_ns();
        let client = &mut self.clients[index];
        if let Err(failure) = client.handle_connecting(&mut self.context, started_ns) {
            client.phase = Phase::Ended;
            self.note_end(index, true, &failure.to_string());
            return;
        }
        match socket::connecting(&self.context.plan, client.id()) {
            Ok(socket) => {
                self.ring.attach(connection_id(index, client), socket);
                self.dirty.push(index as u32);
            }
            Err(error) => {
                client.phase = Phase::Ended;
                self.note_end(index, true, &format!("connect: {error}"));
            }
        }
    }

    /// Gives up clients that take too long to become ready.
    pub fn scan_openings(&mut self, now_ns: u64) {
        if now_ns < self.next_scan_ns {
            return;
        }
        self.next_scan_ns = now_ns + SCAN_NS;
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let late = client
                .opening_since_ns()
                .is_some_and(|since_ns| now_ns.saturating_sub(since_ns) > OPENING_NS_MAX);
            if late && client.phase != Phase::Ended {
                self.end(index, CloseMode::Abort, "timeout: not ready after 30 s");
            }
        }
    }

    /// Queues a broadcast of a client that is due.
    pub fn speak(&mut self, index: usize, sequence: u64, due_ns: u64) {
        // A speaker that is gone says nothing; the gate on sent broadcasts sees it.
        if self.clients[index].phase == Phase::Ready {
            self.clients[index].handle_due(sequence, due_ns);
            self.dirty.push(index as u32);
        }
    }

    /// Has a client close its connection.
    pub fn stop(&mut self, index: usize) {
        let now_ns = self.now_ns();
        self.clients[index].handle_stop(now_ns);
        self.dirty.push(index as u32);
    }

    /// Has a client read again.
    pub fn wake(&mut self, index: usize) {
        if self.clients[index].phase != Phase::Ended {
            self.ring.submit(Submission::ResumeReceive(connection_id(index, &self.clients[index])));
        }
    }

    /// One turn: hand over what is to be sent, enter the ring, handle what has completed. Sleeps until
    /// `until_ns` when there is nothing to do.
    pub fn turn(&mut self, until_ns: u64) -> io::Result<()> {
        let sends = if self.dirty.is_empty() { 0 } else { self.submit_sends(self.now_ns()) };
        let may_sleep = !self.context.plan.busy_poll && sends == 0 && !self.turns.was_busy;
        let sleep_ns = if may_sleep { until_ns.saturating_sub(self.now_ns()) } else { 0 };
        if sleep_ns > SPIN_NS {
            self.ring.wait(Some(Duration::from_nanos(sleep_ns - SPIN_NS)), || false)?;
            self.turns.note_slept(self.now_ns());
        } else {
            self.ring.enter()?;
        }
        // What was collected had arrived by now, however long the handling of it takes.
        let now_ns = self.now_ns();
        let handled = self.handle_completions(now_ns);
        let end_ns = if handled == 0 { now_ns } else { self.now_ns() };
        self.turns.note(handled + sends > 0, end_ns);
        Ok(())
    }

    /// Hands everything that waits to the ring; tells how many sends that were.
    fn submit_sends(&mut self, now_ns: u64) -> usize {
        let mut count = 0;
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..).map(|index| index as usize) {
            count += self.submit_actions(index, now_ns);
        }
        // Its room is kept; nothing becomes dirty by being sent.
        self.dirty = dirty;
        count
    }

    /// Has the ring do what a client asks for; tells how many sends that were.
    fn submit_actions(&mut self, index: usize, now_ns: u64) -> usize {
        let client = &mut self.clients[index];
        if client.phase == Phase::Ended {
            return 0;
        }
        let id = connection_id(index, client);
        match client.poll_action(&mut self.context, now_ns) {
            Ok(Some(Action::Send(batch))) => {
                self.ring.submit(Submission::Send(id, to_ring(batch)));
                return 1;
            }
            Ok(Some(Action::Close(mode))) => {
                let mode = match mode {
                    connection::CloseMode::Graceful => CloseMode::Graceful,
                    connection::CloseMode::Abort => CloseMode::Abort,
                };
                let why = why_ended(client);
                self.end(index, mode, &why);
            }
            Ok(Some(Action::PauseReceive | Action::ResumeReceive | Action::ShutdownWrite)) => {
                unreachable!("Bug: all that is received is read, and the server ends TCP")
            }
            Ok(None) => {}
            Err(failure) => self.end(index, CloseMode::Abort, &failure.to_string()),
        }
        0
    }

    fn handle_completions(&mut self, now_ns: u64) -> usize {
        let mut count = 0;
        while let Some(completion) = self.ring.next_completion() {
            count += 1;
            let index = match &completion {
                Completion::Received(id, _)
                | Completion::EndOfStream(id)
                | Completion::ReceiveFailed(id, _)
                | Completion::Sent(id, ..)
                | Completion::Closed(id) => id.index as usize,
            };
            let client = &mut self.clients[index];
            if let Completion::Closed(_) = completion {
                self.closed.push(index as u32);
                continue;
            }
            if client.phase == Phase::Ended {
                continue;
            }
            match completion {
                Completion::Received(_, bytes) => {
                    let was_opening = client.opening_since_ns().is_some();
                    let had_close = client.close_code.is_some();
                    let context = &mut self.context;
                    let result = client.handle_received(context, now_ns, bytes);
                    if client.has_action() {
                        self.dirty.push(index as u32);
                    }
                    // What made it ready may also hold what ends it.
                    if was_opening && client.opening_since_ns().is_none() {
                        self.note_ready(index, now_ns);
                    }
                    if self.clients[index].close_code.is_some() != had_close {
                        self.note_close(index);
                    }
                    if let Err(failure) = result {
                        self.end(index, CloseMode::Abort, &failure.to_string());
                    }
                }
                Completion::Sent(id, batch, Ok(sent_bytes)) => {
                    if let Some(rest) = client.handle_sent(&mut self.context, batch, sent_bytes, now_ns) {
                        self.ring.submit(Submission::Send(id, rest));
                    } else if client.has_action() {
                        self.dirty.push(index as u32);
                    }
                }
                Completion::Sent(_, _, Err(error)) | Completion::ReceiveFailed(_, error) => {
                    let why = match client {
                        client if client.is_handshaking() => {
                            format!("the server did not complete the TLS handshake: {error}")
                        }
                        // The server was gone before that.
                        client if client.is_at_end_of_stream() => why_ended(client),
                        _ => error.to_string(),
                    };
                    self.end(index, CloseMode::Abort, &why);
                }
                Completion::EndOfStream(_) => {
                    if client.handle_end_of_stream(now_ns) {
                        self.dirty.push(index as u32);
                    } else {
                        let why = why_ended(client);
                        self.end(index, CloseMode::Graceful, &why);
                    }
                }
                Completion::Closed(_) => unreachable!("Bug: handled above"),
            }
        }
        count
    }

    fn note_ready(&mut self, index: usize, now_ns: u64) {
        let client = &mut self.clients[index];
        if client.standing == Standing::Returning {
            let settle_ns = if self.context.plan.dialect == Dialect::Raw { RAW_SETTLE_NS } else { 0 };
            let since_ns = now_ns + settle_ns;
            client.standing = Standing::Present;
            client.receiver.presence = Presence::since(since_ns);
            let first = self.context.plan.schedule.first_due_from(self.start_ns, since_ns);
            self.context.recorder.rejoined(client.id(), first);
            self.rejoined.push((index as u32, first));
            return;
        }
        self.tally.connecting -= 1;
        self.tally.ready += 1;
        self.tally.unreported += 1;
        if self.context.plan.is_slow(client.id()) {
            client.receiver.ignores_broadcasts = true;
            self.ring.submit(Submission::PauseReceive(connection_id(index, client)));
        }
    }

    /// Counts a client as lost whom the server has sent a close: nothing comes after it (RFC 6455, 5.5.1),
    /// whether or not the server ends TCP, as it must.
    fn note_close(&mut self, index: usize) {
        let client = &self.clients[index];
        let is_member = matches!(client.standing, Standing::Present | Standing::Leaving);
        if let (Some(code), true) = (client.close_code, is_member && client.opening_since_ns().is_none()) {
            self.note_lost(index, &closed_with(code));
        }
    }

    /// Ends a connection, and counts why, unless it was asked for.
    pub fn end(&mut self, index: usize, mode: CloseMode, why: &str) {
        let client = &mut self.clients[index];
        let was_opening = client.opening_since_ns().is_some();
        client.phase = Phase::Ended;
        self.ring.submit(Submission::Close(connection_id(index, client), mode));
        self.note_end(index, was_opening, why);
    }

    fn note_end(&mut self, index: usize, was_opening: bool, why: &str) {
        let client = &self.clients[index];
        self.tally.gone += usize::from(!client.receiver.ignores_broadcasts);
        match client.standing {
            Standing::Away => {}
            Standing::Returning => {
                if !self.is_stopped() {
                    let why = self.context.plan.at_server(client.id(), &format!("not back: {why}"));
                    *self.tally.lost.entry(why).or_default() += 1;
                }
            }
            Standing::Present | Standing::Leaving if was_opening => {
                self.tally.connecting -= 1;
                self.tally.failed += 1;
                let why = self.context.plan.at_server(client.id(), why);
                *self.tally.failures.entry(why).or_default() += 1;
            }
            // Lost since the close came.
            Standing::Present | Standing::Leaving if client.close_code.is_some() => {}
            Standing::Present | Standing::Leaving => self.note_lost(index, why),
        }
    }

    fn note_lost(&mut self, index: usize, why: &str) {
        let client = &self.clients[index];
        if !client.receiver.ignores_broadcasts && !self.is_stopped() {
            let why = self.context.plan.at_server(client.id(), why);
            *self.tally.lost.entry(why).or_default() += 1;
        }
    }

    /// True when every client that is to receive anything has lost its connection for good.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        let reading = self.clients.iter().filter(|client| !client.receiver.ignores_broadcasts);
        let mut pending = reading.filter(|client| client.standing == Standing::Away || !client.is_lost());
        pending.next().is_none()
    }

    /// True once the run is over or has failed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.signals.stop.load(Ordering::Acquire)
    }

    /// The time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }
}

/// Why a connection is over that the server has ended.
fn why_ended(client: &Client) -> String {
    match client.close_code {
        Some(code) => closed_with(code),
        None if client.is_handshaking() => TlsFailure::from(Error::Truncated).to_string(),
        None => "closed by the server without a close frame".to_owned(),
    }
}

fn closed_with(code: u16) -> String {
    format!("closed by the server with code {code}")
}

/// What names a client's connection to the ring.
#[must_use]
fn connection_id(index: usize, client: &Client) -> ConnectionId {
    ConnectionId { index: index as u32, generation: client.generation % ConnectionId::GENERATIONS }
}
