//! Whether a run may be believed: each gate with its value and its limit.

use std::time::Duration;

use serde::Serialize;

use crate::measure::counts::ChurnCounts;
use crate::numbers::floor_percent;
use crate::outcome::ending::Ending;
use crate::outcome::pairs::{self, Pair};

/// At least this share of the planned broadcasts was sent.
pub const SENT_SHARE_MIN: f64 = 0.995;
/// Send lag p99 is at most this share of latency p50.
pub const LAG_SHARE_MAX: f64 = 0.10;
/// No thread was busy for more than this share of its time.
pub const BUSY_SHARE_MAX: f64 = 0.95;
/// From here on a busy thread is worth a warning.
pub const BUSY_SHARE_WARN: f64 = 0.80;
/// How far the medians of the two halves may be apart without a warning.
pub const DRIFT_P50_MAX: f64 = 0.20;
/// The same for p99, which varies more by itself.
pub const DRIFT_P99_MAX: f64 = 0.50;

/// What is judged.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Measured broadcasts that were planned.
    pub planned: u64,
    /// Measured broadcasts that were sent.
    pub sent: u64,
    /// The 99th percentile of intended → actual send.
    pub lag_p99_ns: u64,
    /// The median of intended → received over what was received; 0 when nothing was. What never arrived
    /// counts as the drain elsewhere, and beside that any lag would be small.
    pub received_p50_ns: u64,
    /// Each thread's share of time in processing.
    pub busy_shares: Vec<f64>,
    /// Deliveries expected of what was sent.
    pub expected: u64,
    /// Deliveries received.
    pub received: u64,
    /// Loss was allowed.
    pub allow_loss: bool,
    /// Clients that were to connect.
    pub clients: u64,
    /// Clients that became ready.
    pub ready: u64,
    /// Median and 99th percentile of the first and of the second half, when there are two.
    pub halves_ns: Option<[[u64; 2]; 2]>,
    /// Cores that both this process and the server may run on, where that is known.
    pub shared_cores: Vec<usize>,
    /// True when threads are pinned, and it is not known where the server runs.
    pub cores_unknown: bool,
    /// True when this process's threads are pinned.
    pub is_pinned: bool,
    /// Each pair of servers; none when there is one server.
    pub pairs: Vec<Pair>,
    /// How the run came to its end.
    pub ending: Ending,
    /// How long was measured.
    pub measured: Duration,
    /// How long was to be measured.
    pub duration: Duration,
    /// How often clients left and rejoined, where they were to.
    pub churn: Option<ChurnCounts>,
    /// Findings that are not gates, in words.
    pub remarks: Vec<String>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// Its name.
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// What is allowed.
    pub limit: f64,
    /// True when the limit is the least that is allowed, false when it is the most.
    pub limit_is_minimum: bool,
    /// True when the condition holds.
    pub passed: bool,
    /// The measurement in words.
    pub finding: String,
    /// What to do where it does not hold; empty where it does.
    pub advice: String,
}

/// The verdict on a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Validity {
    /// True when all gates passed.
    pub valid: bool,
    /// All gates.
    pub gates: Vec<Gate>,
    /// What deserves a look in any case.
    pub warnings: Vec<String>,
}

impl Validity {
    /// Judges a run.
    #[must_use]
    pub fn judge(evidence: &Evidence) -> Self {
        let gates = gates(evidence);
        Self { valid: gates.iter().all(|gate| gate.passed), gates, warnings: warnings(evidence) }
    }

    /// The gates that did not pass: why the run is not valid.
    pub fn failed(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| !gate.passed)
    }
}

fn gates(evidence: &Evidence) -> Vec<Gate> {
    let Evidence { planned, sent, lag_p99_ns, received_p50_ns, expected, received, clients, ready, .. } =
        *evidence;
    let sent_share = share(sent, planned);
    // Without a single delivery there is no median that a lag could be small against.
    let lag_share =
        if received_p50_ns == 0 { f64::INFINITY } else { lag_p99_ns as f64 / received_p50_ns as f64 };
    let busiest = evidence.busy_shares.iter().copied().fold(0.0, f64::max);
    let reach = share(received, expected);
    let gate = |name, value, limit, limit_is_minimum, passed, finding| {
        let advice = if passed { String::new() } else { advice(name, evidence) };
        Gate { name, value, limit, limit_is_minimum, passed, finding, advice }
    };
    let at_least = |name, value: f64, limit, finding| gate(name, value, limit, true, value >= limit, finding);
    let at_most = |name, value: f64, limit, finding| gate(name, value, limit, false, value <= limit, finding);
    let ended = match evidence.ending {
        Ending::Complete => "complete",
        Ending::Interrupted => "interrupted by a signal",
        Ending::ServerGone => "the server is gone: all clients lost their connections",
    };
    let (measured, duration) = (evidence.measured.as_secs_f64(), evidence.duration.as_secs_f64());
    let mut gates = vec![
        at_least(
            "finished",
            if evidence.ending == Ending::Complete { 1.0 } else { (measured / duration).min(0.999_999) },
            1.0,
            format!("{ended} after {measured:.1} of {duration:.1} s"),
        ),
        at_least(
            "sent",
            sent_share,
            SENT_SHARE_MIN,
            format!("{sent} of {planned} planned broadcasts were sent (at least 99.5 % must be)"),
        ),
        at_most(
            "send_lag",
            lag_share,
            LAG_SHARE_MAX,
            format!(
                "send lag p99 is {:.3} ms beside a latency p50 of {:.3} ms of what was received (at most 10 % \
                 of it allowed)",
                lag_p99_ns as f64 / 1e6,
                received_p50_ns as f64 / 1e6
            ),
        ),
        at_most(
            "busy",
            busiest,
            BUSY_SHARE_MAX,
            format!(
                "the busiest loadgen thread was processing {:.1} % of its time (at most 95 % allowed)",
                busiest * 100.0
            ),
        ),
        at_least(
            "reach",
            reach,
            // One delivery at least: a server that delivers nothing has no latency.
            if evidence.allow_loss { share(1, expected.max(1)) } else { 1.0 },
            format!("{received} of {expected} deliveries arrived: reach {} %", floor_percent(reach)),
        ),
        at_least("connected", share(ready, clients), 1.0, format!("{ready} of {clients} clients connected")),
    ];
    if !evidence.pairs.is_empty() {
        let count = evidence.pairs.iter().filter(|pair| pair.expected > 0).count() as u64;
        let silent = pairs::silent(&evidence.pairs);
        let finding = match &silent[..] {
            [] => format!("all {count} pairs of servers delivered"),
            _ => format!(
                "{} of {count} pairs of servers delivered nothing: {}",
                silent.len(),
                pairs::listed(&silent)
            ),
        };
        gates.push(at_least("pairs", share(count - silent.len() as u64, count), 1.0, finding));
        let (wrongs, told) = pairs::out_of_order(&evidence.pairs);
        let finding = match wrongs {
            0 => "what arrived is in one order over all servers".to_owned(),
            _ => format!("there is not one order over all servers: {}", pairs::listed(&told)),
        };
        gates.push(at_most("order", wrongs as f64, 0.0, finding));
    }
    if let Some(churn) = evidence.churn {
        let left = churn.left - churn.under_way;
        gates.push(at_least(
            "rejoined",
            if left == 0 { 1.0 } else { share(churn.rejoined, left) },
            1.0,
            format!("{} of {left} clients that left are back", churn.rejoined),
        ));
    }
    gates
}

/// What to do when a gate does not pass, which depends on what else was found.
fn advice(gate: &str, evidence: &Evidence) -> String {
    let is_shared = !evidence.shared_cores.is_empty();
    let is_full = evidence.busy_shares.iter().any(|busy| *busy > BUSY_SHARE_WARN);
    match gate {
        "finished" => match evidence.ending {
            Ending::Complete | Ending::Interrupted => "let it run to its end, or shorten --duration",
            Ending::ServerGone => "look into the server's log for why it ended or closed its clients",
        },
        "send_lag" if evidence.received_p50_ns == 0 => {
            "nothing was received that the lag could be compared with: see the reach"
        }
        "sent" | "send_lag" | "busy" if is_full && evidence.is_pinned => {
            "loadgen's cores are full: give it more of them (--cores), or take fewer --clients, a lower --rate \
             or a smaller --payload"
        }
        "sent" | "send_lag" | "busy" if is_full => {
            "loadgen's thread is full: give it cores of its own, one thread each (--cores 1,2), or take fewer \
             --clients, a lower --rate or a smaller --payload"
        }
        "sent" | "send_lag" | "busy" if is_shared || !evidence.is_pinned => {
            "pin the server and loadgen to cores of their own: start the server with taskset --cpu-list 0, and \
             loadgen with --cores 1; on a machine with one core, take fewer --clients or a lower --rate"
        }
        "send_lag" => {
            "something else ran on loadgen's cores: end other programs or take a quieter machine, or else a \
             lower --rate"
        }
        "busy" => "give loadgen more cores (--cores), or take fewer --clients or a lower --rate",
        "sent" => {
            "the senders' connections took no more: spread the load over more of them (--senders), or take a \
             lower --rate"
        }
        "reach" if evidence.received == 0 => {
            "see that the server sends a broadcast to all in the room or on the topic: --dialect, --room and the \
             path in --url say what is asked of it"
        }
        "reach" if evidence.pairs.iter().any(Pair::is_silent) => {
            "nothing passed between some of the servers: see which, below"
        }
        "reach" => {
            "look into the server's log for what it dropped or whom it closed; take a lower --rate or fewer \
             --clients; where deliveries are only late, a longer --drain; where loss is expected, --allow-loss"
        }
        "connected" => {
            "see above why they did not; pace them with --connect-rate, or raise what the server allows (clients, \
             descriptors, backlog)"
        }
        "pairs" => {
            "see that the servers share their rooms and reach each other; servers that do not are measured one at a \
             time, each with a single --url"
        }
        "order" => "look into the logs of the servers that are named for why one of them had it otherwise",
        "rejoined" => "let fewer clients leave (--churn), or give them longer to come back (--drain)",
        _ => unreachable!("Bug: a gate without advice"),
    }
    .to_owned()
}

fn warnings(evidence: &Evidence) -> Vec<String> {
    let mut warnings = Vec::new();
    for (thread, busy) in evidence.busy_shares.iter().enumerate() {
        if *busy > BUSY_SHARE_WARN {
            warnings
                .push(format!("loadgen thread {thread} was processing {:.1} % of its time", busy * 100.0));
        }
    }
    if !evidence.shared_cores.is_empty() {
        let cores: Vec<_> = evidence.shared_cores.iter().map(ToString::to_string).collect();
        warnings.push(format!("server and loadgen share the cores {}", cores.join(",")));
    }
    if evidence.cores_unknown {
        warnings.push(
            "which cores the server uses is not known: it may share loadgen's (--server-pid tells)"
                .to_owned(),
        );
    }
    if let Some([first, second]) = evidence.halves_ns {
        for (name, first, second, limit) in
            [("p50", first[0], second[0], DRIFT_P50_MAX), ("p99", first[1], second[1], DRIFT_P99_MAX)]
        {
            let (low, high) = (first.min(second) as f64, first.max(second) as f64);
            if high > low * (1.0 + limit) {
                warnings.push(format!(
                    "first and second half drift apart: latency {name} {:.3} ms, then {:.3} ms",
                    first as f64 / 1e6,
                    second as f64 / 1e6
                ));
            }
        }
    }
    warnings.extend(evidence.remarks.iter().cloned());
    warnings
}

/// The share of `part` in `whole`; all of nothing is nothing, which passes no gate.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Evidence {
        Evidence {
            planned: 1000,
            sent: 995,
            lag_p99_ns: 100,
            received_p50_ns: 1000,
            busy_shares: vec![0.2, 0.8],
            expected: 9950,
            received: 9950,
            allow_loss: false,
            clients: 11,
            ready: 11,
            halves_ns: Some([[100, 200], [120, 300]]),
            shared_cores: Vec::new(),
            cores_unknown: false,
            is_pinned: true,
            pairs: Vec::new(),
            ending: Ending::Complete,
            measured: Duration::from_secs(10),
            duration: Duration::from_secs(10),
            churn: Some(ChurnCounts { left: 5, rejoined: 4, under_way: 1, skipped: 0 }),
            remarks: Vec::new(),
        }
    }

    fn failing(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
        let mut evidence = good();
        change(&mut evidence);
        let validity = Validity::judge(&evidence);
        let failed: Vec<_> =
            validity.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect();
        assert_eq!(validity.valid, failed.is_empty());
        assert_eq!(validity.failed().count(), failed.len());
        for gate in &validity.gates {
            assert_eq!(gate.advice.is_empty(), gate.passed, "{gate:?}");
        }
        failed
    }

    fn advice_of(gate: &str, change: impl FnOnce(&mut Evidence)) -> String {
        let mut evidence = good();
        change(&mut evidence);
        let validity = Validity::judge(&evidence);
        validity.failed().find(|failed| failed.name == gate).expect("it fails").advice.clone()
    }

    #[test]
    fn what_to_do_about_a_late_send_depends_on_where_loadgen_runs_and_how_busy_it_is() {
        let late = |change: fn(&mut Evidence)| {
            advice_of("send_lag", |evidence| {
                evidence.lag_p99_ns = 999;
                change(evidence);
            })
        };
        assert!(late(|_| {}).contains("quieter machine"));
        assert!(late(|evidence| evidence.is_pinned = false).contains("taskset"));
        assert!(late(|evidence| evidence.shared_cores = vec![1]).contains("taskset"));
        assert!(late(|evidence| evidence.busy_shares = vec![0.9]).contains("cores are full"));
        let unpinned = |evidence: &mut Evidence| {
            (evidence.busy_shares, evidence.is_pinned) = (vec![0.9], false);
        };
        assert!(late(unpinned).contains("one thread each (--cores"));
        assert!(late(|evidence| evidence.received_p50_ns = 0).contains("see the reach"));
        assert!(advice_of("sent", |evidence| evidence.sent = 1).contains("--senders"));
        assert!(advice_of("reach", |evidence| evidence.received = 0).contains("--dialect"));
        assert!(advice_of("reach", |evidence| evidence.received = 9).contains("--allow-loss"));
    }

    #[test]
    fn a_run_at_every_limit_is_valid_and_without_warnings() {
        assert_eq!(failing(|_| {}), [""; 0]);
        assert_eq!(Validity::judge(&good()).warnings, [""; 0]);
        assert_eq!(failing(|evidence| evidence.busy_shares = vec![0.95]), [""; 0]);
    }

    #[test]
    fn each_gate_closes_just_beyond_its_limit() {
        assert_eq!(failing(|evidence| evidence.sent = 994), ["sent"]);
        assert_eq!(failing(|evidence| evidence.lag_p99_ns = 101), ["send_lag"]);
        assert_eq!(failing(|evidence| evidence.busy_shares[0] = 0.951), ["busy"]);
        assert_eq!(failing(|evidence| evidence.received -= 1), ["reach"]);
        assert_eq!(failing(|evidence| evidence.ready = 10), ["connected"]);
        assert_eq!(failing(|evidence| evidence.ending = Ending::Interrupted), ["finished"]);
        let one_is_lost = ChurnCounts { left: 5, rejoined: 4, under_way: 0, skipped: 0 };
        assert_eq!(failing(|evidence| evidence.churn = Some(one_is_lost)), ["rejoined"]);
    }

    #[test]
    fn loss_is_valid_when_it_is_allowed() {
        let lose = |evidence: &mut Evidence| {
            evidence.allow_loss = true;
            evidence.received -= 100;
        };
        assert_eq!(failing(lose), [""; 0]);
    }

    #[test]
    fn a_run_without_deliveries_is_invalid() {
        let nothing = |evidence: &mut Evidence| {
            (evidence.sent, evidence.expected, evidence.received, evidence.received_p50_ns) = (0, 0, 0, 0);
        };
        assert_eq!(failing(nothing), ["sent", "send_lag", "reach"]);
    }

    #[test]
    fn a_server_that_swallows_everything_is_invalid_whatever_loss_is_allowed() {
        let swallowed = |evidence: &mut Evidence| {
            evidence.allow_loss = true;
            (evidence.received, evidence.received_p50_ns) = (0, 0);
        };
        assert_eq!(failing(swallowed), ["send_lag", "reach"]);
        let all_but_one = |evidence: &mut Evidence| (evidence.allow_loss, evidence.received) = (true, 1);
        assert_eq!(failing(all_but_one), [""; 0]);
    }

    #[test]
    fn drift_shared_cores_and_busy_threads_are_warned_of() {
        let mut evidence = good();
        evidence.busy_shares[1] = 0.81;
        evidence.shared_cores = vec![0, 3];
        evidence.cores_unknown = true;
        evidence.halves_ns = Some([[100, 200], [121, 301]]);
        assert_eq!(Validity::judge(&evidence).warnings.len(), 5);
    }
}
