//! How many connections the descriptor limit allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::capacity::Capacity;
use super::kernel_setting::kernel_setting;
use super::report::{CheckOutcome, Finding, finding};
use crate::config::{CLIENTS_MAX, Config};

/// Below this many clients, a capacity that was not configured is reported as lacking.
const CLIENTS_WANTED: usize = 10_000;

/// Raises the soft limit to the hard one, and works out how many connections that allows.
pub(super) fn check(config: &Config) -> (Finding, Option<Capacity>) {
    let limit = getrlimit(Resource::Nofile);
    let hard = descriptors(limit.maximum);
    let soft = descriptors(limit.current);
    let raised = if soft < hard {
        let wanted = Rlimit { current: Some(hard as u64), maximum: limit.maximum };
        setrlimit(Resource::Nofile, wanted).map(|()| hard)
    } else {
        Ok(soft)
    };
    // The hard limit may be above what the kernel grants (fs.nr_open); then the soft one stays.
    let granted = raised.unwrap_or(soft);
    let threads = config.placement.shards() + config.acceptor_count();
    judge_descriptors(soft, granted, config.max_clients, threads)
}

/// A limit as a number; without a limit, the kernel's `fs.nr_open`.
fn descriptors(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or_else(|| kernel_setting("/proc/sys/fs/nr_open").parse().unwrap_or(CLIENTS_MAX))
}

/// Judges a limit that was `soft` and now is `granted`.
fn judge_descriptors(
    soft: usize,
    granted: usize,
    max_clients: Option<usize>,
    threads: usize,
) -> (Finding, Option<Capacity>) {
    const CHECK: &str = "descriptors";
    let fits = Capacity::of(granted, threads);
    let wanted = max_clients.unwrap_or(1);
    if fits.max_clients < wanted {
        let detail = format!(
            "{granted} have room for {} clients, not for {wanted}: {}",
            fits.max_clients,
            advice(wanted, threads)
        );
        return (finding(CHECK, CheckOutcome::Fatal, detail), None);
    }
    let capacity = Capacity { max_clients: max_clients.unwrap_or(fits.max_clients), ..fits };
    let raised = if granted > soft { format!("from {soft} to ") } else { String::new() };
    let room = format!(
        "{raised}{granted}, for {} clients and {} connections that have not upgraded",
        capacity.max_clients, capacity.pending_max
    );
    let finding = if max_clients.is_none() && fits.max_clients < CLIENTS_WANTED {
        let advice = advice(CLIENTS_WANTED, threads);
        finding(CHECK, CheckOutcome::Lacking, format!("{room}; for {CLIENTS_WANTED} clients: {advice}"))
    } else if granted > soft {
        finding(CHECK, CheckOutcome::Raised, room)
    } else {
        finding(CHECK, CheckOutcome::Ok, room)
    };
    (finding, Some(capacity))
}

/// How to get descriptors for this many clients.
fn advice(max_clients: usize, threads: usize) -> String {
    let needed = Capacity::descriptors_for(max_clients, threads);
    format!("ulimit -n {needed} as root before the start, or LimitNOFILE={needed} in the systemd unit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_clients_that_do_not_fit_are_refused_with_the_number_that_does() {
        let (finding, capacity) = judge_descriptors(1024, 20_000, Some(50_000), 2);
        assert_eq!(capacity, None);
        assert_eq!(finding.outcome, CheckOutcome::Fatal);
        assert_eq!(
            finding.detail,
            "20000 have room for 12420 clients, not for 50000: ulimit -n 58320 as root before the start, \
             or LimitNOFILE=58320 in the systemd unit"
        );
    }

    #[test]
    fn max_clients_that_fit_are_kept() {
        let (finding, capacity) = judge_descriptors(20_000, 20_000, Some(12_420), 2);
        assert_eq!(capacity, Some(Capacity { max_clients: 12_420, pending_max: 7452 }));
        assert_eq!(finding.outcome, CheckOutcome::Ok);
    }

    #[test]
    fn a_raised_limit_is_said_and_a_small_one_lacks() {
        let (finding, _) = judge_descriptors(1024, 20_000, None, 2);
        assert_eq!(finding.outcome, CheckOutcome::Raised);
        assert!(finding.detail.starts_with("from 1024 to 20000, for 12420 clients"));
        let (finding, capacity) = judge_descriptors(1024, 4096, None, 2);
        assert_eq!(finding.outcome, CheckOutcome::Lacking);
        assert!(finding.detail.contains("for 10000 clients: ulimit -n 16127 "), "{}", finding.detail);
        assert_eq!(capacity.unwrap().max_clients, 2480);
        let (finding, capacity) = judge_descriptors(64, 64, None, 2);
        assert_eq!((finding.outcome, capacity), (CheckOutcome::Fatal, None));
    }
}
