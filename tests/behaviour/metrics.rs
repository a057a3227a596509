//! `/metrics`, read as strictly as Prometheus' text format 0.0.4 is written down. What the numbers
//! say is the subject of `counts`.

use std::collections::{HashMap, HashSet};

use crate::harness::{Chat, Launch, Server, on_one_and_four_shards, request};
use crate::http_paths::answer;

on_one_and_four_shards! {
    metrics_are_valid_prometheus_text,
    reading_metrics_disturbs_nobody,
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
