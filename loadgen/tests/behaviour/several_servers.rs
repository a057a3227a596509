//! One run over several servers: who is where, one order over all, and a latency for each pair.
//!
//! Servers that share their rooms are played by one server with several addresses: relays in front of it, each of which
//! can be told to do something wrong on the way to its clients.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Conduct, failed_gates, json, loadgen, start};
use serde_json::Value;

/// A second address of a server, and what it has seen.
struct Relay {
    address: SocketAddr,
    /// How many connections came this way.
    accepted: Arc<AtomicUsize>,
}

/// Passes on what comes, as it is.
fn relay(server: SocketAddr) -> Relay {
    relay_changing(server, |bytes| bytes)
}

/// Passes on what comes, and what goes back to the clients as `change` makes it.
fn relay_changing(server: SocketAddr, change: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + 'static) -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.expect("accepts"), TcpStream::connect(server).expect("connects"));
            [&client, &server].iter().for_each(|stream| stream.set_nodelay(true).expect("a socket"));
            count.fetch_add(1, Ordering::Relaxed);
            let (from_client, from_server) = (client.try_clone(), server.try_clone());
            let (change, to_server) = (change.clone(), server);
            std::thread::spawn(move || pass(from_client.expect("a socket"), to_server, |bytes| bytes));
            std::thread::spawn(move || pass(from_server.expect("a socket"), client, change));
        }
    });
    Relay { address, accepted }
}

fn pass(mut from: TcpStream, mut to: TcpStream, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut piece = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&change(piece[..count].to_vec())).is_err() {
            break;
        }
    }
    // Without effect on what is closed.
    let _ = to.shutdown(Shutdown::Write);
}

fn url(address: SocketAddr) -> String {
    format!("ws://{address}")
}

/// A run over both addresses, as JSON.
fn run_over(first: SocketAddr, second: SocketAddr, arguments: &[&str]) -> (Output, Value) {
    let output = loadgen(first, &[&["--url", &url(second), "--format", "json"], arguments].concat());
    let result = json(&output);
    (output, result)
}

/// The pairs of servers by their places, from 1.
fn pairs(result: &Value) -> BTreeMap<(usize, usize), &Value> {
    let pairs = result["pairs"].as_array().expect("pairs");
    let urls: Vec<_> = result["settings"]["url"].as_str().expect("URLs").split(',').collect();
    let place = |url: &Value| urls.iter().position(|other| *url == **other).expect("a server") + 1;
    pairs.iter().map(|pair| ((place(&pair["from"]), place(&pair["to"])), pair)).collect()
}

fn gate<'a>(result: &'a Value, name: &str) -> &'a Value {
    let gates = result["validity"]["gates"].as_array().expect("gates");
    gates.iter().find(|gate| gate["name"] == name).expect("a gate")
}

#[test]
fn every_pair_of_servers_has_its_deliveries_and_its_latency() {
    let server = start(Conduct::default());
    for (arguments, clients_heard) in [
        // 20 clients, 10 on each server. In chat, the speaker does not hear itself.
        (&["--dialect", "chat"][..], [[9, 10], [10, 9]]),
        (&["--dialect", "raw"], [[10, 10], [10, 10]]),
        // Each room has 5 on each server.
        (&["--dialect", "chat", "--room", "general,gaming"], [[4, 5], [5, 4]]),
        (&["--dialect", "raw", "--rooms", "2"], [[5, 5], [5, 5]]),
    ] {
        let relay = relay(server);
        let (_, result) = run_over(server, relay.address, arguments);
        assert_eq!(failed_gates(&result), [""; 0], "{arguments:?}: {result:#}");
        // The probe is one.
        assert_eq!(relay.accepted.load(Ordering::Relaxed), 11, "{arguments:?}");
        let pairs = pairs(&result);
        assert_eq!(pairs.len(), 4);
        for ((from, to), pair) in pairs {
            // 40 broadcasts, half of them from each server.
            let expected = 20 * clients_heard[from - 1][to - 1];
            assert_eq!(
                (&pair["expected"], &pair["received"]),
                (&expected.into(), &expected.into()),
                "{pair:#}"
            );
            let latency = &pair["latency"];
            assert_eq!((&latency["count"], &latency["undelivered"]), (&expected.into(), &0.into()));
            let [p50, p99, max] = ["p50", "p99", "max"].map(|time| latency[time]["value_ns"].as_u64());
            assert!(p50 > Some(0) && p50 <= p99 && p99 <= max, "{latency}");
            assert!(max <= result["latency"]["max_ns"].as_u64(), "{latency}");
        }
    }
}

#[test]
fn private_messages_pass_between_all_pairs_of_servers() {
    let server = start(Conduct::default());
    let (_, result) = run_over(server, relay(server).address, &["--dialect", "private", "--clients", "16"]);
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    assert!(pairs(&result).values().all(|pair| pair["received"].as_u64() >= Some(8)), "{result:#}");
}

#[test]
fn what_one_server_delays_shows_in_its_pairs_alone() {
    let server = start(Conduct::default());
    let late = relay_changing(server, |bytes| {
        // Not a wait for anything, but the delay itself.
        std::thread::sleep(std::time::Duration::from_millis(100));
        bytes
    });
    // So few that the relay's threads have time for all of them on a busy machine.
    let load = ["--clients", "4", "--rate", "4", "--duration", "2s"];
    let (_, result) = run_over(server, late.address, &[&["--dialect", "raw"], &load[..]].concat());
    assert_eq!(failed_gates(&result), [""; 0], "{result:#}");
    for ((from, to), pair) in pairs(&result) {
        let p50_ns = pair["latency"]["p50"]["value_ns"].as_u64().expect("nanoseconds");
        assert_eq!(p50_ns >= 99_000_000, to == 2, "{from} → {to}: {p50_ns} ns");
    }
}

#[test]
fn servers_that_do_not_share_their_rooms_are_named_and_the_run_is_invalid() {
    let (server, other) = (start(Conduct::default()), url(start(Conduct::default())));
    let one = url(server);
    for dialect in ["raw", "chat"] {
        for loss in [&[][..], &["--allow-loss"]] {
            let arguments = [&["--dialect", dialect, "--format", "text", "--url", &other], loss].concat();
            let output = loadgen(server, &arguments);
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(3), "{text}");
            let finding = format!(
                "INVALID: 2 of 4 pairs of servers delivered nothing: from {one} to {other}; from {other} to {one}\n  \
                 what to do: see that the servers share their rooms"
            );
            assert!(text.contains(&finding), "{text}");
            let row = text.lines().find(|line| line.starts_with("1 → 2")).expect("a row");
            assert!(row.contains("≥1000.000") && row.ends_with("0 of 200"), "{row}");
            let own = if dialect == "raw" { "200 of 200" } else { "180 of 180" };
            let row = text.lines().find(|line| line.starts_with("2 → 2")).expect("a row");
            assert!(!row.contains('≥') && row.ends_with(own), "{row}");
        }
    }
}

#[test]
fn a_broken_order_names_the_two_servers() {
    // Chat names a message in its text, which is not masked on the way to a client.
    let server = start(Conduct::default());
    let other_ids = relay_changing(server, |bytes| replaced(bytes, b"\"message_id\":", b"\"message_id\":9"));
    let (output, result) = run_over(server, other_ids.address, &["--dialect", "chat"]);
    assert_eq!(output.status.code(), Some(3), "{result:#}");
    assert_eq!(failed_gates(&result), ["order"], "{result:#}");
    let finding = gate(&result, "order")["finding"].as_str().expect("a finding");
    let (first, second) = (url(server), url(other_ids.address));
    let is_named =
        |a: &str, b: &str| finding.contains(&format!("messages had one id on {a} and another on {b}"));
    assert!(is_named(&first, &second) || is_named(&second, &first), "{finding}");

    let doubling = start(Conduct { repeat_one_in: Some(23), ..Conduct::default() });
    let second = relay(doubling).address;
    let (output, result) = run_over(doubling, second, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(3), "{result:#}");
    assert_eq!(failed_gates(&result), ["order"], "{result:#}");
    let twice: u64 = pairs(&result).values().map(|pair| pair["duplicates"].as_u64().expect("a count")).sum();
    assert_eq!(result["deliveries"]["duplicates"], twice);
    assert_eq!(gate(&result, "order")["value"].as_f64(), Some(twice as f64));
    let finding = gate(&result, "order")["finding"].as_str().expect("a finding");
    assert!(finding.contains(&format!("from {} to {} came twice", url(doubling), url(second))), "{finding}");
}

/// The bytes with one string for another of the same length as what it takes away behind it: frames keep their length.
fn replaced(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    for at in 0..bytes.len().saturating_sub(to.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn loss_is_told_of_the_pair_that_has_it() {
    let lossy = start(Conduct { drop_one_in: Some(20), ..Conduct::default() });
    let second = relay(lossy).address;
    let (output, result) = run_over(lossy, second, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(3), "{result:#}");
    assert_eq!(failed_gates(&result), ["reach"], "{result:#}");
    let missing =
        |pair: &Value| pair["expected"].as_u64().expect("n") - pair["received"].as_u64().expect("n");
    let pairs = pairs(&result);
    assert_eq!(pairs.values().map(|pair| missing(pair)).sum::<u64>(), 40);
    let warnings = result["validity"]["warnings"].to_string();
    for pair in pairs.values() {
        let (count, from, to) = (missing(pair), &pair["from"], &pair["to"]);
        let told = format!("{count} of 200 deliveries from {from} to {to} are missing").replace('"', "");
        assert_eq!(count > 0, warnings.contains(&told), "{told}: {warnings}");
    }
}

#[test]
fn a_server_that_goes_away_is_named_among_the_others() {
    let server = start(Conduct::default());
    let closing = start(Conduct { close_after: Some(5), ..Conduct::default() });
    let (output, result) = run_over(server, closing, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(3), "{result:#}");
    let lost = result["connections"]["lost"].as_object().expect("counts");
    let why = format!("{}: closed by the server with code 1013", url(closing));
    assert_eq!(lost.get(&why), Some(&10.into()), "{lost:?}");
    assert_eq!(lost.len(), 1, "{lost:?}");
}

#[test]
fn expected_deliveries_of_pairs_stay_exact_while_clients_leave_and_rejoin() {
    let server = start(Conduct::default());
    for dialect in ["raw", "chat"] {
        let load = ["--dialect", dialect, "--churn", "20", "--rate", "60", "--duration", "2s"];
        let (_, result) = run_over(server, relay(server).address, &load);
        assert_eq!(failed_gates(&result), [""; 0], "{dialect}: {result:#}");
        assert!(result["connections"]["churn"]["left"].as_u64() > Some(20), "{result:#}");
        let mut expected = 0;
        for (place, pair) in pairs(&result) {
            assert_eq!(pair["expected"], pair["received"], "{dialect}, {place:?}");
            expected += pair["expected"].as_u64().expect("a count");
        }
        assert_eq!(result["deliveries"]["expected"], expected, "{dialect}");
    }
}

#[test]
fn each_server_is_probed_before_the_run() {
    let server = start(Conduct::default());
    let plain = start(Conduct { is_plain_http: true, ..Conduct::default() });
    for subcommand in ["run", "check"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        let output = command.args([subcommand, "--url", &url(server), "--url", &url(plain)]).output();
        let output = output.expect("loadgen runs");
        assert_eq!(output.status.code(), Some(2));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(&format!("{}/chat: the server answered 200 OK", url(plain))), "{said}");
        if subcommand == "check" {
            assert!(
                said.contains(&format!("server       ok: {}: answers an upgrade", url(server))),
                "{said}"
            );
        }
    }
}

#[test]
fn what_makes_no_sense_with_several_servers_is_refused() {
    let (one, other) = ("ws://127.0.0.1:1", "ws://127.0.0.1:2");
    for (arguments, why) in [
        (&["run", "--url", one, "--url", one][..], "ws://127.0.0.1:1 is named twice"),
        (
            &["--url", one, "--url", other, "--server-pid", "1"],
            "--server-pid: it tells what one server costs",
        ),
        (&["--url", one, "--url", other, "--dialect", "echo"], "an echo does not leave its server"),
        (&["--url", one, "--url", "wss://127.0.0.1:2"], "take ws:// for all servers, or wss:// for all"),
        (
            &["ab", "--a", "x", "--aa", "--", "--url", one, "--url", other],
            "ab starts one server for each run",
        ),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_loadgen")).args(arguments).output().expect("loadgen runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}

#[test]
fn every_form_of_the_result_has_the_pairs() {
    let server = start(Conduct::default());
    let second = relay(server).address;
    let parent = tempfile::tempdir().expect("a directory");
    let (out, html) = (parent.path().join("out"), parent.path().join("page.html"));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let arguments = ["--dialect", "raw", "--url", &url(second), "--out", &path(&out), "--format", "csv"];
    let csv = String::from_utf8(loadgen(server, &arguments).stdout).expect("UTF-8");
    let (names, values) = csv.trim_end().split_once('\n').expect("two lines");
    let urls = format!("\"{},{}\"", url(server), url(second));
    assert!(values.contains(&urls), "{values}");
    let values = values.replace(&urls, "both");
    let field = |name: &str| {
        let place = names.split(',').position(|column| column == name).expect("a column");
        values.split(',').nth(place).expect("a field").to_owned()
    };
    assert_eq!(
        (field("url"), field("pair_1_2_expected"), field("pair_2_1_received")),
        ("both".into(), "200".into(), "200".into())
    );
    assert!(field("pair_2_2_p50_ms").parse::<f64>().expect("a time") > 0.0);
    assert!(names.ends_with("pair_2_2_max_ms"), "{names}");

    let hlog = std::fs::read_to_string(out.join("run.hlog")).expect("a log");
    for tag in ["pair-1-1", "pair-1-2", "pair-2-1", "pair-2-2"] {
        assert!(hlog.lines().any(|line| line.starts_with(&format!("Tag={tag},"))), "{tag}");
    }
    let report = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["report", &path(&out), "--html", &path(&html)])
        .output()
        .expect("loadgen runs");
    assert!(report.status.success(), "{report:?}");
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains("Pairs of servers"));
    for (from, to) in [(server, second), (second, server)] {
        assert!(page.contains(&format!("<td>{}</td><td>{}</td>", url(from), url(to))), "{from} {to}");
    }
}
