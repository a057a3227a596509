//! The preflight: whether this machine can run the server, and what to change where it cannot.
//!
//! `uproar check` prints the [`Report`]; the server runs the same checks at start. The one thing that
//! they change is the process's own soft descriptor limit. What they find is a list of [`Finding`]s and,
//! unless one of them is fatal, the [`Capacity`] that the descriptor limit has room for.
//!
//! What shards and acceptors will need of io_uring is set up for all of them at the same time and tried out, so a limit
//! of memory or a filter of system calls is met here, with advice, and not by one of them. (Rings of Linux 6.18 count
//! against RLIMIT_MEMLOCK of a user without CAP_IPC_LOCK: 8 MiB, a usual limit, are enough for some 11 shards.)

use std::fmt;
use std::io;
use std::path::Path;

use io_uring::{IoUring, Probe, opcode};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uproar_ring::{Features, Ring, Waker};

use crate::certificate::CertificateFiles;
use crate::config::{CLIENTS_MAX, Config, Placement, allowed_cores};

/// The backlog that the listeners ask for: a burst of reconnecting clients waits there to be accepted.
pub const BACKLOG_WANTED: u32 = 4096;

/// The clients below which a derived capacity is worth a remark.
const CLIENTS_WANTED: usize = 10_000;
/// The most connections that have not yet upgraded; each has a task, a buffer and a deadline.
const PENDING_MAX: usize = 8192;
/// The least descriptors kept for the process itself.
const RESERVE_MIN: usize = 128;
/// Descriptors of the process, independent of the number of its threads: standard streams, signals, files, the listener.
const RESERVE_PROCESS: usize = 32;
/// Descriptors of a shard (its ring twice, the ring's eventfd) or of an acceptor (its ring and four more of its runtime,
/// its handle to the listener), and two to spare.
const RESERVE_THREAD: usize = 8;

/// Runs all checks, and raises the soft descriptor limit to the hard one.
#[must_use]
pub fn run(config: &Config) -> Report {
    // Ahead of the rings, which need descriptors.
    let (descriptors, capacity) = check_descriptors(config);
    let mut findings = check_ring();
    if !findings.iter().any(|finding| finding.outcome == Outcome::Fatal) {
        findings.push(check_rings(config.placement.shards(), config.acceptor_count(), config.ring_features));
    }
    findings.push(descriptors);
    findings.push(check_backlog(&read("/proc/sys/net/core/somaxconn")));
    findings.extend(check_cores(&config.placement));
    findings.push(check_acceptors(config));
    findings.extend(CertificateFiles::of(config).as_ref().map(check_certificate));
    Report { findings, capacity }
}

/// What the checks found.
#[derive(Clone, Debug)]
pub struct Report {
    findings: Vec<Finding>,
    capacity: Option<Capacity>,
}

impl Report {
    /// The findings, in the order of the checks.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How many connections there is room for; `None` when a finding is fatal.
    #[must_use]
    pub fn capacity(&self) -> Option<Capacity> {
        let is_fatal = self.findings.iter().any(|finding| finding.outcome == Outcome::Fatal);
        self.capacity.filter(|_| !is_fatal)
    }

    /// What was raised, is lacking or is fatal, in one line for the log; `None` when all is well.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let remarks: Vec<String> = self
            .findings
            .iter()
            // The server warns of its certificate itself, whenever it reads it.
            .filter(|finding| finding.outcome != Outcome::Ok && finding.check != CERTIFICATE_CHECK)
            .map(|finding| format!("{} ({}): {}", finding.check, finding.outcome, finding.detail))
            .collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

impl fmt::Display for Report {
    /// One line for each finding, in columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{:<8} {:<12} {}", finding.outcome.as_str(), finding.check, finding.detail)?;
        }
        Ok(())
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the check.
    pub check: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen; unless all is well, also what to change.
    pub detail: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do.
    Ok,
    /// It was not, and the process has changed it for itself.
    Raised,
    /// The server runs, but worse than it could.
    Lacking,
    /// The server cannot run.
    Fatal,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Raised => "raised",
            Self::Lacking => "lacking",
            Self::Fatal => "fatal",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn finding(check: &'static str, outcome: Outcome, detail: impl Into<String>) -> Finding {
    Finding { check, outcome, detail: detail.into() }
}

/// How many connections the process has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The most upgraded connections, over all shards.
    pub max_clients: usize,
    /// The most connections that have not yet upgraded, over all shards.
    pub pending_max: usize,
}

impl Capacity {
    /// Divides a descriptor limit among the process with its shards and acceptors, pending connections and clients.
    ///
    /// Pending connections get 3/8 of what the process leaves, at most 8,192, so that newcomers cannot use up the
    /// descriptors of those who are connected; the clients get the rest, at most [`CLIENTS_MAX`].
    #[must_use]
    pub fn of(descriptors: usize, threads: usize) -> Self {
        let rest = descriptors.saturating_sub(reserve(threads));
        let pending_max = (rest / 8 * 3 + rest % 8 * 3 / 8).min(PENDING_MAX);
        Self { max_clients: (rest - pending_max).min(CLIENTS_MAX), pending_max }
    }

    /// The least descriptor limit with room for this many clients.
    #[must_use]
    pub fn descriptors_for(max_clients: usize, threads: usize) -> usize {
        // The two cases: the clients are 5/8 of the rest, rounded up, or all but 8,192.
        let rest = ((max_clients.max(1) - 1) * 8 / 5 + 1).min(max_clients + PENDING_MAX);
        reserve(threads) + rest
    }
}

/// The descriptors that are not for connections.
fn reserve(threads: usize) -> usize {
    RESERVE_MIN.max(RESERVE_PROCESS + threads * RESERVE_THREAD)
}

fn check_ring() -> Vec<Finding> {
    const CHECK: &str = "io_uring";
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    // The flags of a shard's ring; the second came with Linux 6.1 and needs the first.
    let ring = match IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8) {
        Ok(ring) => ring,
        Err(error) => {
            let has_older_ring = IoUring::new(8).is_ok();
            let disabled = read("/proc/sys/kernel/io_uring_disabled");
            let detail = explain_setup(&error, has_older_ring, &disabled, &kernel);
            return vec![finding(CHECK, Outcome::Fatal, detail)];
        }
    };
    vec![
        finding(CHECK, Outcome::Ok, format!("kernel {kernel}, with deferred task work")),
        check_operations(&ring),
        check_buffers(&ring),
    ]
}

/// How to let a container use io_uring.
const PROFILE: &str = "let the container's seccomp profile allow io_uring_setup, io_uring_enter and \
                       io_uring_register (docker run --security-opt seccomp=PROFILE.json, or =unconfined)";

/// What a shard takes beside its ring before anybody has connected: the stack of its thread, and a heap to begin with.
const SHARD_BYTES: usize = 8 << 20;

fn reserve_memory(bytes: usize) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| io::Error::from(Errno::NOMEM))?;
    Ok(memory)
}

/// Sets up what each shard and each acceptor will have, in the sizes that it will have, all at the same time.
fn check_rings(shards: usize, acceptors: usize, wanted: Features) -> Finding {
    const CHECK: &str = "rings";
    let options = uproar_ring::Options { features: wanted, ..uproar_ring::Options::default() };
    let mut held = Vec::new();
    for shard in 1..=shards {
        // Its memory first: where that cannot be had, there is still enough to say so.
        let tried = reserve_memory(SHARD_BYTES).and_then(|memory| {
            let mut ring = uproar_ring::retrying_enomem(|| Ring::new(options, Waker::new()?))?;
            ring.try_out()?;
            held.push((memory, ring));
            Ok(())
        });
        if let Err(error) = tried {
            // It may be what is lacking for the words.
            held.clear();
            let owner = format!("shard {shard} of {shards}");
            return finding(CHECK, Outcome::Fatal, explain_ring(&error, &owner));
        }
    }
    let mut runtimes = Vec::new();
    for acceptor in 1..=acceptors {
        match uproar_ring::retrying_enomem(|| tokio_uring::Runtime::new(&tokio_uring::builder())) {
            Ok(runtime) => runtimes.push(runtime),
            Err(error) => {
                held.clear();
                runtimes.clear();
                let owner = format!("acceptor {acceptor} of {acceptors}");
                return finding(CHECK, Outcome::Fatal, explain_ring(&error, &owner));
            }
        }
    }
    // All are of one kernel.
    let features = held.first().map_or(Features::NONE, |(_, ring)| ring.features());
    let lacking = wanted.missing_in(features);
    let mut detail = format!(
        "one for each of {}; features: {}",
        shards_and_acceptors(shards, acceptors),
        features.names()
    );
    if lacking != Features::NONE {
        detail += &format!("; not on this kernel: {}", lacking.names());
    }
    finding(CHECK, Outcome::Ok, detail)
}

fn shards_and_acceptors(shards: usize, acceptors: usize) -> String {
    let count = |count, name| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    format!("{} and {}", count(shards, "shard"), count(acceptors, "acceptor"))
}

/// What it means that the ring of this shard or acceptor cannot be set up, though others could, or not be used.
fn explain_ring(error: &io::Error, owner: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => format!("io_uring_enter is forbidden: {PROFILE}"),
        Some(Errno::NOMEM) => format!(
            "no memory left for the ring of {owner}: raise the limit of locked memory \
             (ulimit -l, or LimitMEMLOCK= in the systemd unit), of the control group's memory, or of the address space \
             (ulimit -v), or run fewer shards with --shards"
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            format!("no descriptor left for the ring of {owner}: raise the limit with ulimit -n")
        }
        _ => format!("the ring of {owner} cannot be used: {error}"),
    }
}

/// What a failed `io_uring_setup` means (io_uring_setup(2)), and what to change.
fn explain_setup(error: &io::Error, has_older_ring: bool, disabled: &str, kernel: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::INVAL) if has_older_ring => {
            format!("kernel {kernel} is too old: deferred task work came with 6.1")
        }
        Some(Errno::NOSYS) => {
            format!("kernel {kernel} has no io_uring, or hides it: run on Linux 6.1 or later, and {PROFILE}")
        }
        Some(Errno::PERM | Errno::ACCESS) => match disabled {
            "2" => "disabled for all processes: sysctl -w kernel.io_uring_disabled=0".into(),
            "1" => "disabled for unprivileged processes: sysctl -w kernel.io_uring_disabled=0, or add the user to \
                    the group that the sysctl kernel.io_uring_group names"
                .into(),
            _ => format!("forbidden, though not by kernel.io_uring_disabled: {PROFILE}"),
        },
        Some(Errno::MFILE) => "no descriptor left for a ring: raise the limit with ulimit -n".into(),
        Some(Errno::NOMEM) => {
            "no memory left for a ring: raise the memory limit of the control group, or ulimit -l".into()
        }
        _ => format!("a ring cannot be set up on kernel {kernel}: {error}"),
    }
}

/// The operations that shards and acceptors submit.
const OPERATIONS: [(&str, u8); 8] = [
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("CLOSE", opcode::Close::CODE),
];

fn check_operations(ring: &IoUring) -> Finding {
    const CHECK: &str = "operations";
    let mut probe = Probe::new();
    if let Err(error) = ring.submitter().register_probe(&mut probe) {
        let detail = format!("the ring cannot be asked for its operations: {error}; allow io_uring_register");
        return finding(CHECK, Outcome::Fatal, detail);
    }
    let names = |is_supported: bool| {
        let operations = OPERATIONS.iter().filter(|(_, code)| probe.is_supported(*code) == is_supported);
        operations.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    };
    match names(false) {
        missing if missing.is_empty() => finding(CHECK, Outcome::Ok, names(true)),
        missing => finding(CHECK, Outcome::Fatal, format!("{missing} missing: run on Linux 6.1 or later")),
    }
}

/// Looks whether the kernel knows provided-buffer rings, by taking away one that is not there: a kernel
/// that knows them finds none of that name (ENOENT), an older one does not know the request (EINVAL).
fn check_buffers(ring: &IoUring) -> Finding {
    const CHECK: &str = "buffers";
    match ring.submitter().unregister_buf_ring(0) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::NOENT) => {
            let detail = format!("provided-buffer rings missing ({error}): run on Linux 6.1 or later");
            finding(CHECK, Outcome::Fatal, detail)
        }
        _ => finding(CHECK, Outcome::Ok, "provided-buffer rings"),
    }
}

fn check_descriptors(config: &Config) -> (Finding, Option<Capacity>) {
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

/// A limit as a number; without a limit, `fs.nr_open` is the kernel's.
fn descriptors(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    limit.unwrap_or_else(|| read("/proc/sys/fs/nr_open").parse().unwrap_or(CLIENTS_MAX))
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
        return (finding(CHECK, Outcome::Fatal, detail), None);
    }
    let capacity = Capacity { max_clients: max_clients.unwrap_or(fits.max_clients), ..fits };
    let raised = if granted > soft { format!("from {soft} to ") } else { String::new() };
    let room = format!(
        "{raised}{granted}, for {} clients and {} connections that have not upgraded",
        capacity.max_clients, capacity.pending_max
    );
    let finding = if max_clients.is_none() && fits.max_clients < CLIENTS_WANTED {
        let advice = advice(CLIENTS_WANTED, threads);
        finding(CHECK, Outcome::Lacking, format!("{room}; for {CLIENTS_WANTED} clients: {advice}"))
    } else if granted > soft {
        finding(CHECK, Outcome::Raised, room)
    } else {
        finding(CHECK, Outcome::Ok, room)
    };
    (finding, Some(capacity))
}

/// How to get descriptors for this many clients.
fn advice(max_clients: usize, threads: usize) -> String {
    let needed = Capacity::descriptors_for(max_clients, threads);
    format!("ulimit -n {needed} as root before the start, or LimitNOFILE={needed} in the systemd unit")
}

fn check_backlog(somaxconn: &str) -> Finding {
    const CHECK: &str = "backlog";
    let advice = format!("sysctl -w net.core.somaxconn={BACKLOG_WANTED}");
    match somaxconn.parse::<u32>() {
        Ok(allowed) if allowed >= BACKLOG_WANTED => {
            finding(CHECK, Outcome::Ok, format!("{BACKLOG_WANTED} connections may wait"))
        }
        Ok(allowed) => {
            let detail = format!("{allowed} connections may wait, {BACKLOG_WANTED} are wanted: {advice}");
            finding(CHECK, Outcome::Lacking, detail)
        }
        Err(_) => finding(CHECK, Outcome::Lacking, format!("net.core.somaxconn cannot be read: {advice}")),
    }
}

fn check_cores(placement: &Placement) -> Vec<Finding> {
    const CHECK: &str = "cores";
    let shards = placement.shards();
    let described = match placement {
        Placement::Pinned(cores) => {
            if let Some(detail) = refused_cores("cores", cores) {
                return vec![finding(CHECK, Outcome::Fatal, detail)];
            }
            format!("{shards} shards, pinned to {}", list(cores))
        }
        Placement::Unpinned(_) => format!("{shards} shards, not pinned"),
    };
    // The standard library counts the affinity mask and the control group's quota.
    match std::thread::available_parallelism() {
        Ok(available) if available.get() < shards => {
            let detail = format!(
                "{described}, but there is processor time for {available} of them: --shards {available} \
                 or --cores, or a larger quota"
            );
            vec![finding(CHECK, Outcome::Lacking, detail)]
        }
        _ => vec![finding(CHECK, Outcome::Ok, described)],
    }
}

fn check_acceptors(config: &Config) -> Finding {
    const CHECK: &str = "acceptors";
    let priority = match config.acceptors_share_cores() {
        true => ", at a lower priority than theirs",
        false => "",
    };
    let place = match &config.acceptor_cores {
        Some(cores) => {
            if let Some(detail) = refused_cores("acceptor-cores", cores) {
                return finding(CHECK, Outcome::Fatal, detail);
            }
            let shared = if priority.is_empty() { "" } else { ", which shards may use, too" };
            format!("pinned to {}{shared}", list(cores))
        }
        None if priority.is_empty() => {
            "not pinned, for there are cores beside those of the shards".to_owned()
        }
        None => "on the cores of the shards".to_owned(),
    };
    finding(CHECK, Outcome::Ok, format!("{}, {place}{priority}", config.acceptor_count()))
}

const CERTIFICATE_CHECK: &str = "tls";

fn check_certificate(files: &CertificateFiles) -> Finding {
    const CHECK: &str = CERTIFICATE_CHECK;
    match files.load() {
        Err(error) => finding(CHECK, Outcome::Fatal, error.to_string()),
        Ok(loaded) => match (loaded.remark(), loaded.valid_until()) {
            (Some(remark), _) => finding(CHECK, Outcome::Lacking, format!("--tls-cert: {remark}")),
            (None, Some(until)) => {
                finding(CHECK, Outcome::Ok, format!("the certificate is valid until {until}"))
            }
            (None, None) => finding(CHECK, Outcome::Ok, "the key fits the certificate"),
        },
    }
}

/// Why the process cannot use these cores, if it cannot.
fn refused_cores(key: &str, cores: &[usize]) -> Option<String> {
    let allowed = allowed_cores().unwrap_or_default();
    let exists = |core| Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists();
    explain_cores(key, cores, &allowed, exists)
}

/// Why cores that the process was given cannot be used, if so.
fn explain_cores(
    key: &str,
    cores: &[usize],
    allowed: &[usize],
    exists: impl Fn(usize) -> bool,
) -> Option<String> {
    let refused: Vec<usize> = cores.iter().copied().filter(|core| !allowed.contains(core)).collect();
    let absent: Vec<usize> = refused.iter().copied().filter(|core| !exists(*core)).collect();
    let usable = list(allowed);
    if !absent.is_empty() {
        return Some(format!("there is no core {}: --{key} may name {usable}", list(&absent)));
    }
    (!refused.is_empty()).then(|| {
        format!(
            "core {} is outside the process's affinity mask: --{key} may name {usable}; or widen the mask with \
             taskset -c, or the container's cpuset",
            list(&refused)
        )
    })
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// A file of the kernel's, trimmed; empty when it is not there.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_what_the_process_and_pending_connections_leave() {
        let of = |descriptors| {
            let capacity = Capacity::of(descriptors, 2);
            (capacity.max_clients, capacity.pending_max)
        };
        assert_eq!(of(1024), (560, 336));
        assert_eq!(of(20_000), (12_420, 7452));
        assert_eq!(of(100_000), (91_680, 8192));
        assert_eq!(of(100), (0, 0));
        assert_eq!(of(129), (1, 0));
        assert_eq!(of(usize::MAX), (CLIENTS_MAX, 8192));
    }

    #[test]
    fn many_threads_reserve_more_than_the_least() {
        assert_eq!(reserve(12), 128);
        assert_eq!(reserve(64), 544);
    }

    #[test]
    fn the_needed_limit_is_the_least_that_fits() {
        for max_clients in (1..30_000).chain([CLIENTS_MAX - 1, CLIENTS_MAX]) {
            let needed = Capacity::descriptors_for(max_clients, 4);
            assert_eq!(Capacity::of(needed, 4).max_clients, max_clients);
            assert!(Capacity::of(needed - 1, 4).max_clients < max_clients);
        }
    }

    #[test]
    fn max_clients_that_do_not_fit_are_refused_with_the_number_that_does() {
        let (finding, capacity) = judge_descriptors(1024, 20_000, Some(50_000), 2);
        assert_eq!(capacity, None);
        assert_eq!(finding.outcome, Outcome::Fatal);
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
        assert_eq!(finding.outcome, Outcome::Ok);
    }

    #[test]
    fn a_raised_limit_is_said_and_a_small_one_lacks() {
        let (finding, _) = judge_descriptors(1024, 20_000, None, 2);
        assert_eq!(finding.outcome, Outcome::Raised);
        assert!(finding.detail.starts_with("from 1024 to 20000, for 12420 clients"));
        let (finding, capacity) = judge_descriptors(1024, 4096, None, 2);
        assert_eq!(finding.outcome, Outcome::Lacking);
        assert!(finding.detail.contains("for 10000 clients: ulimit -n 16127 "), "{}", finding.detail);
        assert_eq!(capacity.unwrap().max_clients, 2480);
        let (finding, capacity) = judge_descriptors(64, 64, None, 2);
        assert_eq!((finding.outcome, capacity), (Outcome::Fatal, None));
    }

    #[test]
    fn a_failed_setup_says_what_to_change() {
        let explain = |errno: Errno, has_older_ring, disabled| {
            explain_setup(&io::Error::from(errno), has_older_ring, disabled, "5.15.0")
        };
        assert_eq!(
            explain(Errno::INVAL, true, "0"),
            "kernel 5.15.0 is too old: deferred task work came with 6.1"
        );
        assert!(explain(Errno::NOSYS, false, "").contains("run on Linux 6.1 or later"));
        assert!(explain(Errno::NOSYS, false, "").contains("seccomp"));
        assert!(explain(Errno::PERM, false, "2").contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(explain(Errno::PERM, false, "1").contains("kernel.io_uring_group"));
        assert!(explain(Errno::PERM, false, "0").contains("--security-opt seccomp="));
        assert!(explain(Errno::PERM, false, "").contains("--security-opt seccomp="));
        assert!(explain(Errno::NOMEM, false, "0").contains("memory limit"));
    }

    #[test]
    fn rings_that_cannot_be_had_say_what_to_change() {
        let explain = |errno: Errno| explain_ring(&io::Error::from(errno), "shard 3 of 8");
        assert!(explain(Errno::PERM).starts_with("io_uring_enter is forbidden: let the container's seccomp"));
        let memory = explain(Errno::NOMEM);
        assert!(
            memory
                .starts_with("no memory left for the ring of shard 3 of 8: raise the limit of locked memory"),
            "{memory}"
        );
        assert!(explain(Errno::MFILE).ends_with("raise the limit with ulimit -n"));
        assert!(explain(Errno::TIME).contains("the ring of shard 3 of 8 cannot be used"));
        let rings = check_rings(2, 1, Features::ALL);
        assert_eq!(rings.outcome, Outcome::Ok);
        assert!(rings.detail.starts_with("one for each of 2 shards and 1 acceptor; "), "{}", rings.detail);
    }

    #[test]
    fn the_acceptors_and_where_they_run_are_told() {
        let acceptors = std::num::NonZeroUsize::new(3);
        let placement = Placement::Pinned(vec![0]);
        let told = check_acceptors(&Config { acceptors, placement, ..Config::default() });
        assert_eq!(told.detail, "3, on the cores of the shards, at a lower priority than theirs");
    }

    #[test]
    fn a_short_backlog_lacks() {
        assert_eq!(check_backlog("4096").outcome, Outcome::Ok);
        let short = check_backlog("128");
        assert_eq!(short.outcome, Outcome::Lacking);
        assert!(short.detail.ends_with("sysctl -w net.core.somaxconn=4096"));
        assert_eq!(check_backlog("").outcome, Outcome::Lacking);
    }

    #[test]
    fn cores_must_exist_and_be_allowed() {
        let explain = |cores: &[usize]| explain_cores("cores", cores, &[0, 1], |core| core < 4);
        assert_eq!(explain(&[0, 1]), None);
        assert_eq!(explain(&[1, 9]).unwrap(), "there is no core 9: --cores may name 0,1");
        assert!(explain(&[2]).unwrap().starts_with("core 2 is outside the process's affinity mask"));
    }

    #[test]
    fn a_report_is_aligned_and_its_summary_leaves_out_what_is_well() {
        let mut report = Report {
            findings: vec![
                finding("io_uring", Outcome::Ok, "fine"),
                finding("descriptors", Outcome::Raised, "from 1 to 2"),
            ],
            capacity: Some(Capacity { max_clients: 1, pending_max: 1 }),
        };
        assert_eq!(report.to_string(), "ok       io_uring     fine\nraised   descriptors  from 1 to 2\n");
        assert_eq!(report.summary().unwrap(), "descriptors (raised): from 1 to 2");
        assert!(report.capacity().is_some());
        report.findings.push(finding("cores", Outcome::Fatal, "none"));
        assert!(report.capacity().is_none());
    }

    /// Goal: every check comes to an end on the machine that runs the tests, whatever it finds.
    #[test]
    fn the_preflight_runs_here() {
        let report = run(&Config::default());
        println!("{report}");
        assert!(report.findings().iter().any(|finding| finding.check == "descriptors"));
        assert_eq!(report.to_string().lines().count(), report.findings().len());
    }
}
