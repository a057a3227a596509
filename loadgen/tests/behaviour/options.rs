//! What a run can be asked for beyond clients and a rate: rooms, stages, churn, conditions, a search, and
//! an early end.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Conduct, command, failed_gates, json, loadgen, start};
use serde_json::Value;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_broadcast_goes_to_one_room_and_reach_is_known_of_each() {
    let server = start(Conduct::default());
    for rooms in [&["--dialect", "raw", "--rooms", "3"][..], &["--room", "general,gaming,random"]] {
        let result = json(&loadgen(server, &[rooms, &["--format", "json", "--rate", "60"]].concat()));
        assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
        // 20 clients in three rooms, 20 broadcasts each; in chat the speaker does not hear itself.
        let heard = if rooms[0] == "--room" { [6, 6, 5] } else { [7, 7, 6] };
        for (room, heard) in result["deliveries"]["rooms"].as_array().expect("rooms").iter().zip(heard) {
            assert_eq!((&room["expected"], &room["received"]), (&(20 * heard).into(), &(20 * heard).into()));
        }
        assert_eq!(result["deliveries"]["misdelivered"], 0);
        assert_eq!(result["settings"]["rooms"], 3);
    }
}

#[test]
fn an_unknown_room_is_named_before_the_run() {
    let server = start(Conduct::default());
    for subcommand in [&[][..], &["check"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let url = format!("ws://{server}");
        command.args(subcommand).args(["--url", &url, "--quiet", "--room", "gaming,attic"]);
        let output = command.output().expect("loadgen runs");
        assert_eq!(output.status.code(), Some(2));
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("the server has no room \"attic\""), "{said}");
    }
}

#[test]
fn a_check_prints_what_was_found() {
    let server = start(Conduct::default());
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.args(["check", "--url", &format!("ws://{server}")]).output().expect("loadgen runs");
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    for name in ["options", "descriptors", "io_uring", "ports", "server"] {
        assert!(
            stdout(&output).lines().any(|line| line.starts_with(name) && line.contains(" ok: ")),
            "{name}"
        );
    }
}

#[test]
fn stages_and_random_arrivals_are_planned_and_sent() {
    let server = start(Conduct::default());
    let arguments = ["--dialect", "raw", "--format", "json", "--seed", "5"];
    let stages = json(&loadgen(server, &[&arguments[..], &["--stages", "500ms:20,500ms:100"]].concat()));
    assert_eq!(failed_gates(&stages), [""; 0], "{stages:#}");
    assert_eq!(stages["deliveries"]["sent"], 60);
    assert_eq!(stages["settings"]["stages"], "500ms:20,500ms:100");
    for (stage, (rate, sent)) in [(20.0, 10), (100.0, 50)].into_iter().enumerate() {
        let stage = &stages["stages"][stage];
        assert_eq!((stage["rate"].as_f64(), &stage["sent"]), (Some(rate), &sent.into()));
        assert_eq!(stage["latency"]["count"], sent * 20);
        assert_eq!((&stage["expected"], &stage["received"]), (&(sent * 20).into(), &(sent * 20).into()));
    }
    let poisson = || json(&loadgen(server, &[&arguments[..], &["--arrivals", "poisson"]].concat()));
    let (first, second) = (poisson(), poisson());
    assert_eq!(failed_gates(&first), [""; 0], "{first:#}");
    assert_eq!(first["deliveries"]["broadcasts_planned"], second["deliveries"]["broadcasts_planned"]);
}

#[test]
fn each_stage_has_a_line_and_what_is_missing_counts_in_its_own() {
    let server = start(Conduct { drop_one_in: Some(100), ..Conduct::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    let arguments = ["--dialect", "raw", "--clients", "10", "--warmup", "0s", "--out", out];
    let output = loadgen(server, &[&arguments[..], &["--stages", "500ms:10,500ms:40"]].concat());
    let text = stdout(&output);
    let line = |start: &str| {
        let found = text.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start} in:\n{text}"))
    };
    line("latency by stage");
    assert!(line("500ms at 10/s").ends_with("5 of 5   100.0000"), "{text}");
    // Two of 250 deliveries are dropped, the hundredth and the two hundredth.
    assert!(line("500ms at 40/s").ends_with("20 of 20    99.0000"), "{text}");
    let result = read(&directory.path().join("run.json"));
    let worst = |stage: usize| result["stages"][stage]["latency"]["max_ns"].as_u64();
    assert!(worst(0) < Some(1_000_000_000) && worst(1) == Some(1_000_000_000), "{result:#}");
    let log = std::fs::read_to_string(directory.path().join("run.hlog")).expect("reads");
    assert!(log.contains("Tag=stage-1,") && log.contains("Tag=stage-2,"));
}

#[test]
fn expected_deliveries_stay_exact_while_clients_leave_and_rejoin() {
    let server = start(Conduct { delay: Duration::from_millis(3), ..Conduct::default() });
    for arguments in [
        &["--room", "general,gaming"][..],
        &["--dialect", "raw", "--slow-clients", "20", "--arrivals", "poisson"],
    ] {
        let churn = ["--churn", "15", "--rate", "100", "--duration", "2s", "--format", "json"];
        let result = json(&loadgen(server, &[arguments, &churn].concat()));
        assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
        let (churn, deliveries) = (&result["connections"]["churn"], &result["deliveries"]);
        assert!(churn["left"].as_u64() > Some(20), "{churn}");
        assert_eq!(deliveries["expected"], deliveries["received"]);
        let sent = deliveries["sent"].as_u64().expect("a number");
        assert!(deliveries["expected"].as_u64() < Some(sent * 20), "who is away is not expected to receive");
        for wrong in ["duplicates", "disorder", "misdelivered"] {
            assert_eq!(deliveries[wrong], 0, "{wrong}");
        }
    }
}

#[test]
fn loss_shows_in_spite_of_churn() {
    let server = start(Conduct { drop_one_in: Some(10), ..Conduct::default() });
    let output = loadgen(server, &["--dialect", "raw", "--churn", "5", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let result = json(&output);
    assert!(failed_gates(&result).contains(&"reach"), "{result:#}");
    let reach = result["deliveries"]["reach"].as_f64().expect("a number");
    assert!((0.85..0.95).contains(&reach), "{reach}");
}

#[test]
fn thresholds_are_judged_and_invalid_outranks_them() {
    let honest = start(Conduct::default());
    let conditions = ["--threshold", "latency.p50<1ns", "--threshold", "reach>=100%"];
    let output = loadgen(honest, &[&["--dialect", "raw", "--format", "json"], &conditions[..]].concat());
    let result = json(&output);
    let passed = |index: usize| &result["thresholds"][index]["passed"];
    assert_eq!((passed(0), passed(1)), (&false.into(), &true.into()), "{result:#}");
    // On a busy machine the run may be invalid for its timing.
    let expected = if result["validity"]["valid"] == true { 99 } else { 3 };
    assert_eq!(output.status.code(), Some(expected));

    let lossy = start(Conduct { drop_one_in: Some(20), ..Conduct::default() });
    assert_eq!(loadgen(lossy, &[&["--dialect", "raw"], &conditions[..]].concat()).status.code(), Some(3));
}

#[test]
fn csv_is_one_line_of_names_and_one_of_values() {
    let server = start(Conduct::default());
    let text = stdout(&loadgen(server, &["--dialect", "echo", "--format", "csv"]));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), lines[0].len()), (2, lines[1].len()), "{text}");
    let field = |name: &str| lines[1][lines[0].iter().position(|column| *column == name).expect("a column")];
    assert_eq!((field("dialect"), field("received"), field("first_p50_ms")), ("echo", "40", ""));
}

#[test]
fn a_search_keeps_every_step() {
    let server = start(Conduct::default());
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    // At some rate loadgen cannot send any more, so the search always ends.
    let arguments = ["--dialect", "raw", "--clients", "2", "--duration", "200ms", "--warmup", "0s"];
    let search = ["--find-max", "latency.p50<10s", "--format", "json", "--out", out];
    let output = loadgen(server, &[&arguments[..], &search].concat());
    let result = json(&output);
    let steps = result["steps"].as_array().expect("steps");
    assert!((1..=16).contains(&steps.len()), "{result:#}");
    for step in steps.iter().filter(|step| !step["directory"].is_null()) {
        let run = directory.path().join(step["directory"].as_str().expect("a name")).join("run.json");
        assert!(run.exists(), "{}", run.display());
    }
    assert_eq!(read(&directory.path().join("find-max.json")), result);
    let code = if result["rate"].is_null() { 3 } else { 0 };
    assert_eq!(output.status.code(), Some(code));
}

#[test]
fn a_search_without_a_valid_run_is_invalid_and_ends_at_the_lowest_rate_that_is_possible() {
    // It delivers nothing, so every run is INVALID, and breaks the condition besides.
    let server = start(Conduct { drop_one_in: Some(1), ..Conduct::default() });
    let arguments = ["--dialect", "raw", "--clients", "2", "--duration", "200ms", "--warmup", "0s"];
    let search = ["--find-max", "latency.p50<1ns", "--rate", "10"];
    let output = loadgen(server, &[&arguments[..], &search].concat());
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("no run was valid, so nothing is known of latency.p50<1ns"), "{text}");
    assert_eq!(text.matches("not tried: ").count(), 1, "{text}");
}

#[test]
fn contradictions_end_with_two_and_touch_nothing() {
    let server = start(Conduct::default());
    for arguments in [
        &["--stages", "1s:10", "--rate", "5"][..],
        &["--stages", "1s"],
        &["--find-max", "latency.p99<1s", "--threshold", "reach>=1"],
        &["--threshold", "latency.p98<1s"],
        &["--dialect", "echo", "--rooms", "2"],
        &["--rooms", "2"],
        &["--senders", "21"],
        &["--out", "/proc/self"],
    ] {
        let output = loadgen(server, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains("--"), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_server_that_goes_away_is_named_and_what_was_measured_is_saved() {
    let server = start(Conduct { close_after: Some(40), ..Conduct::default() });
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    let begin = Instant::now();
    let output = loadgen(server, &["--dialect", "raw", "--duration", "60s", "--out", out]);
    assert!(begin.elapsed() < Duration::from_secs(30), "it does not go on without a server");
    assert_eq!(output.status.code(), Some(3));
    let text = stdout(&output);
    assert!(text.contains("INVALID: the server is gone: all clients lost their connections after"), "{text}");
    let result = read(&directory.path().join("run.json"));
    assert_eq!(result["ending"], "server_gone");
    assert!(result["deliveries"]["received"].as_u64() > Some(100));
}

#[test]
fn an_interrupted_run_is_saved_and_marked() {
    let server = start(Conduct::default());
    for signal in ["-INT", "-TERM", "-HUP"] {
        assert_is_saved_when_it_gets(signal, server);
    }
}

fn assert_is_saved_when_it_gets(signal: &str, server: SocketAddr) {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    let arguments = ["--dialect", "raw", "--duration", "60s", "--warmup", "0s", "--out", out];
    // What it is told to ignore it ignores, and tests may run under nohup(1).
    let loadgen = command(server, &arguments);
    let mut child = Command::new("env")
        .arg("--default-signal=HUP")
        .arg(loadgen.get_program())
        .args(loadgen.get_args())
        .stdout(Stdio::piped())
        .spawn()
        .expect("loadgen runs");
    // The log has an interval once something was measured.
    let log = directory.path().join("run.hlog");
    let is_interval = |line: &str| line.starts_with(|first: char| first.is_ascii_digit());
    let has_interval = || std::fs::read_to_string(&log).is_ok_and(|log| log.lines().any(is_interval));
    wait_for("an interval in the log", || has_interval() || child.try_wait().expect("a child").is_some());
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(3), "{signal}");
    assert!(stdout(&output).contains("INVALID: interrupted by a signal after"), "{}", stdout(&output));
    let result = read(&directory.path().join("run.json"));
    assert_eq!(result["ending"], "interrupted");
    assert_eq!(result["deliveries"]["expected"], result["deliveries"]["received"]);
    assert!(result["measured_seconds"].as_f64() < Some(60.0));
}

/// The server that this tool is made for, when it has been built beside it (`cargo build -p uproar`).
#[test]
fn uproar_delivers_everything_to_rooms_and_topics_under_churn() {
    let Some((_server, address)) = uproar() else {
        eprintln!("skipped: target/…/uproar is not built");
        return;
    };
    for arguments in [
        &["--room", "general,random,gaming", "--churn", "20"][..],
        &["--dialect", "raw", "--rooms", "4", "--churn", "20", "--arrivals", "poisson"],
        &["--dialect", "raw", "--senders", "3", "--slow-clients", "10"],
    ] {
        let common = ["--clients", "60", "--rate", "100", "--duration", "2s", "--format", "json"];
        let result = json(&loadgen(address, &[arguments, &common].concat()));
        assert_eq!(failed_gates(&result), [""; 0], "{arguments:?}: {result:#}");
    }
}

struct Uproar(Child);

impl Drop for Uproar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn uproar() -> Option<(Uproar, SocketAddr)> {
    let binary = Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("uproar");
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("binds");
    let listen = address.to_string();
    let mut command = Command::new(binary);
    command.args(["--listen", &listen, "--shards", "2", "--log-level", "off"]);
    let server = Uproar(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?);
    wait_for("uproar to listen", || TcpStream::connect(address).is_ok());
    Some((server, address))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).expect("JSON")
}
