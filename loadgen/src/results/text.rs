//! The result for people.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::numbers::floor_percent;
use crate::numbers::grouped;
use crate::outcome::pairs::{Pair, PairTime};
use crate::outcome::{Outcome, Room, Server, ServerCores, StageOutcome};
use crate::timings::quantiles::Summary;

/// The quantiles that fit into a line.
const COLUMNS: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// How many rooms are listed.
const ROOMS_SHOWN: usize = 8;

/// The result as text.
#[must_use]
pub fn to_string(outcome: &Outcome) -> String {
    let mut text = String::new();
    write_all(&mut text, outcome).expect("Bug: writing to a String cannot fail");
    text
}

fn write_all(out: &mut String, outcome: &Outcome) -> fmt::Result {
    write_table(out, outcome)?;
    write_deliveries(out, outcome)?;
    write_connections(out, outcome)?;
    for (index, thread) in outcome.threads.iter().enumerate() {
        let core = thread.core.map_or("not pinned".to_owned(), |core| format!("core {core}"));
        writeln!(out, "thread {index} ({core})  processing {:.1} % of its time", thread.busy_share * 100.0)?;
    }
    if let Some(server) = &outcome.server {
        write_server(out, server, outcome.connections.ready)?;
    }
    for verdict in &outcome.thresholds {
        let held = if verdict.passed { "ok" } else { "BROKEN" };
        writeln!(out, "threshold {held}: {}", verdict.finding)?;
    }
    for warning in &outcome.validity.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    if outcome.validity.valid {
        return writeln!(out, "valid: all {} gates passed", outcome.validity.gates.len());
    }
    for gate in outcome.validity.failed() {
        writeln!(out, "INVALID: {}\n  what to do: {}", gate.finding, gate.advice)?;
    }
    Ok(())
}

fn write_table(out: &mut String, outcome: &Outcome) -> fmt::Result {
    write!(out, "{:<22}", "milliseconds")?;
    for (_, name) in COLUMNS {
        write!(out, "{name:>13}")?;
    }
    writeln!(out, "{:>12}", "max")?;
    let rows = [
        ("latency", Some(&outcome.latency)),
        ("service", Some(&outcome.service)),
        ("send lag", Some(&outcome.send_lag)),
        ("first receiver", outcome.first.as_ref()),
        ("last (complete)", outcome.complete.as_ref()),
        ("spread", outcome.spread.as_ref()),
    ];
    let mut marks = (false, false);
    for (name, summary) in rows {
        let Some(summary) = summary else { continue };
        write!(out, "{name:<22}")?;
        for (quantile, _) in COLUMNS {
            write_quantile(out, summary, quantile, &mut marks)?;
        }
        writeln!(out, "{:>12}", max(summary))?;
    }
    write_stages(out, &outcome.stages, &mut marks)?;
    write_pairs(out, &outcome.pairs, &mut marks)?;
    if marks.0 {
        writeln!(out, "* thin: fewer than 10 broadcasts reach beyond it")?;
    }
    if marks.1 {
        writeln!(out, "≥ what would lie beyond never arrived; it counts as the time waited")?;
    }
    Ok(())
}

/// A line for each stage: its latencies, and what it sent and reached.
fn write_stages(out: &mut String, stages: &[StageOutcome], marks: &mut (bool, bool)) -> fmt::Result {
    if stages.is_empty() {
        return Ok(());
    }
    write!(out, "{:<22}", "latency by stage")?;
    for (_, name) in COLUMNS {
        write!(out, "{name:>13}")?;
    }
    writeln!(out, "{:>12}{:>16}{:>11}", "max", "sent", "reach %")?;
    for stage in stages {
        let duration = humantime::format_duration(Duration::from_secs_f64(stage.duration_seconds));
        write!(out, "{:<22}", format!("{duration} at {}/s", stage.rate))?;
        for (quantile, _) in COLUMNS {
            write_quantile(out, &stage.latency, quantile, marks)?;
        }
        let sent = format!("{} of {}", grouped(stage.sent), grouped(stage.broadcasts_planned));
        let reach = if stage.expected == 0 { "-".to_owned() } else { floor_percent(stage.reach) };
        writeln!(out, "{:>12}{sent:>16}{reach:>11}", max(&stage.latency))?;
    }
    Ok(())
}

/// The servers by number, and a line for each pair of them: from the speaker's to the receiver's.
fn write_pairs(out: &mut String, pairs: &[Pair], (_, at_least): &mut (bool, bool)) -> fmt::Result {
    if pairs.is_empty() {
        return Ok(());
    }
    let servers = pairs.len().isqrt();
    writeln!(
        out,
        "{:<22}{:>12} {:>12} {:>12}{:>24}",
        "latency by servers", "p50", "p99", "max", "deliveries"
    )?;
    for (index, pair) in pairs.iter().enumerate() {
        write!(out, "{:<22}", format!("{} → {}", index / servers + 1, index % servers + 1))?;
        for PairTime { value_ns, at_least: is_bound } in
            [pair.latency.p50, pair.latency.p99, pair.latency.max]
        {
            *at_least |= is_bound;
            let shown = match (pair.latency.count, is_bound) {
                (0, _) => "-".to_owned(),
                (_, true) => format!("≥{}", milliseconds(value_ns)),
                (_, false) => milliseconds(value_ns),
            };
            write!(out, "{shown:>12} ")?;
        }
        writeln!(out, "{:>23}", format!("{} of {}", grouped(pair.received), grouped(pair.expected)))?;
    }
    for (number, pair) in (1..).zip(&pairs[..servers]) {
        writeln!(out, "  server {number}: {}", pair.to)?;
    }
    Ok(())
}

fn write_quantile(
    out: &mut String,
    summary: &Summary,
    quantile: f64,
    (thin, at_least): &mut (bool, bool),
) -> fmt::Result {
    let Some(found) = summary.quantiles.iter().find(|candidate| candidate.quantile == quantile) else {
        return Ok(());
    };
    if summary.count == 0 {
        return write!(out, "{:>12} ", "-");
    }
    *thin |= found.thin;
    *at_least |= found.at_least;
    let bound = if found.at_least { "≥" } else { "" };
    let mark = if found.thin { "*" } else { " " };
    write!(out, "{:>12}{mark}", format!("{bound}{}", milliseconds(found.value_ns)))
}

/// The largest value: what was waited for in vain would have been larger still.
fn max(summary: &Summary) -> String {
    match (summary.count, summary.undelivered) {
        (0, _) => "-".to_owned(),
        (_, 0) => milliseconds(summary.max_ns),
        _ => format!("≥{}", milliseconds(summary.max_ns)),
    }
}

fn milliseconds(nanoseconds: u64) -> String {
    format!("{:.3}", nanoseconds as f64 / 1e6)
}

fn write_deliveries(out: &mut String, outcome: &Outcome) -> fmt::Result {
    let deliveries = &outcome.deliveries;
    let counts = &deliveries.counts;
    writeln!(
        out,
        "deliveries  {} of {} (reach {} %), {} of {} broadcasts sent",
        grouped(counts.received),
        grouped(deliveries.expected),
        floor_percent(deliveries.reach),
        grouped(counts.sent),
        grouped(deliveries.broadcasts_planned),
    )?;
    if deliveries.rooms.len() > 1 {
        write_rooms(out, &deliveries.rooms)?;
    }
    let wrongs = [
        ("duplicates", counts.duplicates),
        ("out of order", counts.disorder),
        ("misdelivered", counts.misdelivered),
        ("altered", counts.altered),
        ("conflicting message ids", counts.id_conflicts),
    ];
    let wrongs = wrongs.map(|(name, count)| format!("{name} {}", grouped(count)));
    writeln!(out, "truth       {}", wrongs.join(", "))
}

/// Each room, or of many those with the least reach.
fn write_rooms(out: &mut String, rooms: &[Room]) -> fmt::Result {
    let mut worst: Vec<_> = rooms.iter().collect();
    worst.sort_by(|a, b| a.reach.total_cmp(&b.reach));
    writeln!(out, "rooms       {}, the least reach {} %", rooms.len(), floor_percent(worst[0].reach))?;
    for room in worst.iter().take(ROOMS_SHOWN) {
        writeln!(
            out,
            "  {}: {} readers, {} of {} (reach {} %)",
            room.name,
            grouped(room.readers),
            grouped(room.received),
            grouped(room.expected),
            floor_percent(room.reach)
        )?;
    }
    Ok(())
}

fn write_connections(out: &mut String, outcome: &Outcome) -> fmt::Result {
    let connections = &outcome.connections;
    write!(
        out,
        "connects    {} of {} in {:.1} s",
        grouped(connections.ready),
        grouped(outcome.settings.clients.into()),
        connections.seconds
    )?;
    let rows = [
        ("tcp", Some(&connections.tcp)),
        ("tls", connections.tls.as_ref()),
        ("upgrade", Some(&connections.upgrade)),
        ("join", connections.join.as_ref()),
    ];
    for (name, summary) in rows {
        if let Some(summary) = summary {
            let (p50, p99) = (summary.value_ns(0.5), summary.value_ns(0.99));
            write!(out, "; {name} p50 {} p99 {} ms", milliseconds(p50), milliseconds(p99))?;
        }
    }
    writeln!(out)?;
    for (reason, count) in &connections.failures {
        writeln!(out, "  not connected: {} × {reason}", grouped(*count))?;
    }
    for (reason, count) in &connections.lost {
        writeln!(out, "  lost: {} × {reason}", grouped(*count))?;
    }
    if let Some(churn) = &connections.churn {
        writeln!(
            out,
            "churn       {} left, {} are back, {} on their way at the end",
            grouped(churn.left),
            grouped(churn.rejoined),
            grouped(churn.under_way)
        )?;
    }
    if outcome.settings.slow_clients > 0 {
        let closed: u64 = connections.slow_closed.values().sum();
        write!(out, "slow        {} stopped reading, {} closed by the server", connections.slow, closed)?;
        for (code, count) in &connections.slow_closed {
            write!(out, "; {count} × {code}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write_server(out: &mut String, server: &Server, clients: u64) -> fmt::Result {
    let seconds = |us: u64| format!("{:.3} s", us as f64 / 1e6);
    let each = |us: Option<f64>| us.map_or(String::new(), |us| format!(", {us:.2} µs a delivery"));
    let thin = |thin: bool, error_us: u64| match thin {
        true => format!(" (thin: up to {:.0} ms off)", error_us as f64 / 1e3),
        false => String::new(),
    };
    let cpu = &server.cpu;
    write!(
        out,
        "server      CPU of the process {} in {:.1} s",
        seconds(cpu.total_ns / 1000),
        server.window_seconds
    )?;
    // By ticks: of a short time there are none.
    let sampled = cpu.user_us + cpu.system_us;
    if sampled > 0 {
        let share = |part: u64| part as f64 * 100.0 / sampled as f64;
        write!(out, " (user {:.0} %, system {:.0} %)", share(cpu.user_us), share(cpu.system_us))?;
    }
    let mark = thin(server.cpu_thin, server.cpu_error_us);
    writeln!(out, "{}{mark}", each(server.cpu_us_per_delivery))?;
    match &server.cores {
        Some(cores) => {
            let (mark, tenants) = (thin(cores.thin, cores.error_us), tenants(cores));
            let list = if cores.whole_machine { "all".to_owned() } else { listed(&cores.cores) };
            writeln!(
                out,
                "            CPU of its cores ({list}) {}{}{mark}{tenants}",
                seconds(cores.busy_us),
                each(cores.us_per_delivery)
            )?;
        }
        None => writeln!(out, "            CPU of its cores: not known")?,
    }
    let mebibytes = |bytes: Option<u64>| {
        bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / (1 << 20) as f64))
    };
    write!(
        out,
        "            RSS {} MiB before the clients, {} connected, {} at the end",
        mebibytes(server.resident_before_connect),
        mebibytes(server.resident_connected),
        mebibytes(server.resident_end)
    )?;
    if let (Some(before), Some(connected), 1..) =
        (server.resident_before_connect, server.resident_connected, clients)
    {
        let each = connected.saturating_sub(before) as f64 / clients as f64 / 1024.0;
        let mark = if server.served_before.is_some() { ", too low: it has had others before" } else { "" };
        write!(out, " ({each:.2} KiB a client{mark})")?;
    }
    writeln!(out)
}

/// Whose work is among that of the server's cores, beside the server's.
fn tenants(cores: &ServerCores) -> String {
    let loadgen = match &cores.shared_with_loadgen[..] {
        [] => None,
        shared => Some(format!("loadgen's on {}", listed(shared))),
    };
    let machine = cores.whole_machine.then(|| "every other program's".to_owned());
    let tenants: Vec<_> = loadgen.into_iter().chain(machine).collect();
    match tenants.is_empty() {
        true => String::new(),
        false => format!("; not the server's alone: {} is in it", tenants.join(" and ")),
    }
}

fn listed(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::process::CpuTime;
    use crate::timings::Timings;
    use crate::timings::quantiles::Undelivered;

    #[test]
    fn a_largest_value_is_a_bound_where_something_is_missing_and_of_nothing_there_is_none() {
        let mut timings = Timings::default();
        let summary = |timings: &Timings, count| {
            Summary::independent(timings, Undelivered { count, at_least_ns: 2_000_000_000 })
        };
        let mut empty = String::new();
        write_quantile(&mut empty, &summary(&timings, 0), 0.5, &mut (false, false)).expect("a String");
        assert_eq!((empty.trim(), &*max(&summary(&timings, 0))), ("-", "-"));
        timings.record(1_000_000);
        assert_eq!(max(&summary(&timings, 0)), "1.000");
        timings.record(2_000_000_000);
        assert_eq!(max(&summary(&timings, 1)), "≥2000.000");
    }

    #[test]
    fn what_a_server_costs_is_said_with_what_makes_it_doubtful() {
        let mut server = Server {
            pid: 1,
            cpu: CpuTime { total_ns: 5_123_456_000, user_us: 500_000, system_us: 4_500_000 },
            cpu_error_us: 10_000,
            cpu_thin: false,
            window_seconds: 10.0,
            deliveries: 1_000_000,
            cpu_us_per_delivery: Some(5.123_456),
            cores: Some(ServerCores {
                cores: vec![0],
                busy_us: 6_300_000,
                stolen_us: 0,
                error_us: 20_000,
                thin: false,
                us_per_delivery: Some(6.3),
                shared_with_loadgen: Vec::new(),
                whole_machine: false,
            }),
            resident_before_connect: Some(10 << 20),
            resident_connected: Some(11 << 20),
            resident_end: Some(11 << 20),
            served_before: None,
        };
        let text = |server: &Server| {
            let mut text = String::new();
            write_server(&mut text, server, 1024).expect("a String");
            text
        };
        assert_eq!(
            text(&server),
            "server      CPU of the process 5.123 s in 10.0 s (user 10 %, system 90 %), 5.12 µs a delivery\n\
             \u{20}           CPU of its cores (0) 6.300 s, 6.30 µs a delivery\n\
             \u{20}           RSS 10.0 MiB before the clients, 11.0 connected, 11.0 at the end (1.00 KiB a client)\n"
        );
        server.cpu = CpuTime { total_ns: 3_000_000, user_us: 0, system_us: 0 };
        (server.cpu_thin, server.served_before) = (true, Some("it has had 90 MiB".to_owned()));
        let cores = server.cores.as_mut().expect("known");
        (cores.shared_with_loadgen, cores.whole_machine) = (vec![0], true);
        let doubtful = text(&server);
        for part in [
            "process 0.003 s in 10.0 s, 5.12 µs a delivery (thin: up to 10 ms off)\n",
            "cores (all) 6.300 s, 6.30 µs a delivery; not the server's alone: loadgen's on 0 and every other \
             program's is in it\n",
            "(1.00 KiB a client, too low: it has had others before)\n",
        ] {
            assert!(doubtful.contains(part), "{part}: {doubtful}");
        }
        server.cores = None;
        assert!(text(&server).contains("CPU of its cores: not known"));
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            [0, 999, 1_000, 49_995, 1_234_567].map(grouped),
            ["0", "999", "1,000", "49,995", "1,234,567"]
        );
    }
}
