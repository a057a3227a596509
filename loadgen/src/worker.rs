//! One thread: its ring, its clients, and the loop that drives them through a run.
//!
//! A run is a sequence of stretches (connect, await the start, broadcast, drain, close), each of which
//! repeats one turn: hand over what is to be sent, enter the ring, handle what has completed. Nothing is
//! shared with other threads but two atomics by which the main thread says when to start and when to
//! stop; reports go to it through a channel.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::thread::CpuSet;
use uproar::connection_id::ConnectionId;
use uproar::ring::{CloseMode, Completion, Options, Ring, Submission};

use crate::busy::{Busy, Turns};
use crate::client::{Client, Context, Phase};
use crate::clock::Clock;
use crate::plan::Plan;
use crate::report::{Connected, Finished, Report, Signals};
use crate::socket;

/// A client that is not ready after this long has failed.
const OPENING_NS_MAX: u64 = 30_000_000_000;
/// How often clients are looked through for those that take too long.
const SCAN_NS: u64 = 1_000_000_000;
/// How many connects one turn makes, so that completions do not wait long: a connect to the same host
/// runs the whole TCP handshake, some 30 µs.
const CONNECTS_PER_TURN_MAX: usize = 16;
/// How long a sleeping thread sleeps at most while the main thread may call.
const CALL_NS: u64 = 5_000_000;
/// How long before something is due a sleeping thread starts to poll: sleeps end up to 50 µs late (the
/// default timer slack, prctl(2)), and later still when the core has gone to a deeper idle state.
const SPIN_NS: u64 = 150_000;
/// How long a thread listens after the last delivery that it expects, to notice duplicates.
const LINGER_NS: u64 = 200_000_000;
/// How long slow clients may take to read up to the server's close.
const WAKE_NS_MAX: u64 = 2_000_000_000;
/// How long the closing handshakes may take.
const CLOSE_NS_MAX: u64 = 3_000_000_000;
/// The length of an interval of the log.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// What a worker is made of, before it runs on its own thread.
#[derive(Debug)]
pub struct Setup {
    /// Which worker.
    pub thread: u32,
    /// The core to pin it to.
    pub core: Option<usize>,
    /// The run.
    pub plan: Arc<Plan>,
    /// The clock of the run.
    pub clock: Clock,
    /// What the main thread says.
    pub signals: Arc<Signals>,
    /// Where reports go.
    pub reports: Sender<Report>,
}

impl Setup {
    /// Runs a worker on the calling thread, to its end. A failure is reported like everything else.
    pub fn run(self) {
        let last_words = LastWords(self.reports.clone());
        if let Err(error) = Worker::new(self).and_then(Worker::run) {
            last_words.say(error.to_string());
        }
    }
}

/// Tells the main thread even of a panic, since it waits for a report of every thread.
struct LastWords(Sender<Report>);

impl LastWords {
    fn say(&self, why: String) {
        // When nobody listens any more, nobody needs to know.
        let _ = self.0.send(Report::Failed(why));
    }
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say("Bug: a thread of loadgen panicked".to_owned());
        }
    }
}

struct Worker {
    setup: Setup,
    ring: Ring,
    clients: Vec<Client>,
    context: Context,
    /// Clients that may have something to send.
    dirty: Vec<u32>,
    tally: Tally,
    turns: Turns,
    next_scan_ns: u64,
}

/// How the clients stand.
#[derive(Default)]
struct Tally {
    connecting: usize,
    ready: usize,
    /// Ready since the last progress report.
    unreported: u32,
    ended: usize,
    failures: BTreeMap<String, u64>,
    lost: BTreeMap<String, u64>,
}

impl Worker {
    fn new(setup: Setup) -> io::Result<Self> {
        if let Some(core) = setup.core {
            let mut cores = CpuSet::new();
            cores.set(core);
            rustix::thread::sched_setaffinity(None, &cores)?;
        }
        let count = setup.plan.clients_of(setup.thread);
        let clients = (0..count).map(|index| Client::new(setup.plan.client_at(setup.thread, index)));
        Ok(Self {
            ring: Ring::new(Options::default())?,
            clients: clients.collect(),
            context: Context::new(Arc::clone(&setup.plan), setup.thread),
            dirty: Vec::with_capacity(count),
            tally: Tally::default(),
            turns: Turns::default(),
            next_scan_ns: 0,
            setup,
        })
    }

    fn run(mut self) -> io::Result<()> {
        self.connect()?;
        let Some(start_ns) = self.await_start()? else {
            return self.close();
        };
        let measured = self.measure(start_ns)?;
        let slow_closed = self.wake_slow()?;
        self.report_finished(&measured, slow_closed);
        self.await_stop()?;
        self.close()
    }

    /// Connects the clients at the planned pace, until each is ready or has failed.
    fn connect(&mut self) -> io::Result<()> {
        let begin_ns = self.now_ns();
        let mut next = 0;
        while self.tally.ready + self.tally.ended < self.clients.len() && !self.is_stopped() {
            let now_ns = self.now_ns();
            let mut until_ns = now_ns + CALL_NS;
            for _ in 0..CONNECTS_PER_TURN_MAX {
                if next == self.clients.len() || self.tally.connecting >= self.setup.plan.connecting_max {
                    break;
                }
                if let Some(rate) = self.setup.plan.connect_rate {
                    let due_ns = begin_ns + (next as f64 * 1e9 / rate) as u64;
                    if due_ns > now_ns {
                        until_ns = until_ns.min(due_ns);
                        break;
                    }
                }
                self.open(next);
                next += 1;
            }
            self.scan_openings(now_ns);
            self.turn(until_ns)?;
        }
        self.report_progress();
        let slow = self.clients.iter().filter(|client| client.ignores_broadcasts).count();
        let connected = Connected {
            readers: (self.tally.ready - slow) as u64,
            slow: slow as u64,
            failures: std::mem::take(&mut self.tally.failures),
            openings: std::mem::take(&mut self.context.openings),
        };
        self.report(Report::Connected(Box::new(connected)));
        Ok(())
    }

    fn open(&mut self, index: usize) {
        let id = self.setup.plan.client_at(self.setup.thread, index);
        let started_ns = self.now_ns();
        self.tally.connecting += 1;
        match socket::connecting(&self.setup.plan, id) {
            Ok(socket) => {
                self.clients[index].handle_connecting(&mut self.context, started_ns);
                self.ring.attach(connection(index), socket);
                self.dirty.push(index as u32);
            }
            Err(error) => {
                self.tally.connecting -= 1;
                self.tally.ended += 1;
                self.clients[index].phase = Phase::Ended;
                *self.tally.failures.entry(format!("connect: {error}")).or_default() += 1;
            }
        }
    }

    /// Gives up clients that take too long to become ready.
    fn scan_openings(&mut self, now_ns: u64) {
        if now_ns < self.next_scan_ns {
            return;
        }
        self.next_scan_ns = now_ns + SCAN_NS;
        self.report_progress();
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

    /// `None` when the run was stopped instead.
    fn await_start(&mut self) -> io::Result<Option<u64>> {
        while !self.is_stopped() {
            let start_ns = self.setup.signals.start_ns.load(Ordering::Acquire);
            if start_ns != 0 {
                return Ok(Some(start_ns));
            }
            self.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(None)
    }

    /// Sends what is due, from the warm-up to the end of measuring, and waits for what is missing then.
    fn measure(&mut self, start_ns: u64) -> io::Result<Measured> {
        let schedule = &self.setup.plan.schedule;
        let window_ns = schedule.measure_start_ns(start_ns)..schedule.measure_end_ns(start_ns);
        let drain_end_ns = window_ns.end + self.setup.plan.drain_ns;
        self.context.recorder.set_window(window_ns.clone());
        let expected = self.setup.plan.expected_on(self.setup.thread);
        let mut intervals = Intervals { begin_ns: window_ns.start, reported_count: 0 };
        let mut busy = Busy::default();
        let mut next = self.next_mine(0);
        let mut complete_since_ns = None;
        loop {
            if self.is_stopped() {
                return Err(io::Error::other("stopped because another thread failed"));
            }
            let now_ns = self.now_ns();
            busy.mark(now_ns, &window_ns, &self.turns);
            self.report_intervals(&mut intervals, now_ns);
            next = self.queue_due(start_ns, next, now_ns);
            if now_ns >= window_ns.end {
                if complete_since_ns.is_none() && self.context.recorder.counts.received >= expected {
                    complete_since_ns = Some(now_ns);
                }
                let lingered = complete_since_ns.is_some_and(|since| now_ns >= since + LINGER_NS);
                if lingered || now_ns >= drain_end_ns {
                    self.report_intervals(&mut intervals, u64::MAX);
                    return Ok(Measured { drained_ns: now_ns, busy_ns: busy.total_ns() });
                }
            }
            let due_ns = next.map(|sequence| self.setup.plan.schedule.due_ns(start_ns, sequence));
            let edges =
                [window_ns.start, window_ns.end, drain_end_ns, intervals.end_ns(), now_ns + LINGER_NS];
            let wake_ns = edges.into_iter().chain(due_ns).filter(|&edge| edge > now_ns).min();
            self.turn(wake_ns.unwrap_or(now_ns))?;
        }
    }

    /// The first broadcast from `sequence` on that a client of this thread speaks.
    fn next_mine(&self, sequence: u64) -> Option<u64> {
        let plan = &self.setup.plan;
        let mut later = sequence..plan.schedule.total_count();
        later.find(|&sequence| plan.thread_of(plan.speaker_of(sequence)) == self.setup.thread)
    }

    /// Queues this thread's broadcasts that are due, from `next` on, and returns the next one.
    fn queue_due(&mut self, start_ns: u64, mut next: Option<u64>, now_ns: u64) -> Option<u64> {
        while let Some(sequence) = next {
            let plan = &self.setup.plan;
            let due_ns = plan.schedule.due_ns(start_ns, sequence);
            if due_ns > now_ns {
                break;
            }
            let speaker = plan.local_index(plan.speaker_of(sequence));
            // A speaker that is gone says nothing; the gate on sent broadcasts sees it.
            if self.clients[speaker].phase == Phase::Ready {
                self.clients[speaker].handle_due(sequence, due_ns);
                self.dirty.push(speaker as u32);
            }
            next = self.next_mine(sequence + 1);
        }
        next
    }

    /// Reports every interval that has ended, and at the end (`u64::MAX`) the one that has not.
    fn report_intervals(&mut self, intervals: &mut Intervals, now_ns: u64) {
        while now_ns >= intervals.end_ns() {
            let latency = Box::new(self.context.recorder.take_interval());
            let (thread, index) = (self.setup.thread, intervals.reported_count);
            self.report(Report::Interval { thread, index, latency });
            intervals.reported_count += 1;
            if now_ns == u64::MAX {
                return;
            }
        }
    }

    /// Lets slow clients read again, to learn which of them the server has closed, and how.
    fn wake_slow(&mut self) -> io::Result<BTreeMap<u16, u64>> {
        let is_slow = |client: &Client| client.ignores_broadcasts;
        let slow: Vec<_> = (0..self.clients.len()).filter(|&index| is_slow(&self.clients[index])).collect();
        for &index in &slow {
            if self.clients[index].phase != Phase::Ended {
                self.ring.submit(Submission::ResumeReceive(connection(index)));
            }
        }
        let deadline_ns = self.now_ns() + WAKE_NS_MAX;
        let closed = |client: &Client| client.phase == Phase::Ended || client.close_code.is_some();
        while self.now_ns() < deadline_ns && !slow.iter().all(|&index| closed(&self.clients[index])) {
            self.turn(self.now_ns() + CALL_NS)?;
        }
        let mut codes = BTreeMap::new();
        for client in slow.iter().map(|&index| &self.clients[index]).filter(|client| closed(client)) {
            *codes.entry(client.close_code.unwrap_or(1006)).or_default() += 1;
        }
        Ok(codes)
    }

    fn report_finished(&mut self, measured: &Measured, slow_closed: BTreeMap<u16, u64>) {
        let recorder = &mut self.context.recorder;
        let finished = Finished {
            thread: self.setup.thread,
            service: std::mem::take(&mut recorder.service),
            send_lag: std::mem::take(&mut recorder.send_lag),
            broadcasts: std::mem::take(&mut recorder.broadcasts),
            counts: recorder.counts,
            last_sent_ns: recorder.last_sent_ns,
            drained_ns: measured.drained_ns,
            busy_ns: measured.busy_ns,
            lost: std::mem::take(&mut self.tally.lost),
            slow_closed,
            server_error: self.context.server_error.take(),
        };
        self.report(Report::Finished(Box::new(finished)));
    }

    /// Keeps the connections alive until every thread has finished.
    fn await_stop(&mut self) -> io::Result<()> {
        while !self.is_stopped() {
            self.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(())
    }

    /// Closes every connection as RFC 6455 asks for, and lets the server end TCP first, which leaves no
    /// TIME_WAIT on this side's ports. What the deadline leaves is reset with the ring.
    fn close(mut self) -> io::Result<()> {
        let deadline_ns = self.now_ns() + CLOSE_NS_MAX;
        for index in 0..self.clients.len() {
            match self.clients[index].phase {
                Phase::Joining(_) | Phase::Ready => {
                    self.clients[index].handle_stop(&mut self.context);
                    self.dirty.push(index as u32);
                }
                Phase::Connecting | Phase::Upgrading => self.end(index, CloseMode::Abort, "stopped"),
                Phase::Waiting | Phase::Closing | Phase::Ended => {}
            }
        }
        while self.ring.attached_count() > 0 && self.now_ns() < deadline_ns {
            self.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(())
    }

    /// One turn: hand over what is to be sent, enter the ring, handle what has completed. Sleeps until
    /// `until_ns` when there is nothing to do.
    fn turn(&mut self, until_ns: u64) -> io::Result<()> {
        let mut begin_ns = self.now_ns();
        let sends = self.submit_sends(begin_ns);
        let remaining_ns = until_ns.saturating_sub(begin_ns);
        let may_sleep = !self.setup.plan.busy_poll && remaining_ns > SPIN_NS;
        if may_sleep && sends == 0 && !self.turns.was_busy {
            self.ring.wait(Duration::from_nanos(remaining_ns - SPIN_NS))?;
            begin_ns = self.now_ns();
        } else {
            self.ring.enter()?;
        }
        // What was collected had arrived by now, however long the handling of it takes.
        let now_ns = self.now_ns();
        let handled = self.handle_completions(now_ns);
        self.turns.note(handled + sends > 0, self.now_ns() - begin_ns);
        Ok(())
    }

    /// Hands everything that waits to the ring; tells how many sends that were.
    fn submit_sends(&mut self, now_ns: u64) -> usize {
        let mut count = 0;
        for index in self.dirty.drain(..).map(|index| index as usize) {
            let client = &mut self.clients[index];
            if client.phase == Phase::Ended {
                continue;
            }
            if let Some(batch) = client.poll_batch(&mut self.context, now_ns) {
                self.ring.submit(Submission::Send(connection(index), batch));
                count += 1;
            }
        }
        count
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
            if client.phase == Phase::Ended {
                continue;
            }
            match completion {
                Completion::Received(_, bytes) => {
                    let before = client.phase;
                    let result = client.handle_received(&mut self.context, now_ns, bytes);
                    let needs_send = client.has_outgoing();
                    let became_ready = client.phase == Phase::Ready && before != Phase::Ready;
                    if needs_send {
                        self.dirty.push(index as u32);
                    }
                    match result {
                        Ok(()) if became_ready => self.note_ready(index),
                        Ok(()) => {}
                        Err(failure) => self.end(index, CloseMode::Abort, &failure.to_string()),
                    }
                }
                Completion::Sent(_, batch, Ok(sent)) => match batch.advance(sent) {
                    Some(rest) => self.ring.submit(Submission::Send(connection(index), rest)),
                    None => {
                        client.handle_sent(&mut self.context, now_ns);
                        if client.has_outgoing() {
                            self.dirty.push(index as u32);
                        }
                    }
                },
                Completion::Sent(_, _, Err(error)) | Completion::ReceiveFailed(_, error) => {
                    self.end(index, CloseMode::Abort, &error.to_string());
                }
                Completion::EndOfStream(_) => {
                    let code = client.close_code;
                    let why = code.map_or("closed by the server without a close frame".to_owned(), |code| {
                        format!("closed by the server with code {code}")
                    });
                    self.end(index, CloseMode::Graceful, &why);
                }
                Completion::Closed(_) => {}
            }
        }
        count
    }

    fn note_ready(&mut self, index: usize) {
        self.tally.connecting -= 1;
        self.tally.ready += 1;
        self.tally.unreported += 1;
        let client = &mut self.clients[index];
        if self.setup.plan.is_slow(client.id()) {
            client.ignores_broadcasts = true;
            self.ring.submit(Submission::PauseReceive(connection(index)));
        }
    }

    /// Ends a connection, and counts why, unless that is the end of a run.
    fn end(&mut self, index: usize, mode: CloseMode, why: &str) {
        let client = &mut self.clients[index];
        let was_ready = client.opening_since_ns().is_none();
        client.phase = Phase::Ended;
        self.ring.submit(Submission::Close(connection(index), mode));
        if !was_ready {
            self.tally.connecting -= 1;
            self.tally.ended += 1;
            *self.tally.failures.entry(why.to_owned()).or_default() += 1;
        } else if !client.ignores_broadcasts && !self.is_stopped() {
            *self.tally.lost.entry(why.to_owned()).or_default() += 1;
        }
    }

    fn report_progress(&mut self) {
        let ready = std::mem::take(&mut self.tally.unreported);
        self.report(Report::Progress { ready });
    }

    fn report(&self, report: Report) {
        // The main thread has gone only when the run has failed; the stop signal then follows.
        let _ = self.setup.reports.send(report);
    }

    fn is_stopped(&self) -> bool {
        self.setup.signals.stop.load(Ordering::Acquire)
    }

    fn now_ns(&self) -> u64 {
        self.setup.clock.now_ns()
    }
}

/// How measuring went.
struct Measured {
    drained_ns: u64,
    busy_ns: u64,
}

/// The intervals of the log.
struct Intervals {
    begin_ns: u64,
    reported_count: usize,
}

impl Intervals {
    /// When the interval that is being recorded ends.
    fn end_ns(&self) -> u64 {
        self.begin_ns + (self.reported_count as u64 + 1) * INTERVAL_NS
    }
}

fn connection(index: usize) -> ConnectionId {
    // No slot is used twice: a client that is gone stays gone.
    ConnectionId { index: index as u32, generation: 0 }
}
