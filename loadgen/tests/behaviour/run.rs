//! The binary against servers that behave, and servers that do not.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::{Conduct, failed_gates, json, loadgen, start};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

#[test]
fn every_dialect_is_measured_and_every_delivery_counted() {
    let server = start(Conduct::default());
    for (dialect, each) in [("chat", 19), ("private", 1), ("raw", 20), ("echo", 1)] {
        let output = loadgen(server, &["--dialect", dialect, "--format", "json"]);
        let result = json(&output);
        assert_eq!(failed_gates(&result), [""; 0], "{dialect}: {result:#}");
        let deliveries = &result["deliveries"];
        assert_eq!(deliveries["broadcasts_planned"], 40, "{dialect}");
        assert_eq!(deliveries["sent"], 40, "{dialect}");
        assert_eq!(deliveries["expected"], 40 * each, "{dialect}");
        assert_eq!(deliveries["received"], 40 * each, "{dialect}");
        for wrong in ["duplicates", "disorder", "misdelivered", "altered", "id_conflicts", "undelivered"] {
            assert_eq!(deliveries[wrong], 0, "{dialect}: {wrong}");
        }
        assert_eq!(result["latency"]["count"], 40 * each, "{dialect}");
        if ["chat", "private"].contains(&dialect) {
            // The warm-up's messages are acknowledged, too.
            assert_eq!(deliveries["acknowledged"], 52);
            assert_eq!(result["connections"]["join"]["count"], 20);
        }
        assert_eq!(result["complete"].is_null(), dialect == "echo");
    }
}

#[test]
fn another_room_and_several_speakers() {
    let server = start(Conduct::default());
    let output = loadgen(
        server,
        &["--clients", "10", "--rate", "100", "--room", "gaming", "--format", "json", "--payload", "300"],
    );
    let result = json(&output);
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    assert_eq!(result["settings"]["speakers"], 3);
    assert_eq!(result["deliveries"]["received"], 100 * 9);
}

#[test]
fn a_known_delay_is_read_back() {
    let delay = Duration::from_millis(50);
    let server = start(Conduct { delay, ..Conduct::default() });
    let directory = tempfile::tempdir().expect("a directory");
    loadgen(server, &["--dialect", "echo", "--out", directory.path().to_str().expect("UTF-8")]);
    let latency = merged(&String::from_utf8(read(&directory.path().join("run.hlog"))).expect("ASCII"));
    assert_eq!(latency.len(), 40);
    // A busy machine delays some deliveries, but not all of them. tokio's timer has a resolution of one
    // millisecond and rounds up; the histogram has three digits.
    assert!((49_900_000..55_000_000).contains(&latency.min()), "{} ns", latency.min());
}

#[test]
fn dropped_deliveries_end_in_invalid_and_a_censored_tail() {
    let server = start(Conduct { drop_one_in: Some(20), ..Conduct::default() });
    let output = loadgen(server, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("INVALID: 760 of 800 deliveries arrived: reach 95.0000 %"), "{text}");
    let latency = text.lines().find(|line| line.starts_with("latency")).expect("a latency row");
    assert!(latency.contains("≥1000.000"), "{latency}");
    let next = text.lines().skip_while(|line| !line.starts_with("INVALID: 760")).nth(1).expect("a next step");
    assert!(next.contains("what to do: look into the server's log for what it dropped"), "{text}");

    let allowed = loadgen(server, &["--dialect", "raw", "--allow-loss", "--format", "json"]);
    let result = json(&allowed);
    assert_eq!(failed_gates(&result), [""; 0]);
    let p99 = &result["latency"]["quantiles"][4];
    assert_eq!((p99["quantile"].as_f64(), p99["at_least"].as_bool()), (Some(0.99), Some(true)));
}

#[test]
fn a_server_that_delivers_nothing_is_invalid_whatever_loss_is_allowed() {
    let server = start(Conduct { drop_one_in: Some(1), ..Conduct::default() });
    let output = loadgen(server, &["--dialect", "raw", "--allow-loss"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("INVALID: 0 of 800 deliveries arrived: reach 0.0000 %"), "{text}");
}

#[test]
fn repeated_deliveries_are_counted_as_such() {
    let server = start(Conduct { repeat_one_in: Some(23), ..Conduct::default() });
    for dialect in ["raw", "chat"] {
        let result = json(&loadgen(server, &["--dialect", dialect, "--format", "json"]));
        assert_eq!(failed_gates(&result), [""; 0], "{dialect}");
        assert!(result["deliveries"]["duplicates"].as_u64() >= Some(30), "{dialect}: {result:#}");
    }
}

#[test]
fn a_server_that_is_no_websocket_server_is_named() {
    let server = start(Conduct { is_plain_http: true, ..Conduct::default() });
    let output = loadgen(server, &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let expected = "/chat: the server answered 200 OK instead of 101 Switching Protocols";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn an_unreachable_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let server = listener.local_addr().expect("is bound");
    drop(listener);
    let output = loadgen(server, &[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot reach the server") && stderr.contains("Connection refused"), "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_server_on_the_core_of_a_pinned_run_is_found_without_its_pid() {
    // It runs in this very process, which may use all cores that its children may.
    let server = start(Conduct::default());
    let allowed = std::fs::read_to_string("/proc/self/status").expect("reads");
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("is there");
    let core: String = allowed.trim().chars().take_while(char::is_ascii_digit).collect();
    let result = json(&loadgen(server, &["--dialect", "raw", "--cores", &core, "--format", "json"]));
    assert_eq!(result["settings"]["busy_poll"], false, "{result:#}");
    let warnings = result["validity"]["warnings"].as_array().expect("warnings");
    let expected = format!("server and loadgen share the cores {core}");
    assert!(warnings.iter().any(|warning| *warning == *expected), "{warnings:?}");
}

#[test]
fn usage_mistakes_end_with_two() {
    let server = start(Conduct::default());
    for arguments in [
        &["--payload", "10"][..],
        &["--cores", "99999"],
        &["--clients", "0"],
        &["--server-pid", "2147483647"],
    ] {
        assert_eq!(loadgen(server, arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_client_that_the_server_closes_is_reported_with_its_code() {
    let server = start(Conduct { close_after: Some(20), ..Conduct::default() });
    let output = loadgen(server, &["--dialect", "raw", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let result = json(&output);
    let lost = result["connections"]["lost"].as_object().expect("a map");
    assert!(lost.keys().any(|reason| reason.contains("1013")), "{lost:?}");
}

#[test]
fn slow_clients_are_expected_to_receive_nothing_and_their_close_is_found() {
    let server = start(Conduct { close_after: Some(20), ..Conduct::default() });
    let output =
        loadgen(server, &["--dialect", "raw", "--slow-clients", "25", "--format", "json", "--allow-loss"]);
    let result = json(&output);
    assert_eq!(
        result["deliveries"]["expected"].as_u64(),
        result["deliveries"]["sent"].as_u64().map(|n| n * 15)
    );
    assert_eq!(result["connections"]["slow"], 5);
    assert_eq!(result["connections"]["slow_closed"]["1013"], 5, "{:#}", result["connections"]);
}

#[test]
fn all_results_are_written_and_agree() {
    let server = start(Conduct { drop_one_in: Some(20), ..Conduct::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("a/b");
    let arguments = ["--dialect", "raw", "--out", out.to_str().expect("UTF-8"), "--seed", "7"];
    let pid = std::process::id().to_string();
    let output = loadgen(server, &[&arguments[..], &["--server-pid", &pid]].concat());
    assert_eq!(output.status.code(), Some(3));

    let result: Value = serde_json::from_slice(&read(&out.join("run.json"))).expect("JSON");
    assert_eq!(result["schema_version"], 1);
    assert_eq!(result["settings"]["seed"], 7);
    assert!(result["server"]["resident_connected"].as_u64() > Some(0));
    assert_eq!(result["provenance"]["loadgen_sha256"].as_str().map(str::len), Some(64));
    let hlog = String::from_utf8(read(&out.join("run.hlog"))).expect("ASCII");
    assert_eq!(merged(&hlog).len(), result["latency"]["count"].as_u64().expect("a number"));
    let hgrm = String::from_utf8(read(&out.join("run.hgrm"))).expect("ASCII");
    let total = format!("Total count    = {:>12}]", result["latency"]["count"].to_string());
    assert!(hgrm.contains(&total), "{hgrm}");

    let again = loadgen(server, &arguments);
    assert_eq!(again.status.code(), Some(2), "results are not overwritten");
}

/// Ends what a test has started.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A thread that keeps a core busy until it is dropped.
struct Spinner(Arc<AtomicBool>);

impl Spinner {
    fn on(core: usize) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let spinner = Self(Arc::clone(&ends));
        std::thread::spawn(move || {
            sched_setaffinity(None, &only(core)).expect("it may be used");
            while !ends.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        spinner
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

#[test]
fn what_the_servers_cores_do_is_told_beside_what_its_process_is_billed_for() {
    let server = start(Conduct::default());
    let allowed = sched_getaffinity(None).expect("this process has cores");
    let core = (0..CpuSet::MAX_CPU).find(|&core| allowed.is_set(core)).expect("one at least");
    // Not the server, but all that matters here: a process that does nothing, on a core that is never idle.
    let sleeper = Sleeper(Command::new("sleep").arg("60").spawn().expect("it is there"));
    sched_setaffinity(Some(Pid::from_child(&sleeper.0)), &only(core)).expect("it runs");
    let _spinner = Spinner::on(core);
    let pid = sleeper.0.id().to_string();
    let watched = ["--dialect", "raw", "--server-pid", &pid, "--duration", "1500ms"];

    let result = json(&loadgen(server, &[&watched[..], &["--format", "json"]].concat()));
    let costs = &result["server"];
    let process_ns = costs["cpu"]["total_ns"].as_u64().expect("a number");
    assert!(process_ns < 50_000_000, "{costs:#}");
    assert_eq!(costs["cpu_thin"], true, "{costs:#}");
    let cores = &costs["cores"];
    assert_eq!(cores["cores"], serde_json::json!([core]), "{costs:#}");
    assert!(cores["busy_us"].as_u64() >= Some(1_450_000), "{costs:#}");
    assert_eq!(cores["thin"], false, "{costs:#}");
    // loadgen is not pinned here, and may use it, too.
    assert_eq!(cores["shared_with_loadgen"], serde_json::json!([core]), "{costs:#}");
    let deliveries = costs["deliveries"].as_u64().expect("a number") as f64;
    let each = cores["us_per_delivery"].as_f64().expect("a number");
    assert!(
        (each * deliveries / cores["busy_us"].as_f64().expect("a number") - 1.0).abs() < 1e-3,
        "{costs:#}"
    );

    let text = String::from_utf8_lossy(&loadgen(server, &watched).stdout).into_owned();
    let expected = format!("not the server's alone: loadgen's on {core}");
    assert!(text.contains("CPU of its cores (") && text.contains(&expected), "{text}");
    assert!(text.contains("CPU of the process 0.") && text.contains("(thin: up to 10 ms off)"), "{text}");

    let output = loadgen(server, &[&watched[..], &["--format", "csv"]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let field = |name: &str| lines[1][lines[0].iter().position(|column| *column == name).expect("a column")];
    assert!(field("core_cpu_us_per_delivery").parse::<f64>().expect("a number") > 0.0, "{text}");
    assert_eq!(
        (field("cpu_thin"), field("core_cpu_thin"), field("cores_are_own")),
        ("true", "false", "false")
    );
}

#[test]
fn a_server_that_had_clients_before_has_its_memory_marked() {
    let server = start(Conduct::default());
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the hard limit");
    // What a crowd that has left leaves behind: the table of descriptors never shrinks.
    let crowd: Vec<_> = (0..3_000).map(|_| File::open("/dev/null").expect("opens")).collect();
    drop(crowd);
    let pid = std::process::id().to_string();
    let watched = ["--dialect", "raw", "--server-pid", &pid];
    let result = json(&loadgen(server, &[&watched[..], &["--format", "json"]].concat()));
    assert!(!result["server"]["served_before"].is_null(), "{:#}", result["server"]);
    let warnings = result["validity"]["warnings"].as_array().expect("warnings");
    let is_told = |warning: &Value| {
        let warning = warning.as_str().expect("text");
        warning.contains("has had clients before this run") && warning.contains("restart the server")
    };
    assert!(warnings.iter().any(is_told), "{warnings:?}");
    let text = String::from_utf8_lossy(&loadgen(server, &watched).stdout).into_owned();
    assert!(text.contains("KiB a client, too low: it has had others before)"), "{text}");
}

#[test]
fn an_address_without_a_scheme_is_told_what_to_write() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen")).args(["--url", "localhost:8080"]).output();
    let output = output.expect("loadgen runs");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("write ws://localhost:8080, or wss://localhost:8080 for TLS"), "{stderr}");
}

#[test]
fn help_explains_every_row_of_the_result() {
    let server = start(Conduct::default());
    let help = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("--help").output().expect("loadgen runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let text = String::from_utf8_lossy(&loadgen(server, &["--dialect", "raw"]).stdout).into_owned();
    let rows = text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with(['*', '≥']) && !line.starts_with("deliveries"));
    let names: Vec<_> = rows.map(|row| row[..22].trim()).collect();
    assert_eq!(names.len(), 6, "{text}");
    for name in names {
        assert!(help.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {help}");
    }
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sum of all intervals without a tag.
fn merged(hlog: &str) -> Histogram<u64> {
    let mut sum = ::loadgen::timings::histogram();
    for entry in IntervalLogIterator::new(hlog.as_bytes()) {
        let LogEntry::Interval(interval) = entry.expect("parses") else { continue };
        if interval.tag().is_none() {
            let encoded = STANDARD.decode(interval.encoded_histogram()).expect("base64");
            let values = Deserializer::new().deserialize(&mut &encoded[..]).expect("V2 deflate");
            sum.add::<Histogram<u64>>(values).expect("the same bounds");
        }
    }
    sum
}
