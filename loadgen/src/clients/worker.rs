//! One thread: the loop that drives its clients through a run.
//!
//! A run is a sequence of stretches (connect, await the start, broadcast, drain, close), each of which
//! repeats one turn of the crowd. Nothing is shared with other threads but three atomics by which the main
//! thread says when to start, when to end early, and when to stop; reports go to it through a channel.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use rustix::thread::CpuSet;
use uproar_ring::CloseMode;

use crate::clients::busy::Busy;
use crate::clients::churn::Churn;
use crate::clients::client::{Client, Phase};
use crate::clients::crowd::Crowd;
use crate::clients::report::{Connected, Finished, Report, Signals};
use crate::clock::Clock;
use crate::measure::INTERVAL_NS;
use crate::plan::Plan;
use crate::timings::Timings;

/// How many connects one turn makes, so that completions do not wait long: a connect to the same host
/// runs the whole TCP handshake, some 30 µs.
const CONNECTS_PER_TURN_MAX: usize = 16;
/// How long a sleeping thread sleeps at most while the main thread may call.
const CALL_NS: u64 = 5_000_000;
/// How long a thread listens after the last delivery that it expects, to notice duplicates.
const LINGER_NS: u64 = 200_000_000;
/// How long slow clients may take to read up to the server's close.
const WAKE_NS_MAX: u64 = 2_000_000_000;
/// How long the closing handshakes may take.
const CLOSE_NS_MAX: u64 = 3_000_000_000;
/// How often a thread says how far connecting has come.
const PROGRESS_NS: u64 = 1_000_000_000;
/// The parameters of a worker.
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
    crowd: Crowd,
    churn: Churn,
    progress_ns: u64,
    deserted: bool,
}

impl Worker {
    fn new(setup: Setup) -> io::Result<Self> {
        if let Some(core) = setup.core {
            let mut cores = CpuSet::new();
            cores.set(core);
            rustix::thread::sched_setaffinity(None, &cores)?;
        }
        let signals = Arc::clone(&setup.signals);
        let crowd = Crowd::new(&setup.plan, setup.thread, setup.clock, signals)?;
        Ok(Self { crowd, churn: Churn::default(), progress_ns: 0, deserted: false, setup })
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
        while self.crowd.tally.ready + self.crowd.tally.failed < self.crowd.clients.len()
            && !self.is_stopped()
        {
            let now_ns = self.now_ns();
            let mut until_ns = now_ns + CALL_NS;
            for _ in 0..CONNECTS_PER_TURN_MAX {
                let is_full = self.crowd.tally.connecting >= self.setup.plan.connecting_max;
                if next == self.crowd.clients.len() || is_full {
                    break;
                }
                if let Some(rate) = self.setup.plan.connect_rate {
                    let due_ns = begin_ns + (next as f64 * 1e9 / rate) as u64;
                    if due_ns > now_ns {
                        until_ns = until_ns.min(due_ns);
                        break;
                    }
                }
                self.crowd.open(next);
                next += 1;
            }
            self.crowd.scan_openings(now_ns);
            if now_ns >= self.progress_ns {
                self.progress_ns = now_ns + PROGRESS_NS;
                self.report_progress();
            }
            self.crowd.turn(until_ns)?;
        }
        self.report_progress();
        let plan = &self.setup.plan;
        let mut readers = vec![vec![0; plan.rooms.count as usize]; plan.servers.len()];
        let mut slow = 0;
        for client in self.crowd.clients.iter().filter(|client| client.opening_since_ns().is_none()) {
            match client.receiver.ignores_broadcasts {
                true => slow += 1,
                false => readers[plan.server_index(client.id())][plan.rooms.of(client.id()) as usize] += 1,
            }
        }
        let connected = Connected {
            readers,
            slow,
            failures: std::mem::take(&mut self.crowd.tally.failures),
            openings: std::mem::take(&mut self.crowd.context.openings),
        };
        self.report(Report::Connected(Box::new(connected)));
        Ok(())
    }

    /// `None` when the run was stopped instead.
    fn await_start(&mut self) -> io::Result<Option<u64>> {
        while !self.is_stopped() {
            let start_ns = self.setup.signals.start_ns.load(Ordering::Acquire);
            if start_ns != 0 {
                return Ok(Some(start_ns));
            }
            self.crowd.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(None)
    }

    /// Sends what is due, from the warm-up to the end of measuring, and waits for what is missing then.
    fn measure(&mut self, start_ns: u64) -> io::Result<Measured> {
        let mut window = Window::new(&self.setup, start_ns);
        self.crowd.start_ns = start_ns;
        self.crowd.context.recorder.set_window(window.measured_ns.clone());
        let mut intervals = Intervals::new(window.measured_ns.start);
        let mut busy = Busy::default();
        let mut next = self.next_due(start_ns, 0);
        let mut expected = None;
        let mut complete_since_ns = None;
        loop {
            if self.is_stopped() {
                return Err(io::Error::other("stopped because another thread failed"));
            }
            // The end of the last turn, which was a moment ago: a poll that finds nothing reads the clock once.
            let now_ns = self.crowd.turns.since_ns;
            if window.cut(&self.setup) {
                self.crowd.context.recorder.set_window(window.measured_ns.clone());
            }
            let end_ns = window.measured_ns.end;
            busy.mark(now_ns, &window.measured_ns, &self.crowd.turns);
            self.end_intervals(&mut intervals, now_ns);
            self.note_desertion();
            self.churn.step(&mut self.crowd, now_ns, end_ns);
            next = self.queue_due(start_ns, next, now_ns, end_ns);
            // A report wakes the main thread, which may take this core from a thread that never sleeps. At the
            // end of an interval, when with most rates a broadcast is due, that made it 0.5 ms late.
            let schedule = &self.setup.plan.schedule;
            let calm_ns = (!intervals.unreported.is_empty()).then(|| schedule.calm_ns(start_ns, now_ns));
            if calm_ns.is_some_and(|calm_ns| now_ns >= calm_ns) {
                self.report_intervals(&mut intervals);
            }
            if now_ns >= end_ns {
                let expected = *expected.get_or_insert_with(|| window.expected(self));
                if complete_since_ns.is_none() && self.crowd.context.recorder.counts.received >= expected {
                    complete_since_ns = Some(now_ns);
                }
                let lingered = complete_since_ns.is_some_and(|since| now_ns >= since + LINGER_NS);
                if lingered || self.deserted || now_ns >= window.drain_end_ns() {
                    self.end_intervals(&mut intervals, u64::MAX);
                    self.report_intervals(&mut intervals);
                    return Ok(Measured { drained_ns: now_ns, busy_ns: busy.total_ns() });
                }
            }
            let due_ns = next.map(|due| due.at_ns);
            let leave_ns = self.churn.next_due_ns(&self.crowd);
            let edges = [
                window.measured_ns.start,
                end_ns,
                window.drain_end_ns(),
                intervals.end_ns(),
                now_ns + LINGER_NS,
            ];
            let edges = edges.into_iter().chain(due_ns).chain(leave_ns).chain(calm_ns);
            let wake_ns = edges.filter(|&edge| edge > now_ns).min();
            self.crowd.turn(wake_ns.unwrap_or(now_ns))?;
        }
    }

    /// Reports once that all receivers have lost their connections.
    fn note_desertion(&mut self) {
        if !self.deserted && self.crowd.is_deserted() {
            self.deserted = true;
            let tally = &self.crowd.tally;
            let lost = if tally.lost.is_empty() { &tally.failures } else { &tally.lost };
            self.report(Report::Deserted { lost: lost.clone() });
        }
    }

    /// The first broadcast from `sequence` on that a client of this thread speaks.
    fn next_due(&self, start_ns: u64, sequence: u64) -> Option<Due> {
        let plan = &self.setup.plan;
        let mut later = sequence..plan.schedule.total_count();
        let sequence =
            later.find(|&sequence| plan.thread_of(plan.speaker_of(sequence)) == self.setup.thread)?;
        Some(Due { sequence, at_ns: plan.schedule.due_ns(start_ns, sequence) })
    }

    /// Queues this thread's broadcasts that are due, from `next` on and before `end_ns`, and returns the
    /// next one.
    fn queue_due(&mut self, start_ns: u64, mut next: Option<Due>, now_ns: u64, end_ns: u64) -> Option<Due> {
        while let Some(Due { sequence, at_ns }) = next {
            if at_ns > now_ns {
                break;
            }
            if at_ns >= end_ns {
                return None;
            }
            let plan = &self.setup.plan;
            self.crowd.speak(plan.local_index(plan.speaker_of(sequence)), sequence, at_ns);
            next = self.next_due(start_ns, sequence + 1);
        }
        next
    }

    /// Ends the intervals that are over, and at the end (`u64::MAX`) the one that is not.
    fn end_intervals(&mut self, intervals: &mut Intervals, now_ns: u64) {
        while now_ns >= intervals.end_ns() {
            intervals.unreported.push(self.crowd.context.recorder.take_interval());
            if now_ns == u64::MAX {
                return;
            }
        }
    }

    /// Reports the intervals that have ended.
    fn report_intervals(&self, intervals: &mut Intervals) {
        for latency in intervals.unreported.drain(..) {
            let (thread, index) = (self.setup.thread, intervals.reported_count);
            self.report(Report::Interval { thread, index, latency: Box::new(latency) });
            intervals.reported_count += 1;
        }
    }

    /// Lets slow clients read again, to learn which of them the server has closed, and how.
    fn wake_slow(&mut self) -> io::Result<BTreeMap<u16, u64>> {
        let is_slow = |client: &Client| client.receiver.ignores_broadcasts;
        let clients = &self.crowd.clients;
        let slow: Vec<_> = (0..clients.len()).filter(|&index| is_slow(&clients[index])).collect();
        slow.iter().for_each(|&index| self.crowd.wake(index));
        let deadline_ns = self.now_ns() + WAKE_NS_MAX;
        let closed = |client: &Client| client.phase == Phase::Ended || client.close_code.is_some();
        while self.now_ns() < deadline_ns && !slow.iter().all(|&index| closed(&self.crowd.clients[index])) {
            self.crowd.turn(self.now_ns() + CALL_NS)?;
        }
        let mut codes = BTreeMap::new();
        for client in slow.iter().map(|&index| &self.crowd.clients[index]).filter(|client| closed(client)) {
            *codes.entry(client.close_code.unwrap_or(1006)).or_default() += 1;
        }
        Ok(codes)
    }

    fn report_finished(&mut self, measured: &Measured, slow_closed: BTreeMap<u16, u64>) {
        let (absences, churn) = std::mem::take(&mut self.churn).finish(&self.crowd);
        let recorder = &mut self.crowd.context.recorder;
        let finished = Finished {
            thread: self.setup.thread,
            service: std::mem::take(&mut recorder.service),
            send_lag: std::mem::take(&mut recorder.send_lag),
            broadcasts: std::mem::take(&mut recorder.broadcasts),
            stages: std::mem::take(&mut recorder.stages),
            pairs: std::mem::take(&mut recorder.pairs),
            counts: recorder.counts,
            last_sent_ns: recorder.last_sent_ns,
            drained_ns: measured.drained_ns,
            busy_ns: measured.busy_ns,
            lost: std::mem::take(&mut self.crowd.tally.lost),
            slow_closed,
            absences,
            churn,
            server_error: self.crowd.context.server_error.take(),
        };
        self.report(Report::Finished(Box::new(finished)));
    }

    /// Keeps the connections alive until every thread has finished.
    fn await_stop(&mut self) -> io::Result<()> {
        while !self.is_stopped() {
            self.crowd.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(())
    }

    /// Closes every connection as RFC 6455 asks for, and lets the server end TCP first, which leaves no
    /// TIME_WAIT on this side's ports. What the deadline leaves is reset with the ring.
    fn close(mut self) -> io::Result<()> {
        let deadline_ns = self.now_ns() + CLOSE_NS_MAX;
        for index in 0..self.crowd.clients.len() {
            match self.crowd.clients[index].phase {
                Phase::Joining(_) | Phase::Ready => self.crowd.stop(index),
                Phase::Connecting | Phase::Upgrading => self.crowd.end(index, CloseMode::Abort, "stopped"),
                Phase::Waiting | Phase::Closing | Phase::Ended => {}
            }
        }
        while self.crowd.ring.attached_count() > 0 && self.now_ns() < deadline_ns {
            self.crowd.turn(self.now_ns() + CALL_NS)?;
        }
        Ok(())
    }

    fn report_progress(&mut self) {
        let ready = std::mem::take(&mut self.crowd.tally.unreported);
        self.report(Report::Progress { ready });
    }

    fn report(&self, report: Report) {
        // The main thread has gone only when the run has failed; the stop signal then follows.
        let _ = self.setup.reports.send(report);
    }

    fn is_stopped(&self) -> bool {
        self.crowd.is_stopped()
    }

    fn now_ns(&self) -> u64 {
        self.crowd.now_ns()
    }
}

/// A broadcast to come.
#[derive(Clone, Copy)]
struct Due {
    sequence: u64,
    at_ns: u64,
}

/// How measuring went.
struct Measured {
    drained_ns: u64,
    busy_ns: u64,
}

/// The time in which deliveries are measured.
struct Window {
    start_ns: u64,
    measured_ns: Range<u64>,
    drain_ns: u64,
}

impl Window {
    fn new(setup: &Setup, start_ns: u64) -> Self {
        let schedule = &setup.plan.schedule;
        let measured_ns = schedule.measure_start_ns(start_ns)..schedule.measure_end_ns(start_ns);
        Self { start_ns, measured_ns, drain_ns: setup.plan.drain_ns }
    }

    /// Shortens it when the main thread has said so. True when it did.
    fn cut(&mut self, setup: &Setup) -> bool {
        let cut_ns = setup.signals.cut_ns.load(Ordering::Acquire);
        let is_earlier = cut_ns != 0 && cut_ns < self.measured_ns.end;
        if is_earlier {
            self.measured_ns.end = cut_ns;
        }
        is_earlier
    }

    fn drain_end_ns(&self) -> u64 {
        self.measured_ns.end + self.drain_ns
    }

    /// How many deliveries of what is due within it the clients of a thread are to receive.
    fn expected(&self, worker: &Worker) -> u64 {
        let (plan, thread) = (&worker.setup.plan, worker.setup.thread);
        let measured = plan.schedule.measured();
        let end = plan.schedule.first_due_from(self.start_ns, self.measured_ns.end);
        let measured = measured.start..end.clamp(measured.start, measured.end);
        plan.expected_on(thread, measured.clone()) - worker.churn.spared_count(&worker.crowd, &measured)
    }
}

/// The intervals of the log.
struct Intervals {
    begin_ns: u64,
    reported_count: usize,
    /// Those that have ended and are not reported yet, oldest first.
    unreported: Vec<Timings>,
}

impl Intervals {
    fn new(begin_ns: u64) -> Self {
        Self { begin_ns, reported_count: 0, unreported: Vec::new() }
    }

    /// When the interval that is being recorded ends.
    fn end_ns(&self) -> u64 {
        let ended_count = self.reported_count + self.unreported.len();
        self.begin_ns + (ended_count as u64 + 1) * INTERVAL_NS
    }
}
