//! Puts the outcome of a run together from what was merged, what the machine was like and what the
//! server's process used.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::dialect::Dialect;
use crate::measure::counts::Counts;
use crate::measure::stages::MergedStage;
use crate::merge::pairs::MergedPair;
use crate::merge::{Merged, Record};
use crate::network::security::{Security, Tls};
use crate::numbers::grouped;
use crate::options::RunOptions;
use crate::options::arrivals::Stage;
use crate::outcome::ending::Ending;
use crate::outcome::pairs::{self, Pair, PairLatency};
use crate::outcome::provenance::Provenance;
use crate::outcome::validity::{Evidence, Validity};
use crate::outcome::{
    CPU_ERROR_SHARE_MAX, Connections, Deliveries, Half, Outcome, Room, SCHEMA_VERSION, Server, ServerCores,
    Settings, StageOutcome, Thread,
};
use crate::plan::Plan;
use crate::server::core_time::{self, CoreTime, all_cores};
use crate::server::process::{CpuTime, ERROR_A_THREAD};
use crate::timings::Timings;
use crate::timings::quantiles::{Summary, Undelivered, value_at};

/// From here on it is worth a warning that a hypervisor gave the server's cores to others.
const STOLEN_SHARE_WARN: f64 = 0.01;

/// Where the run took place.
#[derive(Debug, Default)]
pub struct Machine {
    /// The core of each thread, where they are pinned.
    pub cores: Vec<usize>,
    /// Cores that the server may run on, too.
    pub shared_cores: Vec<usize>,
    /// True when threads are pinned, and it is not known where the server runs.
    pub cores_unknown: bool,
    /// The server's process.
    pub watch: Watch,
}

/// How and when the run ended.
#[derive(Debug)]
pub struct Ended {
    /// How the run came to its end.
    pub ending: Ending,
    /// When measuring began.
    pub begin: SystemTime,
}

/// What the server's process had used, and when; `None` where that is not known.
#[derive(Debug, Default)]
pub struct Watch {
    /// Memory before the first client connected.
    pub resident_before_connect: Option<u64>,
    /// What showed then that it had served before.
    pub served_before: Option<String>,
    /// Memory when all were connected.
    pub resident_connected: Option<u64>,
    /// Memory at the end.
    pub resident_end: Option<u64>,
    /// CPU time when measuring began.
    pub cpu_start: Option<CpuTime>,
    /// CPU time when measuring ended.
    pub cpu_end: Option<CpuTime>,
    /// How many threads it had then; 0 when that is not known.
    pub threads: usize,
    /// What its cores had done when measuring began.
    pub cores_start: Option<CoreTime>,
    /// What they had done when measuring ended.
    pub cores_end: Option<CoreTime>,
}

/// Puts the outcome together.
#[must_use]
pub fn outcome(
    merged: &Merged,
    record: &Record<'_>,
    options: &RunOptions,
    machine: &Machine,
    provenance: Provenance,
    ended: &Ended,
) -> Outcome {
    let plan = record.plan;
    let echo = plan.dialect == Dialect::Echo;
    let window = record.window_ns.end - record.window_ns.start;
    let threads: Vec<_> = record
        .finished
        .iter()
        .map(|finished| Thread {
            core: machine.cores.get(finished.thread as usize).copied(),
            busy_share: finished.busy_ns as f64 / window as f64,
        })
        .collect();
    let worst = |own: &Timings, worst: &Timings| {
        if echo { own.histogram.clone() } else { worst.histogram.clone() }
    };
    let latency =
        Summary::new(&merged.latency, merged.latency_undelivered, &worst(&merged.latency, &merged.complete));
    let service = Summary::new(
        &merged.service,
        merged.service_undelivered,
        &worst(&merged.service, &merged.service_worst),
    );
    let none = Undelivered::default();
    let send_lag = Summary::independent(&merged.send_lag, none);
    let per_broadcast =
        |timings: &Timings, undelivered| (!echo).then(|| Summary::independent(timings, undelivered));
    let measured = Duration::from_nanos(window);
    let halves = record.intervals.halves(measured).map(|halves| {
        halves.each_ref().map(|half| Half {
            received: half.histogram.len(),
            p50_ns: value_at(&half.histogram, 0.5),
            p99_ns: value_at(&half.histogram, 0.99),
        })
    });
    let slow: u64 = record.connected.iter().map(|connected| connected.slow).sum();
    let connections = Connections {
        ready: merged.readers + slow,
        seconds: record.connected_ns as f64 / 1e9,
        failures: merge_counts(record.connected.iter().map(|connected| &connected.failures)),
        lost: merge_counts(record.finished.iter().map(|finished| &finished.lost)),
        slow,
        slow_closed: merge_counts(record.finished.iter().map(|finished| &finished.slow_closed)),
        churn: plan.churn.is_some().then_some(merged.churn),
        tcp: Summary::independent(&merged.openings.tcp, none),
        tls: plan.security().is_some().then(|| Summary::independent(&merged.openings.tls, none)),
        upgrade: Summary::independent(&merged.openings.upgrade, none),
        join: plan.dialect.joins_chat().then(|| Summary::independent(&merged.openings.join, none)),
    };
    let server_error = record.finished.iter().find_map(|finished| finished.server_error.clone());
    let rooms = plan.room_names.iter().zip(&merged.rooms).map(|(name, room)| Room {
        name: name.clone(),
        readers: room.readers,
        expected: room.expected,
        received: room.received,
        reach: room.received as f64 / room.expected.max(1) as f64,
    });
    let server = options
        .server_pid
        .and_then(|pid| server_cost(pid, machine, window, merged.counts.received_in_window));
    let pairs: Vec<_> = merged.pairs.iter().map(|merged| pair(plan, merged)).collect();
    let mut remarks = remarks(plan, &merged.counts, &connections, server_error.as_deref());
    let incomplete = pairs::incomplete(&pairs);
    if !incomplete.is_empty() {
        remarks.push(pairs::listed(&incomplete));
    }
    remarks.extend(server.as_ref().into_iter().flat_map(server_remarks));
    let evidence = Evidence {
        ending: ended.ending,
        measured,
        duration: Duration::from_nanos(plan.schedule.measure_end_ns(0) - plan.schedule.measure_start_ns(0)),
        churn: plan.churn.is_some().then_some(merged.churn),
        planned: plan.schedule.measured_count(),
        sent: merged.counts.sent,
        lag_p99_ns: send_lag.value_ns(0.99),
        received_p50_ns: value_at(&record.intervals.total.histogram, 0.5),
        busy_shares: threads.iter().map(|thread| thread.busy_share).collect(),
        expected: merged.expected,
        received: merged.counts.received,
        allow_loss: options.allow_loss,
        clients: plan.clients.into(),
        ready: connections.ready,
        halves_ns: halves.as_ref().map(|halves| halves.each_ref().map(|half| [half.p50_ns, half.p99_ns])),
        shared_cores: machine.shared_cores.clone(),
        cores_unknown: machine.cores_unknown,
        is_pinned: !machine.cores.is_empty(),
        pairs: pairs.clone(),
        remarks,
    };
    let mut outcome = Outcome {
        schema_version: SCHEMA_VERSION,
        ending: ended.ending,
        measured_seconds: measured.as_secs_f64(),
        thresholds: Vec::new(),
        started_unix_seconds: ended.begin.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64(),
        settings: settings(options, plan, &machine.cores),
        validity: Validity::judge(&evidence),
        connections,
        deliveries: Deliveries {
            broadcasts_planned: plan.schedule.measured_count(),
            expected: merged.expected,
            undelivered: merged.undelivered,
            reach: merged.counts.received as f64 / merged.expected.max(1) as f64,
            rooms: rooms.collect(),
            counts: merged.counts,
            server_error,
        },
        latency,
        service,
        send_lag,
        first: per_broadcast(&merged.first, none),
        complete: per_broadcast(&merged.complete, merged.complete_undelivered),
        spread: per_broadcast(&merged.spread, none),
        stages: options.stages().iter().zip(&merged.stages).map(stage).collect(),
        pairs,
        halves,
        threads,
        server,
        provenance,
        unsaved: None,
    };
    outcome.thresholds = options.thresholds.iter().map(|threshold| outcome.judge(threshold)).collect();
    outcome
}

fn stage((asked, merged): (&Stage, &MergedStage)) -> StageOutcome {
    StageOutcome {
        duration_seconds: asked.duration.as_secs_f64(),
        rate: asked.rate,
        broadcasts_planned: merged.planned,
        sent: merged.send_lag.histogram.len(),
        expected: merged.expected,
        received: merged.received,
        reach: merged.received as f64 / merged.expected.max(1) as f64,
        latency: Summary::new(&merged.latency, merged.undelivered, &merged.worst.histogram),
        send_lag: Summary::independent(&merged.send_lag, Undelivered::default()),
    }
}

fn pair(plan: &Plan, merged: &MergedPair) -> Pair {
    let url = |place: usize| plan.servers[place].url.clone();
    Pair {
        from: url(merged.from),
        to: url(merged.to),
        expected: merged.expected,
        received: merged.received,
        violations: merged.violations,
        latency: PairLatency::of(&Summary::independent(&merged.latency, merged.undelivered)),
    }
}

fn server_cost(pid: u32, machine: &Machine, window_ns: u64, deliveries: u64) -> Option<Server> {
    let watch = &machine.watch;
    let cpu = watch.cpu_end?.since(watch.cpu_start?);
    let cpu_us = cpu.total_ns as f64 / 1e3;
    // No more of its threads run at a time than it has cores.
    let cores = watch.cores_end.as_ref().map_or(usize::MAX, |time| time.cores.len());
    let error = ERROR_A_THREAD * watch.threads.min(cores).max(1) as u32;
    let each = |us: f64| (deliveries > 0).then(|| us / deliveries as f64);
    Some(Server {
        pid,
        cpu,
        cpu_error_us: error.as_micros() as u64,
        cpu_thin: is_thin(Duration::from_nanos(cpu.total_ns), error),
        window_seconds: window_ns as f64 / 1e9,
        deliveries,
        cpu_us_per_delivery: each(cpu_us),
        cores: server_cores(machine, each),
        resident_before_connect: watch.resident_before_connect,
        resident_connected: watch.resident_connected,
        resident_end: watch.resident_end,
        served_before: watch.served_before.clone(),
    })
}

fn server_cores(machine: &Machine, each: impl FnOnce(f64) -> Option<f64>) -> Option<ServerCores> {
    let Watch { cores_start, cores_end, .. } = &machine.watch;
    let (start, end) = (cores_start.as_ref()?, cores_end.as_ref()?);
    let core_time::Busy { busy, stolen } = end.since(start)?;
    let error = core_time::ERROR_A_CORE * end.cores.len() as u32;
    Some(ServerCores {
        cores: end.cores.iter().copied().collect(),
        busy_us: busy.as_micros() as u64,
        stolen_us: stolen.as_micros() as u64,
        error_us: error.as_micros() as u64,
        thin: is_thin(busy, error),
        us_per_delivery: each(busy.as_secs_f64() * 1e6),
        shared_with_loadgen: machine.shared_cores.clone(),
        whole_machine: end.cores == all_cores(),
    })
}

fn is_thin(measured: Duration, error: Duration) -> bool {
    error.as_secs_f64() > measured.as_secs_f64() * CPU_ERROR_SHARE_MAX
}

/// What makes the figures of the server doubtful, in words.
fn server_remarks(server: &Server) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(why) = &server.served_before {
        remarks.push(format!(
            "the server has had clients before this run ({why}): it may give the new ones memory that it kept, \
             so their share of it is too low; restart the server to measure memory"
        ));
    }
    let own = server.cores.as_ref().filter(|cores| cores.are_own() && cores.busy_us > 0);
    if let Some(cores) = own {
        let stolen = cores.stolen_us as f64 / cores.busy_us as f64;
        if stolen > STOLEN_SHARE_WARN {
            remarks.push(format!(
                "a hypervisor kept the server's cores waiting for {:.1} % of what counts as their busy time",
                stolen * 100.0
            ));
        }
    }
    remarks
}

/// What is wrong and no gate: each in words.
fn remarks(
    plan: &Plan,
    counts: &Counts,
    connections: &Connections,
    server_error: Option<&str>,
) -> Vec<String> {
    let wrongs = [
        (counts.duplicates, "deliveries came twice"),
        (counts.disorder, "deliveries were overtaken by a later broadcast of the same speaker"),
        (counts.misdelivered, "deliveries reached clients that should not get them"),
        (counts.altered, "messages were not what was sent, or not what the dialect prescribes"),
        (counts.id_conflicts, "message ids did not grow, or differed between receivers"),
        (connections.lost.values().sum(), "clients were lost after they had connected"),
        // In chat there are others by nature: joins, acknowledgements, presence.
        (
            if plan.dialect.joins_chat() { 0 } else { counts.other_messages },
            "messages were none of this run's; does somebody else use the topic?",
        ),
    ];
    let mut remarks: Vec<_> = wrongs
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", grouped(count)))
        .collect();
    if plan.dialect.joins_chat() && counts.acknowledged < counts.sent {
        remarks.push(format!(
            "{} of {} messages were acknowledged to their speaker",
            grouped(counts.acknowledged),
            grouped(counts.sent)
        ));
    }
    if let Some(churn) = connections.churn.filter(|churn| churn.skipped > 0) {
        remarks.push(format!(
            "{} leaves were skipped, because their clients were still away from the time before",
            grouped(churn.skipped)
        ));
    }
    if plan.security().map(Security::tls) == Some(Tls::Unverified) {
        remarks.push("the server's certificate was not verified (--tls-insecure)".to_owned());
    }
    remarks.extend(server_error.map(|error| format!("the server sent the error: {error}")));
    remarks
}

fn settings(options: &RunOptions, plan: &Plan, cores: &[usize]) -> Settings {
    Settings {
        url: options.urls.join(","),
        tls: plan.security().map(Security::tls),
        path: paths(plan),
        dialect: plan.dialect.name(),
        room: plan.room_names.join(","),
        rooms: plan.rooms.count,
        clients: plan.clients,
        speakers: plan.rooms.senders,
        slow_clients: plan.slow_count(),
        rate: options.mean_rate(),
        stages: options.stages.as_ref().map(ToString::to_string),
        arrivals: options.arrivals,
        churn: options.churn,
        payload_bytes: options.payload,
        warmup_seconds: options.warmup.as_secs_f64(),
        duration_seconds: options.measured_duration().as_secs_f64(),
        drain_seconds: options.drain.as_secs_f64(),
        connect_rate: options.connect_rate,
        cores: cores.to_vec(),
        threads: plan.threads,
        busy_poll: plan.busy_poll,
        allow_loss: options.allow_loss,
        seed: plan.seed,
    }
}

/// The paths of all servers, each once.
fn paths(plan: &Plan) -> String {
    let mut paths: Vec<&str> = Vec::new();
    for path in plan.servers.iter().flat_map(|server| &server.paths) {
        if !paths.contains(&&**path) {
            paths.push(path);
        }
    }
    paths.join(",")
}

/// Adds up counts by their name.
pub fn merge_counts<'a, K: Ord + Clone + 'a>(
    maps: impl Iterator<Item = &'a BTreeMap<K, u64>>,
) -> BTreeMap<K, u64> {
    let mut merged = BTreeMap::new();
    for (key, count) in maps.flatten() {
        *merged.entry(key.clone()).or_default() += count;
    }
    merged
}
