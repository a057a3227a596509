//! `loadgen compare` on runs that were never made: their directories are written by the crate's own
//! writers, from latencies that the tests choose.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use clap::Parser;
use fastrand::Rng;
use hdrhistogram::serialization::V2DeflateSerializer;
use loadgen::cli::{Cli, Command as Asked};
use loadgen::clients::report::{Connected, Finished};
use loadgen::measure::broadcast::Broadcast;
use loadgen::merge::assembly::{self, Ended, Machine, Watch};
use loadgen::merge::intervals::Intervals;
use loadgen::merge::{Merged, Record};
use loadgen::outcome::ending::Ending;
use loadgen::outcome::provenance::Provenance;
use loadgen::plan::servers::Server;
use loadgen::plan::{Findings, Plan};
use loadgen::results::hlog::Log;
use loadgen::results::json;
use loadgen::server::core_time::CoreTime;
use loadgen::server::process::CpuTime;
use loadgen::timings::Timings;
use serde_json::Value;

const MS: u64 = 1_000_000;
const START_NS: u64 = 1_000 * MS;
const CLIENTS: u64 = 3;
const CORE: usize = 4095;
/// Looked for once: it takes the hash of this program.
static PROVENANCE: LazyLock<Provenance> = LazyLock::new(|| Provenance::collect(None));

/// A run to be written.
struct Fake<'a> {
    /// The latency of every delivery of the typical broadcast; others vary around it.
    latency_ns: u64,
    /// Options of the run.
    arguments: &'a [&'a str],
    /// One delivery is missing, which makes the run INVALID.
    loses: bool,
    /// What the server's CPU time came to, when its process is known.
    server_cpu_us: Option<u64>,
    /// What that of its cores came to.
    core_cpu_us: u64,
    /// Those of them that loadgen used, too.
    shared_cores: &'a [usize],
}

impl Default for Fake<'_> {
    fn default() -> Self {
        Self {
            latency_ns: 10 * MS,
            arguments: &[],
            loses: false,
            server_cpu_us: Some(40_000),
            core_cpu_us: 50_000,
            shared_cores: &[],
        }
    }
}

impl Fake<'_> {
    fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("is made");
        let common = ["loadgen", "--dialect", "raw", "--clients", "3", "--warmup", "0s", "--drain", "2s"];
        let defaults = ["--rate", "100", "--duration", "2s", "--server-pid", "1"];
        let rest = defaults.chunks(2).filter(|pair| !self.arguments.contains(&pair[0])).flatten();
        let line: Vec<&str> = common.iter().chain(rest).chain(self.arguments).copied().collect();
        let Asked::Run(options) = Cli::try_parse_from(line).expect("parses").into_command() else {
            panic!("it is a run");
        };
        let server = Server {
            url: options.urls[0].clone(),
            address: ([127, 0, 0, 1], 8080).into(),
            security: None,
            authority: "127.0.0.1:8080".to_owned(),
            paths: vec!["/broadcast/loadgen".to_owned()],
            sources: Vec::new(),
        };
        let findings = Findings { servers: vec![server], threads: 1, busy_poll: false };
        let plan = Plan::new(&options, findings, fastrand::u64(..), 1).expect("a plan");

        let count = plan.schedule.measured_count();
        let mut finished = Finished {
            last_sent_ns: START_NS + plan.schedule.due_ns(0, count),
            drained_ns: START_NS + plan.schedule.due_ns(0, count) + 2_000 * MS,
            ..Finished::default()
        };
        let mut seconds: [Timings; 3] = Default::default();
        for sequence in 0..count {
            let due_ns = plan.schedule.due_ns(START_NS, sequence);
            // From 0.9 to 1.1 of the latency, evenly.
            let latency_ns = self.latency_ns * (900 + sequence * 200 / count) / 1000;
            let lost = u64::from(self.loses && sequence == 0);
            let second = ((due_ns + latency_ns - START_NS) / 1_000_000_000).min(2) as usize;
            seconds[second].record_many(latency_ns, CLIENTS - lost);
            finished.service.record_many(latency_ns - latency_ns / 100, CLIENTS - lost);
            finished.send_lag.record(latency_ns / 100);
            finished.broadcasts.push(Broadcast {
                received_count: (CLIENTS - lost) as u32,
                first_ns: due_ns + latency_ns / 2,
                last_ns: due_ns + latency_ns,
                sent_ns: due_ns + latency_ns / 100,
                ..Broadcast::default()
            });
            finished.counts.sent += 1;
            finished.counts.received += CLIENTS - lost;
        }
        finished.counts.received_in_window = finished.counts.received;

        let mut file = File::create(directory.join("run.hlog")).expect("is made");
        let mut serializer = V2DeflateSerializer::new();
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut log = Some(Log::begin(&mut file, &mut serializer, begin).expect("writes"));
        let mut intervals = Intervals::new(1, Duration::from_secs(2));
        for (index, second) in seconds.iter().enumerate() {
            intervals.add(index, second, &mut log).expect("writes");
        }
        let record = Record {
            plan: &plan,
            connected_ns: MS,
            start_ns: START_NS,
            window_ns: START_NS..START_NS + plan.schedule.due_ns(0, count),
            connected: &[Connected { readers: vec![vec![CLIENTS]], ..Connected::default() }],
            finished: &[finished],
            intervals: &intervals,
        };
        let merged = Merged::of(&record);
        merged.log(&mut log.expect("a log"), 2_000 * MS).expect("writes");
        let cpu = |user_us| Some(CpuTime { total_ns: user_us * 1000, user_us, system_us: 0 });
        // A core that no machine has, so that it is not all of them.
        let cores = |busy_us| CoreTime {
            cores: [CORE].into(),
            at: Duration::from_secs(2),
            idle: Duration::from_secs(2) - Duration::from_micros(busy_us),
            stolen: Duration::ZERO,
        };
        let begun = CoreTime { at: Duration::ZERO, ..cores(2_000_000) };
        let watch = Watch {
            cores_start: Some(begun),
            cores_end: Some(cores(self.core_cpu_us)),
            resident_end: Some(8 << 20),
            cpu_start: cpu(0),
            cpu_end: self.server_cpu_us.and_then(cpu),
            ..Watch::default()
        };
        let shared_cores = self.shared_cores.to_vec();
        let machine = Machine { watch, shared_cores, ..Machine::default() };
        let ended = Ended { ending: Ending::Complete, begin };
        let outcome = assembly::outcome(&merged, &record, &options, &machine, PROVENANCE.clone(), &ended);
        assert_eq!(outcome.validity.valid, !self.loses, "{:?}", outcome.validity);
        json::write(&directory.join("run.json"), &outcome).expect("writes");
    }
}

/// Runs whose latencies are a few percent apart.
fn write_side(directory: &Path, runs: u64, latency_ns: u64) {
    let mut rng = Rng::with_seed(latency_ns + runs);
    for run in 0..runs {
        let noisy_ns = latency_ns * rng.u64(980..1020) / 1000;
        Fake { latency_ns: noisy_ns, ..Fake::default() }.write(&directory.join(format!("run-{run:03}")));
    }
}

fn compare(directory: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.current_dir(directory).arg("compare").args(arguments.split_whitespace());
    command.env_remove("UPROAR_BASELINES").output().expect("loadgen runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no {start} in:\n{text}"))
}

#[test]
fn a_slower_build_is_called_a_regression_and_a_faster_one_an_improvement() {
    let directory = tempfile::tempdir().expect("a directory");
    write_side(&directory.path().join("a"), 6, 10 * MS);
    write_side(&directory.path().join("b"), 6, 12 * MS);

    let slower = compare(directory.path(), "old=a vs new=b");
    let text = stdout(&slower);
    assert_eq!(slower.status.code(), Some(4), "{text}{}", stderr(&slower));
    for metric in ["latency.p50", "latency.p99 (primary)", "complete.p99", "spread.p50", "service.p99"] {
        assert!(line(&text, metric).ends_with("REGRESSED"), "{text}");
    }
    for metric in ["server.cpu", "server.rss", "deliveries"] {
        assert!(line(&text, metric).ends_with('~'), "{text}");
    }
    assert!(text.contains("A (old): 6 runs") && text.contains("B (new): 6 runs"), "{text}");
    // 2 of 924 ways to deal out 12 runs.
    assert!(line(&text, "latency.p99 ").contains("0.0022"), "{text}");

    let faster = compare(directory.path(), "b vs a");
    assert_eq!(faster.status.code(), Some(0));
    assert!(line(&stdout(&faster), "latency.p99 ").ends_with("IMPROVED"));
}

#[test]
fn the_same_seed_gives_the_same_answer_in_every_format() {
    let directory = tempfile::tempdir().expect("a directory");
    write_side(&directory.path().join("a"), 6, 10 * MS);
    write_side(&directory.path().join("b"), 7, 10 * MS + MS / 10);
    let json = |arguments: &str| -> Value {
        let output = compare(directory.path(), &format!("a vs b --format json {arguments}"));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)))
    };
    let result = json("--seed 3");
    assert_eq!(result, json("--seed 3"));
    assert_eq!((&result["regressed"], &result["seed"]), (&Value::from(false), &Value::from(3)));
    let metrics = result["metrics"].as_array().expect("metrics");
    assert_eq!(metrics.len(), 13);
    assert_eq!(metrics[2]["name"], "latency.p99");
    assert_eq!(metrics[2]["b"]["values"].as_array().map(Vec::len), Some(7));
    // The latency of the run is spread over 0.9 to 1.1 of its middle; p99 is at 1.098.
    let median = metrics[2]["a"]["median"].as_f64().expect("a number");
    assert!((10.7..11.3).contains(&median), "{median} ms");

    let csv = stdout(&compare(directory.path(), "a vs b --format csv"));
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines.len(), 14);
    let columns: Vec<_> = lines.iter().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [19; 14]);
    assert!(lines[0].contains(",a_at_least,a_thin,") && lines[3].contains(",false,true,"), "{csv}");
}

#[test]
fn what_regresses_beside_the_primary_metric_is_called_and_makes_no_exit_code() {
    let directory = tempfile::tempdir().expect("a directory");
    for (side, cpu_us) in [("a", 40_000), ("b", 80_000)] {
        for run in 0..6 {
            let server_cpu_us = Some(cpu_us + run * 100);
            Fake { server_cpu_us, ..Fake::default() }
                .write(&directory.path().join(format!("{side}/run-{run}")));
        }
    }
    let output = compare(directory.path(), "a vs b");
    let text = stdout(&output);
    assert!(line(&text, "server.cpu").ends_with("REGRESSED"), "{text}");
    assert!(text.contains("exit code 4 stands for latency.p99 alone; --primary names another"), "{text}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    let primary = compare(directory.path(), "a vs b --primary server.cpu");
    assert_eq!(primary.status.code(), Some(4));
}

#[test]
fn what_the_servers_cores_do_is_compared_where_they_are_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    for (side, core_cpu_us) in [("a", 50_000), ("b", 80_000)] {
        for run in 0..6 {
            let fake = Fake { core_cpu_us: core_cpu_us + run * 100, ..Fake::default() };
            fake.write(&directory.path().join(format!("{side}/run-{run}")));
        }
    }
    let text = stdout(&compare(directory.path(), "a vs b"));
    assert!(line(&text, "server.core_cpu").ends_with("REGRESSED"), "{text}");
    // 50 ms of 2 s: less than what the kernel's rounding may come to.
    assert!(line(&text, "server.core_cpu").contains('*'), "{text}");
    assert!(text.contains("so little CPU time that it may be off by over 2 %"), "{text}");
    assert_eq!(compare(directory.path(), "a vs b --primary server.core_cpu").status.code(), Some(4));

    for side in ["c", "d"] {
        Fake { shared_cores: &[CORE], ..Fake::default() }.write(&directory.path().join(side));
    }
    let text = stdout(&compare(directory.path(), "c vs d"));
    assert!(!text.contains("server.core_cpu") && text.contains("server.cpu"), "{text}");
}

#[test]
fn a_verdict_on_a_thin_tail_says_what_would_make_it_reliable() {
    let directory = tempfile::tempdir().expect("a directory");
    write_side(&directory.path().join("a"), 5, 10 * MS);
    write_side(&directory.path().join("b"), 5, 10 * MS);
    let text = stdout(&compare(directory.path(), "a vs b"));
    let warning = line(&text, "warning: a verdict on latency.p99 stands on thin tails");
    assert!(warning.ends_with("1000 make it reliable: --duration 10s, or --rate 500"), "{warning}");
    let median = stdout(&compare(directory.path(), "a vs b --primary latency.p50"));
    assert!(!median.contains("thin tails"), "{median}");
}

#[test]
fn few_runs_get_effect_sizes_and_no_verdict() {
    let directory = tempfile::tempdir().expect("a directory");
    write_side(&directory.path().join("a"), 4, 10 * MS);
    write_side(&directory.path().join("b"), 6, 20 * MS);
    let output = compare(directory.path(), "a vs b");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("no verdict: 4 and 6 runs are fewer than 5 a side"), "{text}");
    assert!(!text.contains("REGRESSED") && line(&text, "latency.p99 ").contains(" %"), "{text}");

    write_side(&directory.path().join("c"), 5, 10 * MS);
    write_side(&directory.path().join("d"), 5, 20 * MS);
    let text = stdout(&compare(directory.path(), "c vs d"));
    assert!(text.contains("in any of the 12 other metrics") && text.contains("make 6 a side"), "{text}");
}

#[test]
fn runs_with_other_settings_are_refused_by_name_unless_forced() {
    let directory = tempfile::tempdir().expect("a directory");
    Fake::default().write(&directory.path().join("a"));
    Fake { arguments: &["--rate", "50", "--payload", "100"], ..Fake::default() }
        .write(&directory.path().join("b"));
    let output = compare(directory.path(), "a vs b");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("the setting rate differs: 100.0 in a, 50.0 in b"), "{text}");
    assert!(text.contains("the setting payload_bytes differs: 100 in b, 64 in a"), "{text}");
    assert!(!text.contains("the setting seed"), "{text}");
    let forced = compare(directory.path(), "a vs b --force");
    assert_eq!(forced.status.code(), Some(0));
    assert!(stdout(&forced).contains("warning: the setting rate differs"));
}

#[test]
fn an_invalid_run_is_refused_with_its_reason_unless_forced() {
    let directory = tempfile::tempdir().expect("a directory");
    Fake::default().write(&directory.path().join("a"));
    Fake { loses: true, ..Fake::default() }.write(&directory.path().join("b"));
    let output = compare(directory.path(), "a vs b");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("b is INVALID: 599 of 600 deliveries arrived"), "{}", stderr(&output));
    let forced = stdout(&compare(directory.path(), "a vs b --force"));
    assert!(line(&forced, "latency.max").contains("≥2"), "{forced}");
}

#[test]
fn what_is_damaged_missing_or_of_another_version_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["good", "other", "version", "json", "short", "garbled", "nothing", "unfinished"] {
        Fake::default().write(&path(name));
    }
    let edit = |name: &str, change: &dyn Fn(String) -> String| {
        let text = fs::read_to_string(path(name)).expect("reads");
        fs::write(path(name), change(text)).expect("writes");
    };
    edit("version/run.json", &|text| text.replace("\"schema_version\": 1", "\"schema_version\": 77"));
    edit("json/run.json", &|text| text[..text.len() / 2].to_owned());
    edit("short/run.hlog", &|text| {
        let interval = text.lines().position(|line| line.starts_with("1.0")).expect("an interval");
        let kept = text.lines().enumerate().filter(|(index, _)| *index != interval);
        kept.map(|(_, line)| format!("{line}\n")).collect()
    });
    edit("garbled/run.hlog", &|text| text.replacen("HISTFAAA", "HISUFAAA", 1));
    fs::remove_file(path("nothing/run.hlog")).expect("removes");
    fs::remove_file(path("unfinished/run.json")).expect("removes");
    fs::create_dir(path("empty")).expect("is made");
    for (name, expected) in [
        ("version", "has schema version 77, and this loadgen reads version 1"),
        ("json", "json/run.json is damaged: EOF"),
        ("short", "short/run.hlog is damaged: it holds"),
        ("garbled", "garbled/run.hlog is damaged: the latency interval"),
        ("nothing", "nothing/run.hlog: No such file"),
        ("unfinished", "unfinished/run.json is missing: the run did not come to an end"),
        ("empty", "empty: neither it nor a directory in it holds a run"),
        ("absent", "absent: No such file"),
        ("other other/../other", "other/../other is named twice on side B"),
    ] {
        for force in ["", " --force"] {
            let output = compare(directory.path(), &format!("good vs {name}{force}"));
            assert_eq!(output.status.code(), Some(2), "{name}: {}", stderr(&output));
            assert!(stderr(&output).contains(expected), "{name}: {}", stderr(&output));
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn deliveries_a_second_are_those_of_the_time_that_was_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["whole", "cut"] {
        Fake::default().write(&directory.path().join(name));
    }
    let path = directory.path().join("cut/run.json");
    let text = fs::read_to_string(&path).expect("reads");
    let cut = text.replace("\"measured_seconds\": 2.0", "\"measured_seconds\": 1.0");
    assert_ne!(cut, text);
    fs::write(&path, cut).expect("writes");
    let text = stdout(&compare(directory.path(), "whole vs cut"));
    let deliveries = line(&text, "deliveries");
    assert!(deliveries.contains("300.0 ±") && deliveries.contains("600.0 ±"), "{text}");
}

#[test]
fn a_run_is_not_compared_with_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    Fake::default().write(&directory.path().join("a"));
    let output = compare(directory.path(), "a vs ./a");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("a is on both sides"), "{}", stderr(&output));
}

#[test]
fn what_only_some_runs_measured_is_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    Fake::default().write(&directory.path().join("a"));
    Fake { server_cpu_us: None, ..Fake::default() }.write(&directory.path().join("b"));
    let output = compare(directory.path(), "a vs b");
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(text.contains("warning: only some runs measured server.cpu"), "{text}");
    assert!(!text.contains("\nserver.cpu"), "{text}");
    let primary = compare(directory.path(), "a vs b --primary server.cpu");
    assert_eq!(primary.status.code(), Some(2));
}

#[test]
fn a_baseline_is_a_side() {
    let directory = tempfile::tempdir().expect("a directory");
    write_side(&directory.path().join("results/baselines/v1"), 6, 10 * MS);
    write_side(&directory.path().join("now"), 6, 12 * MS);
    let output = compare(directory.path(), "baseline:v1 vs now");
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
}
