//! The rendering, as strictly as a scraper reads it, and the arithmetic behind it.

use std::collections::{HashMap, HashSet};

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::permit::ClientPermits;

fn metrics(shards: usize, clients_max: usize) -> Metrics {
    Metrics::new(shards, 2, ClientPermits::new(clients_max))
}

/// Reads text of version 0.0.4 as strictly as its rules are: each sample belongs to the family whose
/// HELP and TYPE came right before it, no family comes twice, and every line ends.
fn read(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = HashMap::new();
    let mut families = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').unwrap().0.to_owned();
            assert!(families.insert(family.clone()), "{family} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&of));
            assert_eq!(of == "counter", name.ends_with("_total"), "{name}");
            kind = of.to_owned();
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family.as_str()).unwrap();
            match kind.as_str() {
                "histogram" => assert!(["_sum", "_count", "_bucket"].contains(&suffix)),
                _ => assert_eq!(suffix, ""),
            }
            let value = value.parse().unwrap();
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

#[test]
fn shards_are_summed_and_labels_kept_apart() {
    let metrics = metrics(2, 10);
    for (shard, count) in [(0, 3), (1, 4)] {
        metrics.acceptor(shard).connections_accepted.add(count);
        let shard = metrics.shard(shard);
        shard.messages_received.with(Dialect::Raw).add(count);
        shard.connections.with(Dialect::Echo).add(5);
        shard.connections.with(Dialect::Echo).sub(2);
        shard.queued_bytes.set(100);
    }
    metrics.shard(0).connections_ended.with(EndReason::SlowConsumer).add(1);
    metrics.acceptor(1).refused.with(RefusalReason::Origin).add(2);

    let samples = read(&metrics.render(6));
    assert_eq!(samples["uproar_connections_accepted_total"], 7.0);
    assert_eq!(samples["uproar_messages_received_total{dialect=\"raw\"}"], 7.0);
    assert_eq!(samples["uproar_messages_received_total{dialect=\"chat\"}"], 0.0);
    assert_eq!(samples["uproar_connections{dialect=\"echo\"}"], 6.0);
    assert_eq!(samples["uproar_shard_connections{shard=\"0\"}"], 3.0);
    assert_eq!(samples["uproar_shard_connections{shard=\"1\"}"], 3.0);
    assert_eq!(samples["uproar_queued_bytes"], 200.0);
    assert_eq!(samples["uproar_connections_ended_total{reason=\"slow_consumer\"}"], 1.0);
    assert_eq!(samples["uproar_refused_total{reason=\"origin\"}"], 2.0);
    assert_eq!(samples["uproar_users_online"], 6.0);
    assert_eq!(samples["uproar_clients_max"], 10.0);
    assert!(samples["uproar_uptime_seconds"] >= 0.0);
}

#[test]
fn counters_are_typed_under_the_name_that_their_samples_have() {
    let text = metrics(1, 1).render(6);
    let wanted = "# HELP uproar_upgrades_total Upgrades admitted\n\
                  # TYPE uproar_upgrades_total counter\n\
                  uproar_upgrades_total 0\n";
    assert!(text.contains(wanted), "{text}");
    assert!(!text.contains("# EOF"));
}

#[test]
fn fan_out_buckets_are_cumulative_and_their_bounds_inclusive() {
    let metrics = metrics(2, 1);
    let record = |shard, micros| {
        let shard: Arc<ShardMetrics> = metrics.shard(shard);
        shard.fan_out.record(RoomSizeClass::UpTo100, Duration::from_micros(micros));
    };
    record(0, 0);
    record(0, 50);
    record(1, 51);
    record(1, 1_000);
    record(0, 3_000_000);

    let samples = read(&metrics.render(6));
    let bucket = |le: &str| {
        let wanted: f64 = le.parse().unwrap();
        let (_, count) = samples
            .iter()
            .find(|(series, _)| {
                series
                    .strip_prefix("uproar_fan_out_seconds_bucket{le=\"")
                    .and_then(|rest| rest.strip_suffix("\",room_size=\"11-100\"}"))
                    .is_some_and(|le| le.parse::<f64>().unwrap() == wanted)
            })
            .unwrap();
        *count
    };
    assert_eq!(bucket("0.00005"), 2.0);
    assert_eq!(bucket("0.0001"), 3.0);
    assert_eq!(bucket("0.0005"), 3.0);
    assert_eq!(bucket("0.001"), 4.0);
    assert_eq!(bucket("2.5"), 4.0);
    assert_eq!(bucket("+Inf"), 5.0);
    assert_eq!(samples["uproar_fan_out_seconds_count{room_size=\"11-100\"}"], 5.0);
    let sum = samples["uproar_fan_out_seconds_sum{room_size=\"11-100\"}"];
    assert!((sum - 3.001_101).abs() < 1e-9, "{sum}");
    assert_eq!(samples["uproar_fan_out_seconds_count{room_size=\"1-10\"}"], 0.0);
}

#[test]
fn rooms_fall_into_the_class_of_their_size() {
    let classes = [0, 10, 11, 100, 101, 1000, 1001].map(|members| RoomSizeClass::of(members).as_str());
    assert_eq!(classes, ["1-10", "1-10", "11-100", "11-100", "101-1000", "101-1000", "1001+"]);
}

#[test]
fn threads_share_no_cache_line() {
    assert_eq!((align_of::<ShardMetrics>(), align_of::<AcceptorMetrics>()), (128, 128));
    assert_eq!((size_of::<ShardMetrics>() % 128, size_of::<AcceptorMetrics>() % 128), (0, 0));
}

#[test]
fn the_longest_turn_is_that_of_a_shard_that_does_not_wait() {
    let metrics = metrics(2, 1);
    assert_eq!(metrics.longest_turn(), Duration::ZERO);
    metrics.shard(1).turn.set();
    // Bounded: a millisecond passes.
    let is_seen = (0..1_000_000_000).any(|_| metrics.longest_turn() > Duration::ZERO);
    assert!(is_seen);
    metrics.shard(1).turn.clear();
    assert_eq!(metrics.longest_turn(), Duration::ZERO);
}

#[test]
fn a_server_alone_has_no_numbers_of_a_cluster() {
    assert!(!metrics(1, 1).render(0).contains("uproar_cluster_"));
}

#[test]
fn partitions_of_a_cluster_are_kept_apart() {
    let metrics = metrics(1, 1).with_cluster(ClusterMetrics::new(2));
    let cluster = metrics.cluster();
    cluster.appended(1, 3, 500, Duration::from_micros(700));
    cluster.appended(1, 512, 1_000, Duration::from_millis(2));
    cluster.read(1, 16);
    cluster.read(1, 4);
    cluster.behind(0, 9);
    cluster.reconnected(0);
    cluster.refused(0, ProposalRefusal::OutOfReach, 5);
    cluster.refused(1, ProposalRefusal::PlaceLost, 6);
    cluster.unanswered(1, 7);
    cluster.recovered(1);
    cluster.nodes(0, 3);
    cluster.epoch_changed(1);
    cluster.fenced(0);
    cluster.set_trouble(1, Some("gone".to_owned()));

    let samples = read(&metrics.render(0));
    let of = |name: &str, labels: &str| samples[&format!("uproar_cluster_{name}{{{labels}}}")];
    for (name, of_0, of_1) in [
        ("out_of_reach", 0.0, 1.0),
        ("append_seconds_count", 0.0, 2.0),
        ("batch_proposals_count", 0.0, 2.0),
        ("batch_proposals_sum", 0.0, 515.0),
        ("appended_bytes_total", 0.0, 1_500.0),
        ("entries_read_total", 0.0, 20.0),
        ("entries_behind", 9.0, 0.0),
        ("reconnects_total", 1.0, 0.0),
        ("proposals_unanswered", 0.0, 7.0),
        ("recoveries_total", 0.0, 1.0),
        ("nodes", 3.0, 0.0),
        ("epoch_changes_total", 0.0, 1.0),
        ("fenced_total", 1.0, 0.0),
    ] {
        let found = ["0", "1"].map(|partition| of(name, &format!("partition=\"{partition}\"")));
        assert_eq!(found, [of_0, of_1], "{name}");
    }
    let refused = |partition, reason| {
        of("proposals_refused_total", &format!("partition=\"{partition}\",reason=\"{reason}\""))
    };
    assert_eq!(
        [refused(0, "out_of_reach"), refused(1, "place_lost"), refused(1, "out_of_reach")],
        [5.0, 6.0, 0.0]
    );
    let sizes = |le| of("batch_proposals_bucket", &format!("le=\"{le}\",partition=\"1\""));
    assert_eq!(["2.0", "4.0", "256.0", "512.0", "+Inf"].map(sizes), [0.0, 1.0, 1.0, 2.0, 2.0]);
}

#[test]
fn the_age_of_a_canary_grows_from_the_start_and_begins_anew_with_each() {
    let metrics = metrics(1, 1).with_cluster(ClusterMetrics::new(1));
    let age = || read(&metrics.render(0))["uproar_cluster_canary_age_seconds{partition=\"0\"}"];
    // Bounded: some milliseconds pass.
    assert!((0..1_000_000).any(|_| age() >= 0.005));
    let begins_anew = |_| {
        let before = age();
        metrics.cluster().canary_seen(0);
        age() < before
    };
    assert!((0..1_000).any(begins_anew));
}
