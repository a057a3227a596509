//! What shows that loadgen measures right, as far as that does not depend on how busy the machine is: a
//! machine that is late only ever adds to a latency. `scripts/prove-loadgen` proves the rest, with a machine
//! to itself.
//!
//! A latency is a send lag and a service time. Which of the two shows a stop says who stood still. While the
//! *server* stands, loadgen goes on sending: an open loop only hands bytes to a socket, which the kernel
//! takes whether anybody reads them or not, so nothing is late but the service. While *loadgen* stands,
//! nothing is sent: the send lag has the whole stop, and the server answers as fast as ever. Only a latency
//! that runs from the intended time shows both.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::{Conduct, command, failed_gates, json, loadgen, start};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SECOND_NS: u64 = 1_000_000_000;

/// Not a test, but a server in a process of its own, which can be stopped.
#[test]
#[ignore = "a server; it does not end"]
fn serve() {
    println!("\nlistening on {}", start(Conduct::default()));
    sleep(Duration::from_secs(120));
}

/// A server that ends with the test.
struct Apart(Child);

impl Drop for Apart {
    fn drop(&mut self) {
        // Without effect on what has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_apart() -> (Apart, SocketAddr) {
    let program = std::env::current_exe().expect("it runs");
    let arguments = ["--ignored", "--exact", "--nocapture", "proofs::serve"];
    let spawned = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn();
    let mut server = Apart(spawned.expect("starts"));
    let mut lines = BufReader::new(server.0.stdout.take().expect("is piped")).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
    (server, address.expect("it says where"))
}

/// What a run of 4 seconds has measured in which a process stood still for a whole one.
fn run_with_a_stop(stop_loadgen: bool) -> (Output, Value) {
    let (server, address) = start_apart();
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let mut command = command(address, &["--dialect", "raw", "--duration", "4s", "--format", "json"]);
    command.arg("--out").arg(&out).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().expect("loadgen runs");
    await_first_second(&mut run, &out.join("run.hlog"));
    let stopped = Pid::from_child(if stop_loadgen { &run } else { &server.0 });
    kill_process(stopped, Signal::STOP).expect("it runs");
    // Not a wait for anything, but the stop itself.
    sleep(Duration::from_secs(1));
    kill_process(stopped, Signal::CONT).expect("it is there");
    let output = run.wait_with_output().expect("it ends");
    let result = json(&output);
    (output, result)
}

/// Returns when the log has its first second, so that measuring is under way.
fn await_first_second(run: &mut Child, log: &Path) {
    let begin = Instant::now();
    let has_interval = |text: String| text.lines().any(|line| line.starts_with("0.0"));
    while !std::fs::read_to_string(log).is_ok_and(has_interval) {
        assert!(run.try_wait().expect("is ours").is_none(), "the run has ended");
        assert!(begin.elapsed() < Duration::from_secs(60), "a second is measured");
        sleep(Duration::from_millis(5));
    }
}

fn quantile_ns(result: &Value, figure: &str, quantile: f64) -> u64 {
    let quantiles = result[figure]["quantiles"].as_array().expect("quantiles");
    let found = quantiles.iter().find(|entry| entry["quantile"] == quantile).expect("is reported");
    found["value_ns"].as_u64().expect("nanoseconds")
}

/// One second of four: a quarter of the schedule is late, by from one second down to nothing. So a tenth of
/// it is late by at least 0.6 s, of which a little is left to the moment between a signal and its effect.
fn assert_shows_the_stop(result: &Value, figure: &str) {
    let max_ns = result[figure]["max_ns"].as_u64().expect("nanoseconds");
    assert!(max_ns >= SECOND_NS * 95 / 100, "{figure} max {max_ns} ns: {result:#}");
    for (quantile, at_least_ms) in [(0.9, 550), (0.95, 750), (0.99, 900)] {
        let value_ns = quantile_ns(result, figure, quantile);
        assert!(value_ns >= at_least_ms * 1_000_000, "{figure} {quantile}: {value_ns} ns");
    }
}

#[test]
fn a_server_that_stands_still_for_a_second_shows_in_latency_and_in_service() {
    let (_, result) = run_with_a_stop(false);
    assert_eq!(failed_gates(&result), [""; 0]);
    assert_shows_the_stop(&result, "latency");
    assert_shows_the_stop(&result, "service");
    let (lag_ns, latency_ns) = (quantile_ns(&result, "send_lag", 0.9), quantile_ns(&result, "latency", 0.9));
    assert!(lag_ns < latency_ns, "loadgen sent on: {lag_ns} ns of {latency_ns} ns");
}

#[test]
fn loadgen_that_stands_still_for_a_second_shows_in_latency_and_send_lag_and_is_invalid() {
    let (output, result) = run_with_a_stop(true);
    assert_shows_the_stop(&result, "latency");
    assert_shows_the_stop(&result, "send_lag");
    let (service_ns, latency_ns) =
        (quantile_ns(&result, "service", 0.9), quantile_ns(&result, "latency", 0.9));
    assert!(service_ns < latency_ns, "the server did not stand: {service_ns} ns of {latency_ns} ns");
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("INVALID: send lag p99 is "), "{stderr}");
}

#[test]
fn one_delivery_lost_in_a_hundred_is_a_reach_of_99_percent_and_a_tail_that_is_only_a_lower_bound() {
    // 800 deliveries in a row hold exactly 8 hundredth ones, wherever they begin.
    let server = start(Conduct { drop_one_in: Some(100), ..Conduct::default() });
    let arguments = ["--dialect", "raw", "--format", "json"];
    let allowed = json(&loadgen(server, &[&arguments[..], &["--allow-loss"]].concat()));
    assert_eq!(failed_gates(&allowed), [""; 0]);
    let deliveries = &allowed["deliveries"];
    assert_eq!((&deliveries["expected"], &deliveries["received"]), (&800.into(), &792.into()));
    assert_eq!(deliveries["reach"], 0.99);
    assert_eq!((&allowed["latency"]["count"], &allowed["latency"]["undelivered"]), (&800.into(), &8.into()));
    for entry in allowed["latency"]["quantiles"].as_array().expect("quantiles") {
        let quantile = entry["quantile"].as_f64().expect("a number");
        // 99 % have arrived, so p99 is the last quantile that is known.
        assert_eq!(entry["at_least"], quantile > 0.99, "{entry}");
        if quantile > 0.99 {
            assert_eq!(entry["value_ns"], SECOND_NS, "{entry}");
        }
    }

    let refused = loadgen(server, &arguments);
    assert_eq!(refused.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(stderr.contains("INVALID: 792 of 800 deliveries arrived: reach 99.0000 %"), "{stderr}");
}
