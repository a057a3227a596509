//! A run from the main thread's point of view: preflight, threads, the start signal, the reports, the
//! result.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use rustix::thread::CpuSet;

use crate::cli::{Dialect, Format, RunOptions};
use crate::client::Openings;
use crate::clock::Clock;
use crate::error::Error;
use crate::measure::{Broadcast, Counts, Timings};
use crate::outcome::{Connections, Deliveries, Half, Outcome, SCHEMA_VERSION, Server, Settings, Thread};
use crate::plan::{self, Plan};
use crate::preflight::{self, Ready};
use crate::progress::Progress;
use crate::provenance::Provenance;
use crate::quantiles::{Summary, Undelivered, value_at};
use crate::results::hlog::Log;
use crate::results::text::grouped;
use crate::results::{hgrm, json, text};
use crate::server_process::{CpuTime, ServerProcess};
use crate::target::Target;
use crate::validity::{Evidence, Validity};
use crate::worker::{Connected, Finished, INTERVAL_NS, Report, Setup, Signals};

/// How long before the warm-up the start signal is given: every thread looks for it more often.
const START_DELAY_NS: u64 = 50_000_000;
/// How often the main thread shows progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Runs, prints and saves.
///
/// # Errors
///
/// An [`Error`] when there is no result. A result that must not be believed is no error; the outcome
/// says so.
pub fn run(options: &RunOptions) -> Result<Outcome, Error> {
    plan::check(options)?;
    let target = Target::parse(&options.url)?;
    announce(options);
    let ready = preflight::check(options, &target)?;
    let provenance = Provenance::collect(ready.server);
    let outcome = Run::start(options, &target, ready)?.finish(options, provenance)?;
    print(options, &outcome)?;
    Ok(outcome)
}

/// The first line, before anything starts: clients × rate = deliveries a second.
fn announce(options: &RunOptions) {
    if options.quiet {
        return;
    }
    let readers = u64::from(options.clients - plan::slow_count(options));
    let deliveries = plan::deliveries(options.dialect, readers);
    let each = match options.dialect {
        Dialect::Chat => format!("broadcasts/s, each to the {} others", grouped(deliveries)),
        Dialect::Raw => format!("broadcasts/s, each to all {}", grouped(deliveries)),
        Dialect::Echo => "round trips/s in total".to_owned(),
    };
    let line = format!(
        "{} clients × {} {each} = {} deliveries/s",
        grouped(options.clients.into()),
        options.rate,
        grouped((deliveries as f64 * options.rate).round() as u64)
    );
    match options.format {
        Format::Text => println!("{line}"),
        // Standard output is for the JSON alone.
        Format::Json => eprintln!("{line}"),
    }
}

fn print(options: &RunOptions, outcome: &Outcome) -> Result<(), Error> {
    match options.format {
        Format::Text => print!("{}", text::to_string(outcome)),
        Format::Json => {
            let failed = |source| Error::Write { path: "standard output".to_owned(), source };
            print!("{}", json::to_string(outcome).map_err(failed)?);
            for reason in outcome.validity.reasons() {
                eprintln!("INVALID: {reason}");
            }
        }
    }
    Ok(())
}

/// A run under way.
struct Run {
    plan: Arc<Plan>,
    clock: Clock,
    cores: Vec<usize>,
    shared_cores: Vec<usize>,
    server: Option<ServerProcess>,
    signals: Arc<Signals>,
    reports: Receiver<Report>,
    threads: Vec<JoinHandle<()>>,
    progress: Progress,
    intervals: Intervals,
    connected: Vec<Connected>,
    finished: Vec<Finished>,
}

/// What the server's process had used, and when.
#[derive(Default)]
struct Watch {
    resident_before_connect: Option<u64>,
    resident_connected: Option<u64>,
    cpu_start: Option<CpuTime>,
    cpu_end: Option<CpuTime>,
}

impl Run {
    fn start(options: &RunOptions, target: &Target, ready: Ready) -> Result<Self, Error> {
        let Ready { findings, cores, shared_cores, server } = ready;
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        // Another one even with the same seed: a room may still hold messages of an earlier run.
        let token = fastrand::u32(..);
        let plan = Arc::new(Plan::new(options, target, findings, seed, token)?);
        let (sender, reports) = mpsc::channel();
        // The main thread stays off the server's core.
        if !cores.is_empty() {
            let mut set = CpuSet::new();
            cores.iter().for_each(|&core| set.set(core));
            rustix::thread::sched_setaffinity(None, &set)
                .map_err(|error| Error::Preflight(format!("cannot pin to {cores:?}: {error}")))?;
        }
        let run = Self {
            intervals: Intervals::new(plan.threads),
            plan,
            clock: Clock::start(),
            cores,
            shared_cores,
            server,
            signals: Arc::default(),
            reports,
            threads: Vec::new(),
            progress: Progress::new(options.quiet),
            connected: Vec::new(),
            finished: Vec::new(),
        };
        run.spawn(&sender)
    }

    fn spawn(mut self, reports: &mpsc::Sender<Report>) -> Result<Self, Error> {
        for thread in 0..self.plan.threads {
            let setup = Setup {
                thread,
                core: self.cores.get(thread as usize).copied(),
                plan: Arc::clone(&self.plan),
                clock: self.clock,
                signals: Arc::clone(&self.signals),
                reports: reports.clone(),
            };
            let spawned = thread::Builder::new().name(format!("clients-{thread}")).spawn(|| setup.run());
            self.threads.push(spawned.map_err(|error| Error::Runtime(format!("cannot spawn: {error}")))?);
        }
        Ok(self)
    }

    /// From connecting to the saved result. The threads end with it, whatever it comes to.
    fn finish(mut self, options: &RunOptions, provenance: Provenance) -> Result<Outcome, Error> {
        let result = self.measure(options, provenance);
        self.signals.stop.store(true, Ordering::Release);
        self.progress.finish();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                return Err(Error::Runtime("Bug: a thread of loadgen panicked".to_owned()));
            }
        }
        result
    }

    fn measure(&mut self, options: &RunOptions, provenance: Provenance) -> Result<Outcome, Error> {
        let resident = |server: Option<ServerProcess>| server.and_then(ServerProcess::resident_bytes);
        let mut watch = Watch { resident_before_connect: resident(self.server), ..Watch::default() };
        self.await_connected()?;
        watch.resident_connected = resident(self.server);

        let start_ns = self.clock.now_ns() + START_DELAY_NS;
        let window_ns =
            self.plan.schedule.measure_start_ns(start_ns)..self.plan.schedule.measure_end_ns(start_ns);
        let begin = SystemTime::now() + Duration::from_nanos(window_ns.start - self.clock.now_ns());
        self.signals.start_ns.store(start_ns, Ordering::Release);

        let mut file = create(options.out.as_deref(), "run.hlog")?;
        let mut serializer = V2DeflateSerializer::new();
        let mut log = match &mut file {
            Some(file) => Some(Log::begin(file, &mut serializer, begin).map_err(hlog_failed)?),
            None => None,
        };
        self.progress.begin("warm-up", (window_ns.start - start_ns) / 1_000_000);
        self.collect_until(window_ns.start, start_ns, &mut log)?;
        watch.cpu_start = self.server.and_then(|server| server.cpu_time().ok());
        self.progress.begin("measuring", (window_ns.end - window_ns.start) / 1_000_000);
        self.collect_until(window_ns.end, window_ns.start, &mut log)?;
        watch.cpu_end = self.server.and_then(|server| server.cpu_time().ok());
        self.progress.begin("drain", self.plan.drain_ns / 1_000_000);
        self.collect_until(u64::MAX, window_ns.end, &mut log)?;
        self.intervals.finish(&mut log)?;

        let merged = Merged::of(self);
        if let Some(log) = &mut log {
            merged.log(log, window_ns.end - window_ns.start).map_err(hlog_failed)?;
        }
        let outcome = merged.into_outcome(self, options, provenance, &watch, &window_ns, begin);
        if let Some(directory) = &options.out {
            save(directory, &outcome.0, &outcome.1)?;
        }
        Ok(outcome.0)
    }

    fn await_connected(&mut self) -> Result<(), Error> {
        let clients = u64::from(self.plan.clients);
        self.progress.begin("connecting", clients);
        let mut ready = 0;
        while self.connected.len() < self.threads.len() {
            match self.reports.recv() {
                Ok(Report::Progress { ready: more }) => {
                    ready += u64::from(more);
                    self.progress.advance("connected", ready, clients);
                }
                Ok(Report::Connected(connected)) => self.connected.push(*connected),
                Ok(Report::Failed(why)) => return Err(Error::Runtime(why)),
                Ok(Report::Interval { .. } | Report::Finished(_)) => {
                    unreachable!("Bug: nothing is measured before the start signal")
                }
                Err(_) => return Err(Error::Runtime("Bug: all threads of loadgen have gone".to_owned())),
            }
        }
        if self.readers() == 0 {
            let failures = merge_counts(self.connected.iter().map(|connected| &connected.failures));
            let most = failures.iter().max_by_key(|(_, count)| **count);
            let why = most.map_or(String::new(), |(why, count)| format!(": {count} × {why}"));
            return Err(Error::Runtime(format!("no client could connect{why}")));
        }
        Ok(())
    }

    /// Takes reports until a moment, or (`u64::MAX`) until all threads have finished.
    fn collect_until<W: std::io::Write>(
        &mut self,
        until_ns: u64,
        since_ns: u64,
        log: &mut Option<Log<'_, W>>,
    ) -> Result<(), Error> {
        loop {
            let now_ns = self.clock.now_ns();
            let done = if until_ns == u64::MAX {
                self.finished.len() == self.threads.len()
            } else {
                now_ns >= until_ns
            };
            if done {
                return Ok(());
            }
            let elapsed_ms = now_ns.saturating_sub(since_ns) / 1_000_000;
            let total_ms = until_ns.saturating_sub(since_ns) / 1_000_000;
            self.progress.advance("milliseconds", elapsed_ms, total_ms);
            let timeout = Duration::from_nanos(until_ns - now_ns).min(PROGRESS_EVERY);
            match self.reports.recv_timeout(timeout) {
                Ok(Report::Interval { index, latency, .. }) => self.intervals.add(index, &latency, log)?,
                Ok(Report::Finished(finished)) => self.finished.push(*finished),
                Ok(Report::Failed(why)) => return Err(Error::Runtime(why)),
                Ok(Report::Progress { .. } | Report::Connected(_)) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Runtime("Bug: all threads of loadgen have gone".to_owned()));
                }
            }
        }
    }

    /// Clients that are ready and read.
    fn readers(&self) -> u64 {
        self.connected.iter().map(|connected| connected.readers).sum()
    }
}

/// The latencies of each second, merged over the threads.
struct Intervals {
    threads: u32,
    /// Intervals that some threads have not reported yet, with the number that have.
    pending: BTreeMap<usize, (Timings, u32)>,
    /// The median and tail of each part of a run are needed to see it drift.
    complete: Vec<Timings>,
}

impl Intervals {
    fn new(threads: u32) -> Self {
        Self { threads, pending: BTreeMap::new(), complete: Vec::new() }
    }

    fn add<W: std::io::Write>(
        &mut self,
        index: usize,
        latency: &Timings,
        log: &mut Option<Log<'_, W>>,
    ) -> Result<(), Error> {
        let (merged, reported) = self.pending.entry(index).or_default();
        merged.merge(latency);
        *reported += 1;
        // In order, since every thread reports its intervals in order.
        while let Some(first) = self.pending.first_entry().filter(|entry| entry.get().1 == self.threads) {
            let (index, (merged, _)) = first.remove_entry();
            Self::complete(&mut self.complete, index, merged, log)?;
        }
        Ok(())
    }

    /// Some threads may have drained an interval earlier than others.
    fn finish<W: std::io::Write>(&mut self, log: &mut Option<Log<'_, W>>) -> Result<(), Error> {
        for (index, (merged, _)) in std::mem::take(&mut self.pending) {
            Self::complete(&mut self.complete, index, merged, log)?;
        }
        Ok(())
    }

    fn complete<W: std::io::Write>(
        complete: &mut Vec<Timings>,
        index: usize,
        merged: Timings,
        log: &mut Option<Log<'_, W>>,
    ) -> Result<(), Error> {
        if let Some(log) = log {
            let length = Duration::from_nanos(INTERVAL_NS);
            log.interval(&merged.histogram, length * index as u32, length).map_err(hlog_failed)?;
        }
        complete.push(merged);
        Ok(())
    }

    /// The two halves of the whole seconds of the measuring time.
    fn halves(&self, duration: Duration) -> Option<[Timings; 2]> {
        let half = (duration.as_secs() / 2) as usize;
        if half == 0 || self.complete.len() < 2 * half {
            return None;
        }
        let merge = |intervals: &[Timings]| {
            let mut merged = Timings::default();
            intervals.iter().for_each(|interval| merged.merge(interval));
            merged
        };
        Some([merge(&self.complete[..half]), merge(&self.complete[half..2 * half])])
    }
}

/// What all threads have measured together.
struct Merged {
    readers: u64,
    expected: u64,
    undelivered: u64,
    latency: Timings,
    latency_undelivered: Undelivered,
    service: Timings,
    service_undelivered: Undelivered,
    /// The worst service time of each broadcast.
    service_worst: Timings,
    send_lag: Timings,
    first: Timings,
    complete: Timings,
    complete_undelivered: Undelivered,
    spread: Timings,
    counts: Counts,
    openings: Openings,
}

impl Merged {
    fn of(run: &Run) -> Self {
        let plan = &run.plan;
        let mut counts = Counts::default();
        let (mut service, mut send_lag) = (Timings::default(), Timings::default());
        let (mut drained_ns, mut last_sent_ns) = (0, 0);
        let mut openings = Openings::default();
        run.connected.iter().for_each(|connected| openings.merge(&connected.openings));
        let mut broadcasts: Vec<Broadcast> = Vec::new();
        for finished in &run.finished {
            counts.merge(&finished.counts);
            service.merge(&finished.service);
            send_lag.merge(&finished.send_lag);
            drained_ns = finished.drained_ns.max(drained_ns);
            last_sent_ns = finished.last_sent_ns.max(last_sent_ns);
            broadcasts.resize(broadcasts.len().max(finished.broadcasts.len()), Broadcast::default());
            for (merged, broadcast) in broadcasts.iter_mut().zip(&finished.broadcasts) {
                counts.id_conflicts += u64::from(!merged.merge(broadcast));
            }
        }
        let readers = run.readers();
        let each = plan.deliveries(readers);
        let expected = counts.sent * each;
        let undelivered = expected.saturating_sub(counts.received);

        // Each of the undelivered has been waited for at least this long.
        let waited = |bound_ns| Undelivered { count: undelivered, at_least_ns: bound_ns };
        let latency_undelivered = waited(plan.drain_ns);
        let service_undelivered =
            waited(plan.drain_ns.min(drained_ns.saturating_sub(last_sent_ns.min(drained_ns))));
        let mut latency = Timings::default();
        run.intervals.complete.iter().for_each(|interval| latency.merge(interval));
        for (timings, undelivered) in
            [(&mut latency, latency_undelivered), (&mut service, service_undelivered)]
        {
            timings.record_many(undelivered.at_least_ns, undelivered.count);
        }

        let mut merged = Self {
            readers,
            expected,
            undelivered,
            latency,
            latency_undelivered,
            service,
            service_undelivered,
            service_worst: Timings::default(),
            send_lag,
            first: Timings::default(),
            complete: Timings::default(),
            complete_undelivered: Undelivered { count: 0, at_least_ns: plan.drain_ns },
            spread: Timings::default(),
            counts,
            openings,
        };
        merged.add_broadcasts(run, &broadcasts, each);
        merged
    }

    fn add_broadcasts(&mut self, run: &Run, broadcasts: &[Broadcast], each: u64) {
        let start_ns = run.signals.start_ns.load(Ordering::Acquire);
        let schedule = &run.plan.schedule;
        let mut unheard = 0;
        for (index, broadcast) in broadcasts.iter().enumerate() {
            if broadcast.received_count == 0 {
                unheard += 1;
                continue;
            }
            let intended_ns = schedule.due_ns(start_ns, schedule.sequence_of(index));
            let last_ns = broadcast.last_ns - intended_ns.min(broadcast.last_ns);
            let service_ns = broadcast.last_ns - broadcast.sent_ns.min(broadcast.last_ns);
            self.first.record(broadcast.first_ns - intended_ns.min(broadcast.first_ns));
            if u64::from(broadcast.received_count) >= each {
                self.complete.record(last_ns);
                self.service_worst.record(service_ns);
                self.spread.record(broadcast.last_ns - broadcast.first_ns);
            } else {
                self.complete_undelivered.count += 1;
                self.complete.record(last_ns.max(self.latency_undelivered.at_least_ns));
                self.service_worst.record(service_ns.max(self.service_undelivered.at_least_ns));
            }
        }
        // What was never sent is no broadcast that nobody heard.
        let unsent = schedule.measured_count() - self.counts.sent.min(schedule.measured_count());
        let unheard = if broadcasts.is_empty() { 0 } else { u64::saturating_sub(unheard, unsent) };
        self.complete_undelivered.count += unheard;
        self.complete.record_many(self.latency_undelivered.at_least_ns, unheard);
        self.service_worst.record_many(self.service_undelivered.at_least_ns, unheard);
    }

    fn log<W: std::io::Write>(&self, log: &mut Log<'_, W>, window_ns: u64) -> std::io::Result<()> {
        let window = Duration::from_nanos(window_ns);
        if self.undelivered > 0 {
            let (count, waited) =
                (self.undelivered, Duration::from_nanos(self.latency_undelivered.at_least_ns));
            log.remark(&format!("the next interval stands for {count} undelivered, waited for {waited:?}"))?;
            let mut undelivered = Timings::default();
            undelivered.record_many(self.latency_undelivered.at_least_ns, count);
            log.interval(&undelivered.histogram, window + waited, Duration::from_nanos(INTERVAL_NS))?;
        }
        let mut named = vec![("service", &self.service), ("send-lag", &self.send_lag)];
        if !self.complete.histogram.is_empty() {
            named.extend([("first", &self.first), ("complete", &self.complete), ("spread", &self.spread)]);
        }
        named.into_iter().try_for_each(|(name, timings)| log.tagged(name, &timings.histogram, window))
    }

    /// The outcome, and the latencies for the percentile distribution.
    fn into_outcome(
        self,
        run: &mut Run,
        options: &RunOptions,
        provenance: Provenance,
        watch: &Watch,
        window_ns: &std::ops::Range<u64>,
        begin: SystemTime,
    ) -> (Outcome, Timings) {
        let plan = &run.plan;
        let echo = plan.dialect == Dialect::Echo;
        run.finished.sort_by_key(|finished| finished.thread);
        let window = window_ns.end - window_ns.start;
        let threads: Vec<_> = run
            .finished
            .iter()
            .map(|finished| Thread {
                core: run.cores.get(finished.thread as usize).copied(),
                busy_share: finished.busy_ns as f64 / window as f64,
            })
            .collect();
        let worst = |own: &Timings, worst: &Timings| {
            if echo { own.histogram.clone() } else { worst.histogram.clone() }
        };
        let latency =
            Summary::new(&self.latency, self.latency_undelivered, &worst(&self.latency, &self.complete));
        let service =
            Summary::new(&self.service, self.service_undelivered, &worst(&self.service, &self.service_worst));
        let none = Undelivered::default();
        let send_lag = Summary::independent(&self.send_lag, none);
        let per_broadcast =
            |timings: &Timings, undelivered| (!echo).then(|| Summary::independent(timings, undelivered));
        let halves = run.intervals.halves(options.duration).map(|halves| {
            halves.map(|half| Half {
                received: half.histogram.len(),
                p50_ns: value_at(&half.histogram, 0.5),
                p99_ns: value_at(&half.histogram, 0.99),
            })
        });
        let slow: u64 = run.connected.iter().map(|connected| connected.slow).sum();
        let connections = Connections {
            ready: self.readers + slow,
            failures: merge_counts(run.connected.iter().map(|connected| &connected.failures)),
            lost: merge_counts(run.finished.iter().map(|finished| &finished.lost)),
            slow,
            slow_closed: merge_counts(run.finished.iter().map(|finished| &finished.slow_closed)),
            tcp: Summary::independent(&self.openings.tcp, none),
            upgrade: Summary::independent(&self.openings.upgrade, none),
            join: (plan.dialect == Dialect::Chat).then(|| Summary::independent(&self.openings.join, none)),
        };
        let server_error = run.finished.iter().find_map(|finished| finished.server_error.clone());
        let evidence = Evidence {
            planned: plan.schedule.measured_count(),
            sent: self.counts.sent,
            lag_p99_ns: send_lag.value_ns(0.99),
            latency_p50_ns: latency.value_ns(0.5),
            busy_shares: threads.iter().map(|thread| thread.busy_share).collect(),
            expected: self.expected,
            received: self.counts.received,
            allow_loss: options.allow_loss,
            clients: plan.clients.into(),
            ready: connections.ready,
            halves_ns: halves.as_ref().map(|halves| halves.each_ref().map(|half| [half.p50_ns, half.p99_ns])),
            shared_cores: run.shared_cores.clone(),
            remarks: remarks(plan.dialect, &self.counts, &connections, server_error.as_deref()),
        };
        let outcome = Outcome {
            schema_version: SCHEMA_VERSION,
            started_unix_seconds: begin.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64(),
            settings: settings(options, plan, &run.cores),
            validity: Validity::judge(&evidence),
            connections,
            deliveries: Deliveries {
                broadcasts_planned: plan.schedule.measured_count(),
                expected: self.expected,
                undelivered: self.undelivered,
                reach: self.counts.received as f64 / self.expected.max(1) as f64,
                counts: self.counts,
                server_error,
            },
            latency,
            service,
            send_lag,
            first: per_broadcast(&self.first, none),
            complete: per_broadcast(&self.complete, self.complete_undelivered),
            spread: per_broadcast(&self.spread, none),
            halves,
            threads,
            server: options
                .server_pid
                .and_then(|pid| server_cost(pid, run.server?, watch, window, self.counts.received_in_window)),
            provenance,
        };
        (outcome, self.latency)
    }
}

fn server_cost(
    pid: u32,
    server: ServerProcess,
    watch: &Watch,
    window_ns: u64,
    deliveries: u64,
) -> Option<Server> {
    let cpu = watch.cpu_end?.since(watch.cpu_start?);
    let total_us = (cpu.user_us + cpu.system_us) as f64;
    Some(Server {
        pid,
        cpu,
        window_seconds: window_ns as f64 / 1e9,
        deliveries,
        cpu_us_per_delivery: (deliveries > 0).then(|| total_us / deliveries as f64),
        resident_before_connect: watch.resident_before_connect,
        resident_connected: watch.resident_connected,
        resident_end: server.resident_bytes(),
    })
}

/// What is wrong and no gate: each in words.
fn remarks(
    dialect: Dialect,
    counts: &Counts,
    connections: &Connections,
    server_error: Option<&str>,
) -> Vec<String> {
    let wrongs = [
        (counts.duplicates, "deliveries came twice"),
        (counts.disorder, "deliveries were overtaken by a later broadcast of the same speaker"),
        (counts.misdelivered, "deliveries reached who should not get them"),
        (counts.altered, "messages were not what was sent, or not what the dialect prescribes"),
        (counts.id_conflicts, "message ids did not grow, or differed between receivers"),
        (connections.lost.values().sum(), "clients were lost after they had connected"),
    ];
    let mut remarks: Vec<_> = wrongs
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    if dialect == Dialect::Chat && counts.acknowledged < counts.sent {
        remarks.push(format!(
            "{} of {} messages were acknowledged to their speaker",
            grouped(counts.acknowledged),
            grouped(counts.sent)
        ));
    }
    remarks.extend(server_error.map(|error| format!("the server complained: {error}")));
    remarks
}

fn settings(options: &RunOptions, plan: &Plan, cores: &[usize]) -> Settings {
    Settings {
        url: options.url.clone(),
        path: plan.path.clone(),
        dialect: plan.dialect.name(),
        room: plan.room.clone(),
        clients: plan.clients,
        speakers: plan.speakers,
        slow_clients: plan.slow_count(),
        rate: options.rate,
        payload_bytes: options.payload,
        warmup_seconds: options.warmup.as_secs_f64(),
        duration_seconds: options.duration.as_secs_f64(),
        drain_seconds: options.drain.as_secs_f64(),
        connect_rate: options.connect_rate,
        cores: cores.to_vec(),
        threads: plan.threads,
        busy_poll: plan.busy_poll,
        allow_loss: options.allow_loss,
        seed: plan.seed,
    }
}

fn save(directory: &Path, outcome: &Outcome, latency: &Timings) -> Result<(), Error> {
    let failed =
        |name: &str, source| Error::Write { path: directory.join(name).display().to_string(), source };
    json::write(&directory.join("run.json"), outcome).map_err(|error| failed("run.json", error))?;
    let Some(file) = create(Some(directory), "run.hgrm")? else { return Ok(()) };
    hgrm::write(std::io::BufWriter::new(file), &latency.histogram).map_err(|error| failed("run.hgrm", error))
}

fn create(directory: Option<&Path>, name: &str) -> Result<Option<File>, Error> {
    let Some(path) = directory.map(|directory| directory.join(name)) else {
        return Ok(None);
    };
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    File::create(&path).map(Some).map_err(failed)
}

fn hlog_failed(source: std::io::Error) -> Error {
    Error::Write { path: "run.hlog".to_owned(), source }
}

fn merge_counts<'a, K: Ord + Clone + 'a>(
    maps: impl Iterator<Item = &'a BTreeMap<K, u64>>,
) -> BTreeMap<K, u64> {
    let mut merged = BTreeMap::new();
    for (key, count) in maps.flatten() {
        *merged.entry(key.clone()).or_default() += count;
    }
    merged
}
