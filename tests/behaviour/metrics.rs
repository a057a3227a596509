//! `/metrics`, read as strictly as Prometheus' text format 0.0.4 is written down. What the numbers
//! say is the subject of `counts`.

use std::collections::{HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    Chat, Launch, Server, Socket, TokenKey, eventually, on_one_and_four_shards_only, on_one_server, request,
    upgrade_with,
};
use crate::http_paths::answer;

on_one_server! {
    metrics_are_valid_prometheus_text,
    reading_metrics_disturbs_nobody,
}

mod once {
    super::on_one_and_four_shards_only! {
        the_process_is_described_as_prometheus_does,
        a_shard_that_works_is_busy,
        looking_for_something_to_do_is_not_busy,
        the_expiry_of_the_certificate_follows_reloads,
        checks_of_tokens_are_counted_by_outcome,
    }
    use super::{
        a_shard_that_works_is_busy, checks_of_tokens_are_counted_by_outcome,
        looking_for_something_to_do_is_not_busy, the_expiry_of_the_certificate_follows_reloads,
        the_process_is_described_as_prometheus_does,
    };
}

async fn metrics_are_valid_prometheus_text(launch: Launch) {
    let server = launch.start();
    let mut members = Chat::crowd(&server, 3).await;
    members[0].message("counted").await;
    let text = scrape(&server).await;
    assert!(text.ends_with('\n'), "the last line ends");
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    let mut families = Vec::new();
    let mut series = HashSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(declaration) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declaration.split_once(' ').expect(line);
            let known = ["counter", "gauge", "histogram", "summary", "untyped"];
            assert!(known.contains(&kind), "{line}");
            assert_eq!(kinds.insert(name, kind), None, "declared twice: {line}");
        } else if !line.starts_with('#') {
            let (name, labels, value) = sample(line);
            let family = family(name, &kinds).unwrap_or_else(|| panic!("of no TYPE: {line}"));
            if families.last() != Some(&family) {
                assert!(!families.contains(&family), "not in one group: {line}");
                families.push(family);
            }
            assert!(series.insert((name, labels)), "twice: {line}");
            assert!(kinds[family] == "gauge" || value >= 0.0 || value.is_nan(), "{line}");
        }
    }
    assert!(!series.is_empty());
}

async fn reading_metrics_disturbs_nobody(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for _ in 0..20 {
        scrape(&server).await;
    }
    alice.message("still here").await;
    assert_eq!(bob.next().await["content"], "still here");
}

async fn the_process_is_described_as_prometheus_does(launch: Launch) {
    let server = launch.start();
    let clients = Socket::listeners(&server, "/broadcast", 3).await;
    // One more is the connection that asks. Those that have asked before may take a moment to be closed.
    eventually("all open descriptors are counted", async || {
        let open = numbers(&server).await["process_open_fds"] as usize;
        let now = server.descriptors();
        (now..=now + 1).contains(&open)
    })
    .await;
    let numbers = numbers(&server).await;
    let resident_kib = numbers["process_resident_memory_bytes"] / 1024.0;
    assert!((resident_kib / server.resident_kib() as f64 - 1.0).abs() < 0.5, "{resident_kib} KiB");
    assert!(numbers["process_virtual_memory_bytes"] >= numbers["process_resident_memory_bytes"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - numbers["process_start_time_seconds"];
    // The kernel's time of the start is rounded.
    assert!((-2.0..600.0).contains(&age), "{age}");
    assert!(numbers["process_max_fds"] >= numbers["process_open_fds"]);
    assert!(numbers["process_cpu_seconds_total"] >= 0.0 && numbers["process_threads"] >= 3.0);
    let version = format!("uproar_build_info{{version=\"{}\",", env!("CARGO_PKG_VERSION"));
    assert!(numbers.keys().any(|series| series.starts_with(&version)), "{numbers:?}");
    drop(clients);
}

async fn a_shard_that_works_is_busy(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let mut echo = Socket::connect(&server, "/echo").await;
    let mut last = 0.0;
    eventually("a shard has worked for 100 ms", async || {
        for _ in 0..100 {
            echo.send("work").await;
            assert_eq!(echo.text().await, "work");
        }
        let busy: f64 = busy(&numbers(&server).await);
        assert!(busy >= last, "it never shrinks");
        last = busy;
        busy >= 0.1
    })
    .await;
}

/// Goal: an idle server with `--busy-poll` uses its cores whole, and is not said to be busy.
async fn looking_for_something_to_do_is_not_busy(launch: Launch) {
    let server = launch.flag("--busy-poll", "10ms").start();
    let mut echo = Socket::connect(&server, "/echo").await;
    let mut seen = Default::default();
    eventually("a second of CPU time", async || {
        echo.send("wake").await;
        assert_eq!(echo.text().await, "wake");
        seen = numbers(&server).await;
        seen["process_cpu_seconds_total"] >= 1.0
    })
    .await;
    let share = busy(&seen) / seen["process_cpu_seconds_total"];
    assert!(share < 0.4, "{share}");
}

async fn the_expiry_of_the_certificate_follows_reloads(launch: Launch) {
    const EXPIRY: &str = "uproar_certificate_expiry_timestamp_seconds";
    assert!(!numbers(&launch.clone().start()).await.contains_key(EXPIRY), "there is none");
    let server = launch.over_tls().start();
    // As rcgen makes it by default.
    assert_eq!(numbers(&server).await[EXPIRY], 67_090_118_400.0);
    let certificate = server.certificate().unwrap();
    certificate.sign(|params| params.not_after = rcgen::date_time_ymd(2100, 1, 1));
    server.signal(Signal::HUP);
    eventually("the new one", async || numbers(&server).await[EXPIRY] == 4_102_444_800.0).await;
    std::fs::write(certificate.chain(), "no certificate").unwrap();
    server.signal(Signal::HUP);
    eventually("a refusal", async || server.output().contains("the certificate stays as it is")).await;
    assert_eq!(numbers(&server).await[EXPIRY], 4_102_444_800.0);
}

async fn checks_of_tokens_are_counted_by_outcome(launch: Launch) {
    let key = TokenKey::new();
    let server = launch.flag("--token-key", key.path().display()).start();
    let token = key.token("ann", &[]).await;
    assert_eq!(upgrade_with(&server, &format!("/echo?token={token}x"), "").await.status, 401);
    assert_eq!(upgrade_with(&server, "/echo?token=x", "").await.status, 401);
    let _upgraded = Socket::with_token(&server, "/echo", &token).await;
    let mut chat = Chat::enter(&server).await;
    chat.say(json!({"type": "auth", "token": token})).await;
    assert_eq!(chat.next().await["type"], "auth_success");
    let numbers = numbers(&server).await;
    let counts = ["valid", "signature", "malformed", "expired"]
        .map(|outcome| numbers[&format!("uproar_token_checks_total{{outcome=\"{outcome}\"}}")]);
    assert_eq!(counts, [2.0, 1.0, 1.0, 0.0]);
}

/// The busy seconds of all shards.
fn busy(numbers: &HashMap<String, f64>) -> f64 {
    let shards = numbers.iter().filter(|(series, _)| series.starts_with("uproar_shard_busy_seconds_total{"));
    shards.map(|(_, seconds)| seconds).sum()
}

async fn numbers(server: &Server) -> HashMap<String, f64> {
    let text = scrape(server).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect(line);
            (series.to_owned(), value.replace("Inf", "inf").parse().expect(line))
        })
        .collect()
}

pub(crate) async fn scrape(server: &Server) -> String {
    let response = answer(server, &request(server, "GET", "/metrics", "")).await;
    assert_eq!(response.status, 200);
    let kind = response.header("content-type").unwrap();
    assert!(kind.starts_with("text/plain") && kind.contains("version=0.0.4"), "{kind}");
    response.body
}

/// Splits `name{label="value",…} value`.
fn sample(line: &str) -> (&str, &str, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.replace("Inf", "inf").parse().expect(line);
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
        None => (series, ""),
    };
    let mut characters = name.chars();
    let first = characters.next().expect(line);
    assert!(first.is_ascii_alphabetic() || "_:".contains(first), "{line}");
    assert!(characters.all(|c| c.is_ascii_alphanumeric() || "_:".contains(c)), "{line}");
    for label in labels.split_terminator(',') {
        let (name, value) = label.split_once('=').expect(line);
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
    }
    (name, labels, value)
}

/// The declared family that a sample belongs to: a sample of none would lose its type.
fn family<'a>(sample: &'a str, kinds: &HashMap<&str, &str>) -> Option<&'a str> {
    if kinds.contains_key(sample) {
        return Some(sample);
    }
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        let family = sample.strip_suffix(suffix)?;
        let kind = *kinds.get(family)?;
        ["histogram", "summary"].contains(&kind).then_some(family)
    })
}
