//! The preflight: whether this machine can run the server, whether the Redis of its cluster can be used, and what to
//! change where they cannot.
//!
//! `uproar check` prints the [`PreflightReport`]; the server runs the same checks when it starts. They change nothing
//! but the soft descriptor limit of the process. The result is a list of [`Finding`]s and, unless one of them is
//! fatal, the [`Capacity`] that the descriptor limit allows.
//!
//! The rings of all shards and acceptors are set up and tried at the same time. So a memory limit or a system call
//! filter is reported here with advice, before a shard runs into it. (Linux 6.18 counts rings against RLIMIT_MEMLOCK
//! of a user without CAP_IPC_LOCK: the usual 8 MiB are enough for some 11 shards.)

mod capacity;
mod cores;
mod descriptors;
mod io_uring;
mod kernel_setting;
mod redis;
mod report;

use crate::certificate::CertificateFiles;
use crate::config::Config;
use crate::tokens::TokenFiles;
pub use capacity::Capacity;
use kernel_setting::kernel_setting;
use report::{CERTIFICATE_CHECK, TOKEN_KEYS_CHECK, finding};
pub use report::{CheckOutcome, Finding, PreflightReport};

/// The backlog that the listeners ask for: a burst of reconnecting clients waits there to be accepted.
pub const BACKLOG_WANTED: u32 = 4096;

/// Runs all checks for a start, and raises the soft descriptor limit to the hard one. A Redis that does not answer is
/// lacking: the server waits for it.
///
/// It blocks the thread, with a cluster for up to 5 s, and must not be called on a tokio runtime.
#[must_use]
pub fn run(config: &Config) -> PreflightReport {
    run_checks(config, CheckOutcome::Lacking)
}

/// The same for `uproar check`: a Redis that does not answer is fatal, because nothing is known of it.
#[must_use]
pub fn run_alone(config: &Config) -> PreflightReport {
    run_checks(config, CheckOutcome::Fatal)
}

fn run_checks(config: &Config, redis_out_of_reach: CheckOutcome) -> PreflightReport {
    // Ahead of the rings, which need descriptors.
    let (descriptors, capacity) = descriptors::check(config);
    let mut findings =
        io_uring::check(config.placement.shards(), config.acceptor_count(), config.ring_features);
    findings.push(descriptors);
    findings.push(check_backlog(&kernel_setting("/proc/sys/net/core/somaxconn")));
    findings.extend(cores::check(config));
    findings.extend(CertificateFiles::of(config).as_ref().map(check_certificate));
    findings.extend(TokenFiles::of(config).as_ref().map(check_token_keys));
    if let Some(cluster) = &config.cluster {
        findings.extend(redis::check(cluster, redis_out_of_reach));
    }
    PreflightReport { findings, capacity }
}

fn check_backlog(somaxconn: &str) -> Finding {
    const CHECK: &str = "backlog";
    let advice = format!("sysctl -w net.core.somaxconn={BACKLOG_WANTED}");
    match somaxconn.parse::<u32>() {
        Ok(allowed) if allowed >= BACKLOG_WANTED => {
            finding(CHECK, CheckOutcome::Ok, format!("{BACKLOG_WANTED} connections may wait"))
        }
        Ok(allowed) => {
            let detail = format!("{allowed} connections may wait, {BACKLOG_WANTED} are wanted: {advice}");
            finding(CHECK, CheckOutcome::Lacking, detail)
        }
        Err(_) => {
            finding(CHECK, CheckOutcome::Lacking, format!("net.core.somaxconn cannot be read: {advice}"))
        }
    }
}

fn check_certificate(files: &CertificateFiles) -> Finding {
    const CHECK: &str = CERTIFICATE_CHECK;
    match files.load() {
        Err(error) => finding(CHECK, CheckOutcome::Fatal, error.to_string()),
        Ok(loaded) => match (loaded.remark(), loaded.valid_until()) {
            (Some(remark), _) => finding(CHECK, CheckOutcome::Lacking, format!("--tls-cert: {remark}")),
            (None, Some(until)) => {
                finding(CHECK, CheckOutcome::Ok, format!("the certificate is valid until {until}"))
            }
            (None, None) => finding(CHECK, CheckOutcome::Ok, "the key fits the certificate"),
        },
    }
}

fn check_token_keys(files: &TokenFiles) -> Finding {
    const CHECK: &str = TOKEN_KEYS_CHECK;
    match files.load() {
        Err(error) => finding(CHECK, CheckOutcome::Fatal, error.to_string()),
        Ok(set) => match set.remarks().first() {
            Some(remark) => finding(CHECK, CheckOutcome::Lacking, remark.clone()),
            None => finding(CHECK, CheckOutcome::Ok, format!("tokens are checked with {}", set.count())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_backlog_lacks() {
        assert_eq!(check_backlog("4096").outcome, CheckOutcome::Ok);
        let short = check_backlog("128");
        assert_eq!(short.outcome, CheckOutcome::Lacking);
        assert!(short.detail.ends_with("sysctl -w net.core.somaxconn=4096"));
        assert_eq!(check_backlog("").outcome, CheckOutcome::Lacking);
    }

    #[test]
    fn the_preflight_runs_here() {
        let report = run(&Config::default());
        println!("{report}");
        assert!(report.findings().iter().any(|finding| finding.check == "descriptors"));
        assert_eq!(report.to_string().lines().count(), report.findings().len());
    }
}
