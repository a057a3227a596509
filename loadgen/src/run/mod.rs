//! A run from the main thread's point of view: preflight, threads, the start signal, the reports, the
//! result.

pub mod baseline;
pub mod find_max;
pub mod interrupt;
pub mod progress;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use rustix::thread::CpuSet;

use crate::clients::report::{Connected, Finished, Report, Signals};
use crate::clients::worker::Setup;
use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::merge::assembly::{self, Ended, Machine, Watch, merge_counts};
use crate::merge::intervals::Intervals;
use crate::merge::{Merged, Record};
use crate::network::target::Target;
use crate::numbers::grouped;
use crate::options::{Format, RunOptions};
use crate::outcome::Outcome;
use crate::outcome::ending::Ending;
use crate::outcome::provenance::Provenance;
use crate::plan::Plan;
use crate::plan::consistency;
use crate::plan::layout;
use crate::preflight::{self, Ready};
use crate::results::directory::OutDirectory;
use crate::results::hlog::Log;
use crate::results::{self, csv, json, text};
use crate::run::interrupt::Interrupt;
use crate::run::progress::Progress;
use crate::server::core_time::CoreTime;
use crate::server::process::ServerProcess;

/// How long before the warm-up the start signal is given: every thread looks for it more often.
const START_DELAY_NS: u64 = 50_000_000;
/// How long before measuring ends early that is said: every thread looks for it more often.
const CUT_DELAY_NS: u64 = 250_000_000;
/// How often the main thread shows progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Runs, prints and saves.
///
/// # Errors
///
/// An [`Error`] when there is no result. A result that must not be believed is no error; the outcome
/// says so.
pub fn run(options: &RunOptions) -> Result<Outcome, Error> {
    consistency::check(options)?;
    let outcome = Session::prepare(options)?.perform(options)?;
    print(options, &outcome)?;
    if let Some(why) = &outcome.unsaved {
        eprintln!("loadgen: {why}; what is printed here is all that is left of it");
    }
    Ok(outcome)
}

/// Everything that stands before a run begins, and may stand for several.
#[derive(Debug)]
pub struct Session {
    ready: Ready,
    provenance: Provenance,
    interrupt: Interrupt,
}

impl Session {
    /// Announces what is to come, and looks whether it can.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] and [`Error::Preflight`].
    pub fn prepare(options: &RunOptions) -> Result<Self, Error> {
        let targets = Target::parse_all(&options.urls)?;
        targets.iter().try_for_each(|target| layout::paths(options, target).map(drop))?;
        announce(options)?;
        let ready = preflight::check(options, &targets)?;
        let server_revision = options.server_revision.clone();
        let provenance = Provenance { server_revision, ..Provenance::collect(ready.server) };
        let interrupt = Interrupt::listen()
            .map_err(|error| Error::Preflight(format!("cannot listen for signals: {error}")))?;
        Ok(Self { ready, provenance, interrupt })
    }

    /// True once a signal has asked for an end.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_set()
    }

    /// Runs and saves.
    ///
    /// # Errors
    ///
    /// An [`Error`] when there is no result.
    pub fn perform(&self, options: &RunOptions) -> Result<Outcome, Error> {
        let interrupt = self.interrupt.clone();
        let run = Run::start(options, self.ready.clone(), interrupt)?;
        run.finish(options, self.provenance.clone())
    }
}

/// The first line, before anything starts: clients × rate = deliveries a second.
fn announce(options: &RunOptions) -> Result<(), Error> {
    if options.quiet {
        return Ok(());
    }
    let rooms = layout::rooms(options).count;
    let readers = (options.clients - layout::slow_count(options)) as f64 / f64::from(rooms);
    let deliveries = match options.dialect {
        Dialect::Chat | Dialect::Private => readers - 1.0,
        Dialect::Raw => readers,
        Dialect::Echo => 1.0,
    };
    let about = if readers.fract() == 0.0 { "" } else { "about " };
    let shown = grouped(deliveries.round() as u64);
    let each = match options.dialect {
        Dialect::Chat => format!("broadcasts/s, each to the {about}{shown} others"),
        Dialect::Private => "private messages/s in total".to_owned(),
        Dialect::Raw => format!("broadcasts/s, each to all {about}{shown}"),
        Dialect::Echo => "round trips/s in total".to_owned(),
    };
    let among = if rooms > 1 && options.dialect != Dialect::Private {
        format!(" in {} rooms", grouped(rooms.into()))
    } else {
        String::new()
    };
    let on =
        if options.urls.len() > 1 { format!(" on {} servers", options.urls.len()) } else { String::new() };
    let (rate, up_to) = (options.peak_rate(), if options.stages.is_some() { "up to " } else { "" });
    let line = format!(
        "{} clients{on}{among} × {up_to}{rate} {each} = {up_to}{} deliveries/s\n",
        grouped(options.clients.into()),
        grouped((deliveries * rate).round() as u64)
    );
    match options.format {
        Format::Text => results::print(&line)?,
        // Standard output is for the result alone.
        Format::Json | Format::Csv => eprint!("{line}"),
    }
    Ok(())
}

fn print(options: &RunOptions, outcome: &Outcome) -> Result<(), Error> {
    let failed = |source| Error::Write { path: "standard output".to_owned(), source };
    match options.format {
        Format::Text => results::print(&text::to_string(outcome))?,
        Format::Json => results::print(&json::to_string(outcome).map_err(failed)?)?,
        Format::Csv => results::print(&csv::lines(outcome).concat())?,
    }
    if options.format != Format::Text {
        for gate in outcome.validity.failed() {
            eprintln!("INVALID: {}\n  what to do: {}", gate.finding, gate.advice);
        }
        for verdict in outcome.thresholds.iter().filter(|verdict| !verdict.passed) {
            eprintln!("threshold broken: {}", verdict.finding);
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
    cores_unknown: bool,
    server: Option<ServerProcess>,
    signals: Arc<Signals>,
    reports: Receiver<Report>,
    threads: Vec<JoinHandle<()>>,
    progress: Progress,
    intervals: Intervals,
    connected: Vec<Connected>,
    finished: Vec<Finished>,
    interrupt: Interrupt,
    /// How many threads have lost all clients that were to receive anything.
    deserted: usize,
    /// Why those were lost.
    lost: BTreeMap<String, u64>,
    /// Where results are saved.
    out: OutDirectory,
    /// True once a signal to end has been answered.
    interrupt_answered: bool,
    ending: Ending,
    /// When measuring begins and ends, once that is known.
    window_ns: Range<u64>,
}

/// What goes on while reports are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    WarmUp,
    Measuring,
    Drain,
}

impl Run {
    fn start(options: &RunOptions, ready: Ready, interrupt: Interrupt) -> Result<Self, Error> {
        let Ready { findings, cores, shared_cores, cores_unknown, server } = ready;
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        // Another one even with the same seed: a room may still hold messages of an earlier run.
        let token = fastrand::u32(..);
        let plan = Arc::new(Plan::new(options, findings, seed, token)?);
        // Stages differ by themselves, so their halves say nothing.
        let comparable = match options.stages {
            None => Duration::from_nanos(plan.schedule.measure_end_ns(0) - plan.schedule.measure_start_ns(0)),
            Some(_) => Duration::ZERO,
        };
        let (sender, reports) = mpsc::channel();
        // The main thread stays off the server's core.
        if !cores.is_empty() {
            let mut set = CpuSet::new();
            cores.iter().for_each(|&core| set.set(core));
            rustix::thread::sched_setaffinity(None, &set)
                .map_err(|error| Error::Preflight(format!("cannot pin to {cores:?}: {error}")))?;
        }
        let run = Self {
            intervals: Intervals::new(plan.threads, comparable),
            plan,
            clock: Clock::start(),
            cores,
            shared_cores,
            cores_unknown,
            server,
            signals: Arc::default(),
            reports,
            threads: Vec::new(),
            progress: Progress::new(options.quiet),
            connected: Vec::new(),
            finished: Vec::new(),
            interrupt,
            deserted: 0,
            lost: BTreeMap::new(),
            out: OutDirectory::new(options.out.clone()),
            interrupt_answered: false,
            ending: Ending::Complete,
            window_ns: 0..0,
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
        let server = self.server;
        let resident = || server.and_then(ServerProcess::resident_bytes);
        let cpu_time = || server.and_then(|server| server.cpu_time().ok());
        let core_time = || CoreTime::now(server?.cores());
        let mut watch = Watch {
            resident_before_connect: resident(),
            served_before: server.and_then(ServerProcess::served_before),
            ..Watch::default()
        };
        // The clock was started to connect.
        self.await_connected()?;
        let connected_ns = self.clock.now_ns();
        watch.resident_connected = resident();

        let start_ns = self.clock.now_ns() + START_DELAY_NS;
        let schedule = &self.plan.schedule;
        self.window_ns = schedule.measure_start_ns(start_ns)..schedule.measure_end_ns(start_ns);
        let window_ns = self.window_ns.clone();
        let begin = SystemTime::now() + Duration::from_nanos(window_ns.start - self.clock.now_ns());
        self.signals.start_ns.store(start_ns, Ordering::Release);

        self.progress.begin("warm-up", (window_ns.start - start_ns) / 1_000_000);
        self.collect(Stretch::WarmUp, start_ns, &mut None)?;
        (watch.cpu_start, watch.cores_start) = (cpu_time(), core_time());
        // Now, so that a run that never comes to measuring leaves no file behind.
        let mut file = self.out.create("run.hlog");
        let mut serializer = V2DeflateSerializer::new();
        let begun = file.as_mut().map(|file| Log::begin(file, &mut serializer, begin));
        let mut log = begun.and_then(|begun| self.out.note("run.hlog", begun));
        self.progress.begin("measuring", (window_ns.end - window_ns.start) / 1_000_000);
        self.collect(Stretch::Measuring, window_ns.start, &mut log)?;
        (watch.cpu_end, watch.cores_end) = (cpu_time(), core_time());
        watch.threads = server.map_or(0, ServerProcess::threads);
        self.progress.begin("drain", self.plan.drain_ns / 1_000_000);
        self.collect(Stretch::Drain, self.window_ns.end, &mut log)?;
        if self.out.note("run.hlog", self.intervals.finish(&mut log)).is_none() {
            log = None;
        }
        watch.resident_end = resident();

        self.finished.sort_by_key(|finished| finished.thread);
        let record = Record {
            plan: &self.plan,
            connected_ns,
            start_ns,
            window_ns: self.window_ns.clone(),
            connected: &self.connected,
            finished: &self.finished,
            intervals: &self.intervals,
        };
        let merged = Merged::of(&record);
        let measured_ns = self.window_ns.end - self.window_ns.start;
        if let Some(log) = &mut log {
            self.out.note("run.hlog", merged.log(log, measured_ns));
        }
        let cores = self.cores.clone();
        let shared_cores = self.shared_cores.clone();
        let machine = Machine { cores, shared_cores, cores_unknown: self.cores_unknown, watch };
        let ended = Ended { ending: self.ending, begin };
        let mut outcome = assembly::outcome(&merged, &record, options, &machine, provenance, &ended);
        self.out.save(&outcome, &merged.latency);
        outcome.unsaved = std::mem::take(&mut self.out).into_failure();
        Ok(outcome)
    }

    fn await_connected(&mut self) -> Result<(), Error> {
        let clients = u64::from(self.plan.clients);
        self.progress.begin("connecting", clients);
        let mut ready = 0;
        while self.connected.len() < self.threads.len() {
            if self.interrupt.is_set() {
                return Err(Error::Runtime("interrupted before all clients had connected".to_owned()));
            }
            match self.reports.recv_timeout(PROGRESS_EVERY) {
                Ok(Report::Progress { ready: more }) => {
                    ready += u64::from(more);
                    self.progress.connected(ready, clients);
                }
                Ok(Report::Connected(connected)) => self.connected.push(*connected),
                Ok(Report::Failed(why)) => return Err(Error::Runtime(why)),
                Ok(Report::Interval { .. } | Report::Deserted { .. } | Report::Finished(_)) => {
                    unreachable!("Bug: nothing is measured before the start signal")
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(threads_gone()),
            }
        }
        if self.readers() == 0 {
            let failures = merge_counts(self.connected.iter().map(|connected| &connected.failures));
            let why = most_common(&failures).unwrap_or("all of them are slow".to_owned());
            return Err(Error::Runtime(format!("no client could connect: {why}")));
        }
        Ok(())
    }

    /// Takes reports until the end of a stretch that began at `since_ns`.
    fn collect(
        &mut self,
        stretch: Stretch,
        since_ns: u64,
        log: &mut Option<Log<'_, File>>,
    ) -> Result<(), Error> {
        loop {
            self.look_for_early_end(stretch)?;
            let now_ns = self.clock.now_ns();
            let until_ns = match stretch {
                Stretch::WarmUp => self.window_ns.start,
                Stretch::Measuring => self.window_ns.end,
                Stretch::Drain if self.finished.len() == self.threads.len() => now_ns,
                Stretch::Drain => u64::MAX,
            };
            if now_ns >= until_ns {
                return Ok(());
            }
            let elapsed_ms = now_ns.saturating_sub(since_ns) / 1_000_000;
            let total_ms = match stretch {
                Stretch::Drain => self.plan.drain_ns / 1_000_000,
                Stretch::WarmUp | Stretch::Measuring => until_ns.saturating_sub(since_ns) / 1_000_000,
            };
            self.progress.elapsed(elapsed_ms, total_ms);
            let timeout = Duration::from_nanos(until_ns - now_ns).min(PROGRESS_EVERY);
            match self.reports.recv_timeout(timeout) {
                Ok(Report::Interval { index, latency, .. }) => {
                    if self.out.note("run.hlog", self.intervals.add(index, &latency, log)).is_none() {
                        self.progress.say("run.hlog cannot be written any more; the run goes on without it");
                        *log = None;
                    }
                }
                Ok(Report::Finished(finished)) => self.finished.push(*finished),
                Ok(Report::Failed(why)) => return Err(Error::Runtime(why)),
                Ok(Report::Deserted { lost }) => {
                    self.deserted += 1;
                    self.lost = merge_counts([&self.lost, &lost].into_iter());
                }
                Ok(Report::Progress { .. } | Report::Connected(_)) => {}
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(threads_gone()),
            }
        }
    }

    /// Ends measuring early when there is nobody left to measure, or a signal has come.
    fn look_for_early_end(&mut self, stretch: Stretch) -> Result<(), Error> {
        let now_ns = self.clock.now_ns();
        let (ending, cut_ns, why) = if self.deserted == self.threads.len() {
            let why = most_common(&self.lost).unwrap_or_default();
            (Ending::ServerGone, now_ns, format!("all clients lost their connections ({why})"))
        } else if self.interrupt.is_set() {
            (Ending::Interrupted, now_ns + CUT_DELAY_NS, "interrupted".to_owned())
        } else {
            return Ok(());
        };
        match stretch {
            Stretch::WarmUp => {
                Err(Error::Runtime(format!("{why}, before measuring began: there is nothing to save")))
            }
            Stretch::Measuring if self.ending == Ending::Complete && cut_ns < self.window_ns.end => {
                self.ending = ending;
                self.interrupt_answered = ending == Ending::Interrupted;
                self.window_ns.end = cut_ns;
                self.signals.cut_ns.store(cut_ns, Ordering::Release);
                self.progress.say(&why);
                Ok(())
            }
            Stretch::Drain if self.interrupt.is_set() && !self.interrupt_answered => {
                self.interrupt_answered = true;
                let seconds = self.plan.drain_ns as f64 / 1e9;
                self.progress.say(&format!(
                    "interrupted, but all is measured: the result comes once what is missing has arrived, or \
                     {seconds} s are over; a second signal discards it"
                ));
                Ok(())
            }
            Stretch::Measuring | Stretch::Drain => Ok(()),
        }
    }

    /// Clients that are ready and read.
    fn readers(&self) -> u64 {
        self.connected.iter().flat_map(|connected| connected.readers.iter().flatten()).sum()
    }
}

fn threads_gone() -> Error {
    Error::Runtime("Bug: all threads of loadgen have gone".to_owned())
}

/// The reason that occurred most often, with its count.
fn most_common(reasons: &BTreeMap<String, u64>) -> Option<String> {
    let (why, count) = reasons.iter().max_by_key(|(_, count)| **count)?;
    Some(format!("{count} × {why}"))
}
