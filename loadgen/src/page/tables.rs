//! The tables: the runs with their verdicts, every quantile, the gates, the counts, settings and
//! provenance.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::scale::percent;
use super::shown::{ShownRun, badge};
use crate::numbers::floor_percent;
use crate::numbers::grouped;
use crate::saved::{Cores, Gate, PairTime, Quantile, Server, Summary};
use crate::timings::quantiles::{QUANTILES, THIN_BELOW};

/// The quantiles of the first table.
const COLUMNS: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// The runs: legend, latency and verdict.
pub(crate) fn runs(runs: &[ShownRun]) -> Markup {
    html! {
        div.scroll {
            table.runs {
                caption { "Latency from the intended time to each receiver, in milliseconds" }
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "Verdict" }
                    @for quantile in COLUMNS { th.number scope="col" { (percent(quantile)) } }
                    th.number scope="col" { "max" } th.number scope="col" { "reach, %" }
                    th.number scope="col" { "CPU a delivery" } th.number scope="col" { "of the cores" }
                } }
                @for run in runs { (run_rows(run)) }
            }
        }
        (notes(runs))
    }
}

fn run_rows(run: &ShownRun) -> Markup {
    let result = &run.result;
    let reasons: Vec<_> = result.validity.gates.iter().filter(|gate| !gate.passed).collect();
    let shown = format!("shown-{}", run.number);
    html! {
        tbody.invalid[!result.validity.valid] {
            tr {
                th scope="row" {
                    label for=(shown) {
                        input id=(shown) type="checkbox" checked data-run=(run.number)
                            aria-label={ "Show run " (run.number) " in the figures" };
                        (badge(run)) " " (run.label)
                    }
                }
                td { @if result.validity.valid { span.valid { "valid" } } @else { strong.verdict { "INVALID" } } }
                @for quantile in COLUMNS { (value(result.latency.quantile(quantile))) }
                td.number { (maximum(&result.latency)) }
                td.number { (floor_percent(result.deliveries.reach)) }
                @let server = result.server.as_ref();
                @let cores = server.and_then(|server| server.cores.as_ref()).filter(|cores| cores.are_own());
                (cost(server.and_then(|server| server.cpu_us_per_delivery), server.is_some_and(|server| server.cpu_thin)))
                (cost(cores.and_then(|cores| cores.us_per_delivery), cores.is_some_and(|cores| cores.thin)))
            }
            @if !reasons.is_empty() || !result.validity.warnings.is_empty() {
                tr.remarks { td colspan="11" { ul {
                    @for gate in &reasons { li {
                        strong.verdict { "INVALID: " } (gate.finding)
                        @if !gate.advice.is_empty() { br; "What to do: " (gate.advice) }
                    } }
                    @for warning in &result.validity.warnings { li { "warning: " (warning) } }
                } } }
            }
        }
    }
}

/// CPU time for each delivery.
fn cost(us: Option<f64>, thin: bool) -> Markup {
    html! {
        td.number {
            @match us { Some(us) => (format!("{us:.2} µs")), None => "–" }
            span.mark { @if us.is_some() && thin { "†" } }
        }
    }
}

fn value(quantile: Option<&Quantile>) -> Markup {
    let Some(quantile) = quantile else {
        return html! { td.number { "–" } };
    };
    let title = match quantile.supporting_broadcasts {
        1 => "1 broadcast reaches beyond".to_owned(),
        count => format!("{} broadcasts reach beyond", grouped(count)),
    };
    html! {
        td.number title=(title) {
            @if quantile.at_least { "≥ " }
            (milliseconds(quantile.value_ns))
            span.mark { @if quantile.thin { "*" } }
        }
    }
}

fn maximum(summary: &Summary) -> String {
    format!("{}{}", if summary.undelivered > 0 { "≥ " } else { "" }, milliseconds(summary.max_ns))
}

fn milliseconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e6)
}

fn notes(runs: &[ShownRun]) -> Markup {
    let mut quantiles = runs.iter().flat_map(|run| &run.result.latency.quantiles);
    html! {
        @if quantiles.clone().any(|quantile| quantile.thin) {
            p.note { "* thin: fewer than " (THIN_BELOW) " broadcasts reach beyond it. Deliveries of one broadcast are late together, so it is broadcasts that count." }
        }
        @if runs.iter().filter_map(|run| run.result.server.as_ref()).any(has_thin_cost) {
            p.note { "† thin: it stands for so little CPU time that it may be off by over 2 %." }
        }
        @if quantiles.any(|quantile| quantile.at_least) {
            p.note { "≥ what would lie beyond never arrived; it counts as the time waited." }
        }
    }
}

fn has_thin_cost(server: &Server) -> bool {
    server.cpu_thin || server.cores.as_ref().is_some_and(|cores| cores.thin)
}

/// Every summary of every run.
pub(crate) fn quantiles(runs: &[ShownRun]) -> Markup {
    html! {
        div.scroll {
            table {
                caption { "Milliseconds" }
                thead { tr {
                    th scope="col" { "" }
                    @for quantile in QUANTILES { th.number scope="col" { (percent(quantile)) } }
                    th.number scope="col" { "max" } th.number scope="col" { "mean" } th.number scope="col" { "values" }
                } }
                @for run in runs {
                    tbody {
                        tr { th.of colspan="11" scope="rowgroup" { (badge(run)) " " (run.label) } }
                        @for (name, summary) in summaries(run) {
                            tr {
                                th.name scope="row" { (name) }
                                @for quantile in QUANTILES { (value(summary.quantile(quantile))) }
                                td.number { (maximum(summary)) }
                                td.number { (format!("{:.3}", summary.mean_ns / 1e6)) }
                                td.number { (grouped(summary.count)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn summaries(run: &ShownRun) -> Vec<(&'static str, &Summary)> {
    let result = &run.result;
    [
        ("latency: intended → received", Some(&result.latency)),
        ("service: sent → received", Some(&result.service)),
        ("send lag: intended → sent", Some(&result.send_lag)),
        ("intended → first receiver", result.first.as_ref()),
        ("intended → last receiver", result.complete.as_ref()),
        ("spread: first → last receiver", result.spread.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, summary)| Some((name, summary?)))
    .collect()
}

/// Each stage by itself; nothing when no run had several.
pub(crate) fn stages(runs: &[ShownRun]) -> Option<Markup> {
    let in_stages: Vec<_> = runs.iter().filter(|run| !run.result.stages.is_empty()).collect();
    (!in_stages.is_empty()).then(|| html! {
        div.scroll { table {
            caption { "Latency of the broadcasts that were due in each stage, in milliseconds" }
            thead { tr {
                th scope="col" { "Run" } th.number scope="col" { "s" } th.number scope="col" { "broadcasts/s" }
                @for quantile in COLUMNS { th.number scope="col" { (percent(quantile)) } }
                th.number scope="col" { "max" } th.number scope="col" { "sent" } th.number scope="col" { "reach, %" }
            } }
            @for run in in_stages { tbody {
                @for (index, stage) in run.result.stages.iter().enumerate() { tr {
                    @if index == 0 {
                        th scope="rowgroup" rowspan=(run.result.stages.len()) { (badge(run)) " " (run.label) }
                    }
                    td.number { (stage.duration_seconds) }
                    td.number { (stage.rate) }
                    @for quantile in COLUMNS { (value(stage.latency.quantile(quantile))) }
                    td.number { (maximum(&stage.latency)) }
                    td.number { (of(stage.sent, stage.broadcasts_planned)) }
                    td.number { @if stage.expected == 0 { "–" } @else { (floor_percent(stage.reach)) } }
                } }
            } }
        } }
    })
}

/// Each pair of servers by itself; nothing when no run had several.
pub(crate) fn pairs(runs: &[ShownRun]) -> Option<Markup> {
    let on_several: Vec<_> = runs.iter().filter(|run| !run.result.pairs.is_empty()).collect();
    let time = |count: u64, time: PairTime| {
        html! {
            td.number { @if count == 0 { "–" } @else { @if time.at_least { "≥ " } (milliseconds(time.value_ns)) } }
        }
    };
    (!on_several.is_empty()).then(|| html! {
        div.scroll { table {
            caption { "Latency from clients of one server to clients of another, in milliseconds" }
            thead { tr {
                th scope="col" { "Run" } th scope="col" { "from" } th scope="col" { "to" }
                th.number scope="col" { (percent(0.5)) } th.number scope="col" { (percent(0.99)) }
                th.number scope="col" { "max" } th.number scope="col" { "deliveries" }
            } }
            @for run in on_several { tbody {
                @for (index, pair) in run.result.pairs.iter().enumerate() { tr {
                    @if index == 0 {
                        th scope="rowgroup" rowspan=(run.result.pairs.len()) { (badge(run)) " " (run.label) }
                    }
                    td { (pair.from) }
                    td { (pair.to) }
                    @let latency = &pair.latency;
                    (time(latency.count, latency.p50))
                    (time(latency.count, latency.p99))
                    (time(latency.count, latency.max))
                    td.number { (of(pair.received, pair.expected)) }
                } }
            } }
        } }
    })
}

/// What was measured against each limit.
pub(crate) fn gates(runs: &[ShownRun]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Run" } th scope="col" { "Gate" } th.number scope="col" { "value" }
                th.number scope="col" { "limit" } th scope="col" { "" }
            } }
            @for run in runs {
                tbody {
                    @for (index, gate) in run.result.validity.gates.iter().enumerate() {
                        tr {
                            @if index == 0 {
                                th scope="rowgroup" rowspan=(run.result.validity.gates.len()) { (badge(run)) " " (run.label) }
                            }
                            td { (gate.name) }
                            td.number { @match gate.value { Some(value) => (format!("{value:.4}")), None => "∞" } }
                            td.number { (limit(gate)) }
                            td { @if gate.passed { "passed" } @else { strong.verdict { "FAILED" } } }
                        }
                    }
                }
            }
        } }
    }
}

fn limit(gate: &Gate) -> String {
    format!("{} {}", if gate.limit_is_minimum { "≥" } else { "≤" }, gate.limit)
}

/// Deliveries, mistakes and connections.
pub(crate) fn counts(runs: &[ShownRun]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Run" }
                @for name in ["broadcasts sent", "deliveries", "duplicates", "out of order", "misdelivered", "altered", "id conflicts", "connected", "lost"] {
                    th.number scope="col" { (name) }
                }
            } }
            tbody { @for run in runs {
                @let deliveries = &run.result.deliveries;
                @let connections = &run.result.connections;
                tr {
                    th scope="row" { (badge(run)) " " (run.label) }
                    td.number { (of(deliveries.sent, deliveries.broadcasts_planned)) }
                    td.number { (of(deliveries.received, deliveries.expected)) }
                    @for count in [deliveries.duplicates, deliveries.disorder, deliveries.misdelivered, deliveries.altered, deliveries.id_conflicts] {
                        td.number { (grouped(count)) }
                    }
                    td.number { (of(connections.ready, connections.ready.saturating_add(total(&connections.failures)))) }
                    td.number { (grouped(total(&connections.lost))) }
                }
            } }
        } }
    }
}

fn of(part: u64, whole: u64) -> String {
    if part == whole { grouped(part) } else { format!("{} of {}", grouped(part), grouped(whole)) }
}

fn total(counts: &BTreeMap<String, u64>) -> u64 {
    counts.values().fold(0, |total, count| total.saturating_add(*count))
}

/// What the server's processes cost; nothing when none was looked at.
pub(crate) fn servers(runs: &[ShownRun]) -> Option<Markup> {
    let servers: Vec<_> = runs.iter().filter_map(|run| Some((run, run.result.server.as_ref()?))).collect();
    let warmed = servers.iter().any(|(_, server)| server.served_before.is_some());
    let mebibytes = |bytes: Option<u64>| {
        bytes.map_or("–".to_owned(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))
    };
    (!servers.is_empty()).then(|| html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Run" } th.number scope="col" { "process, user s" } th.number scope="col" { "system s" }
                th.number scope="col" { "in s" } th.number scope="col" { "µs a delivery" }
                th.number scope="col" { "its cores, s" } th.number scope="col" { "µs a delivery" } th scope="col" { "on them" }
                th.number scope="col" { "RSS before, MiB" } th.number scope="col" { "connected" } th.number scope="col" { "at the end" }
            } }
            tbody { @for (run, server) in servers { tr {
                th scope="row" { (badge(run)) " " (run.label) }
                td.number { (format!("{:.2}", server.cpu.user_us as f64 / 1e6)) }
                td.number { (format!("{:.2}", server.cpu.system_us as f64 / 1e6)) }
                td.number { (format!("{:.1}", server.window_seconds)) }
                (cost(server.cpu_us_per_delivery, server.cpu_thin))
                @match &server.cores {
                    Some(cores) => {
                        td.number { (format!("{:.2}", cores.busy_us as f64 / 1e6)) }
                        (cost(cores.us_per_delivery, cores.thin))
                        td { (tenants(cores)) }
                    }
                    None => { td.number { "–" } td.number { "–" } td { "–" } }
                }
                td.number { (mebibytes(server.resident_before_connect)) span.mark { @if server.served_before.is_some() { "‡" } } }
                td.number { (mebibytes(server.resident_connected)) }
                td.number { (mebibytes(server.resident_end)) }
            } } }
        } }
        @if warmed {
            p.note { "‡ the server had had clients before: what the new ones need it may have kept from those." }
        }
    })
}

/// Who works on the server's cores.
fn tenants(cores: &Cores) -> String {
    let list = cores.cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (cores.whole_machine, cores.shared_with_loadgen.is_empty()) {
        (true, _) => "all cores: every program's work is counted".to_owned(),
        (false, false) => format!("{list}: loadgen's work is counted, too"),
        (false, true) => format!("{list}: the server alone"),
    }
}

/// Settings, or provenance: what all runs have in common once, and the rest run by run.
pub(crate) fn facts(runs: &[ShownRun], of_run: fn(&ShownRun) -> Map<String, Value>) -> Markup {
    let each: Vec<_> = runs.iter().map(|run| (run, of_run(run))).collect();
    let mut names: Vec<&String> = Vec::new();
    for (_, facts) in &each {
        for name in facts.keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    html! {
        div.scroll { table.facts { tbody { @for name in names {
            @let first = each.first().and_then(|(_, facts)| facts.get(name));
            tr {
                th scope="row" { (name.replace('_', " ")) }
                td {
                    @if each.iter().all(|(_, facts)| facts.get(name) == first) {
                        (fact(name, first))
                    } @else {
                        ul.each { @for (run, facts) in &each { li { (badge(run)) " " (fact(name, facts.get(name))) } } }
                    }
                }
            }
        } } } }
    }
}

fn fact(name: &str, value: Option<&Value>) -> Markup {
    let strings = |values: &[Value], shown: fn(&str) -> String| {
        values.iter().map(|value| value.as_str().map_or(value.to_string(), shown)).collect::<Vec<_>>()
    };
    match value {
        None | Some(Value::Null) => html! { "–" },
        Some(Value::String(text)) => html! { (text) },
        Some(Value::Bool(true)) => html! { "yes" },
        Some(Value::Bool(false)) => html! { "no" },
        Some(Value::Array(values)) if values.is_empty() => html! { "–" },
        Some(Value::Array(values)) if name == "argv" => {
            html! { code { (strings(values, quoted).join(" ")) } }
        }
        Some(Value::Array(values)) => html! { (strings(values, str::to_owned).join(", ")) },
        Some(value) => html! { (value) },
    }
}

/// An argument as a shell would take it.
fn quoted(argument: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./:=,@%+".contains(char);
    match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.to_owned(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    }
}

/// What was asked for.
pub(crate) fn settings(run: &ShownRun) -> Map<String, Value> {
    run.result.settings.clone()
}

/// Where a result comes from, and when.
pub(crate) fn provenance(run: &ShownRun) -> Map<String, Value> {
    let mut facts = Map::new();
    let started = UNIX_EPOCH
        .checked_add(Duration::try_from_secs_f64(run.result.started_unix_seconds).unwrap_or_default());
    // Beyond the year 9999 it is no date.
    let started = started.filter(|started| *started < UNIX_EPOCH + Duration::from_secs(253_402_300_800));
    let started = started.map(|started| humantime::format_rfc3339_seconds(started).to_string());
    facts.insert("measuring began".to_owned(), started.into());
    facts.extend(run.result.provenance.clone());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_can_be_pasted_into_a_shell() {
        let shown = ["--rate", "a b", "", "it's"].map(quoted);
        assert_eq!(shown, ["--rate", "'a b'", "''", r"'it'\''s'"]);
    }
}
