//! `loadgen ab` and `--save-baseline` with real servers, which are this very test program started again.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Conduct, start_on};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PORT_VARIABLE: &str = "LOADGEN_TEST_PORT";
const DROP_VARIABLE: &str = "LOADGEN_TEST_DROP_ONE_IN";
/// Deliveries take so long that the lag of a busy machine is small beside it: a tenth may be lag. At one
/// broadcast a second no delivery waits for the one before.
const DELAY: Duration = Duration::from_millis(900);
const RUN: [&str; 10] =
    ["--dialect", "raw", "--clients", "5", "--rate", "1", "--duration", "2s", "--warmup", "200ms"];

/// Not a test, but the server that the tests let `ab` start.
#[test]
#[ignore = "a server; it does not end"]
fn serve() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let port = number(PORT_VARIABLE).expect("a port") as u16;
    let conduct = Conduct { delay: DELAY, drop_one_in: number(DROP_VARIABLE), ..Conduct::default() };
    start_on(port, conduct);
    std::thread::sleep(Duration::from_secs(120));
}

/// Below the ports that connections and other listeners are given, so that none of those takes it before the
/// server does.
fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..100).map(|_| fastrand::u16(20_000..32_000)).find(is_free).expect("one of a hundred is free")
}

/// The command of a server. The shell stays, so that the process that serves is its child.
fn server(port: u16, environment: &str) -> String {
    let program = std::env::current_exe().expect("it runs");
    let program = program.display();
    format!("{PORT_VARIABLE}={port} {environment} '{program}' --ignored --exact ab::serve; true")
}

fn ab(arguments: &[&str], port: u16, out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("ab").args(arguments).arg("--out").arg(out);
    let url = format!("ws://127.0.0.1:{port}");
    command.args(["--", "--url", &url, "--drain", "2s"]).args(RUN);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn show(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The server is no child of `ab`, which kills it and cannot wait for its end. One that is left listens for two minutes.
fn assert_nobody_listens(port: u16) {
    let begin = Instant::now();
    // Not by binding to it: somebody else may have got the port for a connection in the meantime.
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(30), "a server was left on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn both_servers_are_started_measured_stopped_and_compared() {
    let (port, directory) = (free_port(), tempfile::tempdir().expect("a directory"));
    let out = directory.path().join("out");
    let command = server(port, "");
    let arguments =
        ["--a", &command, "--aa", "--pairs", "2", "--seed", "5", "--format", "json", "--revision-a", "v1"];
    let output = ab(&arguments, port, &out).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", show(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(result["a"]["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(result["b"]["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!((&result["a"]["revision"], &result["b"]["revision"]), (&"v1".into(), &"v1".into()));
    assert!(result["metrics"][2]["a"]["median"].as_f64() >= Some(900.0));
    for name in ["pair-01-a", "pair-01-b", "pair-02-a", "pair-02-b"] {
        for file in ["run.json", "run.hlog", "server.log", "output.txt"] {
            assert!(out.join(name).join(file).exists(), "{name}/{file}");
        }
        let run = std::fs::read(out.join(name).join("run.json")).expect("reads");
        let run: Value = serde_json::from_slice(&run).expect("JSON");
        let resident = run["server"]["resident_end"].as_u64();
        assert_eq!(run["provenance"]["server_revision"], "v1");
        assert!(resident > Some(3 << 20), "the server is watched, not the shell: {resident:?}");
    }
    assert!(out.join("compare.json").exists());
    assert_nobody_listens(port);

    let again = ab(&arguments, port, &out).output().expect("runs");
    assert_eq!(again.status.code(), Some(2), "results are not overwritten");
}

#[test]
fn runs_that_stay_invalid_end_it_with_three() {
    let (port, directory) = (free_port(), tempfile::tempdir().expect("a directory"));
    let command = server(port, &format!("{DROP_VARIABLE}=7"));
    let output =
        ab(&["--a", &command, "--aa", "--pairs", "1"], port, directory.path()).output().expect("runs");
    assert_eq!(output.status.code(), Some(3), "{}", show(&output));
    let text = show(&output);
    assert!(text.contains("attempt 3 of 3") && text.contains("was INVALID 3 times"), "{text}");
    let kept = std::fs::read_dir(directory.path().join("invalid")).expect("is there");
    assert_eq!(kept.count(), 3);
    assert_nobody_listens(port);
}

#[test]
fn a_server_that_does_not_start_is_quoted() {
    let (port, directory) = (free_port(), tempfile::tempdir().expect("a directory"));
    let output =
        ab(&["--a", "echo 'no such luck'; exit 3", "--aa"], port, directory.path()).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(show(&output).contains("no such luck"), "{}", show(&output));
}

#[test]
fn whatever_ends_it_leaves_no_server_behind() {
    std::thread::scope(|scope| {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
            scope.spawn(move || assert_leaves_no_server_behind(signal));
        }
    });
}

/// Ends it by a signal in the middle of a run.
fn assert_leaves_no_server_behind(signal: Signal) {
    let (port, directory) = (free_port(), tempfile::tempdir().expect("a directory"));
    let out = directory.path().join("out");
    let mut child = ab(&["--a", &server(port, ""), "--aa"], port, &out).spawn().expect("runs");
    let begin = Instant::now();
    // The log begins once all clients are connected.
    while !["a", "b"].iter().any(|arm| out.join(format!("pair-01-{arm}/run.hlog")).exists()) {
        let has_ended = child.try_wait().expect("it can be asked").is_some();
        if has_ended || begin.elapsed() > Duration::from_secs(90) {
            let _ = child.kill();
            let output = child.wait_with_output().expect("it ends");
            panic!("no run has begun: {} {}", output.status, show(&output));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&child), signal).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    // After SIGKILL it can say nothing any more.
    if signal != Signal::KILL {
        assert_eq!(output.status.code(), Some(1));
        assert!(show(&output).contains("interrupted"), "{}", show(&output));
    }
    assert_nobody_listens(port);
}

#[test]
fn valid_runs_are_added_to_a_baseline_and_invalid_ones_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let save = |conduct: Conduct| {
        let url = format!("ws://{}", start_on(0, conduct));
        let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .current_dir(directory.path())
            .env_remove("UPROAR_BASELINES")
            .args(["run", "--url", &url, "--save-baseline", "v1", "--drain", "2s"])
            .args(RUN)
            .output()
            .expect("loadgen runs");
        (output.status.code(), show(&output))
    };
    let baseline = directory.path().join("results/baselines/v1");
    let runs = || (1..10).filter(|number| baseline.join(format!("run-00{number}")).exists()).count();
    let mut kept = 0;
    for drop_one_in in [None, Some(5), None] {
        let (code, text) = save(Conduct { delay: DELAY, drop_one_in, ..Conduct::default() });
        kept += usize::from(code == Some(0));
        assert_eq!(runs(), kept, "{text}");
        if drop_one_in.is_some() {
            assert_eq!(code, Some(3), "{text}");
        }
        if code == Some(3) {
            let place = text.lines().find_map(|line| line.split_once("the baseline v1; it is in "));
            let (_, place) = place.unwrap_or_else(|| panic!("no place in {text}"));
            assert!(directory.path().join(place).join("run.json").exists(), "{text}");
        }
    }
    assert!(kept > 0, "a machine that spoils every run shows nothing");
}

#[test]
fn a_baseline_that_can_take_no_run_is_refused_before_anything_is_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let loadgen = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.current_dir(directory.path()).env_remove("UPROAR_BASELINES").args(arguments);
        command.output().expect("loadgen runs")
    };
    let url = format!("ws://{}", start_on(0, Conduct::default()));
    for number in 1..=100 {
        let run = directory.path().join(format!("results/baselines/full/run-{number:03}"));
        std::fs::create_dir_all(run).expect("is made");
    }
    for (name, why) in [("full", "holds 100 runs already"), ("../x", "is no name of a baseline")] {
        for subcommand in ["run", "check"] {
            let output = loadgen(&[subcommand, "--url", &url, "--save-baseline", name]);
            assert_eq!(output.status.code(), Some(2), "{}", show(&output));
            assert!(show(&output).contains(why), "{}", show(&output));
            assert!(!show(&output).contains("deliveries/s") && !directory.path().join("results/x").exists());
        }
    }
}
